"""The tables of the job store, as they grew."""

from __future__ import annotations

# A store is brought up to date by the steps that it has not seen. A step is never changed.
STEPS = [
    """
CREATE TABLE job (
    id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, host TEXT NOT NULL, state TEXT NOT NULL, slot TEXT NOT NULL,
    object TEXT, action TEXT NOT NULL, journal TEXT, ended_ms INTEGER, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX job_open ON job (host, state, id) WHERE state IN ('queued', 'claimed', 'running');
CREATE INDEX job_ended ON job (ended_ms) WHERE ended_ms IS NOT NULL;
CREATE TABLE lock (name TEXT NOT NULL, job TEXT NOT NULL, PRIMARY KEY (name, job)) WITHOUT ROWID;
CREATE INDEX lock_job ON lock (job);
CREATE TABLE host (name TEXT PRIMARY KEY, journal TEXT NOT NULL, incarnation INTEGER NOT NULL, facts TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', 0);
""",
    """
CREATE TABLE key (
    public TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL,
    expires_ms INTEGER, revoked_at TEXT
) WITHOUT ROWID;
CREATE TABLE invitation (
    digest TEXT PRIMARY KEY, host TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL,
    expires_ms INTEGER NOT NULL, used_at TEXT, used_by TEXT, address TEXT
) WITHOUT ROWID;
CREATE TABLE audit (
    n INTEGER PRIMARY KEY AUTOINCREMENT, ms INTEGER NOT NULL, at TEXT NOT NULL, who TEXT NOT NULL, role TEXT NOT NULL,
    address TEXT NOT NULL, action TEXT NOT NULL, object TEXT, job TEXT, outcome TEXT NOT NULL, message TEXT
);
CREATE INDEX audit_ms ON audit (ms);
""",
    # Open jobs are found without a look at those that have ended, queued ones without a look at those of other slots.
    """
CREATE INDEX job_unfinished ON job (id) WHERE state IN ('queued', 'claimed', 'running');
CREATE INDEX job_queued ON job (host, slot, id) WHERE state = 'queued';
""",
    # Groups, and lists that read no record but those that they show.
    """
ALTER TABLE job ADD COLUMN owner TEXT;
ALTER TABLE job ADD COLUMN family TEXT;
ALTER TABLE job ADD COLUMN retry_of TEXT;
UPDATE job SET owner = json_extract(record, '$.owner');
CREATE INDEX job_list ON job (id, state, object, host, action, owner, family);
CREATE INDEX job_family ON job (family, state) WHERE family IS NOT NULL;
CREATE INDEX job_retry ON job (retry_of) WHERE retry_of IS NOT NULL;
CREATE TABLE family (id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL, record TEXT NOT NULL)
    WITHOUT ROWID;
""",
    # What is decided about a group without reading its record, and templates.
    """
ALTER TABLE family ADD COLUMN policy TEXT;
ALTER TABLE family ADD COLUMN most INTEGER;
ALTER TABLE family ADD COLUMN decision TEXT;
ALTER TABLE family ADD COLUMN undo_of TEXT;
CREATE INDEX family_most ON family (most) WHERE most IS NOT NULL;
CREATE INDEX family_undo ON family (undo_of) WHERE undo_of IS NOT NULL;
CREATE TABLE template (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
""",
    # What labels of images mean: the highest number of a label is what it means now, the others what it meant before.
    """
CREATE TABLE label (
    label TEXT NOT NULL, number INTEGER NOT NULL, image TEXT NOT NULL, at TEXT NOT NULL, by TEXT NOT NULL,
    PRIMARY KEY (label, number)
) WITHOUT ROWID;
""",
    # Which groups try another one again, without reading their records.
    """
ALTER TABLE family ADD COLUMN retry_of TEXT;
UPDATE family SET retry_of = json_extract(record, '$.retry_of');
CREATE INDEX family_retry ON family (retry_of) WHERE retry_of IS NOT NULL;
""",
    # What the client worker did by itself, for those who ask a second time.
    """
CREATE TABLE answer (
    n INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, asked TEXT NOT NULL, value TEXT NOT NULL
);
""",
]
SCHEMA_VERSION = len(STEPS)
