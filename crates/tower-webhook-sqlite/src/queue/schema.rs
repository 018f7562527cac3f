//! The tables.

pub(super) const COMPONENT: &str = "tower-webhook/queue";

/// The state of a job, as it is stored.
pub(super) mod state {
    /// Waits for the job before it in its FIFO group.
    pub(in crate::queue) const HELD: i64 = 0;
    /// Waits for a worker. `at` is when it is due.
    pub(in crate::queue) const QUEUED: i64 = 1;
    /// A worker has claimed it. `at` is the end of the lease. If it was cancelled, it has an empty result, and stays
    /// until its worker has let go or the lease ends.
    pub(in crate::queue) const RUNNING: i64 = 2;
    /// Its entry waits for a worker. `at` is when it is due.
    pub(in crate::queue) const DEAD_LETTERING_DUE: i64 = 3;
    /// A worker writes its entry. `at` is the end of the lease.
    pub(in crate::queue) const DEAD_LETTERING_CLAIMED: i64 = 4;
    /// Done. `at` is when it is removed.
    pub(in crate::queue) const SUCCEEDED: i64 = 5;
    /// Dead-lettered; or cancelled, and then it has an empty result. `at` is when it is removed.
    pub(in crate::queue) const FAILED: i64 = 6;
}

/// Times are milliseconds since 1970 by the clock of [`time`](super::time), but for `accepted`,
/// which is the wall clock's.
///
/// What changes with each claim is apart from what does not: a row is rewritten whole, and payloads
/// leave at once when a job is finished. The indices on `state` have only what they are asked for,
/// so that jobs that are done cost those that wait nothing.
pub(super) const STEPS: &[&str] = &[
    "
    CREATE TABLE tower_webhook_jobs (
        seq INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
        scope TEXT,
        key TEXT CHECK ((key IS NULL) = (scope IS NULL)),
        state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 6),
        at INTEGER NOT NULL,
        token INTEGER NOT NULL CHECK (token >= 0),
        attempts INTEGER NOT NULL CHECK (attempts BETWEEN 0 AND 4294967295),
        accepted INTEGER NOT NULL CHECK (accepted >= 0),
        target TEXT NOT NULL,
        ordered TEXT,
        history TEXT,
        cause TEXT,
        result BLOB
    ) STRICT;
    CREATE UNIQUE INDEX tower_webhook_jobs_key ON tower_webhook_jobs (scope, key)
        WHERE key IS NOT NULL;
    CREATE INDEX tower_webhook_jobs_due ON tower_webhook_jobs (target, at) WHERE state = 1;
    CREATE INDEX tower_webhook_jobs_end ON tower_webhook_jobs (state, at) WHERE state > 1;
    CREATE INDEX tower_webhook_jobs_order ON tower_webhook_jobs (ordered)
        WHERE ordered IS NOT NULL AND state < 3;
    CREATE TABLE tower_webhook_payloads (
        seq INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        about TEXT,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE TABLE tower_webhook_lanes (
        target TEXT NOT NULL PRIMARY KEY,
        jobs INTEGER NOT NULL,
        running INTEGER NOT NULL,
        due INTEGER,
        head INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tower_webhook_lanes_due ON tower_webhook_lanes (due, head, running)
        WHERE due IS NOT NULL;
    -- Counted in the same transactions. `changes` tells those who wait whether they have seen all;
    -- `ahead` and `last` are the clock.
    CREATE TABLE tower_webhook_queue (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        queued INTEGER NOT NULL CHECK (queued >= 0),
        running INTEGER NOT NULL CHECK (running >= 0),
        burying INTEGER NOT NULL CHECK (burying >= 0),
        changes INTEGER NOT NULL,
        ahead INTEGER NOT NULL,
        last INTEGER NOT NULL
    ) STRICT;
    INSERT INTO tower_webhook_queue VALUES (1, 0, 0, 0, 0, 0, 0);
",
    "
    -- Counted since there is a bound for it.
    ALTER TABLE tower_webhook_queue ADD COLUMN finished INTEGER NOT NULL DEFAULT 0;
    UPDATE tower_webhook_queue SET finished =
        (SELECT count(*) FROM tower_webhook_jobs WHERE state > 1 AND state >= 5);
",
    "
    ALTER TABLE tower_webhook_queue RENAME COLUMN burying TO dead_lettering;
",
    "
    -- Keys outlive their tasks. `until` is NULL while the task is in the table of jobs: then the key ends
    -- with it.
    CREATE TABLE tower_webhook_keys (
        key BLOB NOT NULL PRIMARY KEY CHECK (length(key) = 16),
        id BLOB NOT NULL CHECK (length(id) = 16),
        until INTEGER
    ) STRICT, WITHOUT ROWID;
    ALTER TABLE tower_webhook_jobs ADD COLUMN digest BLOB CHECK (length(digest) = 16);
    -- The key as text is asked for by a claim only, and leaves with the payload.
    ALTER TABLE tower_webhook_payloads ADD COLUMN scope TEXT;
    ALTER TABLE tower_webhook_payloads ADD COLUMN key TEXT;
    UPDATE tower_webhook_payloads SET (scope, key) =
        (SELECT j.scope, j.key FROM tower_webhook_jobs AS j WHERE j.seq = tower_webhook_payloads.seq);
    UPDATE tower_webhook_jobs SET digest = tower_webhook_digest(scope, key) WHERE key IS NOT NULL;
    INSERT INTO tower_webhook_keys (key, id)
        SELECT digest, id FROM tower_webhook_jobs WHERE digest IS NOT NULL;
    DROP INDEX tower_webhook_jobs_key;
    ALTER TABLE tower_webhook_jobs DROP COLUMN key;
    ALTER TABLE tower_webhook_jobs DROP COLUMN scope;
    CREATE INDEX tower_webhook_keys_until ON tower_webhook_keys (until) WHERE until IS NOT NULL;
    ALTER TABLE tower_webhook_queue ADD COLUMN keys INTEGER NOT NULL DEFAULT 0;
    UPDATE tower_webhook_queue SET keys = (SELECT count(*) FROM tower_webhook_keys);
",
    "
    -- Who claimed it last. No foreign key: what is known of owners that are gone is removed.
    ALTER TABLE tower_webhook_jobs ADD COLUMN owner INTEGER;
",
    "
    -- A claim asks for kinds.
    ALTER TABLE tower_webhook_jobs ADD COLUMN kind TEXT NOT NULL DEFAULT '';
    UPDATE tower_webhook_jobs SET kind = coalesce((SELECT p.kind FROM tower_webhook_payloads AS p
        WHERE p.seq = tower_webhook_jobs.seq), '') WHERE state < 5;
    ALTER TABLE tower_webhook_payloads DROP COLUMN kind;
    DROP INDEX tower_webhook_jobs_due;
    CREATE INDEX tower_webhook_jobs_due ON tower_webhook_jobs (target, kind, at) WHERE state = 1;
    CREATE INDEX tower_webhook_jobs_failed ON tower_webhook_jobs (kind, at) WHERE state = 3;
    -- The targets and kinds that have jobs: how many are held, queued or running, how many of the target
    -- run, of all kinds, and which of the queued ones is due first.
    DROP TABLE tower_webhook_lanes;
    CREATE TABLE tower_webhook_lanes (
        target TEXT NOT NULL,
        kind TEXT NOT NULL,
        jobs INTEGER NOT NULL,
        running INTEGER NOT NULL,
        due INTEGER,
        head INTEGER,
        PRIMARY KEY (target, kind)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tower_webhook_lanes_due ON tower_webhook_lanes (kind, due, head, running)
        WHERE due IS NOT NULL;
    INSERT INTO tower_webhook_lanes
        SELECT target, kind, count(*),
            (SELECT count(*) FROM tower_webhook_jobs AS r WHERE r.state > 1 AND r.state = 2
                AND r.target = j.target),
            (SELECT d.at FROM tower_webhook_jobs AS d WHERE d.state = 1 AND d.target = j.target
                AND d.kind = j.kind ORDER BY d.at, d.seq LIMIT 1),
            (SELECT d.seq FROM tower_webhook_jobs AS d WHERE d.state = 1 AND d.target = j.target
                AND d.kind = j.kind ORDER BY d.at, d.seq LIMIT 1)
        FROM tower_webhook_jobs AS j WHERE state < 3 GROUP BY target, kind;
",
    "
    -- Whether there are lanes: only where a limit per target needs them.
    ALTER TABLE tower_webhook_queue ADD COLUMN lanes INTEGER NOT NULL DEFAULT 1 CHECK (lanes IN (0, 1));
",
    "
    -- Of a key that outlived its task: whether the task succeeded or was cancelled. NULL if that is not known.
    ALTER TABLE tower_webhook_keys ADD COLUMN done INTEGER CHECK (done IN (0, 1));
",
];

/// Has the queued jobs found by their lanes.
pub(super) const ADD_LANES: &str = "
    UPDATE tower_webhook_queue SET lanes = 1;
    DROP INDEX IF EXISTS tower_webhook_jobs_next;
    CREATE INDEX IF NOT EXISTS tower_webhook_jobs_due ON tower_webhook_jobs (target, kind, at) WHERE state = 1;
    DELETE FROM tower_webhook_lanes;
    INSERT INTO tower_webhook_lanes
        SELECT target, kind, count(*),
            (SELECT count(*) FROM tower_webhook_jobs AS r
                WHERE r.state > 1 AND r.state = 2 AND r.target = j.target),
            (SELECT d.at FROM tower_webhook_jobs AS d WHERE d.state = 1 AND d.target = j.target
                AND d.kind = j.kind ORDER BY d.at, d.seq LIMIT 1),
            (SELECT d.seq FROM tower_webhook_jobs AS d WHERE d.state = 1 AND d.target = j.target
                AND d.kind = j.kind ORDER BY d.at, d.seq LIMIT 1)
        FROM tower_webhook_jobs AS j WHERE state < 3 GROUP BY target, kind;
";
/// Has the queued jobs found by their kinds.
pub(super) const REMOVE_LANES: &str = "
    UPDATE tower_webhook_queue SET lanes = 0;
    DROP INDEX IF EXISTS tower_webhook_jobs_due;
    CREATE INDEX IF NOT EXISTS tower_webhook_jobs_next ON tower_webhook_jobs (kind, at) WHERE state = 1;
    DELETE FROM tower_webhook_lanes;
";

/// What [`Counts`](super::ledger::Counts) has, in its order.
pub(super) const COUNTS: &str =
    "SELECT queued, running, dead_lettering, finished, changes, keys, ahead, last, lanes
    FROM tower_webhook_queue WHERE only = 1";
pub(super) const SET_COUNTS: &str = "UPDATE tower_webhook_queue SET queued = ?1, running = ?2,
        dead_lettering = ?3, finished = ?4, changes = ?5, keys = ?6, ahead = ?7, last = ?8
    WHERE only = 1";

pub(super) const INSERT: &str = "INSERT INTO tower_webhook_jobs
    (id, digest, state, at, token, attempts, accepted, target, ordered, kind)
    VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";
/// Of a job that is queued again.
pub(super) const SET_TOKEN: &str = "UPDATE tower_webhook_jobs SET token = ?2 WHERE seq = ?1";
pub(super) const INSERT_PAYLOAD: &str =
    "INSERT INTO tower_webhook_payloads (seq, about, payload, scope, key)
    VALUES (?1, ?2, ?3, ?4, ?5)";
pub(super) const BY_ID: &str =
    "SELECT seq, id, state, at, accepted, attempts, result FROM tower_webhook_jobs WHERE id = ?1";
pub(super) const BY_KEY: &str =
    "SELECT j.seq, j.id, j.state, j.at, j.accepted, j.attempts, j.result
    FROM tower_webhook_keys AS k CROSS JOIN tower_webhook_jobs AS j ON j.id = k.id
    WHERE k.key = ?1 AND k.until IS NULL";
/// And whether it succeeded or was cancelled, if it is finished.
pub(super) const DELETE: &str = "DELETE FROM tower_webhook_jobs WHERE seq = ?1
    RETURNING digest, at, token, state = 5 OR result IS NOT NULL";
pub(super) const DELETE_PAYLOADS: &str = "DELETE FROM tower_webhook_payloads
    WHERE seq IN (SELECT value FROM json_each(?1))";

/// The task and the end of a key; if that is the end of its job, which job, and whether and when it ends.
pub(super) const KEY: &str = "SELECT k.id, k.until, j.seq, j.state >= 5, j.at
    FROM tower_webhook_keys AS k LEFT JOIN tower_webhook_jobs AS j ON j.id = k.id AND k.until IS NULL
    WHERE k.key = ?1";
pub(super) const ADD_KEY: &str = "INSERT INTO tower_webhook_keys (key, id, until)
    VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
pub(super) const OWN_KEY: &str =
    "UPDATE tower_webhook_keys SET until = NULL, done = NULL WHERE key = ?1";
pub(super) const END_KEY: &str =
    "UPDATE tower_webhook_keys SET until = ?2, done = ?3 WHERE key = ?1 AND until IS NULL";
/// Whether a key has outlived this task, which did not fail.
pub(super) const IS_DONE: &str =
    "SELECT 1 FROM tower_webhook_keys WHERE key = ?1 AND id = ?2 AND done";
pub(super) const REMOVE_KEY: &str =
    "DELETE FROM tower_webhook_keys WHERE key = ?1 AND (until IS NULL OR until <= ?2)";
pub(super) const ANY_KEY_OVER: &str = "SELECT EXISTS (SELECT 1 FROM tower_webhook_keys
    WHERE until IS NOT NULL AND until <= ?1)";
pub(super) const REMOVE_KEYS_OVER: &str = "DELETE FROM tower_webhook_keys WHERE key IN (
    SELECT key FROM tower_webhook_keys WHERE until IS NOT NULL AND until <= ?1
    ORDER BY until LIMIT ?2)";

