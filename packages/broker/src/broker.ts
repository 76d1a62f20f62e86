import { randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { canonicalJson, replaceFile } from "@shelter/base";
import { Administration } from "./administration.ts";
import type { AuditHead } from "./api.ts";
import { Attestation } from "./attestation.ts";
import { BrokerError } from "./errors.ts";
import { Anchors } from "./judge/anchors.ts";
import type { PlatformVerifier } from "./judge/platform.ts";
import { Policies } from "./judge/policies.ts";
import { References } from "./judge/references.ts";
import { Admins } from "./state/admins.ts";
import { AuditLog } from "./state/audit.ts";
import { Database, text } from "./state/database.ts";
import { MasterKey } from "./state/master-key.ts";
import { Resources } from "./state/resources.ts";
import { SESSION_LIMITS, type SessionLimits, Sessions } from "./state/sessions.ts";
import { loadSigningKey, type SigningKey } from "./state/signing-key.ts";

/** How a broker is opened. */
export interface BrokerOptions {
  /** Holds `broker.db`, `master.key`, `admin.token` and `audit.head`, all private. */
  readonly stateDir: string;
  readonly platforms: readonly PlatformVerifier[];
  readonly now: () => Date;
  readonly limits?: Partial<SessionLimits>;
  /** Writes a new `admin.token`; the old one is void. */
  readonly renewAdminToken?: boolean;
  /** Tell a refused client only that it is refused; administrators still see why. */
  readonly terseRefusals?: boolean;
}

/** The stores and keys every part of the broker works with. */
export interface BrokerState {
  readonly db: Database;
  readonly id: string;
  readonly key: SigningKey;
  readonly now: () => Date;
  readonly admins: Admins;
  readonly anchors: Anchors;
  readonly audit: AuditLog;
  readonly policies: Policies;
  readonly references: References;
  readonly resources: Resources;
  readonly sessions: Sessions;
  readonly platforms: ReadonlyMap<string, PlatformVerifier>;
  readonly stateDir: string;
  readonly terseRefusals: boolean;
}

/** Key broker, attestation service and reference values in one; speaks no HTTP itself. */
export class Broker {
  readonly state: BrokerState;
  readonly attestation: Attestation;
  readonly administration: Administration;
  readonly adminTokenFile: string;
  /** Whether this start wrote the token file. */
  readonly adminTokenIsNew: boolean;

  private constructor(state: BrokerState, adminTokenFile: string, adminTokenIsNew: boolean) {
    this.state = state;
    this.attestation = new Attestation(state);
    this.administration = new Administration(state);
    this.adminTokenFile = adminTokenFile;
    this.adminTokenIsNew = adminTokenIsNew;
  }

  /** Opens the state directory, creating what a first start needs. */
  static open(options: BrokerOptions): Broker {
    const { stateDir, now } = options;
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    const db = Database.open(join(stateDir, "broker.db"));
    try {
      const id = db.one("SELECT value FROM meta WHERE key = 'broker'");
      const master = MasterKey.load(join(stateDir, "master.key"), id !== undefined);
      const broker = identify(db, master);
      const key = loadSigningKey(db, master, now());
      const audit = new AuditLog(db, key, broker, now, (head) => keepHead(stateDir, head));
      const admins = new Admins(db);
      const tokenFile = join(stateDir, "admin.token");
      const renewed = admins.ensure(tokenFile, now(), options.renewAdminToken ?? false);
      const state: BrokerState = {
        db,
        id: broker,
        key,
        now,
        admins,
        anchors: new Anchors(db),
        audit,
        policies: new Policies(db),
        references: new References(db),
        resources: new Resources(db, master),
        sessions: new Sessions(db, master, { ...SESSION_LIMITS, ...options.limits }),
        platforms: new Map(options.platforms.map((p) => [p.tee, p])),
        stateDir,
        terseRefusals: options.terseRefusals ?? false,
      };
      audit.append({
        actor: "broker",
        action: "start",
        subject: broker,
        outcome: "ok",
        details: { key: key.thumbprint, platforms: [...state.platforms.keys()], "new-admin-token": renewed },
      });
      audit.signHead();
      return new Broker(state, tokenFile, renewed);
    } catch (error) {
      db.close();
      throw error;
    }
  }

  /** Removes what has expired and signs the audit log's newest entry; to be called now and then. */
  tick(): void {
    this.state.sessions.sweep(this.state.now());
    this.attestation.tick();
    this.state.audit.signHead();
  }

  /** Records and signs the end, and closes the database. */
  close(): void {
    this.attestation.tick();
    this.state.audit.append({
      actor: "broker",
      action: "stop",
      subject: this.state.id,
      outcome: "ok",
      details: {},
    });
    this.state.audit.signHead();
    this.state.db.close();
  }
}

/** The broker's own id, and a check that this is the master key its data was sealed with. */
function identify(db: Database, master: MasterKey): string {
  return db.transaction(() => {
    const stored = db.one("SELECT value FROM meta WHERE key = 'master-key'");
    if (stored && text(stored, "value") !== master.fingerprint()) {
      throw new BrokerError(
        "MASTER_KEY_WRONG",
        "unavailable",
        "master.key is not the key this database was sealed with",
        {
          hint: "restore master.key and broker.db from the same backup",
        },
      );
    }
    const known = db.one("SELECT value FROM meta WHERE key = 'broker'");
    if (known) return text(known, "value");
    const id = randomUUID();
    db.run("INSERT INTO meta (key, value) VALUES ('broker', ?), ('master-key', ?)", id, master.fingerprint());
    return id;
  });
}

function keepHead(stateDir: string, head: AuditHead): void {
  const { hash, seq, signature, time } = head;
  replaceFile(join(stateDir, "audit.head"), `${canonicalJson({ hash, seq, signature, time })}\n`);
}
