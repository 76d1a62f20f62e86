import { createHash, createHmac, generateKeyPairSync, type KeyObject } from "node:crypto";
import { request as httpRequest } from "node:http";
import { flattenedDecrypt } from "jose";
import type { BootEvent } from "./soft-tpm.ts";

// A guest written from the protocol's description alone: nothing here imports the broker.

export interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: Buffer;
}

export interface Ask {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Uint8Array;
}

/** One request, exactly as given: the path is not normalised. */
export function ask(base: string, path: string, options: Ask = {}): Promise<Answer> {
  const url = new URL(base);
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(
      {
        host: url.hostname,
        port: url.port,
        path,
        method: options.method ?? "GET",
        headers: { ...options.headers },
        agent: false,
      },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
        incoming.on("end", () =>
          resolve({
            status: incoming.statusCode ?? 0,
            headers: incoming.headers,
            body: Buffer.concat(chunks),
          }),
        );
        incoming.on("error", reject);
      },
    );
    outgoing.on("error", reject);
    outgoing.end(options.body);
  });
}

export function json(answer: Answer): Record<string, unknown> {
  return JSON.parse(answer.body.toString("utf8")) as Record<string, unknown>;
}

/** `detail` of a refusal. */
export function detail(answer: Answer): string {
  return String(json(answer)["detail"]);
}

/** Last part of `type` of a refusal. */
export function variant(answer: Answer): string {
  const type = String(json(answer)["type"]);
  const prefix = "https://github.com/confidential-containers/kbs/errors/";
  return type.startsWith(prefix) ? type.slice(prefix.length) : `unexpected ${type}`;
}

export interface Session {
  readonly cookie: string;
  readonly nonce: string;
  readonly extra: unknown;
}

/** What a test may bend in the evidence of a guest that otherwise does everything right. */
export interface Bend {
  readonly nonce?: string;
  readonly teeKey?: Record<string, unknown>;
  readonly quoted?: Buffer;
  readonly selected?: readonly number[];
  readonly events?: readonly BootEvent[];
  readonly activation?: Buffer | null;
  readonly evidence?: Record<string, unknown>;
  readonly message?: (body: Record<string, unknown>) => unknown;
}

/** The TPM of a guest, in this process or in a swtpm. */
export interface Tpm {
  /** TPM2B_PUBLIC of the attestation key. */
  readonly akTpmPublic: Buffer;
  /** The same key as SubjectPublicKeyInfo. */
  readonly akSpki: Buffer;
  readonly ekCertificate: Buffer;
  readonly events: readonly BootEvent[];
  readonly pcrs: readonly Buffer[];
  eventLog(events?: readonly BootEvent[]): Buffer;
  quote(extraData: Buffer, selected?: readonly number[]): { message: Buffer; signature: Buffer };
  activate(credentialBlob: Buffer, encryptedSecret: Buffer): Buffer;
}

export class Guest {
  readonly base: string;
  readonly tpm: Tpm;
  readonly privateKey: KeyObject;
  readonly teeKey: Record<string, unknown>;

  constructor(base: string, tpm: Tpm, kind: "P-256" | "P-521" | "RSA" = "P-256") {
    this.base = base;
    this.tpm = tpm;
    const pair =
      kind === "RSA"
        ? generateKeyPairSync("rsa", { modulusLength: 2048 })
        : generateKeyPairSync("ec", { namedCurve: kind });
    this.privateKey = pair.privateKey;
    const jwk = pair.publicKey.export({ format: "jwk" });
    this.teeKey =
      kind === "RSA"
        ? { kty: "RSA", alg: "RSA-OAEP-256", n: jwk.n, e: jwk.e }
        : { kty: "EC", crv: kind, alg: "ECDH-ES+A256KW", x: jwk.x, y: jwk.y };
  }

  authBody(): Record<string, unknown> {
    return {
      version: "0.4.0",
      tee: "tpm",
      "extra-params": {
        "supported-hash-algorithms": ["sha256", "sha384", "sha512", "sm3"],
        tpm: {
          ak_tpm_public: this.tpm.akTpmPublic.toString("base64"),
          ek_certificate: this.tpm.ekCertificate.toString("base64"),
        },
      },
    };
  }