pub(super) const JOIN_LANE: &str =
    "INSERT INTO tower_webhook_lanes (target, kind, jobs, running, due, head)
    VALUES (?1, ?4, 1, coalesce(
        (SELECT running FROM tower_webhook_lanes WHERE target = ?1 LIMIT 1), 0), ?2, ?3)
    ON CONFLICT (target, kind) DO UPDATE SET jobs = jobs + 1,
        (due, head) = (SELECT
            CASE WHEN first THEN excluded.due ELSE tower_webhook_lanes.due END,
            CASE WHEN first THEN excluded.head ELSE tower_webhook_lanes.head END
            FROM (SELECT excluded.due IS NOT NULL AND (tower_webhook_lanes.due IS NULL
                OR (excluded.due, excluded.head)
                    < (tower_webhook_lanes.due, tower_webhook_lanes.head)) AS first))";
pub(super) const LEAVE_LANE: &str = "UPDATE tower_webhook_lanes
    SET jobs = jobs - (kind = ?2) * ?3, running = running - ?3
    WHERE target = ?1 RETURNING jobs, due";
pub(super) const RUN_IN_LANE: &str =
    "UPDATE tower_webhook_lanes SET running = running + ?2 WHERE target = ?1";
pub(super) const RENEW_LANE: &str = "UPDATE tower_webhook_lanes SET
        (due, head) = (SELECT at, seq FROM tower_webhook_jobs
            WHERE target = ?1 AND kind = ?2 AND state = 1 ORDER BY at, seq LIMIT 1)
    WHERE target = ?1 AND kind = ?2";
