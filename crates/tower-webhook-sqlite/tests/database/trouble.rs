//! What goes wrong while the database is open, and passes.

use crate::support::{Home, LEASE, ManualClock, TTL, acquire, begin, hold_up, key, until};
use bytes::Bytes;
use std::{
    fs,
    io::Write as _,
    panic::panic_any,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, UNIX_EPOCH},
};
use tower_webhook::{
    StoreErrorKind,
    clock::WallClock,
    idempotency::{Begin, Store},
    lease::Settled,
    observe::{Event, observer_fn},
};
use tower_webhook_sqlite::{
    Database, SqliteStore,
    database::{DatabaseError, DatabaseErrorKind, Statement},
};

fn kind<T: std::fmt::Debug>(result: Result<T, tower_webhook::StoreError>) -> StoreErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn a_lock_that_another_process_keeps_is_a_timeout_and_passes() {
    let home = Home::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let builder = Database::builder()
        .busy_timeout(Duration::from_millis(50))
        .observe(observer_fn(move |event| {
            let Event::Trouble { part, what, .. } = event else {
                panic!("unexpected: {event:?}");
            };
            seen.lock().unwrap().push((*part, *what));
        }));
    let store = SqliteStore::new(&builder.open(home.file()).unwrap()).unwrap();
    let token = acquire(&store, "before").await;

    let other = home.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(
        kind(store.begin(&key("during"), None, LEASE).await),
        StoreErrorKind::Timeout
    );
    let answer = store.complete(&key("before"), token, Bytes::new(), TTL);
    assert_eq!(kind(answer.await), StoreErrorKind::Timeout);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(*told.lock().unwrap(), [("sqlite", "a commit failed"); 2]);

    acquire(&store, "during").await;
    let answer = store.complete(&key("before"), token, Bytes::new(), TTL);
    assert_eq!(answer.await.unwrap(), Settled::Done);
}

#[tokio::test]
async fn a_lock_that_is_freed_in_time_is_only_a_wait() {
    let home = Home::new();
    let store = home.store();
    let other = home.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting = store.begin(&key("k"), None, LEASE);
    let freed = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        other.execute_batch("COMMIT").unwrap();
    });
    assert!(matches!(waiting.await.unwrap(), Begin::Acquired(_)));
    freed.join().unwrap();
}

