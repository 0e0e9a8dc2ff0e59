-- The store's first schema. Times are integer nanoseconds since the epoch (UTC) in the tables, ISO 8601 text in the views.
-- Structured values are JSON text. Only the writer process writes; everybody else opens the file with mode=ro.

PRAGMA application_id = 1752527720; -- "hush": whose database it is

-- One row per request, with sums that the writer keeps, so that a list of requests never reads nodes.
CREATE TABLE request (
    id                INTEGER PRIMARY KEY,
    request_id        TEXT    NOT NULL UNIQUE,
    workflow_name     TEXT,
    user_id           TEXT,
    session_id        TEXT,
    status            TEXT    NOT NULL DEFAULT 'running',   -- running | completed | failed | interrupted
    start_ns          INTEGER,
    end_ns            INTEGER,
    error             TEXT,
    tags              TEXT    NOT NULL DEFAULT '[]',        -- JSON array, in order
    node_count        INTEGER NOT NULL DEFAULT 0,
    error_count       INTEGER NOT NULL DEFAULT 0,
    prompt_tokens     INTEGER,                              -- sums over nodes; NULL when no node said
    completion_tokens INTEGER,
    total_tokens      INTEGER,
    cost_usd          REAL,
    recorded_ns       INTEGER NOT NULL,                     -- when the store first saw it: the order of `hush traces`
    marked            INTEGER NOT NULL DEFAULT 0,           -- somebody has marked it complete, whatever its status says
    tracers           TEXT                                  -- JSON [[name, type, config, target, policy], ...]
);
CREATE INDEX request_by_recorded ON request (recorded_ns);
CREATE INDEX request_by_workflow ON request (workflow_name, recorded_ns);
CREATE INDEX request_by_user     ON request (user_id, recorded_ns) WHERE user_id IS NOT NULL;
CREATE INDEX request_by_session  ON request (session_id, recorded_ns) WHERE session_id IS NOT NULL;
CREATE INDEX request_by_status   ON request (status, recorded_ns) WHERE status <> 'completed';

CREATE TABLE request_tag (
    tag     TEXT    NOT NULL,
    request INTEGER NOT NULL REFERENCES request (id) ON DELETE CASCADE,
    PRIMARY KEY (tag, request)
) WITHOUT ROWID;
CREATE INDEX request_tag_by_request ON request_tag (request);

-- One row per node: what lists, trees and statistics read. Payloads are apart, so that those stay small.
CREATE TABLE node (
    id                     INTEGER PRIMARY KEY,
    request                INTEGER NOT NULL REFERENCES request (id) ON DELETE CASCADE,
    node_name              TEXT,
    parent_name            TEXT,
    context_id             TEXT,
    execution_order        INTEGER,
    status                 TEXT    NOT NULL,               -- running | ok | error | interrupted
    start_ns               INTEGER,
    end_ns                 INTEGER,
    duration_ms            REAL,
    node_type              TEXT,
    level                  TEXT,
    model                  TEXT,
    prompt_tokens          INTEGER,
    completion_tokens      INTEGER,
    total_tokens           INTEGER,
    cached_tokens          INTEGER,
    reasoning_tokens       INTEGER,
    cost_usd               REAL,
    time_to_first_token_ms REAL,
    contain_generation     INTEGER NOT NULL DEFAULT 0,
    error                  TEXT,
    span                   INTEGER,                        -- joins a start record to its end record
    parent_span            INTEGER                         -- the exact parent, where known
);
CREATE INDEX node_by_request ON node (request);
CREATE INDEX node_running    ON node (span) WHERE status = 'running';

CREATE TABLE node_payload (
    node        INTEGER PRIMARY KEY REFERENCES node (id) ON DELETE CASCADE,
    input_data  TEXT,
    output_data TEXT,
    metadata    TEXT,
    media       TEXT
);

-- One row per tracer: a name, a class and a configuration (secrets as references). What its backend did lately is here,
-- so that a new writer goes on as gently as the last one.
CREATE TABLE tracer (
    id            INTEGER PRIMARY KEY,
    tracer_name   TEXT    NOT NULL,
    tracer_type   TEXT    NOT NULL,                        -- the name of its class
    target        TEXT    NOT NULL DEFAULT '',             -- "module:Class"; empty: found by type among the plugins
    tracer_config TEXT    NOT NULL DEFAULT '{}',
    failures      INTEGER NOT NULL DEFAULT 0,              -- attempts that failed in a row
    retry_ns      INTEGER NOT NULL DEFAULT 0,              -- no attempt before: its breaker is open, or it was told to wait
    paused        TEXT,                                    -- what somebody has to put right; tried slowly meanwhile
    last_error    TEXT,
    last_error_ns INTEGER,
    last_sent_ns  INTEGER,
    sent          INTEGER NOT NULL DEFAULT 0,              -- deliveries ever, also of requests that are pruned since
    failed        INTEGER NOT NULL DEFAULT 0,              -- dead letters ever
    skipped       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tracer_name, tracer_type, target, tracer_config)
);