pub(super) const DELETE_LANE: &str =
    "DELETE FROM tower_webhook_lanes WHERE target = ?1 AND jobs <= 0";
pub(super) const LANES: &str = "SELECT target, due, head, running FROM tower_webhook_lanes
    WHERE kind = ?4 AND due IS NOT NULL AND due <= ?1 AND running < ?2
    ORDER BY due, head LIMIT ?3";
/// The next kind that has queued jobs.
pub(super) const NEXT_KIND_OF_LANES: &str = "SELECT kind FROM tower_webhook_lanes
    WHERE due IS NOT NULL AND kind > ?1 ORDER BY kind LIMIT 1";
pub(super) const NEXT_KIND: &str = "SELECT kind FROM tower_webhook_jobs
    WHERE state = 1 AND kind > ?1 ORDER BY kind LIMIT 1";
pub(super) const NEXT_DUE_OF_LANES: &str = "SELECT due FROM tower_webhook_lanes
    WHERE kind = ?1 AND due IS NOT NULL AND due > ?2 ORDER BY due LIMIT 1";
pub(super) const NEXT_DUE: &str = "SELECT at FROM tower_webhook_jobs
    WHERE state = 1 AND kind = ?1 AND at > ?2 ORDER BY at LIMIT 1";

pub(super) const FIRST_IN_ORDER: &str = "SELECT seq, target, state, kind FROM tower_webhook_jobs
    WHERE ordered = ?1 AND ordered IS NOT NULL AND state < 3 ORDER BY seq LIMIT 1";