#[tokio::test]
async fn a_full_queue_is_told_as_full() {
    let home = Home::new();
    let database = Database::builder()
        .max_waiting(1)
        .open(home.file())
        .unwrap();
    let store = SqliteStore::new(&database).unwrap();
    let held = hold_up(&database);
    let waiting = store.begin(&key("a"), None, LEASE);
    assert_eq!(
        kind(store.begin(&key("b"), None, LEASE).await),
        StoreErrorKind::Full
    );
    drop(held);
    assert!(matches!(waiting.await.unwrap(), Begin::Acquired(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_answers_until_there_is_room() {
    let home = Home::new();
    let clock = ManualClock::new();
    let builder = Database::builder().clock(clock.wall()).max_size(512 * 1024);
    let store = SqliteStore::new(&builder.open(home.file()).unwrap()).unwrap();
    let body = Bytes::from(vec![1; 32 * 1024]);
    let mut kept = Vec::new();
    let refused = loop {
        let id = format!("k{}", kept.len());
        let token = acquire(&store, &id).await;
        match store.complete(&key(&id), token, body.clone(), TTL).await {
            Ok(settled) => assert_eq!(settled, Settled::Done),
            Err(error) => break error,
        }
        kept.push(id);
        assert!(kept.len() < 100, "the limit was never reached");
    };
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("full"), "{cause}");
    // What was accepted is there.
    for id in &kept {
        assert_eq!(begin(&store, id).await, Begin::Completed(body.clone()));
    }
    // Time makes room; nothing is restarted.
    clock.forward(TTL);
    until("there is room again", || async {
        let again = key("again");
        if let Ok(Begin::Acquired(token)) = store.begin(&again, None, LEASE).await {
            let done = store.complete(&again, token, body.clone(), TTL).await;
            matches!(done, Ok(Settled::Done))
        } else {
            clock.forward(LEASE);
            false
        }
    })
    .await;
    assert_eq!(begin(&store, "again").await, Begin::Completed(body));
}

#[tokio::test]
async fn a_full_disk_is_told_to_those_it_undid_and_spares_those_behind() {
    let home = Home::new();
    let database = Database::builder()
        .max_size(256 * 1024)
        .open(home.file())
        .unwrap();
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB) STRICT";
    database.migrate("test", &[table]).unwrap();
    let insert = |id: i64, size: usize| {
        let sql = "INSERT INTO t (id, body) VALUES (?1, ?2)";
        database.execute(Statement::new(sql).bind(id).bind(vec![1_u8; size]))
    };
    let held = hold_up(&database);
    let (small, large, after) = (insert(1, 10), insert(2, 1 << 20), insert(3, 10));
    drop(held);
    assert_eq!(large.await.unwrap_err().kind(), DatabaseErrorKind::DiskFull);
    assert_eq!(after.await.unwrap(), 1);
    let small = small.await;
    let ids = database
        .query(Statement::new("SELECT id FROM t ORDER BY id"))
        .await
        .unwrap();
    let ids: Vec<i64> = ids.iter().map(|row| row.get(0).unwrap()).collect();
    // SQLite decides whether a full disk ends the transaction; the answer says what it decided.
    match small {
        Ok(_) => assert_eq!(ids, [1, 3]),
        Err(error) => {
            assert_eq!(error.kind(), DatabaseErrorKind::DiskFull);
            assert_eq!(ids, [3]);
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_went_away_is_noticed_and_welcomed_back() {
    let home = Home::new();
    let store = home.store();
    let token = acquire(&store, "before").await;
    let away = home.folder().join("away.db");
    fs::rename(home.file(), &away).unwrap();
    for id in ["x", "y", "z"] {
        let lost = store.begin(&key(id), None, LEASE).await;
        assert_eq!(kind(lost), StoreErrorKind::Unavailable);
    }
    assert!(
        !home.file().exists(),
        "a file that went away is not made anew"
    );
    fs::rename(&away, home.file()).unwrap();
    let done = store
        .complete(&key("before"), token, Bytes::from_static(b"kept"), TTL)
        .await;
    assert_eq!(done.unwrap(), Settled::Done);
    acquire(&store, "after").await;
    until("reads are back", || async {
        store
            .database()
            .query(Statement::new("SELECT 1"))
            .await
            .is_ok()
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_in_its_place_is_not_mixed_with_the_log_of_the_old_one() {
    let home = Home::new();
    let other = Home::new();
    let elsewhere = other.store();
    acquire(&elsewhere, "theirs").await;
    elsewhere.database().close().await;

    let store = home.store();
    acquire(&store, "ours").await;
    let log = home.folder().join("test.db-wal");
    assert!(log.exists());
    fs::rename(other.file(), home.file()).unwrap();
    for id in ["x", "y"] {
        assert_eq!(
            kind(store.begin(&key(id), None, LEASE).await),
            StoreErrorKind::Unavailable
        );
    }
    // The operator takes the old log away as well: then the new file is used.
    fs::remove_file(&log).unwrap();
    let _ = fs::remove_file(home.folder().join("test.db-shm"));
    assert!(matches!(
        begin(&store, "theirs").await,
        Begin::InProgress { .. }
    ));
    acquire(&store, "ours").await;
    home.is_sound();
}

#[tokio::test]
async fn a_record_that_makes_no_sense_is_corrupt_and_others_are_not() {
    let home = Home::new();
    let store = home.store();
    for id in ["a", "b", "c", "good"] {
        acquire(&store, id).await;
    }
    let raw = home.raw();
    raw.execute_batch(
        "PRAGMA ignore_check_constraints = ON;
         UPDATE tower_webhook_idempotency SET fingerprint = x'00' WHERE id = 'a';
         UPDATE tower_webhook_idempotency SET token = -5 WHERE id = 'b';
         UPDATE tower_webhook_idempotency SET since = until + 1 WHERE id = 'c';",
    )
    .unwrap();
    for id in ["a", "b", "c"] {
        let told = store.begin(&key(id), None, LEASE).await;
        assert_eq!(kind(told), StoreErrorKind::Corrupt, "{id}");
    }
    assert!(matches!(
        begin(&store, "good").await,
        Begin::InProgress { .. }
    ));
    acquire(&store, "new").await;
}

#[tokio::test]
async fn a_closed_store_is_unavailable() {
    let home = Home::new();
    let store = home.store();
    store.database().close().await;
    assert_eq!(
        kind(store.begin(&key("k"), None, LEASE).await),
        StoreErrorKind::Unavailable
    );
}

#[tokio::test]
async fn a_claim_whose_caller_left_is_given_back() {
    let home = Home::new();
    let store = home.store();

    // Left before the thread came to it.
    let held = hold_up(store.database());
    drop(store.begin(&key("early"), None, LEASE));
    drop(held);
    acquire(&store, "early").await;

    // Left when the answer was there and nobody had read it: writes are done in their order.
    let unread = store.begin(&key("late"), None, LEASE);
    acquire(&store, "other").await;
    drop(unread);
    acquire(&store, "late").await;

    // Left at any moment.
    for round in 0..200 {
        let id = format!("race-{round}");
        let asked = store.begin(&key(&id), None, LEASE);
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        drop(asked);
        until("the key is free", || async {
            matches!(begin(&store, &id).await, Begin::Acquired(_))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_repeats_at_once_run_once_and_replay() {
    let home = Home::new();
    let store = home.store();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        tasks.spawn(async move {
            match begin(&store, "event").await {
                Begin::Acquired(token) => {
                    let answer = Bytes::from_static(b"ran");
                    let done = store.complete(&key("event"), token, answer, TTL).await;
                    assert_eq!(done.unwrap(), Settled::Done);
                    1
                }
                Begin::InProgress { .. } => 0,
                Begin::Completed(answer) => {
                    assert_eq!(answer, "ran");
                    0
                }
                Begin::Mismatch => panic!("the same request"),
            }
        });
    }
    assert_eq!(tasks.join_all().await.iter().sum::<i32>(), 1);
    assert_eq!(
        begin(&store, "event").await,
        Begin::Completed(Bytes::from_static(b"ran"))
    );
}

/// What was read before is cached, and what is written goes to the log: without a look at its length, the file
/// would be taken for whole.
#[tokio::test]
async fn a_file_that_is_cut_off_while_it_is_open_is_noticed_by_the_next_write() {
    let home = Home::new();
    let store = home.store();
    let complete = async |number: u64| {
        let id = format!("k{number}");
        let begun = store.begin(&key(&id), None, LEASE).await;
        if let Ok(Begin::Acquired(token)) = begun {
            let answer = Bytes::from(vec![7; 3000]);
            store.complete(&key(&id), token, answer, TTL).await
        } else {
            begun.map(|_| Settled::Lost)
        }
    };
    for number in 0..100 {
        assert_eq!(complete(number).await.unwrap(), Settled::Done);
    }
    let checkpoint = || {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        home.raw().query_row(checkpoint, [], |_| Ok(())).unwrap();
    };
    checkpoint();
    assert_eq!(complete(100).await.unwrap(), Settled::Done);
    let whole = fs::read(home.file()).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(home.file())
        .unwrap();
    file.set_len(whole.len() as u64 / 2).unwrap();
    for number in 200..220 {
        assert_eq!(
            kind(complete(number).await),
            StoreErrorKind::Unavailable,
            "{number}"
        );
    }
    // As it was, with what the log has.
    (&file).write_all(&whole).unwrap();
    drop(file);
    until("it is whole again", || async {
        complete(300).await.is_ok()
    })
    .await;
    home.is_sound();

    // An operator made it shorter, and did no harm.
    let delete = "DELETE FROM tower_webhook_idempotency WHERE rowid % 4 > 0; VACUUM;";
    home.raw().execute_batch(delete).unwrap();
    checkpoint();
    assert!(fs::metadata(home.file()).unwrap().len() < whole.len() as u64);
    until("it is opened again", || async {
        complete(400).await.is_ok()
    })
    .await;
    home.is_sound();
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_all_can_read_is_told_of_and_a_new_one_is_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    home.database().close().await;
    for (mode, expected) in [(0o600, 0), (0o640, 0), (0o644, 3), (0o602, 3)] {
        fs::set_permissions(home.file(), fs::Permissions::from_mode(mode)).unwrap();
        // Makes the log and the index, which get the mode of the file.
        let raw = home.raw();
        raw.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            .unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&told);
        let builder = Database::builder().observe(observer_fn(move |event| {
            if let Event::Trouble {
                detail: Some(detail),
                ..
            } = event
            {
                seen.lock().unwrap().push(detail.to_string());
            }
        }));
        let database = builder.open(home.file()).unwrap();
        let told = told.lock().unwrap().clone();
        assert_eq!(told.len(), expected, "{mode:o}: {told:?}");
        assert!(
            told.iter()
                .all(|detail| detail.starts_with("chmod o-rwx '"))
        );
        database.close().await;
    }
}

/// A database whose clock panics while it is told to, counts that, and stands at this second otherwise.
struct BrokenClock {
    breaks: AtomicBool,
    broke: AtomicU64,
    seconds: AtomicU64,
}

impl BrokenClock {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            breaks: AtomicBool::new(false),
            broke: AtomicU64::new(0),
            seconds: AtomicU64::new(1_700_000_000),
        })
    }

    fn wall(self: &Arc<Self>) -> WallClock {
        let this = self.clone();
        WallClock::from_fn(move || {
            if this.breaks.load(Ordering::SeqCst) {
                this.broke.fetch_add(1, Ordering::SeqCst);
                panic!("on purpose, in the clock");
            }
            UNIX_EPOCH + Duration::from_secs(this.seconds.load(Ordering::SeqCst))
        })
    }
}

#[tokio::test]
async fn a_clock_that_panics_fails_what_needs_it_and_nothing_after_it() {
    let home = Home::new();
    let clock = BrokenClock::new();
    let database = Database::builder()
        .clock(clock.wall())
        .open(home.file())
        .unwrap();
    let store = SqliteStore::new(&database).unwrap();
    acquire(&store, "before").await;
    let count = || Statement::new("SELECT count(*) AS n FROM tower_webhook_idempotency");

    clock.breaks.store(true, Ordering::SeqCst);
    let claimed = store.begin(&key("meanwhile"), None, LEASE).await;
    assert_eq!(kind(claimed), StoreErrorKind::Unavailable);
    for failed in [
        database.write(|_| Ok(())).await.unwrap_err(),
        database.write_relaxed(|_| Ok(())).await.unwrap_err(),
        database.query(count()).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(failed.kind(), DatabaseErrorKind::Panicked);
        let cause = std::error::Error::source(&failed).unwrap();
        assert_eq!(cause.to_string(), "the clock panicked");
    }
    clock.breaks.store(false, Ordering::SeqCst);
    acquire(&store, "after").await;
    assert_eq!(database.query(count()).await.unwrap().len(), 1);

    // An idle database sweeps, by the same clock.
    clock
        .seconds
        .fetch_add(LEASE.as_secs() + 1, Ordering::SeqCst);
    let broke = clock.broke.load(Ordering::SeqCst);
    clock.breaks.store(true, Ordering::SeqCst);
    until("it sweeps", || async {
        clock.broke.load(Ordering::SeqCst) > broke
    })
    .await;
    clock.breaks.store(false, Ordering::SeqCst);
    let lapsed = "SELECT count(*) AS n FROM tower_webhook_idempotency WHERE lapsed IS NOT NULL";
    until("what is over was found", || async {
        let rows = database.query(Statement::new(lapsed)).await.unwrap();
        rows[0].get::<i64>("n").unwrap() == 2
    })
    .await;
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "on purpose, in a drop");
    }
}

#[tokio::test]
async fn what_panics_where_it_is_dropped_harms_no_other_operation() {
    let home = Home::new();
    let database = home.database();
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY) STRICT";
    database.migrate("test", &[table]).unwrap();
    let insert = |id: i64| Statement::new("INSERT INTO t (id) VALUES (?1)").bind(id);
    let count = || Statement::new("SELECT id FROM t");

    // One group: results that nobody waits for, what a panic throws.
    let held = hold_up(&database);
    let first = database.execute(insert(1));
    drop(database.write(|_| Ok(Bomb)));
    let thrown = database.write(|_| -> Result<(), DatabaseError> { panic_any(Bomb) });
    let last = database.execute(insert(3));
    drop(held);
    assert_eq!(first.await.unwrap(), 1);
    assert_eq!(
        thrown.await.unwrap_err().kind(),
        DatabaseErrorKind::Panicked
    );
    assert_eq!(last.await.unwrap(), 1);

    // The same for reads.
    let (release, held) = mpsc::channel::<()>();
    drop(database.read(move |_| {
        let _ = held.recv();
        Ok(Bomb)
    }));
    let thrown = database.read(|_| -> Result<(), DatabaseError> { panic_any(Bomb) });
    let read = database.query(count());
    drop(release);
    assert_eq!(
        thrown.await.unwrap_err().kind(),
        DatabaseErrorKind::Panicked
    );
    assert_eq!(read.await.unwrap().len(), 2);
    assert_eq!(database.execute(insert(4)).await.unwrap(), 1);
    database.close().await;
}
