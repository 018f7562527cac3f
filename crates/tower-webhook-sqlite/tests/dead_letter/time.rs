//! Clocks that go back.

use crate::support::{Home, LEASE, ManualClock, claim, entry, id, until, write};
use std::{sync::Arc, time::Duration};
use tower_webhook::{
    dead_letter::{Discarded, EntryClaim, LetterStore, Sink},
    lease::Settled,
};
use tower_webhook_sqlite::{Database, SqliteDeadLetters};

const DAY: Duration = Duration::from_secs(86_400);

async fn timed(home: &Home) -> (SqliteDeadLetters, ManualClock) {
    let (database, clock) = home.timed_database();
    let store = SqliteDeadLetters::new(&database).unwrap();
    write(&store, 1).await;
    (store, clock)
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_lengthen_a_lease() {
    let home = Home::new();
    let (store, clock) = timed(&home).await;
    let first = claim(&store, 1).await;
    clock.back(DAY);
    for _ in 0..3 {
        match store.claim(id(1), LEASE, 1_000).await.unwrap() {
            EntryClaim::InProgress { lease_left } => assert!(lease_left <= LEASE),
            other => panic!("{other:?}"),
        }
        clock.forward(LEASE / 4);
    }
    assert_eq!(store.discard(id(1)).await.unwrap(), Discarded::InProgress);
    clock.forward(LEASE / 4);
    let second = claim(&store, 1).await;
    assert!(second > first);
    let late = store.remove(id(1), first).await.unwrap();
    assert_eq!(late, Settled::Lost);
}

#[tokio::test]
async fn a_holder_goes_on_when_the_clock_goes_back() {
    let home = Home::new();
    let (store, clock) = timed(&home).await;
    let token = claim(&store, 1).await;
    clock.back(DAY);
    let renewed = store.renew(id(1), token, LEASE).await.unwrap();
    assert_eq!(renewed, Settled::Done);
    clock.forward(LEASE / 2);
    assert_eq!(store.remove(id(1), token).await.unwrap(), Settled::Done);
}

/// Two re-drives would send one entry.
#[tokio::test]
async fn a_clock_that_leaps_ahead_ends_no_lease() {
    let home = Home::new();
    let (store, clock) = timed(&home).await;
    for leap in [Duration::from_secs(20), 2 * LEASE, DAY] {
        let token = claim(&store, 1).await;
        clock.leap(leap);
        let again = store.claim(id(1), LEASE, 1_000).await.unwrap();
        assert!(matches!(again, EntryClaim::InProgress { .. }), "{again:?}");
        clock.leap(leap);
        // Whoever opens the file does not see it, but that the holder lives.
        let database = Database::builder().clock(clock.wall()).open(home.file());
        let other = SqliteDeadLetters::new(&database.unwrap()).unwrap();
        let again = other.claim(id(1), LEASE, 1_000).await.unwrap();
        assert!(matches!(again, EntryClaim::InProgress { .. }), "{again:?}");
        let renewed = store.renew(id(1), token, LEASE).await.unwrap();
        assert_eq!(renewed, Settled::Done);
        // Time that passes ends it.
        clock.forward(LEASE);
        let next = claim(&other, 1).await;
        assert!(next > token);
        let late = store.remove(id(1), token).await.unwrap();
        assert_eq!(late, Settled::Lost);
        clock.forward(LEASE);
    }
}

/// What a leap meets is what was claimed when it came.
#[tokio::test]
async fn a_lease_that_was_over_stays_over_when_the_clock_leaps() {
    let home = Home::new();
    let (store, clock) = timed(&home).await;
    let token = claim(&store, 1).await;
    clock.forward(LEASE);
    clock.leap(DAY);
    assert!(claim(&store, 1).await > token);
}

/// Only leases that a leap ended are granted again for who opens the file: this one ended by itself.
#[tokio::test]
async fn a_lease_that_was_over_stays_over_when_another_opens_the_file() {
    let home = Home::new();
    let (store, clock) = timed(&home).await;
    let token = claim(&store, 1).await;
    let is_over = async || {
        clock.forward(LEASE);
        until("the store has seen it", || async {
            let owner = "SELECT owner IS NULL FROM tower_webhook_dead_letters";
            home.raw().query_row(owner, [], |row| row.get(0)).unwrap()
        })
        .await;
    };
    is_over().await;
    // Late, it is the holder's again.
    let renewed = store.renew(id(1), token, LEASE).await.unwrap();
    assert_eq!(renewed, Settled::Done);
    let owner = "SELECT owner IS NOT NULL FROM tower_webhook_dead_letters";
    assert!(
        home.raw()
            .query_row(owner, [], |row| row.get::<_, bool>(0))
            .unwrap()
    );
    is_over().await;
    let database = Database::builder().clock(clock.wall()).open(home.file());
    let other = SqliteDeadLetters::new(&database.unwrap()).unwrap();
    assert!(claim(&other, 1).await > token);
}

#[tokio::test]
async fn tokens_grow_though_the_entry_left_and_the_clock_went_back() {
    let home = Home::new();
    let (store, clock) = timed(&home).await;
    let mut last = claim(&store, 1).await;
    for _ in 0..3 {
        assert_eq!(store.remove(id(1), last).await.unwrap(), Settled::Done);
        clock.back(DAY);
        // As after a week, when nobody knows the id any more.
        let forget = "DELETE FROM tower_webhook_dead_letters_gone";
        assert_eq!(home.raw().execute(forget, []).unwrap(), 1);
        store.write(&Arc::new(entry(1))).await.unwrap();
        let next = claim(&store, 1).await;
        assert!(next > last, "{next} after {last}");
        last = next;
    }
}