pub(super) const DUE_IN_LANE: &str =
    "SELECT j.seq, j.at, j.id, j.token, j.attempts, p.scope, p.key,
        j.accepted, j.history, j.kind, p.about, p.payload, j.target, j.ordered
    FROM tower_webhook_jobs AS j LEFT JOIN tower_webhook_payloads AS p ON p.seq = j.seq
    WHERE j.target = ?4 AND j.kind = ?1 AND j.state = 1 AND j.at <= ?2
    ORDER BY j.at, j.seq LIMIT ?3";
/// The same where there are no lanes.
pub(super) const DUE: &str = "SELECT j.seq, j.at, j.id, j.token, j.attempts, p.scope, p.key,
        j.accepted, j.history, j.kind, p.about, p.payload, j.target, j.ordered
    FROM tower_webhook_jobs AS j LEFT JOIN tower_webhook_payloads AS p ON p.seq = j.seq
    WHERE j.kind = ?1 AND j.state = 1 AND j.at <= ?2 ORDER BY j.at, j.seq LIMIT ?3";
pub(super) const DUE_FAILED_JOBS: &str =
    "SELECT j.seq, j.at, j.id, j.token, j.attempts, p.scope, p.key,
        j.accepted, j.history, j.kind, p.about, p.payload, j.target, j.ordered, j.cause
    FROM tower_webhook_jobs AS j LEFT JOIN tower_webhook_payloads AS p ON p.seq = j.seq
    WHERE j.kind = ?3 AND j.state = 3 AND j.at <= ?1 ORDER BY j.at, j.seq LIMIT ?2";
