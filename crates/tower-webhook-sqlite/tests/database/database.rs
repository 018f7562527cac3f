//! Groups, failures within them, bounds, and the end of a database.

use crate::support::{Home, hold_up};
use std::{collections::HashSet, time::Duration};
use tower_webhook_sqlite::{
    Database,
    database::{DatabaseError, DatabaseErrorKind, Row, Statement, Transaction, Value},
};

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB) STRICT";

fn with_table(home: &Home) -> Database {
    let database = home.database();
    database.migrate("test", &[TABLE]).unwrap();
    database
}

fn insert(id: i64) -> Statement {
    Statement::new("INSERT INTO t (id) VALUES (?1)").bind(id)
}

async fn ids(database: &Database) -> Vec<i64> {
    let rows = database.query(Statement::new("SELECT id FROM t ORDER BY id"));
    let id = |row: &Row| row.get("id").unwrap();
    rows.await.unwrap().iter().map(id).collect()
}

fn kind<T: std::fmt::Debug>(result: Result<T, DatabaseError>) -> DatabaseErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn values_come_back_as_they_went_in() {
    let home = Home::new();
    let database = home.database();
    let table = "CREATE TABLE v (i INTEGER, r REAL, t TEXT, b BLOB, n TEXT) STRICT";
    database.migrate("test", &[table]).unwrap();
    let values = [
        Value::from(i64::MIN),
        Value::from(0.5),
        Value::from("snowman \u{2603}, nul \0, quote '"),
        Value::from(vec![0_u8, 255]),
        Value::from(None::<&str>),
    ];
    let insert = values.iter().cloned().fold(
        Statement::new("INSERT INTO v VALUES (?1, ?2, ?3, ?4, ?5)"),
        Statement::bind,
    );
    assert_eq!(database.execute(insert).await.unwrap(), 1);
    let rows = database
        .query(Statement::new("SELECT * FROM v"))
        .await
        .unwrap();
    assert_eq!(rows[0].values(), values);
    assert_eq!(
        rows[0].columns().collect::<Vec<_>>(),
        ["i", "r", "t", "b", "n"]
    );

    // What has another type, does not fit or is not there is an error, not a guess.
    assert_eq!(
        kind(rows[0].get::<String>("i")),
        DatabaseErrorKind::Mistyped
    );
    assert_eq!(kind(rows[0].get::<u64>("i")), DatabaseErrorKind::Mistyped);
    assert_eq!(kind(rows[0].get::<i64>("n")), DatabaseErrorKind::Mistyped);
    assert_eq!(
        kind(rows[0].get::<i64>("missing")),
        DatabaseErrorKind::Mistyped
    );
    assert_eq!(kind(rows[0].get::<i64>(5)), DatabaseErrorKind::Mistyped);
    // No value is shown where a log may see it.
    assert!(!format!("{:?}", rows[0]).contains("snowman"));
}

#[tokio::test]
async fn what_fails_is_undone_and_its_neighbours_are_not() {
    let home = Home::new();
    let database = with_table(&home);
    database.execute(insert(5)).await.unwrap();

    // All of these share one commit.
    let held = hold_up(&database);
    let first = database.execute(insert(1));
    let taken = database.execute(insert(5));
    let aborted = database.write(|transaction| {
        transaction.execute(&insert(2))?;
        Err::<(), _>(DatabaseError::aborted("changed its mind"))
    });
    let panicked = database.write(|transaction| {
        transaction.execute(&insert(3))?;
        panic!("on purpose, to see that it stays alone");
        #[allow(unreachable_code)]
        Ok(())
    });
    let nonsense = database.execute(Statement::new("INSERT INTO nowhere VALUES (1)"));
    let last = database.execute(insert(4));
    drop(held);

    assert_eq!(first.await.unwrap(), 1);
    assert_eq!(kind(taken.await), DatabaseErrorKind::Constraint);
    assert_eq!(kind(aborted.await), DatabaseErrorKind::Aborted);
    assert_eq!(kind(panicked.await), DatabaseErrorKind::Panicked);
    assert_eq!(kind(nonsense.await), DatabaseErrorKind::Invalid);
    assert_eq!(last.await.unwrap(), 1);
    assert_eq!(ids(&database).await, [1, 4, 5]);
}

