//! Handlers that outlive their lease, behind the layer.

use crate::support::{Home, LEASE, ManualClock, TTL, acquire, key, until};
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    IdempotencyLayer,
    body::BufferedBody,
    idempotency::{Begin, Disposition, KeySource, Store},
    lease::Settled,
};
use tower_webhook_sqlite::{SqliteStore, database::Statement};

fn timed(home: &Home) -> (SqliteStore, ManualClock) {
    let (database, clock) = home.timed_database();
    (SqliteStore::new(&database).unwrap(), clock)
}

/// Time passes, and the store has removed what was over at the end of it.
async fn swept(store: &SqliteStore, clock: &ManualClock, time: Duration) {
    let last = Duration::from_millis(1);
    let token = acquire(store, "last").await;
    let done = store.complete(&key("last"), token, Bytes::new(), time.saturating_sub(last));
    assert_eq!(done.await.unwrap(), Settled::Done);
    clock.forward(time);
    let count = Statement::new("SELECT count(*) FROM tower_webhook_idempotency WHERE id = 'last'");
    until("what was over left", || async {
        let rows = store.database().query(count.clone()).await.unwrap();
        rows[0].get::<i64>(0).unwrap() == 0
    })
    .await;
}

const ID: HeaderName = HeaderName::from_static("x-id");

fn delivery() -> Request<BufferedBody> {
    let delivery = Request::post("/hooks").header(ID, "evt_1");
    delivery.body(BufferedBody::from("{}")).unwrap()
}

async fn text<B: http_body_util::BodyExt>(answer: Response<B>) -> Bytes
where
    B::Error: std::fmt::Debug,
{
    answer.into_body().collect().await.unwrap().to_bytes()
}

/// The store has looked at what was over before the handler comes back, and removed other rows.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_late_handler_is_kept_if_nobody_has_claimed_its_key() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    let key = KeySource::header(ID);
    let layer = IdempotencyLayer::webhook(store.clone(), key)
        .lease(LEASE)
        .unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let ran = Arc::clone(&runs);
    let service = layer.layer(service_fn(move |_| {
        let run = ran.fetch_add(1, Ordering::SeqCst) + 1;
        let (store, clock) = (store.clone(), clock.clone());
        async move {
            swept(&store, &clock, LEASE * 2).await;
            Ok::<_, Infallible>(Response::new(BufferedBody::from(format!("run {run}"))))
        }
    }));
    for replayed in [None, Some(Disposition::Replayed)] {
        let answer = service.clone().oneshot(delivery()).await.unwrap();
        assert_eq!(answer.extensions().get().copied(), replayed);
        assert_eq!(text(answer).await, "run 1");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_handler_whose_key_another_has_claimed_changes_nothing() {
    let home = Home::new();
    let (store, clock) = timed(&home);
    let key = KeySource::header(ID);
    let layer = IdempotencyLayer::webhook(store.clone(), key)
        .lease(LEASE)
        .unwrap();
    let (runs, go_on) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let (ran, goes_on) = (Arc::clone(&runs), Arc::clone(&go_on));
    let service = layer.layer(service_fn(move |_| {
        let run = ran.fetch_add(1, Ordering::SeqCst) + 1;
        let goes_on = Arc::clone(&goes_on);
        async move {
            if run == 1 {
                goes_on.notified().await;
            }
            Ok::<_, Infallible>(Response::new(BufferedBody::from(format!("run {run}"))))
        }
    }));
    let late = tokio::spawn(service.clone().oneshot(delivery()));
    until("it runs", || async { runs.load(Ordering::SeqCst) == 1 }).await;
    swept(&store, &clock, LEASE * 2).await;
    let second = service.clone().oneshot(delivery()).await.unwrap();
    assert_eq!(text(second).await, "run 2");
    go_on.notify_one();
    let late = late.await.unwrap().unwrap();
    assert_eq!(late.extensions().get(), Some(&Disposition::NotStored));
    assert_eq!(text(late).await, "run 1");
    let repeat = service.oneshot(delivery()).await.unwrap();
    assert_eq!(repeat.extensions().get(), Some(&Disposition::Replayed));
    assert_eq!(text(repeat).await, "run 2");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

/// A claim is kept for a day after its lease, and the key is free meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_over_is_its_holders_for_a_day() {
    const DAY: Duration = Duration::from_secs(86_400);
    let home = Home::new();
    let (store, clock) = timed(&home);
    for id in ["renewed", "released", "taken", "forgotten"] {
        acquire(&store, id).await;
    }
    let tokens = async |id: &str| {
        let token = Statement::new("SELECT token FROM tower_webhook_idempotency WHERE id = ?1");
        let rows = store.database().query(token.bind(id)).await.unwrap();
        let token = rows.first().map(|row| row.get::<i64>(0).unwrap());
        token.map(|token| tower_webhook::lease::FencingToken::new(token.unsigned_abs()))
    };
    swept(&store, &clock, LEASE * 2).await;
    swept(&store, &clock, DAY / 2).await;

    let renewed = tokens("renewed").await.unwrap();
    let kept = store.renew(&key("renewed"), renewed, LEASE).await;
    assert_eq!(kept.unwrap(), Settled::Done);
    let repeat = store.begin(&key("renewed"), None, LEASE).await.unwrap();
    assert!(matches!(repeat, Begin::InProgress { .. }), "{repeat:?}");

    let released = tokens("released").await.unwrap();
    let freed = store.release(&key("released"), released).await;
    assert_eq!(freed.unwrap(), Settled::Done);

    let before = tokens("taken").await.unwrap();
    assert!(acquire(&store, "taken").await > before);
    let late = store.complete(&key("taken"), before, Bytes::new(), TTL);
    assert_eq!(late.await.unwrap(), Settled::Lost);

    let forgotten = tokens("forgotten").await.unwrap();
    swept(&store, &clock, DAY / 2).await;
    until("it left", || async { tokens("forgotten").await.is_none() }).await;
    let late = store.complete(&key("forgotten"), forgotten, Bytes::new(), TTL);
    assert_eq!(late.await.unwrap(), Settled::Lost);
    assert!(acquire(&store, "forgotten").await > forgotten);
}