  async auth(body: unknown = this.authBody()): Promise<Session> {
    const answer = await ask(this.base, "/kbs/v0/auth", {
      method: "POST",
      body: JSON.stringify(body),
      headers: JSON_TYPE,
    });
    if (answer.status !== 200) throw new Error(`auth: ${answer.status} ${answer.body.toString()}`);
    const cookie = /kbs-session-id=([0-9a-f]{32})/.exec(String(answer.headers["set-cookie"]))?.[1];
    if (cookie === undefined) throw new Error("auth: no cookie");
    const { nonce, "extra-params": extra } = json(answer);
    return { cookie, nonce: String(nonce), extra };
  }

  reportData(nonce: string, teeKey: Record<string, unknown> = this.teeKey): Buffer {
    // RFC 8785 of an object whose keys and values are plain ASCII: sorted keys, no white space.
    const sorted = (o: Record<string, unknown>): string =>
      `{${Object.keys(o)
        .sort()
        .map(
          (k) =>
            `${JSON.stringify(k)}:${typeof o[k] === "object" ? sorted(o[k] as Record<string, unknown>) : JSON.stringify(o[k])}`,
        )
        .join(",")}}`;
    return createHash("sha384")
      .update(sorted({ "additional-evidence": "", nonce, "tee-pubkey": teeKey }))
      .digest();
  }

  /** The secret of the challenge, if it was for this TPM. */
  secret(session: Session): Buffer {
    const tpm = (session.extra as { tpm: { credential_blob: string; encrypted_secret: string } }).tpm;
    return this.tpm.activate(
      Buffer.from(tpm.credential_blob, "base64"),
      Buffer.from(tpm.encrypted_secret, "base64"),
    );
  }

  attestBody(session: Session, bend: Bend = {}): unknown {
    const reportData = this.reportData(session.nonce);
    const { message, signature } = this.tpm.quote(bend.quoted ?? reportData.subarray(0, 32), bend.selected);
    const activation =
      bend.activation === undefined
        ? createHmac("sha256", this.secret(session)).update(reportData).digest()
        : bend.activation;
    const evidence = {
      tpm_quote: {
        signature: signature.toString("base64"),
        message: message.toString("base64"),
        pcrs: this.tpm.pcrs.map((pcr) => pcr.toString("hex")),
      },
      ak_public: this.tpm.akSpki.toString("base64"),
      ak_tpm_public: this.tpm.akTpmPublic.toString("base64"),
      event_log: this.tpm.eventLog(bend.events).toString("base64"),
      ek_certificate: this.tpm.ekCertificate.toString("base64"),
      ...(activation === null ? {} : { activation: activation.toString("base64") }),
      ...bend.evidence,
    };
    const body = {
      "init-data": null,
      "runtime-data": { nonce: bend.nonce ?? session.nonce, "tee-pubkey": bend.teeKey ?? this.teeKey },
      "tee-evidence": { primary_evidence: evidence, additional_evidence: "" },
    };
    return bend.message ? bend.message(body) : body;
  }

  attest(session: Session, bend: Bend = {}): Promise<Answer> {
    return this.send(session.cookie, JSON.stringify(this.attestBody(session, bend)));
  }

  send(cookie: string, body: string): Promise<Answer> {
    return ask(this.base, "/kbs/v0/attest", {
      method: "POST",
      body,
      headers: { ...JSON_TYPE, cookie: `kbs-session-id=${cookie}` },
    });
  }

  /** Handshake that must succeed; returns the session and its token. */
  async handshake(): Promise<{ session: Session; token: string }> {
    const session = await this.auth();
    const answer = await this.attest(session);
    if (answer.status !== 200) throw new Error(`attest: ${answer.status} ${answer.body.toString()}`);
    return { session, token: String(json(answer)["token"]) };
  }

  resource(path: string, by: { cookie?: string; token?: string }): Promise<Answer> {
    return ask(this.base, `/kbs/v0/resource/${path}`, {
      headers: {
        ...(by.cookie === undefined ? {} : { cookie: `kbs-session-id=${by.cookie}` }),
        ...(by.token === undefined ? {} : { authorization: `Bearer ${by.token}` }),
      },
    });
  }

  /** Decrypts a resource with jose, which shares no code with the broker's encryption. */
  async open(answer: Answer): Promise<Buffer> {
    const jwe = json(answer) as {
      protected: string;
      encrypted_key: string;
      iv: string;
      ciphertext: string;
      tag: string;
    };
    const { plaintext } = await flattenedDecrypt(jwe, this.privateKey, {
      keyManagementAlgorithms: ["ECDH-ES+A256KW", "RSA-OAEP-256"],
      contentEncryptionAlgorithms: ["A256GCM"],
    });
    return Buffer.from(plaintext);
  }
}

const JSON_TYPE = { "content-type": "application/json" };