#[tokio::test]
async fn a_rollback_that_cannot_be_kept_apart_is_told_to_all_and_lasts_for_none() {
    let home = Home::new();
    let database = with_table(&home);
    database.execute(insert(5)).await.unwrap();
    let held = hold_up(&database);
    let before = database.execute(insert(1));
    let culprit = database.execute(Statement::new("INSERT OR ROLLBACK INTO t (id) VALUES (5)"));
    let after = database.execute(insert(2));
    drop(held);
    assert!(before.await.is_err());
    assert_eq!(kind(culprit.await), DatabaseErrorKind::Constraint);
    assert_eq!(after.await.unwrap(), 1);
    assert_eq!(ids(&database).await, [2, 5]);
}

#[tokio::test]
async fn statements_that_are_not_its_business_are_refused() {
    let home = Home::new();
    let database = with_table(&home);
    for sql in [
        "COMMIT",
        "BEGIN",
        "PRAGMA synchronous=OFF",
        "ATTACH 'x' AS y",
        "VACUUM",
    ] {
        let refused = database.execute(Statement::new(sql)).await;
        assert_eq!(kind(refused), DatabaseErrorKind::Invalid, "{sql}");
        let refused = database.query(Statement::new(sql)).await;
        assert_eq!(kind(refused), DatabaseErrorKind::Invalid, "{sql}");
    }
    let unbound = database.execute(Statement::new("INSERT INTO t (id) VALUES (?1)"));
    assert_eq!(kind(unbound.await), DatabaseErrorKind::Invalid);
    // A reader does not write.
    assert_eq!(
        kind(database.query(insert(1)).await),
        DatabaseErrorKind::ReadOnly
    );
    assert!(ids(&database).await.is_empty());
}

