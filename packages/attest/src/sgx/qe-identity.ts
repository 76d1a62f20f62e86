import { JsonView, malformedCollateral, parseSignedJson } from "./signed-json.ts";
import { type IsvLevel, readIsvLevels } from "./tcb-info.ts";

/** What Intel's quoting enclave must be (Intel PCS API, enclave identity version 2). */
export interface QeIdentity {
  readonly id: string;
  readonly version: number;
  readonly issueDate: number;
  readonly nextUpdate: number;
  readonly tcbEvaluationDataNumber: number;
  readonly miscSelect: Uint8Array;
  readonly miscSelectMask: Uint8Array;
  readonly attributes: Uint8Array;
  readonly attributesMask: Uint8Array;
  readonly mrSigner: Uint8Array;
  readonly isvProdId: number;
  /** Highest first. */
  readonly levels: readonly IsvLevel[];
  readonly signedBytes: Uint8Array;
  readonly signature: Uint8Array;
}

const MAX_NUMBER = 0xffffffff;

/** Reads an enclave identity as the service delivers it, `{"enclaveIdentity": …, "signature": …}`. */
export function parseQeIdentity(bytes: Uint8Array): QeIdentity {
  const signed = parseSignedJson(bytes, "enclaveIdentity", "qe identity");
  const identity = new JsonView(signed.body, "qe identity");
  const version = identity.get("version").uint(MAX_NUMBER);
  if (version !== 2) throw malformedCollateral(`qe identity: version ${version} is not 2`);
  return {
    id: identity.get("id").oneOf(["QE", "QVE", "TD_QE"] as const),
    version,
    issueDate: identity.get("issueDate").date(),
    nextUpdate: identity.get("nextUpdate").date(),
    tcbEvaluationDataNumber: identity.get("tcbEvaluationDataNumber").uint(MAX_NUMBER),
    miscSelect: identity.get("miscselect").hex(4),
    miscSelectMask: identity.get("miscselectMask").hex(4),
    attributes: identity.get("attributes").hex(16),
    attributesMask: identity.get("attributesMask").hex(16),
    mrSigner: identity.get("mrsigner").hex(32),
    isvProdId: identity.get("isvprodid").uint(0xffff),
    levels: readIsvLevels(identity.get("tcbLevels")),
    signedBytes: signed.bytes,
    signature: signed.signature,
  };
}