/// The next kind of which jobs have failed.
pub(super) const NEXT_FAILED_KIND: &str = "SELECT kind FROM tower_webhook_jobs
    WHERE state = 3 AND kind > ?1 ORDER BY kind LIMIT 1";
/// Claims those whose numbers are in a list, as [`claim`](super::claim) has it for each.
pub(super) const CLAIM: &str = "UPDATE tower_webhook_jobs SET state = ?2, at = ?3,
        token = max(?4, min(token, 9223372036854775806) + 1),
        attempts = min(max(attempts, 0) + ?5, 4294967295), owner = ?6
    WHERE seq IN (SELECT value FROM json_each(?1))";
/// Ends the leases of an owner that is gone.
pub(super) const END_CLAIMS: &str = "UPDATE tower_webhook_jobs SET at = ?2
    WHERE state > 1 AND state IN (2, 4) AND at > ?2 AND owner = ?1";
/// Has all leases end later.
pub(super) const EXTEND: &str = "UPDATE tower_webhook_jobs SET at = at + ?1
    WHERE state > 1 AND state IN (2, 4)";
/// Has those leases of an owner end later that are over.
pub(super) const KEEP_CLAIMS: &str = "UPDATE tower_webhook_jobs SET at = at + ?3
    WHERE state > 1 AND state IN (2, 4) AND at <= ?2 AND owner = ?1";
/// Leaves a job to a newer release. Nothing else of it changes.
pub(super) const PUT_OFF: &str = "UPDATE tower_webhook_jobs SET at = ?2 WHERE seq = ?1";
pub(super) const EXPIRED: &str =
    "SELECT seq, state, target, ordered, attempts, kind, result IS NOT NULL, at FROM tower_webhook_jobs
    WHERE state > 1 AND state = ?1 AND at <= ?2 ORDER BY at, seq LIMIT ?3";
/// All, and those of cancelled jobs.
pub(super) const COUNT_EXPIRED: &str = "SELECT count(*), count(result) FROM tower_webhook_jobs
    WHERE state > 1 AND state = 2 AND at <= ?1";
pub(super) const NEXT_END: &str = "SELECT at FROM tower_webhook_jobs
    WHERE state > 1 AND state = ?1 AND at > ?2 ORDER BY at LIMIT 1";

/// A claim that was settled has left a greater token. A job that was never claimed has none.
pub(super) const HELD_BY: &str =
    "SELECT seq, state, target, ordered, attempts, kind, result IS NOT NULL
    FROM tower_webhook_jobs WHERE id = ?1 AND token = ?2 AND token > 0 AND +state IN (1, 2, 3, 4)";
