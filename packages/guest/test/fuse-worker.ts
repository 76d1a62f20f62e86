import { read, writeSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { FuseServer, MountSource } from "../src/index.ts";

// Serves a source straight on a /dev/fuse descriptor: one read is one request, one write one reply.
const { fd, source, readOnly } = workerData as { fd: number; source: string; readOnly: boolean };
const server = new FuseServer(new MountSource(source, readOnly), (reply) => {
  try {
    writeSync(fd, reply);
  } catch (error) {
    // ENOENT: the request was interrupted meanwhile
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
});
const buffer = Buffer.alloc(1052672);
const next = (): void => {
  read(fd, buffer, 0, buffer.length, null, (error, length) => {
    if (error !== null && error.code !== "EINTR" && error.code !== "ENOENT") return;
    if (error === null && length > 4) server.handle(Buffer.from(buffer.subarray(4, length)));
    next();
  });
};
next();
parentPort?.postMessage("ready");
