//! Files that earlier builds made: what is in them is there after they are opened.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use rusqlite::{Connection, params};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tower_webhook::{
    dead_letter::{
        Cause, Discarded, Entry, EntryBody, EntryClaim, EntryId, Filter, LetterStore, Page, Reason,
        Sink, json,
    },
    idempotency::IdempotencyKey,
    lease::Settled,
    queue::{Ask, End, Engine, NewJob, Status, TaskId, Tasks},
};
use tower_webhook_sqlite::{Database, SqliteDeadLetters, SqliteQueue};

const LEASE: Duration = Duration::from_secs(30);

/// The steps of the queue before keys outlived their tasks.
const QUEUE: &[&str] = &[
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
    -- The targets that have jobs: how many are held, queued or running, how many of these run, and
    -- which of the queued ones is due first.
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
];

/// The steps of the dead letters before their tables were renamed.
const LETTERS: &[&str] = &[
    "
    CREATE TABLE tower_webhook_letters (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
        reason TEXT NOT NULL,
        target TEXT NOT NULL,
        event_id TEXT,
        written_at INTEGER NOT NULL,
        replays INTEGER NOT NULL CHECK (replays >= 0),
        token INTEGER NOT NULL DEFAULT 0,
        since INTEGER,
        until INTEGER CHECK (until >= since),
        record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX tower_webhook_letters_reason ON tower_webhook_letters (reason);
    CREATE INDEX tower_webhook_letters_target ON tower_webhook_letters (target);
    CREATE INDEX tower_webhook_letters_both ON tower_webhook_letters (target, reason);
    CREATE INDEX tower_webhook_letters_event ON tower_webhook_letters (event_id)
        WHERE event_id IS NOT NULL;
    CREATE INDEX tower_webhook_letters_written ON tower_webhook_letters (written_at);
    -- How many there are, and the greatest token of those that left: tokens grow whatever the
    -- clock does.
    CREATE TABLE tower_webhook_letters_state (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        letters INTEGER NOT NULL,
        token INTEGER NOT NULL
    ) STRICT;
    INSERT INTO tower_webhook_letters_state VALUES (1, 0, 0);
    CREATE TRIGGER tower_webhook_letters_came AFTER INSERT ON tower_webhook_letters BEGIN
        UPDATE tower_webhook_letters_state SET letters = letters + 1 WHERE only = 1;
    END;
    CREATE TRIGGER tower_webhook_letters_went AFTER DELETE ON tower_webhook_letters BEGIN
        UPDATE tower_webhook_letters_state
        SET letters = letters - 1, token = max(token, old.token) WHERE only = 1;
    END;
",
    // Those that were removed or discarded, and when: they do not come again.
    "
    CREATE TABLE tower_webhook_letters_gone (
        id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tower_webhook_letters_gone_at ON tower_webhook_letters_gone (at);
",
];

/// A file of an earlier build: the tables of `component` after these steps.
async fn older(file: &Path, component: &str, steps: &[&str]) -> Connection {
    let database = Database::open(file).unwrap();
    database.migrate(component, steps).unwrap();
    database.close().await;
    Connection::open(file).unwrap()
}

fn task(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

fn id(number: u8) -> EntryId {
    EntryId::from_bytes([number; 16])
}

/// A file of an earlier build with a job that waits, one to be dead-lettered, and one that is done.
async fn older_queue(file: &Path, steps: &[&str]) {
    let raw = older(file, "tower-webhook/queue", steps).await;
    let far = 4_000_000_000_000_i64;
    let history = r#"{"attempts":[{"number":1,"startedMs":0,"tookMs":7,"outcome":"transient","mayRetry":true}],"leftOut":0,"attemptsMade":1,"refusals":0}"#;
    for (seq, state, at, cause, result) in [
        (1_u8, 1, 5, None, None),
        (2, 3, 6, Some(r#"{"reason":"rejected","code":410}"#), None),
        (3, 5, far, None, Some("done")),
    ] {
        let waits = state < 5;
        raw.execute(
            "INSERT INTO tower_webhook_jobs (seq, id, scope, key, state, at, token, attempts,
                 accepted, target, ordered, history, cause, result)
             VALUES (?1, ?2, 'shop', ?1, ?3, ?4, 9, 1, 1700000000000, 'peer', ?5, ?6, ?7, ?8)",
            params![
                seq,
                [seq; 16],
                state,
                at,
                waits.then_some("group"),
                waits.then_some(history),
                cause,
                result.map(str::as_bytes),
            ],
        )
        .unwrap();
        if waits {
            raw.execute(
                "INSERT INTO tower_webhook_payloads VALUES (?1, 'mail', ?2, ?3)",
                params![seq, r#"{"eventId":"evt_1","replays":2}"#, b"payload"],
            )
            .unwrap();
        }
    }
    raw.execute_batch(
        "INSERT INTO tower_webhook_lanes VALUES ('peer', 1, 0, 5, 1);
         UPDATE tower_webhook_queue SET queued = 1;",
    )
    .unwrap();
    let column = if steps.len() > 2 {
        "dead_lettering"
    } else {
        "burying"
    };
    let counted = format!("UPDATE tower_webhook_queue SET {column} = 1");
    raw.execute(&counted, []).unwrap();
    if steps.len() > 1 {
        let counted = "UPDATE tower_webhook_queue SET finished = 1";
        raw.execute(counted, []).unwrap();
    }
    drop(raw);
}

#[tokio::test]
async fn the_jobs_of_an_older_file_are_all_there() {
    // With and without the count of the finished ones, and with the columns renamed.
    for steps in [&QUEUE[..1], &QUEUE[..2], QUEUE] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("queue.db");
        older_queue(&file, steps).await;

        let queue = SqliteQueue::open(&file).unwrap();
        let depth = queue.depth().await.unwrap();
        assert_eq!(
            (depth.queued, depth.running, depth.dead_lettering),
            (1, 0, 1)
        );
        let raw = Connection::open(&file).unwrap();
        let counts = raw.query_row(
            "SELECT finished, keys FROM tower_webhook_queue",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        );
        assert_eq!(counts.unwrap(), (1, 3));
        drop(raw);
        let key = |number: u8| IdempotencyKey::new("shop", &number.to_string()).unwrap();
        let repeats_are_known = async || {
            for number in 1..=3 {
                let repeat = NewJob::new("mail", "payload").dedup_key(key(number));
                let mut known = queue.enqueue(vec![repeat]).await.unwrap();
                let known = known.remove(0).unwrap();
                assert_eq!((known.id, known.repeated), (task(number), true));
            }
        };
        repeats_are_known().await;
        let finished = queue.find(key(3)).await.unwrap().unwrap();
        let done = Status::Succeeded {
            result: Some("done".into()),
        };
        assert_eq!((finished.id, finished.status), (task(3), done));

        let other = queue.claim(Ask::new(5, LEASE).kinds(["other"])).await;
        assert_eq!(other.unwrap().jobs, []);
        let claims = queue.claim(Ask::new(5, LEASE).kinds(["mail"])).await;
        let claims = claims.unwrap();
        let (job, failed) = (&claims.jobs[0], &claims.jobs[1]);
        assert_eq!((job.id, job.attempt), (task(1), 2));
        assert_eq!((failed.id, failed.attempt), (task(2), 1));
        let cause = Cause::new(Reason::Rejected).with_code(Some(410));
        assert_eq!((&job.cause, &failed.cause), (&None, &Some(cause)));
        assert_eq!(job.dedup_key, Some(key(1)));
        assert_eq!(failed.dedup_key, Some(key(2)));
        for job in [job, failed] {
            assert_eq!((&job.kind[..], &job.payload[..]), ("mail", &b"payload"[..]));
            assert_eq!((&job.target[..], job.history.records().len()), ("peer", 1));
            assert_eq!(job.about.event_id.as_deref(), Some("evt_1"));
            assert_eq!(job.about.replays, 2);
            assert!(job.token.get() > 9);
        }
        let done = || End::Done { result: None };
        let ends = vec![(job.claim(), done()), (failed.claim(), done())];
        assert_eq!(queue.settle(ends).await.unwrap(), [Settled::Done; 2]);
        assert_eq!(queue.depth().await.unwrap().unfinished(), 0);
        repeats_are_known().await;
        let next = vec![NewJob::new("mail", "next")];
        assert!(queue.enqueue(next).await.unwrap()[0].is_ok());
        queue.database().close().await;
        // Nothing is renamed twice.
        let queue = SqliteQueue::open(&file).unwrap();
        assert_eq!(queue.depth().await.unwrap().queued, 1);
    }
}

fn entry(number: u8) -> Entry {
    let written_at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let cause = Cause::new(Reason::RetriesExhausted);
    let mut entry = Entry::new(id(number), "http", "peer.test", cause, written_at);
    entry.event_id = Some(format!("evt_{number}"));
    entry.body = EntryBody::new(&r#"{"a":1}"#.into(), 1024);
    entry
}

#[tokio::test]
async fn the_entries_of_an_older_file_are_all_there() {
    // With and without the ids of those that are gone.
    for steps in [&LETTERS[..1], LETTERS] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("letters.db");
        let raw = older(&file, "tower-webhook/dead-letters", steps).await;
        for number in 1..=3 {
            raw.execute(
                "INSERT INTO tower_webhook_letters
                     (id, reason, target, event_id, written_at, replays, token, record)
                 VALUES (?1, 'retries_exhausted', 'peer.test', ?2, 1700000000000, ?3, 9, ?4)",
                params![
                    [number; 16],
                    format!("evt_{number}"),
                    number,
                    json::to_json(&entry(number)),
                ],
            )
            .unwrap();
        }
        let gone = steps.len() > 1;
        if gone {
            raw.execute(
                "INSERT INTO tower_webhook_letters_gone
                 VALUES (?1, unixepoch() * 1000)",
                params![[8_u8; 16]],
            )
            .unwrap();
        }
        raw.execute(
            "DELETE FROM tower_webhook_letters WHERE id = ?1",
            [[3_u8; 16]],
        )
        .unwrap();
        drop(raw);

        let store = SqliteDeadLetters::open(&file).unwrap();
        let all = Filter::all();
        assert_eq!(store.count(&all).await.unwrap(), 2);
        let listing = store.list(&all, &Page::first(10)).await.unwrap();
        let ids: Vec<_> = listing.entries.iter().map(|entry| entry.id).collect();
        assert_eq!((ids, listing.unreadable), (vec![id(2), id(1)], 0));
        let mut first = entry(1);
        first.replays = 1;
        assert_eq!(store.get(id(1)).await.unwrap(), Some(first));

        let claimed = store.claim(id(2), LEASE, 5).await.unwrap();
        let EntryClaim::Claimed {
            token,
            entry: taken,
        } = claimed
        else {
            panic!("the entry is not free: {claimed:?}");
        };
        assert_eq!(taken.replays, 3);
        assert!(token.get() > 9);
        let removed = store.remove(id(2), token).await.unwrap();
        assert_eq!(removed, Settled::Done);
        assert_eq!(store.discard(id(1)).await.unwrap(), Discarded::Done);
        // Those that left are counted out, and those that come are counted.
        assert_eq!(store.count(&all).await.unwrap(), 0);
        for number in [2, 4, 8] {
            store.write(&Arc::new(entry(number))).await.unwrap();
        }
        let left = if gone { 1 } else { 2 };
        assert_eq!(store.count(&all).await.unwrap(), left);
        store.database().close().await;
        let store = SqliteDeadLetters::open(&file).unwrap();
        assert_eq!(store.count(&all).await.unwrap(), left);
    }
}