/// What can be cancelled.
pub(super) const UNFINISHED: &str =
    "SELECT j.seq, j.state, j.target, j.ordered, j.attempts, j.kind, FALSE, p.scope, p.key
    FROM tower_webhook_jobs AS j LEFT JOIN tower_webhook_payloads AS p ON p.seq = j.seq
    WHERE j.id = ?1 AND +j.state IN (0, 1, 2) AND j.result IS NULL";
/// Marks a running job as cancelled.
pub(super) const CANCEL: &str = "UPDATE tower_webhook_jobs SET result = ?2 WHERE seq = ?1";
/// Those that are not finished, which are those with a payload.
pub(super) const LIST: &str =
    "SELECT j.seq, j.id, j.kind, j.target, j.ordered, j.state, j.at, j.accepted, j.attempts
    FROM tower_webhook_payloads AS p CROSS JOIN tower_webhook_jobs AS j ON j.seq = p.seq
    WHERE p.seq > ?1 ORDER BY p.seq LIMIT ?2";
pub(super) const RENEW: &str = "UPDATE tower_webhook_jobs SET state = ?2, at = ?3 WHERE seq = ?1";
/// Back to waiting, or on to be dead-lettered. A history or a cause that is not given stays.
pub(super) const MOVE: &str = "UPDATE tower_webhook_jobs SET state = ?2, at = ?3, attempts = ?4,
        history = coalesce(?5, history), cause = coalesce(?6, cause), token = max(token + ?7, 0)
    WHERE seq = ?1";
pub(super) const RELEASE: &str = "UPDATE tower_webhook_jobs SET state = 1 WHERE seq = ?1";
pub(super) const FINISH: &str = "UPDATE tower_webhook_jobs
    SET state = ?2, at = ?3, result = ?4, history = NULL, cause = NULL, ordered = NULL
    WHERE seq = ?1";
/// The same for those whose numbers are in a list, that succeeded without a result.
pub(super) const FINISH_ALL: &str = "UPDATE tower_webhook_jobs
    SET state = 5, at = ?2, history = NULL, cause = NULL, ordered = NULL
    WHERE seq IN (SELECT value FROM json_each(?1))";

pub(super) const OVER: &str = "SELECT EXISTS (SELECT 1 FROM tower_webhook_jobs
    WHERE state > 1 AND state = ?1 AND at <= ?2)";
