//! Retention, and clocks that are set.

use crate::support::{Home, LEASE, ManualClock, TTL, acquire, begin, key, until};
use bytes::Bytes;
use std::time::Duration;
use tower_webhook::StoreErrorKind;
use tower_webhook::idempotency::{Begin, Store};
use tower_webhook::lease::Settled;
use tower_webhook_sqlite::{
    Database, SqliteStore,
    database::{DatabaseErrorKind, Statement},
};

const DAY: Duration = Duration::from_secs(86_400);

fn timed(home: &Home) -> (SqliteStore, ManualClock) {
    let (database, clock) = home.timed_database();
    (SqliteStore::new(&database).unwrap(), clock)
}

async fn rows(store: &SqliteStore) -> i64 {
    let count = Statement::new("SELECT count(*) FROM tower_webhook_idempotency");
    store.database().query(count).await.unwrap()[0]
        .get(0)
        .unwrap()
}

async fn lapsed(store: &SqliteStore) -> i64 {
    let lapsed = "SELECT count(*) FROM tower_webhook_idempotency WHERE lapsed IS NOT NULL";
    let lapsed = store
        .database()
        .query(Statement::new(lapsed))
        .await
        .unwrap();
    lapsed[0].get(0).unwrap()
}

async fn complete(store: &SqliteStore, id: &str) -> tower_webhook::lease::FencingToken {
    let token = acquire(store, id).await;
    let done = store
        .complete(&key(id), token, Bytes::from_static(b"done"), TTL)
        .await;
    assert_eq!(done.unwrap(), Settled::Done);
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_leaves_an_idle_store_and_nothing_else_does() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    for id in 0..500 {
        drop(
            store
                .begin(&key(&format!("claim-{id}")), None, LEASE)
                .await
                .unwrap(),
        );
    }
    for id in 0..50 {
        complete(&store, &format!("answer-{id}")).await;
    }
    assert_eq!(rows(&store).await, 550);
    clock.forward(TTL.saturating_sub(LEASE));
    for id in 0..50 {
        let kept = begin(&store, &format!("answer-{id}")).await;
        assert!(matches!(kept, Begin::Completed(_)), "{kept:?}");
    }
    clock.forward(LEASE);
    until("the answers left", || async { rows(&store).await == 500 }).await;
    // A day after they were found to be over.
    clock.forward(DAY);
    until("the claims left", || async { rows(&store).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_leaves_a_busy_store_faster_than_it_comes() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    for id in 0..640 {
        drop(
            store
                .begin(&key(&format!("old-{id}")), None, LEASE)
                .await
                .unwrap(),
        );
    }
    clock.forward(LEASE);
    until("the store is idle", || async {
        lapsed(&store).await == 640
    })
    .await;
    clock.forward(DAY);
    // The 640 are over. While as many come again, the store never has half as many more.
    for id in 0..640 {
        drop(
            store
                .begin(&key(&format!("new-{id}")), None, LEASE)
                .await
                .unwrap(),
        );
    }
    assert!(rows(&store).await < 960, "{}", rows(&store).await);
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_lengthen_a_lease() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    let first = acquire(&store, "k").await;
    clock.back(DAY);
    match begin(&store, "k").await {
        Begin::InProgress { lease_left } => assert!(lease_left <= LEASE, "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
    // From the first look on the lease runs by the new clock, however often somebody looks.
    for _ in 0..3 {
        clock.forward(LEASE / 4);
        assert!(matches!(begin(&store, "k").await, Begin::InProgress { .. }));
    }
    clock.forward(LEASE / 4);
    let second = acquire(&store, "k").await;
    assert!(second > first);
    let late = store.complete(&key("k"), first, Bytes::new(), TTL).await;
    assert_eq!(late.unwrap(), Settled::Lost);
}

#[tokio::test]
async fn a_holder_goes_on_when_the_clock_goes_back() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    let token = acquire(&store, "k").await;
    clock.back(DAY);
    assert_eq!(
        store.renew(&key("k"), token, LEASE).await.unwrap(),
        Settled::Done
    );
    clock.forward(LEASE / 2);
    let done = store
        .complete(&key("k"), token, Bytes::from_static(b"done"), TTL)
        .await;
    assert_eq!(done.unwrap(), Settled::Done);
    assert!(matches!(begin(&store, "k").await, Begin::Completed(_)));
}

/// A repeat would run beside the work that holds the key, and the holder's answer would be lost.
#[tokio::test]
async fn a_clock_that_leaps_ahead_ends_no_lease() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    for leap in [Duration::from_secs(20), 2 * LEASE, DAY, 30 * DAY] {
        let held = acquire(&store, "held").await;
        let renewed = acquire(&store, "renewed").await;
        clock.leap(leap);
        // Enough for the chores, which would remove what is over.
        for id in 0..70 {
            acquire(&store, &format!("{leap:?} {id}")).await;
        }
        clock.forward(LEASE * 2 / 3);
        let repeat = begin(&store, "held").await;
        assert!(matches!(repeat, Begin::InProgress { .. }), "{repeat:?}");
        let kept = store.renew(&key("renewed"), renewed, LEASE).await;
        assert_eq!(kept.unwrap(), Settled::Done);
        for (id, token) in [("held", held), ("renewed", renewed)] {
            let freed = store.release(&key(id), token).await;
            assert_eq!(freed.unwrap(), Settled::Done, "{id}");
        }
    }
    // Whoever opens the file later does not see the leap, but that the holder lives.
    let held = acquire(&store, "held").await;
    clock.leap(2 * LEASE);
    let database = Database::builder().clock(clock.wall()).open(home.file());
    let other = SqliteStore::new(&database.unwrap()).unwrap();
    let repeat = begin(&other, "held").await;
    assert!(matches!(repeat, Begin::InProgress { .. }), "{repeat:?}");
    let freed = store.release(&key("held"), held).await;
    assert_eq!(freed.unwrap(), Settled::Done);
    // Time that passes ends it, after a leap as well.
    let lost = acquire(&store, "lost").await;
    clock.leap(DAY);
    assert!(matches!(
        begin(&store, "lost").await,
        Begin::InProgress { .. }
    ));
    clock.forward(LEASE);
    assert!(acquire(&store, "lost").await > lost);
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_lengthen_a_time_to_live() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    complete(&store, "k").await;
    clock.back(30 * DAY);
    assert!(matches!(begin(&store, "k").await, Begin::Completed(_)));
    clock.forward(TTL);
    acquire(&store, "k").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_grow_though_the_row_left_and_the_clock_went_back() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    let mut last = complete(&store, "k").await;
    for _ in 0..3 {
        clock.forward(TTL);
        until("the answer left", || async { rows(&store).await == 0 }).await;
        clock.back(DAY);
        let next = complete(&store, "k").await;
        assert!(next > last, "{next} after {last}");
        last = next;
    }
    let mut last = acquire(&store, "released").await;
    for _ in 0..3 {
        let released = store.release(&key("released"), last).await;
        assert_eq!(released.unwrap(), Settled::Done);
        clock.back(DAY);
        let next = acquire(&store, "released").await;
        assert!(next > last, "{next} after {last}");
        last = next;
    }
}

#[tokio::test]
async fn what_was_kept_is_there_after_reopening() {
    let home = Home::new();
    let store = home.store();
    complete(&store, "answered").await;
    let claim = acquire(&store, "claimed").await;
    store.database().close().await;
    drop(store);
    let store = home.store();
    assert_eq!(
        begin(&store, "answered").await,
        Begin::Completed(Bytes::from_static(b"done"))
    );
    assert!(matches!(
        begin(&store, "claimed").await,
        Begin::InProgress { .. }
    ));
    // The holder may have been another process, which goes on.
    assert_eq!(
        store.renew(&key("claimed"), claim, LEASE).await.unwrap(),
        Settled::Done
    );
}

/// What the operation that met the leap did is undone. What the leap asks for must be done all the same.
#[tokio::test]
async fn a_leap_is_met_though_the_first_operation_after_it_fails() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    let held = acquire(&store, "held").await;
    acquire(&store, "bad").await;
    let spoilt = home.raw().execute(
        "UPDATE tower_webhook_idempotency SET until = until + 9000000000000000 WHERE id = 'bad'",
        [],
    );
    assert_eq!(spoilt.unwrap(), 1);
    clock.leap(2 * LEASE);
    let failed = store.begin(&key("bad"), None, LEASE).await;
    assert_eq!(failed.unwrap_err().kind(), StoreErrorKind::Corrupt);
    let repeat = begin(&store, "held").await;
    assert!(matches!(repeat, Begin::InProgress { .. }), "{repeat:?}");
    // Nor does it matter that everything in the same transaction is undone.
    clock.leap(2 * LEASE);
    let clash = "INSERT OR ROLLBACK INTO tower_webhook_idempotency_floor VALUES (1, 0)";
    let failed = store.database().execute(Statement::new(clash)).await;
    assert_eq!(failed.unwrap_err().kind(), DatabaseErrorKind::Constraint);
    let kept = store.renew(&key("held"), held, LEASE).await;
    assert_eq!(kept.unwrap(), Settled::Done);
}

#[tokio::test]
async fn a_leap_is_met_whatever_the_holder_does_first() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    let token = acquire(&store, "k").await;
    clock.leap(2 * LEASE);
    let renewed = store.renew(&key("k"), token, LEASE).await;
    assert_eq!(renewed.unwrap(), Settled::Done);
    clock.leap(2 * LEASE);
    let freed = store.release(&key("k"), token).await;
    assert_eq!(freed.unwrap(), Settled::Done);
    let token = acquire(&store, "k").await;
    clock.leap(2 * LEASE);
    let done = store.complete(&key("k"), token, Bytes::new(), TTL).await;
    assert_eq!(done.unwrap(), Settled::Done);
}

