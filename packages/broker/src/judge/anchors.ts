import { createHash, X509Certificate } from "node:crypto";
import type { TrustAnchorInfo } from "../api.ts";
import { BrokerError } from "../errors.ts";
import { bytes, type Database, type Row, text } from "../state/database.ts";

const MAX_CERTIFICATE = 16 * 1024;

/** CA certificates that endorsement chains may end in. None by default: nothing is trusted unasked. */
export class Anchors {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add(platform: string, certificate: Uint8Array, now: Date): TrustAnchorInfo {
    const parsed = parseCa(certificate);
    const id = createHash("sha256").update(parsed.raw).digest("hex");
    return this.#db.transaction(() => {
      this.#db.run(
        `INSERT INTO anchors (id, platform, certificate, subject, not_before, not_after, added)
         VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
        id,
        platform,
        parsed.raw,
        parsed.subject.replaceAll("\n", ", "),
        parsed.validFromDate.toISOString(),
        parsed.validToDate.toISOString(),
        now.toISOString(),
      );
      const row = this.#db.one("SELECT * FROM anchors WHERE id = ?", id);
      if (!row) throw new BrokerError("DATABASE_UNUSABLE", "bug", "a trust anchor was not stored");
      return readAnchor(row);
    });
  }

  list(): TrustAnchorInfo[] {
    return this.#db.all("SELECT * FROM anchors ORDER BY added, id").map(readAnchor);
  }

  certificates(platform: string): Uint8Array[] {
    return this.#db
      .all("SELECT certificate FROM anchors WHERE platform = ? ORDER BY added, id", platform)
      .map((row) => bytes(row, "certificate"));
  }

  remove(id: string): boolean {
    return this.#db.run("DELETE FROM anchors WHERE id = ?", id) > 0;
  }
}

function parseCa(certificate: Uint8Array): X509Certificate {
  if (certificate.byteLength > MAX_CERTIFICATE) {
    throw new BrokerError(
      "ANCHOR_MALFORMED",
      "malformed",
      `certificate has ${certificate.byteLength} bytes, at most ${MAX_CERTIFICATE} are read`,
    );
  }
  const pem = Buffer.from(certificate).toString("latin1");
  if ((pem.match(/-----BEGIN CERTIFICATE-----/g)?.length ?? 0) > 1) {
    throw new BrokerError("ANCHOR_MALFORMED", "malformed", "the file holds more than one certificate", {
      hint: "add each root on its own",
    });
  }
  let parsed: X509Certificate;
  try {
    parsed = new X509Certificate(certificate);
  } catch (cause) {
    throw new BrokerError("ANCHOR_MALFORMED", "malformed", "not a certificate in PEM or DER", { cause });
  }
  if (!parsed.ca) {
    throw new BrokerError(
      "ANCHOR_MALFORMED",
      "malformed",
      `certificate of ${parsed.subject.replaceAll("\n", ", ")} is not a CA's`,
    );
  }
  return parsed;
}

function readAnchor(row: Row): TrustAnchorInfo {
  return {
    id: text(row, "id"),
    platform: text(row, "platform"),
    subject: text(row, "subject"),
    notBefore: text(row, "not_before"),
    notAfter: text(row, "not_after"),
    added: text(row, "added"),
  };
}
