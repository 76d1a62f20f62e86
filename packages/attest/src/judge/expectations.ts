import type { TcbStatus } from "../sgx/index.ts";
import type { PcrReference } from "../tpm/index.ts";

/**
 * What a relying party expects, in words that fit every platform; each verifier reads its own. What
 * is absent is not compared, and permissions refuse unless given.
 */
export interface Expectations {
  /** Report data, nonce or challenge: what binds the evidence to this question. */
  readonly reportData?: Uint8Array;
  /** User data beside the nonce (Nitro, Azure). */
  readonly userData?: Uint8Array;
  /** The nonce a Hygon guest gave its firmware. */
  readonly mnonce?: Uint8Array;
  /** Allowed launch measurements: SNP measurement, MRTD, MRENCLAVE, CSV digest, realm initial measurement. */
  readonly measurements?: readonly Uint8Array[];
  /** Allowed values of run-time registers by number: RTMRs, realm extensible measurements. */
  readonly registers?: Readonly<Record<number, readonly Uint8Array[]>>;
  /** Allowed signers of the guest: MRSIGNER, SNP id key digest. */
  readonly signers?: readonly Uint8Array[];
  /** Host data (SNP), MRCONFIGID (TDX). */
  readonly hostData?: Uint8Array;
  /** Allowed PCR values (TPM, Nitro). */
  readonly pcrs?: readonly PcrReference[];
  readonly secureBoot?: boolean;
  readonly allowDebug?: boolean;
  readonly allowMigration?: boolean;
  /** Intel TCB statuses that will do besides `UpToDate`. */
  readonly allowTcbStatuses?: readonly TcbStatus[];
  /** Without any Intel collateral, leave open how current the platform is (Azure TDX). */
  readonly leavePlatformTcb?: boolean;
  /** Magic and flags of a CSV report that came without its wrapper. */
  readonly csvWrapper?: { readonly magic: Uint8Array; readonly flags: number };
}