/// Those of a state whose time ends first.
pub(super) const ENDS: &str = "SELECT at, seq FROM tower_webhook_jobs
    WHERE state > 1 AND state = ?1 ORDER BY at, seq LIMIT ?2";

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// No statement looks at more rows than it is about, whatever the tables hold and whether or
    /// not SQLite has statistics.
    #[test]
    fn every_statement_finds_its_rows_by_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        crate::stored::add_functions(&connection).unwrap();
        connection.execute_batch(&STEPS.concat()).unwrap();
        for (sql, by) in [
            (JOIN_LANE, ""),
            (LEAVE_LANE, "(target=?)"),
            (RUN_IN_LANE, "(target=?)"),
            (
                RENEW_LANE,
                "INDEX tower_webhook_jobs_due (target=? AND kind=?)",
            ),
            (DELETE_LANE, "(target=?)"),
            (
                LANES,
                "COVERING INDEX tower_webhook_lanes_due (kind=? AND due>? AND due<?)",
            ),
            (NEXT_KIND_OF_LANES, "INDEX tower_webhook_lanes_due (kind>?)"),
            (
                NEXT_DUE_OF_LANES,
                "INDEX tower_webhook_lanes_due (kind=? AND due>?",
            ),
            (
                DUE_IN_LANE,
                "tower_webhook_jobs_due (target=? AND kind=? AND at<?)",
            ),
        ] {
            finds(&connection, sql, by);
        }
        connection.execute_batch(REMOVE_LANES).unwrap();
        for (sql, by) in [
            (NEXT_KIND, "INDEX tower_webhook_jobs_next (kind>?)"),
            (NEXT_DUE, "INDEX tower_webhook_jobs_next (kind=? AND at>?)"),
            (DUE, "tower_webhook_jobs_next (kind=? AND at<?)"),
            (COUNTS, "INTEGER PRIMARY KEY"),
            (SET_COUNTS, "INTEGER PRIMARY KEY"),
            (INSERT, ""),
            (SET_TOKEN, "INTEGER PRIMARY KEY"),
            (INSERT_PAYLOAD, ""),
            (BY_ID, "(id=?)"),
            (BY_KEY, "(key=?)"),
            (KEY, "(key=?)"),
            (ADD_KEY, ""),
            (OWN_KEY, "(key=?)"),
            (END_KEY, "(key=?)"),
            (IS_DONE, "(key=?)"),
            (REMOVE_KEY, "(key=?)"),
            (
                ANY_KEY_OVER,
                "tower_webhook_keys_until (until>? AND until<?)",
            ),
            (
                REMOVE_KEYS_OVER,
                "tower_webhook_keys_until (until>? AND until<?)",
            ),
            (DELETE, "INTEGER PRIMARY KEY"),
            (DELETE_PAYLOADS, "INTEGER PRIMARY KEY"),
            (NEXT_FAILED_KIND, "INDEX tower_webhook_jobs_failed (kind>?)"),
            (FIRST_IN_ORDER, "tower_webhook_jobs_order (ordered=?)"),
            (
                DUE_FAILED_JOBS,
                "tower_webhook_jobs_failed (kind=? AND at<?)",
            ),
            (CLAIM, "INTEGER PRIMARY KEY"),
            (END_CLAIMS, "tower_webhook_jobs_end (state=? AND at>?)"),
            (EXTEND, "tower_webhook_jobs_end (state=?)"),
            (KEEP_CLAIMS, "tower_webhook_jobs_end (state=? AND at<?)"),
            (PUT_OFF, "INTEGER PRIMARY KEY"),
            (EXPIRED, "tower_webhook_jobs_end (state=? AND at<?)"),
            (COUNT_EXPIRED, "tower_webhook_jobs_end (state=? AND at<?)"),
            (NEXT_END, "tower_webhook_jobs_end (state=? AND at>?)"),
            (HELD_BY, "(id=?)"),
            (UNFINISHED, "(id=?)"),
            (CANCEL, "INTEGER PRIMARY KEY"),
            (LIST, "p USING INTEGER PRIMARY KEY (rowid>?)"),
            (RENEW, "INTEGER PRIMARY KEY"),
            (MOVE, "INTEGER PRIMARY KEY"),
            (RELEASE, "INTEGER PRIMARY KEY"),
            (FINISH, "INTEGER PRIMARY KEY"),
            (FINISH_ALL, "INTEGER PRIMARY KEY"),
            (OVER, "tower_webhook_jobs_end (state=? AND at<?)"),
            (ENDS, "tower_webhook_jobs_end (state=?)"),
        ] {
            finds(&connection, sql, by);
        }
    }

    /// Hazard: SQLite compares a value with the condition of a partial index, and prepares the statement again when
    /// another is bound.
    #[tokio::test]
    async fn no_statement_is_prepared_again_for_other_values() {
        let home = tempfile::tempdir().unwrap();
        let queue = crate::SqliteQueue::open(home.path().join("queue.db")).unwrap();
        let counted = queue.database().write(|transaction| {
            let mut counted = Vec::new();
            for (sql, parameters) in [(EXPIRED, 3), (NEXT_END, 2), (OVER, 2), (RENEW_LANE, 2)] {
                let mut statement = transaction.connection().prepare(sql).unwrap();
                for value in 1..4 {
                    for parameter in 1..=parameters {
                        statement.raw_bind_parameter(parameter, value).unwrap();
                    }
                    let mut rows = statement.raw_query();
                    while rows.next().unwrap().is_some() {}
                }
                counted.push(statement.get_status(rusqlite::StatementStatus::RePrepare));
            }
            Ok(counted)
        });
        assert_eq!(counted.await.unwrap(), [0; 4]);
    }

    fn finds(connection: &Connection, sql: &str, by: &str) {
        let mut plan = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let mut steps = plan.raw_query();
        let mut whole = String::new();
        while let Some(step) = steps.next().unwrap() {
            let detail: String = step.get("detail").unwrap();
            assert!(!detail.contains("SCAN tower"), "{sql}: {detail}");
            let scans = detail.contains("SCAN j") && !detail.contains("SCAN json_each");
            assert!(!scans, "{sql}: {detail}");
            assert!(!detail.contains("TEMP B-TREE"), "{sql}: {detail}");
            whole = whole + &detail + "\n";
        }
        assert!(whole.contains(by), "{sql}: {whole}");
    }
}
