import { execFileSync } from "node:child_process";
import { createCipheriv, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type CsvInput, parseCaCertificate, parseCsvEvidence, parseHskCek, verifyCsv } from "@shelter/attest";
import { SecretBytes } from "@shelter/base";
import { sm2, sm4CcmSeal, sm4GcmSeal } from "@shelter/crypto";

/** Microseconds of processor time that one call takes, the least of several rounds. */
function cost(call: () => void, rounds = 7, milliseconds = 150): number {
  for (let i = 0; i < 20; i++) call();
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) {
    const start = process.cpuUsage();
    const until = performance.now() + milliseconds;
    let calls = 0;
    while (performance.now() < until) {
      call();
      calls++;
    }
    const { user, system } = process.cpuUsage(start);
    least = Math.min(least, (user + system) / calls);
  }
  return least;
}

function line(name: string, microseconds: number, note = ""): void {
  console.log(`${name.padEnd(34)} ${microseconds.toFixed(1).padStart(9)} µs  ${note}`);
}

function ratio(name: string, value: number, limit?: number): void {
  const target = limit === undefined ? "" : `  (at most ${limit}: ${value <= limit ? "held" : "MISSED"})`;
  console.log(`${name.padEnd(34)} ${value.toFixed(2).padStart(9)} ×${target}`);
}

/** Microseconds of OpenSSL's own SM2, by its command; undefined where it is not installed. */
function opensslSm2(): { sign: number; verify: number } | undefined {
  try {
    const text = execFileSync("openssl", ["speed", "-seconds", "2", "sm2"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const [, sign, verify] = /CurveSM2\)\s+\S+s\s+\S+s\s+([\d.]+)\s+([\d.]+)/.exec(text) ?? [];
    return sign === undefined || verify === undefined
      ? undefined
      : { sign: 1e6 / Number(sign), verify: 1e6 / Number(verify) };
  } catch {
    return undefined;
  }
}

function benchSm2(): void {
  const key = new SecretBytes(sm2.generate());
  const publicKey = sm2.publicKey(key);
  const message = randomBytes(1044);
  const signature = sm2.sign(key, message);
  const verify = cost(() => sm2.verify(publicKey, message, signature));
  const sign = cost(() => sm2.sign(key, message));
  const openssl = opensslSm2();
  line("sm2 verify", verify);
  line("sm2 sign", sign);
  if (openssl === undefined) console.log("openssl speed sm2: not installed, nothing to compare with");
  else {
    line("openssl speed sm2, verify", openssl.verify, "without hashing, without identity");
    line("openssl speed sm2, sign", openssl.sign);
    ratio("sm2 verify to openssl's", verify / openssl.verify);
    ratio("sm2 sign to openssl's", sign / openssl.sign);
  }
}

function benchSm4(): void {
  const key = randomBytes(16);
  const iv = randomBytes(12);
  const block = randomBytes(1 << 20);
  const counter = Buffer.concat([iv, Buffer.alloc(4)]);
  const ctr = cost(() => void createCipheriv("sm4-ctr", key, counter).update(block));
  const cbc = cost(() => void createCipheriv("sm4-cbc", key, counter).update(block));
  const gcm = cost(() => void sm4GcmSeal(key, iv, iv, block));
  const ccm = cost(() => void sm4CcmSeal(key, iv, iv, block));
  const speed = (microseconds: number): string => `${(block.length / microseconds).toFixed(0)} MB/s`;
  line("native sm4-ctr, 1 MiB", ctr, speed(ctr));
  line("native sm4-cbc, 1 MiB", cbc, speed(cbc));
  line("sm4-gcm, 1 MiB", gcm, speed(gcm));
  line("sm4-ccm, 1 MiB", ccm, speed(ccm));
  ratio("sm4-gcm to native sm4-ctr", gcm / ctr);
  ratio("sm4-ccm to native ctr and cbc", ccm / (ctr + cbc));
}

const CORPUS = join(import.meta.dirname, "../../shared/evidence/csv");

/** CSV verification against the SM2 checks it consists of, called one by one on the same bytes. */
function benchCsv(): void {
  if (!existsSync(CORPUS)) {
    console.log(`csv: skipped, no folder ${CORPUS}`);
    return;
  }
  const read = (name: string): Uint8Array => new Uint8Array(readFileSync(join(CORPUS, name)));
  const input: CsvInput = {
    evidence: read("csv-v1-full-chain/report.bin"),
    hskCek: read("csv-v1-full-chain/hsk_cek.cert"),
    root: read("hygon-hrk/hrk.cert"),
  };
  if (verifyCsv(input).outcome !== "accepted") throw new Error("the evidence is not accepted");
  const { report, pek } = parseCsvEvidence(input.evidence);
  const { hsk, cek } = parseHskCek(input.hskCek ?? new Uint8Array());
  if (pek === undefined) throw new Error("the report has no pek certificate");
  const hrk = parseCaCertificate(input.root ?? new Uint8Array(), "hrk");
  const checks = [
    [hrk, hsk.signed, hsk.signatures[0]?.value],
    [hsk, cek.signed, cek.signatures[0]?.value],
    [cek, pek.signed, pek.signatures[0]?.value],
    [pek, report.signed, report.signature],
  ] as const;
  const bare = (): void => {
    for (const [signer, signed, signature] of checks) {
      const { publicKey, userId: identity } = signer;
      if (signature === undefined || !sm2.verify(publicKey, signed, signature, { identity })) {
        throw new Error("a bare check fails");
      }
    }
  };
  // Alternating, so that a busy machine disturbs both alike.
  let whole = Number.POSITIVE_INFINITY;
  let parts = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    whole = Math.min(
      whole,
      cost(() => void verifyCsv(input), 2, 100),
    );
    parts = Math.min(parts, cost(bare, 2, 100));
  }
  line("csv verification", whole);
  line("its four sm2 checks", parts);
  ratio("csv verification to its checks", whole / parts, 1.3);
}

/** SM2 and SM4 against what OpenSSL does natively, CSV verification against its bare SM2 checks. */
export async function run(): Promise<void> {
  benchSm2();
  benchSm4();
  benchCsv();
}