/// What a leap ends is the time for which responses are kept, also while the store is idle.
#[tokio::test(flavor = "multi_thread")]
async fn a_leap_ends_responses_and_an_idle_store_keeps_the_claims() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    complete(&store, "answered").await;
    clock.leap(TTL);
    complete(&store, "answered").await;
    let held = acquire(&store, "held").await;
    clock.leap(TTL);
    until("the answer left", || async { rows(&store).await < 2 }).await;
    let freed = store.release(&key("held"), held).await;
    assert_eq!(freed.unwrap(), Settled::Done);
}

/// Whoever opens the file keeps the claims of those who live, before it removes what is over.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_store_that_was_just_opened_keeps_what_a_leap_did_not_end() {
    let home = Home::new();
    // The holder stands still, and so does its clock.
    let (store, _) = timed(&home);
    acquire(&store, "held").await;
    let look = || {
        let row = "SELECT until FROM tower_webhook_idempotency";
        home.raw().query_row(row, [], |row| row.get::<_, i64>(0))
    };
    let before = look().unwrap();
    let clock = ManualClock::new();
    clock.leap(2 * LEASE);
    let database = Database::builder().clock(clock.wall()).open(home.file());
    let other = SqliteStore::new(&database.unwrap()).unwrap();
    until("it has looked", || async { look().unwrap() != before }).await;
    let repeat = begin(&other, "held").await;
    assert!(matches!(repeat, Begin::InProgress { .. }), "{repeat:?}");
}

/// A clock that is corrected little by little is followed.
#[tokio::test]
async fn a_leap_is_more_than_a_second() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    let second = Duration::from_secs(1);
    acquire(&store, "k").await;
    clock.forward(LEASE.saturating_sub(second));
    clock.leap(second);
    acquire(&store, "k").await;
    clock.forward(LEASE.saturating_sub(second));
    clock.leap(second + Duration::from_millis(1));
    let repeat = begin(&store, "k").await;
    assert!(matches!(repeat, Begin::InProgress { .. }), "{repeat:?}");
}
