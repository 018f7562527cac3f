//! Room, transactions, and what is bounded.

use crate::support::{Home, LEASE, claim, entry, id, until, write};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tower_webhook::{
    StoreError, StoreErrorKind,
    dead_letter::{EntryBody, Filter, LetterStore, Page, Reason, Sink},
};
use tower_webhook_sqlite::{
    Database, SqliteDeadLetters,
    database::{DatabaseError, DatabaseErrorKind, Statement},
};

async fn all(store: &SqliteDeadLetters) -> u64 {
    store.count(&Filter::all()).await.unwrap()
}

#[tokio::test]
async fn a_store_that_is_full_says_so_and_takes_what_it_has() {
    let home = Home::new();
    let store = home.store().max_entries(2).unwrap();
    write(&store, 1).await;
    write(&store, 2).await;
    let refused = store.write(&Arc::new(entry(3))).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Full);
    // What is there may be written again.
    write(&store, 2).await;
    assert_eq!(all(&store).await, 2);
    let token = claim(&store, 1).await;
    let _ = store.remove(id(1), token).await.unwrap();
    write(&store, 3).await;
    assert_eq!(all(&store).await, 2);
    assert_eq!(
        home.store().max_entries(0).unwrap_err().setting(),
        "max_entries"
    );
}

#[tokio::test]
async fn an_entry_is_part_of_the_transaction_that_it_was_written_in() {
    let home = Home::new();
    let database = Database::open(home.file()).unwrap();
    database
        .migrate(
            "jobs",
            &["CREATE TABLE jobs (id INTEGER PRIMARY KEY) STRICT"],
        )
        .unwrap();
    let store = SqliteDeadLetters::new(&database)
        .unwrap()
        .max_entries(1)
        .unwrap();
    let dead_letter = |job: i64, fails: bool| {
        let store = store.clone();
        database.write(move |transaction| {
            transaction.execute(&Statement::new("INSERT INTO jobs VALUES (?1)").bind(job))?;
            store.write_in(transaction, &entry(job.unsigned_abs()))?;
            if fails {
                return Err(DatabaseError::aborted("the rest failed"));
            }
            Ok(())
        })
    };
    assert!(dead_letter(1, true).await.is_err());
    assert_eq!(all(&store).await, 0);
    dead_letter(2, false).await.unwrap();
    assert_eq!(all(&store).await, 1);
    let full = dead_letter(3, false).await.unwrap_err();
    assert_eq!(full.kind(), DatabaseErrorKind::Aborted);
    let why = std::error::Error::source(&full).unwrap();
    let why = why.downcast_ref::<StoreError>().unwrap();
    assert_eq!(why.kind(), StoreErrorKind::Full);
    let jobs = database.query(Statement::new("SELECT id FROM jobs"));
    let jobs = jobs.await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].get::<i64>(0).unwrap(), 2);
}

#[tokio::test]
async fn an_entry_beyond_every_measure_is_refused() {
    let home = Home::new();
    let store = home.store();
    let mut large = entry(1);
    large.body = EntryBody::new(&vec![0; 17 << 20].into(), usize::MAX);
    let refused = store.write(&Arc::new(large)).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::TooLarge);
}

#[tokio::test]
async fn a_page_of_large_entries_ends_early_and_the_next_goes_on() {
    let home = Home::new();
    let store = home.store();
    for number in 0..6 {
        let mut large = entry(number);
        large.body = EntryBody::new(&vec![b'a'; 3 << 20].into(), usize::MAX);
        store.write(&Arc::new(large)).await.unwrap();
    }
    let (mut page, mut seen, mut pages) = (Page::first(100), Vec::new(), 0);
    loop {
        let listing = store.list(&Filter::all(), &page).await.unwrap();
        seen.extend(listing.entries.iter().map(|entry| entry.id));
        pages += 1;
        match listing.next {
            Some(cursor) => page = Page::first(100).after(cursor),
            None => break,
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 1, 0].map(id));
    assert_eq!(pages, 2);
}

/// Not a measurement: what would read every row or record takes a hundred times as long.
#[tokio::test(flavor = "multi_thread")]
async fn counting_and_claiming_do_not_read_what_they_are_not_about() {
    const LETTERS: i64 = 20_000;
    let home = Home::new();
    let store = home.store();
    write(&store, 1).await;
    let raw = home.raw();
    raw.execute(
        "WITH RECURSIVE n(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n <= ?1)
         INSERT INTO tower_webhook_dead_letters
             (id, reason, target, written_at, replays, record)
         SELECT randomblob(16), 'rejected', 'other', n, 0, replace(hex(zeroblob(1000)), '0', 'x')
         FROM n",
        [LETTERS],
    )
    .unwrap();
    drop(raw);
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(all(&store).await, u64::try_from(LETTERS).unwrap() + 1);
        let mine = Filter::all().reason(Reason::RetriesExhausted);
        assert_eq!(store.count(&mine).await.unwrap(), 1);
        let listing = store.list(&mine, &Page::first(10)).await.unwrap();
        assert_eq!(listing.entries.len(), 1);
    }
    let token = claim(&store, 1).await;
    let _ = store.renew(id(1), token, LEASE).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

/// Not in the file, and not in its log.
#[tokio::test]
async fn what_is_deleted_is_not_left_in_the_files() {
    const MARK: &str = "a customer's own words";
    let home = Home::new();
    let store = home.store();
    for number in 1..=6 {
        let mut entry = entry(number);
        entry.uri = Some(format!("https://peer.test/{MARK}/{number}"));
        // Some of a part of a page, some of several pages.
        let body = MARK.repeat(if number % 2 == 0 { 1 } else { 1000 });
        entry.body = EntryBody::new(&body.into(), usize::MAX);
        store.write(&Arc::new(entry)).await.unwrap();
    }
    let left = || {
        let files = std::fs::read_dir(home.folder()).unwrap();
        let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        let mark = MARK.as_bytes();
        files
            .map(|bytes| {
                bytes
                    .windows(mark.len())
                    .filter(|seen| *seen == mark)
                    .count()
            })
            .sum::<usize>()
    };
    assert!(left() >= 3006);
    for number in 1..=3 {
        store.discard(id(number)).await.unwrap();
    }
    for number in 4..=6 {
        let token = claim(&store, number).await;
        let _ = store.remove(id(number), token).await.unwrap();
    }
    until("nothing is left", || async { left() == 0 }).await;
}
