/**
 * How a judgement ended.
 *
 * - `accepted`: every check held.
 * - `malformed`: the evidence does not have the form it claims.
 * - `untrusted`: a signature, chain or binding does not hold.
 * - `expired`: it would hold, but not at the given time.
 * - `refused`: authentic, and the policy or the expectations do not allow it.
 * - `incomplete`: collateral that is needed was not given; `missing` names it.
 */
export type Outcome = "accepted" | "malformed" | "untrusted" | "expired" | "refused" | "incomplete";

/** One thing that was looked at: what was claimed, what was expected, and whether that holds. */
export interface Check {
  /** Stable kebab-case name, e.g. `report-signature`, `tcb-reported`, `policy-debug`. */
  readonly name: string;
  readonly ok: boolean;
  /** The outcome this check leads to when it fails. */
  readonly failure: Exclude<Outcome, "accepted">;
  readonly claimed?: string;
  readonly expected?: string;
  /** One sentence for a person: lower case, no period. */
  readonly detail?: string;
}

/** What a verifier concluded, check by check. Claims are only to be believed when `outcome` is `accepted`. */
export interface Verdict {
  readonly platform: string;
  readonly outcome: Outcome;
  readonly checks: readonly Check[];
  /** Decoded values of the evidence, named as the standard names them; hex for bytes. */
  readonly claims: Readonly<Record<string, unknown>>;
  /** Collateral that was needed and not given, e.g. `tcb-info for FMSPC 00906ed50000`. */
  readonly missing: readonly string[];
}

const SEVERITY: readonly Outcome[] = ["malformed", "untrusted", "incomplete", "expired", "refused"];

/** Collects checks in order and decides the outcome: the worst failure wins. */
export class CheckList {
  readonly #checks: Check[] = [];
  readonly #missing: string[] = [];

  /** Records a check and returns whether it holds. */
  add(check: Check): boolean {
    this.#checks.push(check);
    return check.ok;
  }

  /** Records that collateral is absent; the outcome is then at best `incomplete`. */
  miss(what: string): void {
    this.#missing.push(what);
    this.#checks.push({
      name: "collateral",
      ok: false,
      failure: "incomplete",
      expected: what,
      detail: `${what} was not given`,
    });
  }

  /** Takes over everything another list has recorded. */
  include(other: CheckList): void {
    this.#checks.push(...other.#checks);
    this.#missing.push(...other.#missing);
  }

  /** Takes over another verifier's verdict, its checks under a prefix. */
  adopt(verdict: Verdict, prefix = ""): void {
    this.#checks.push(...verdict.checks.map((check) => ({ ...check, name: `${prefix}${check.name}` })));
    this.#missing.push(...verdict.missing);
  }

  get checks(): readonly Check[] {
    return this.#checks;
  }

  /** The verdict over everything recorded so far. No checks at all is a refusal, never an acceptance. */
  verdict(platform: string, claims: Readonly<Record<string, unknown>>): Verdict {
    const failed = this.#checks.filter((c) => !c.ok).map((c) => c.failure);
    const outcome =
      this.#checks.length === 0
        ? "refused"
        : (SEVERITY.find((o) => (failed as Outcome[]).includes(o)) ?? "accepted");
    return { platform, outcome, checks: this.#checks, claims, missing: this.#missing };
  }
}