#[tokio::test]
async fn more_waiting_operations_than_allowed_are_refused_at_once() {
    let home = Home::new();
    let database = Database::builder()
        .max_waiting(3)
        .open(home.file())
        .unwrap();
    database.migrate("test", &[TABLE]).unwrap();
    let held = hold_up(&database);
    let accepted: Vec<_> = (0..3).map(|id| database.execute(insert(id))).collect();
    for _ in 0..10 {
        assert_eq!(
            kind(database.execute(insert(9)).await),
            DatabaseErrorKind::Full
        );
    }
    assert!(ids(&database).await.is_empty(), "reads go on meanwhile");
    drop(held);
    for reply in accepted {
        assert_eq!(reply.await.unwrap(), 1);
    }
    assert_eq!(ids(&database).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_query_has_a_greatest_number_of_rows() {
    let home = Home::new();
    let database = Database::builder().max_rows(2).open(home.file()).unwrap();
    let two = Statement::new("SELECT 1 UNION ALL SELECT 2");
    assert_eq!(database.query(two).await.unwrap().len(), 2);
    let three = Statement::new("SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3");
    assert_eq!(
        kind(database.query(three).await),
        DatabaseErrorKind::TooManyRows
    );
}

#[tokio::test]
async fn a_dropped_reply_does_not_undo_its_operation() {
    let home = Home::new();
    let database = with_table(&home);
    let held = hold_up(&database);
    drop(database.execute(insert(1)));
    drop(held);
    database.execute(insert(2)).await.unwrap();
    assert_eq!(ids(&database).await, [1, 2]);
}

#[tokio::test]
async fn closing_finishes_what_was_accepted_and_folds_the_log_in() {
    let home = Home::new();
    let database = with_table(&home);
    let held = hold_up(&database);
    let replies: Vec<_> = (0..50).map(|id| database.execute(insert(id))).collect();
    let closing = tokio::spawn({
        let database = database.clone();
        async move { database.close().await }
    });
    // Once the closing has begun, nothing more is accepted.
    crate::support::until("closed", || async {
        matches!(database.query(Statement::new("SELECT 1")).await,
            Err(error) if error.kind() == DatabaseErrorKind::Closed)
    })
    .await;
    drop(held);
    closing.await.unwrap();
    for reply in replies {
        reply.await.unwrap();
    }
    assert_eq!(
        kind(database.execute(insert(99)).await),
        DatabaseErrorKind::Closed
    );
    database.close().await;

    let left: HashSet<_> = std::fs::read_dir(home.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, HashSet::from(["test.db".into()]));
    assert_eq!(ids(&home.database()).await.len(), 50);
}

#[tokio::test]
async fn dropping_the_last_handle_finishes_what_was_accepted() {
    let home = Home::new();
    let database = with_table(&home);
    let held = hold_up(&database);
    let replies: Vec<_> = (0..50).map(|id| database.execute(insert(id))).collect();
    drop((database, held));
    for reply in replies {
        assert_eq!(reply.await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_read_sees_what_was_answered_before_it_and_one_state_throughout() {
    let home = Home::new();
    let database = with_table(&home);
    let count = |transaction: &Transaction<'_>| -> Result<i64, DatabaseError> {
        let row = transaction.query_one(&Statement::new("SELECT count(*) FROM t"))?;
        row.unwrap().get(0)
    };
    for id in 0..20 {
        database.execute(insert(id)).await.unwrap();
        assert_eq!(database.read(count).await.unwrap(), id + 1);
    }
    let (go, wait) = std::sync::mpsc::channel();
    let (running, started) = std::sync::mpsc::channel();
    let steady = database.read(move |transaction| {
        let before = count(transaction)?;
        running.send(()).unwrap();
        wait.recv().unwrap();
        Ok((before, count(transaction)?))
    });
    started.recv().unwrap();
    database.execute(insert(100)).await.unwrap();
    go.send(()).unwrap();
    assert_eq!(steady.await.unwrap(), (20, 20));
    assert_eq!(database.read(count).await.unwrap(), 21);
}

#[tokio::test]
async fn migrations_run_once_each_and_whole_or_not_at_all() {
    let home = Home::new();
    let database = home.database();
    let first = "CREATE TABLE m (a INTEGER) STRICT; INSERT INTO m VALUES (1)";
    database.migrate("mine", &[first]).unwrap();
    database.migrate("mine", &[first]).unwrap();
    let broken = "INSERT INTO m VALUES (2); INSERT INTO nowhere VALUES (1)";
    let failed = database.migrate("mine", &[first, "INSERT INTO m VALUES (7)", broken]);
    let told = failed.unwrap_err().to_string();
    assert!(
        told.contains("`mine`") && told.contains("version 3"),
        "{told}"
    );
    let count = || database.query(Statement::new("SELECT a FROM m"));
    assert_eq!(count().await.unwrap().len(), 1);
    database
        .migrate("mine", &[first, "INSERT INTO m VALUES (2)"])
        .unwrap();
    database
        .migrate("other", &["CREATE TABLE o (a INTEGER) STRICT"])
        .unwrap();
    assert_eq!(count().await.unwrap().len(), 2);
}

#[tokio::test]
async fn one_commit_serves_many() {
    let home = Home::new();
    let database = with_table(&home);
    // A commit that changes something adds a frame for each page to the log. 200 rows in one
    // commit change a page or two; in commits of their own they would change one 200 times.
    let log = home.folder().join("test.db-wal");
    let held = hold_up(&database);
    let replies: Vec<_> = (0..200).map(|id| database.execute(insert(id))).collect();
    let before = std::fs::metadata(&log).unwrap().len();
    drop(held);
    for reply in replies {
        reply.await.unwrap();
    }
    let frames = (std::fs::metadata(&log).unwrap().len() - before) / 4096;
    assert!(frames < 20, "{frames} frames");
    assert!(ids(&database).await.len() == 200);
    tokio::time::timeout(Duration::from_secs(20), database.close())
        .await
        .unwrap();
}
