export { type ServeEnvironment, type ServeOptions, type Serving, serve } from "./serve.ts";
