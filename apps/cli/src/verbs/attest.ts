import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import {
  collateralRequests,
  fieldLines,
  judgeEvidence,
  type NamedFile,
  type Outcome,
  PLATFORMS,
  type Platform,
  parseExpectations,
  renderEvidence,
  type Verdict,
} from "@shelter/attest";
import { ShelterError } from "@shelter/base";
import { printable, printJson, styled } from "../terminal.ts";

interface AttestOptions {
  readonly evidence: readonly string[];
  readonly platform?: string;
  readonly collateral?: string;
  readonly root?: string;
  readonly at?: string;
  readonly expect?: string;
  readonly fetch?: boolean;
  readonly pcs?: string;
  readonly kds?: string;
  readonly print?: boolean;
  readonly json?: boolean;
}

/** Exit status of `shelter attest`; each outcome has its own. */
const OUTCOME_STATUS: Readonly<Record<Outcome, number>> = {
  accepted: 0,
  malformed: 65,
  incomplete: 69,
  untrusted: 76,
  refused: 77,
  expired: 78,
};

const MAX_FILE = 32 << 20; // evidence and collateral are far smaller
const MAX_ROUNDS = 4; // a chain that is fetched may name one more thing that is missing

function usage(message: string, hint?: string): ShelterError {
  return new ShelterError("ATTEST_OPTION", "usage", message, hint === undefined ? {} : { hint });
}

function read(file: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    throw new ShelterError("ATTEST_OPTION", "usage", `cannot read ${file}`, { cause });
  }
  if (bytes.byteLength > MAX_FILE)
    throw usage(`${file} has ${bytes.byteLength} bytes, more than any evidence`);
  return bytes;
}

/** Evidence named on the command line: `FILE`, or `ROLE=FILE`. */
export function evidenceFile(argument: string): NamedFile {
  const match = /^([a-z][a-z0-9_]{1,31})=(.+)$/.exec(argument);
  const [, role, file] = match ?? [];
  if (role === undefined || file === undefined) return { name: basename(argument), bytes: read(argument) };
  return { name: basename(file), bytes: read(file), role };
}

function collateralFiles(directory: string | undefined): NamedFile[] {
  if (directory === undefined) return [];
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => ({ name: entry.name, bytes: read(join(directory, entry.name)) }));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw cause;
  }
}

function platformOf(text: string | undefined): Platform | undefined {
  if (text === undefined) return undefined;
  const platform = PLATFORMS.find((p) => p === text);
  if (platform === undefined)
    throw usage(`there is no platform ${JSON.stringify(text)}`, `one of ${PLATFORMS.join(", ")}`);
  return platform;
}

function timeOf(text: string | undefined): Date {
  const at = text === undefined ? new Date() : new Date(text);
  if (Number.isNaN(at.getTime()))
    throw usage(`${JSON.stringify(text)} is not a time`, "for example 2026-11-01T00:00:00Z");
  return at;
}

/** Fetches what a verdict misses into the collateral directory; returns whether anything new came. */
async function fetchMissing(verdict: Verdict, directory: string, options: AttestOptions): Promise<boolean> {
  const { requests } = collateralRequests(verdict.missing, {
    ...(options.pcs === undefined ? {} : { pcs: options.pcs }),
    ...(options.kds === undefined ? {} : { kds: options.kds }),
  });
  mkdirSync(directory, { recursive: true });
  let came = false;
  for (const { url, file, missing } of requests) {
    let bytes: Uint8Array;
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(30_000) });
      if (!response.ok) throw new Error(`it answers ${response.status}`);
      bytes = new Uint8Array(await response.arrayBuffer());
    } catch (cause) {
      throw new ShelterError("COLLATERAL_FETCH", "unavailable", `cannot fetch ${missing} from ${url}`, {
        cause,
        hint: "name another service with --pcs or --kds, or put the file into the collateral directory yourself",
      });
    }
    writeFileSync(join(directory, file), bytes);
    came = true;
  }
  return came;
}

/** `shelter attest`. */
export async function attest(options: AttestOptions): Promise<void> {
  const files = options.evidence.map(evidenceFile);
  const platform = platformOf(options.platform);
  if (options.print === true) {
    const fields = renderEvidence(files, platform);
    if (options.json === true) printJson(fields);
    else process.stdout.write(`${fieldLines(fields).map(printable).join("\n")}\n`);
    return;
  }
  const at = timeOf(options.at);
  const expect =
    options.expect === undefined ? {} : parseExpectations(Buffer.from(read(options.expect)).toString("utf8"));
  const judge = (): Verdict =>
    judgeEvidence({
      files,
      collateral: collateralFiles(options.collateral),
      expect,
      at,
      ...(platform === undefined ? {} : { platform }),
      ...(options.root === undefined ? {} : { root: read(options.root) }),
    });
  let verdict = judge();
  if (options.fetch === true) {
    const directory = options.collateral;
    if (directory === undefined) throw usage("--fetch needs --collateral DIR to keep what it fetches");
    for (let round = 0; round < MAX_ROUNDS && verdict.missing.length > 0; round++) {
      if (!(await fetchMissing(verdict, directory, options))) break;
      verdict = judge();
    }
  }
  process.exitCode = OUTCOME_STATUS[verdict.outcome];
  if (options.json === true) printJson({ ...verdict, at: at.toISOString() });
  else process.stdout.write(verdictText(verdict));
}

/** A verdict as a person reads it: each check, then the outcome. */
function verdictText(verdict: Verdict): string {
  const lines = [styled("bold", `${verdict.platform} evidence`)];
  const width = Math.max(0, ...verdict.checks.map((c) => c.name.length));
  for (const check of verdict.checks) {
    const mark = check.ok ? styled("green", "ok  ") : styled("red", "FAIL");
    const told = check.detail ?? (check.ok ? (check.claimed ?? "") : "");
    lines.push(`${mark} ${check.name.padEnd(width)}  ${printable(told)}`.trimEnd());
    if (check.ok) continue;
    if (check.claimed !== undefined) lines.push(`       claimed   ${printable(check.claimed)}`);
    if (check.expected !== undefined) lines.push(`       expected  ${printable(check.expected)}`);
  }
  for (const missing of verdict.missing) lines.push(`${styled("yellow", "missing")} ${printable(missing)}`);
  if (verdict.missing.length > 0) {
    lines.push(styled("dim", "  put it into --collateral DIR, or add --fetch to get it from the vendor"));
  }
  lines.push(styled(verdict.outcome === "accepted" ? "green" : "red", verdict.outcome));
  return `${lines.join("\n")}\n`;
}
