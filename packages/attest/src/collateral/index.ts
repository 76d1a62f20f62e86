export { type CollateralPiece, type CollateralRole, recognise } from "./piece.ts";
export { type CollateralRequest, type CollateralServices, collateralRequests } from "./request.ts";
export { CollateralSet } from "./set.ts";