-- One row per request and tracer it is due to.
CREATE TABLE delivery (
    id              INTEGER PRIMARY KEY,
    request         INTEGER NOT NULL REFERENCES request (id) ON DELETE CASCADE,
    tracer          INTEGER NOT NULL REFERENCES tracer (id),
    origin          INTEGER NOT NULL DEFAULT 0,            -- of table origin; 0: not known
    status          TEXT    NOT NULL DEFAULT 'pending',    -- pending | flushing | flushed | failed | skipped
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_ns INTEGER NOT NULL DEFAULT 0,
    lease_fence     INTEGER NOT NULL DEFAULT 0,
    last_error      TEXT,
    due_ns          INTEGER NOT NULL,
    attempted_ns    INTEGER,                               -- when the last attempt began
    flushed_ns      INTEGER,
    UNIQUE (request, tracer)
);
CREATE INDEX delivery_due      ON delivery (tracer, origin, next_attempt_ns) WHERE status = 'pending';
CREATE INDEX delivery_flushing ON delivery (tracer) WHERE status = 'flushing';
CREATE INDEX delivery_failed   ON delivery (tracer) WHERE status = 'failed';
CREATE INDEX delivery_skipped  ON delivery (tracer) WHERE status = 'skipped';

-- Where requests come from: what a delivery process needs in order to be started as the app would start it.
CREATE TABLE origin (
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    origin TEXT NOT NULL                                   -- JSON object, see hush_core.model.ORIGIN
);

-- How far each journal has been stored; written in the same transaction as the rows, so each record lands exactly once.
CREATE TABLE journal (
    journal_id TEXT    PRIMARY KEY,
    pid        INTEGER,
    opened_ns  INTEGER,
    origin     INTEGER REFERENCES origin (id),
    segment    INTEGER NOT NULL,                           -- position: records before (segment, offset) are stored
    offset     INTEGER NOT NULL,
    first      INTEGER NOT NULL DEFAULT 0,                 -- the sequence of its first record
    highest    INTEGER NOT NULL DEFAULT -1,                -- the highest sequence stored or set aside
    elsewhere  INTEGER NOT NULL DEFAULT 0,                 -- sequences of records stored in a database that is gone
    stored     INTEGER NOT NULL DEFAULT 0,                 -- records put into the tables
    set_aside  INTEGER NOT NULL DEFAULT 0,                 -- records kept in files because they could not be read
    dropped    TEXT    NOT NULL DEFAULT '{}',              -- JSON {reason: count}, as the process counted
    ended_ns   INTEGER                                     -- its process is gone and all of it is stored
) WITHOUT ROWID;

-- Which live journals have recorded for a request that is not complete: when the last has ended, it is interrupted.
CREATE TABLE request_journal (
    request    INTEGER NOT NULL REFERENCES request (id) ON DELETE CASCADE,
    journal_id TEXT    NOT NULL,
    PRIMARY KEY (request, journal_id)
) WITHOUT ROWID;
CREATE INDEX request_journal_by_journal ON request_journal (journal_id);

-- Sums over journals whose rows are gone: records_stored, records_set_aside, dropped:<reason>, requests_pruned, nodes_pruned.
CREATE TABLE total (
    name  TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) WITHOUT ROWID;

-- The public shape: columns named as in TraceStore.insert_node_trace, times as ISO 8601 UTC text with microseconds.
CREATE VIEW requests AS
SELECT id, request_id, workflow_name, user_id, session_id, status,
       strftime('%Y-%m-%dT%H:%M:%S', start_ns / 1000000000, 'unixepoch')
           || printf('.%06dZ', (start_ns / 1000) % 1000000) AS start_time,
       strftime('%Y-%m-%dT%H:%M:%S', end_ns / 1000000000, 'unixepoch')
           || printf('.%06dZ', (end_ns / 1000) % 1000000) AS end_time,
       CASE WHEN status <> 'running' THEN (end_ns - start_ns) / 1e6 END AS duration_ms,
       error, tags, node_count, error_count, prompt_tokens, completion_tokens, total_tokens, cost_usd
FROM request;

CREATE VIEW node_traces AS
SELECT n.id, r.request_id, r.workflow_name, n.node_name, n.parent_name, n.context_id, n.execution_order,
       strftime('%Y-%m-%dT%H:%M:%S', n.start_ns / 1000000000, 'unixepoch')
           || printf('.%06dZ', (n.start_ns / 1000) % 1000000) AS start_time,
       strftime('%Y-%m-%dT%H:%M:%S', n.end_ns / 1000000000, 'unixepoch')
           || printf('.%06dZ', (n.end_ns / 1000) % 1000000) AS end_time,
       n.duration_ms, p.input_data, p.output_data, r.user_id, r.session_id, n.model,
       n.prompt_tokens, n.completion_tokens, n.total_tokens, n.cost_usd, n.contain_generation, p.metadata,
       n.node_type, n.error, n.level, p.media, n.time_to_first_token_ms, n.cached_tokens, n.reasoning_tokens, n.status
FROM node n
JOIN request r ON r.id = n.request
LEFT JOIN node_payload p ON p.node = n.id;

CREATE VIEW deliveries AS
SELECT d.id, r.request_id, t.tracer_name, t.tracer_type, t.target, t.tracer_config, d.status, d.attempts, d.last_error,
       d.next_attempt_ns, d.due_ns, d.attempted_ns, d.flushed_ns
FROM delivery d
JOIN request r ON r.id = d.request
JOIN tracer t ON t.id = d.tracer;
