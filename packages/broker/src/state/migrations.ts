/** Schema changes in order; one that has shipped is never edited, only followed by another. */
export const MIGRATIONS: readonly { readonly name: string; readonly sql: string }[] = [
  {
    name: "first",
    sql: `
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE keys (
  purpose TEXT PRIMARY KEY, public TEXT NOT NULL, sealed BLOB NOT NULL, created TEXT NOT NULL
) STRICT;

CREATE TABLE admins (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, token_hash BLOB NOT NULL, created TEXT NOT NULL
) STRICT;

CREATE TABLE anchors (
  id TEXT PRIMARY KEY, platform TEXT NOT NULL, certificate BLOB NOT NULL, subject TEXT NOT NULL,
  not_before TEXT NOT NULL, not_after TEXT NOT NULL, added TEXT NOT NULL
) STRICT;

CREATE TABLE reference_values (
  id INTEGER PRIMARY KEY AUTOINCREMENT, workload TEXT NOT NULL, image TEXT, platform TEXT NOT NULL,
  shape TEXT NOT NULL, pcrs TEXT NOT NULL, events TEXT NOT NULL, digest TEXT NOT NULL, added TEXT NOT NULL,
  UNIQUE (workload, digest)
) STRICT;

CREATE TABLE policies (
  id INTEGER PRIMARY KEY AUTOINCREMENT, workload TEXT NOT NULL, pattern TEXT NOT NULL, added TEXT NOT NULL,
  UNIQUE (workload, pattern)
) STRICT;

CREATE TABLE resources (
  path TEXT PRIMARY KEY, version INTEGER NOT NULL, sealed BLOB NOT NULL, size INTEGER NOT NULL,
  created TEXT NOT NULL, updated TEXT NOT NULL
) STRICT;

-- Outlives a deleted resource, so that no two values ever share a path and a version.
CREATE TABLE resource_versions (path TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT;

CREATE TABLE sessions (
  id TEXT PRIMARY KEY, tee TEXT NOT NULL, state TEXT NOT NULL, nonce TEXT NOT NULL,
  sealed_challenge BLOB, address TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
  judgement TEXT, tee_key TEXT, thumbprint TEXT
) STRICT;
CREATE INDEX sessions_by_state ON sessions (state, expires);
CREATE INDEX sessions_by_address ON sessions (address, state, created);
CREATE INDEX sessions_by_time ON sessions (created);

CREATE TABLE releases (
  id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, time TEXT NOT NULL, path TEXT NOT NULL,
  outcome TEXT NOT NULL, version INTEGER, reason TEXT
) STRICT;
CREATE INDEX releases_by_session ON releases (session);

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
  subject TEXT NOT NULL, outcome TEXT NOT NULL, details TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE TABLE audit_heads (
  seq INTEGER PRIMARY KEY, hash TEXT NOT NULL, time TEXT NOT NULL, signature TEXT NOT NULL
) STRICT;
-- Guards against our own mistakes; against somebody with the file in hand there are the hashes and heads.
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
`,
  },
];
