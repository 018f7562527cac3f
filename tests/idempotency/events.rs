//! What observers are told.

use crate::{
    LEASE, Runs, answering, call, counting, delivery, key,
    stores::{Gate, Gated, Op},
    webhook, with_status,
};
use bytes::Bytes;
use http::Request;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};
use tokio::time::sleep;
use tower::{Layer, service_fn};
use tower_webhook::{
    StoreErrorKind,
    body::BufferedBody,
    idempotency::{Begin, MemoryStore, RunOnce, Store, StoreOutage},
    observe::{Event, Observer},
};

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Told {
    fn on(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(match event {
            Event::Claimed { scope } => format!("claimed in {scope}"),
            Event::Replayed { scope } => format!("replayed in {scope}"),
            Event::ClaimLost { what } => format!("lost {what}"),
            Event::Refused { by, reason, detail } => format!("{by} refused {reason}: {detail}"),
            Event::Trouble { part, what, detail } => match detail {
                Some(detail) => format!("{part}: {what}: {detail}"),
                None => format!("{part}: {what}"),
            },
            other => panic!("unexpected: {other:?}"),
        });
    }
}

#[tokio::test]
async fn claims_replays_and_refusals_without_the_id() {
    let told = Told::default();
    let layer = webhook(MemoryStore::default()).observe(told.clone());
    let service = layer.layer(counting(&Runs::default()));
    for _ in 0..2 {
        call(&service, delivery("secret-id")).await;
    }
    assert_eq!(told.take(), ["claimed in /hooks", "replayed in /hooks"]);

    call(&service, Request::new(BufferedBody::from("{}"))).await;
    let missing = told.take();
    assert!(
        missing[0].starts_with("idempotency refused key_missing: "),
        "{missing:?}"
    );
    assert_eq!(missing.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_down_and_what_comes_of_it() {
    for (outage, expected) in [
        (StoreOutage::FailClosed, Some("idempotency refused store: ")),
        (StoreOutage::FailOpen, None),
    ] {
        let (told, store) = (Told::default(), Gated::default());
        store.set(Op::Begin, Gate::Fail(StoreErrorKind::Unavailable));
        let layer = webhook(store).store_outage(outage).observe(told.clone());
        let service = layer.layer(counting(&Runs::default()));
        call(&service, delivery("a")).await;
        let told = told.take();
        assert!(
            told[0].starts_with("idempotency: the store failed: "),
            "{told:?}"
        );
        assert_eq!(told.get(1).is_some(), expected.is_some());
        if let Some(expected) = expected {
            assert!(told[1].starts_with(expected), "{told:?}");
        }
    }
}

#[tokio::test]
async fn a_stored_answer_that_cannot_be_read() {
    for (record, why) in [
        (&b"garbage"[..], "the stored record cannot be read"),
        (
            b"\x02",
            "the stored record has schema 2; this release reads up to 1",
        ),
    ] {
        let (told, store, key) = (Told::default(), MemoryStore::default(), key("a"));
        let Begin::Acquired(token) = store.begin(&key, None, LEASE).await.unwrap() else {
            panic!("the key was free");
        };
        let record = Bytes::from_static(record);
        let _ = store.complete(&key, token, record, LEASE).await.unwrap();
        let layer = webhook(store).store_outage(StoreOutage::FailOpen);
        let layer = layer.observe(told.clone());
        call(&layer.layer(counting(&Runs::default())), delivery("a")).await;
        let told = told.take();
        assert_eq!(
            told[0],
            format!("idempotency: stored answer cannot be read: {why}")
        );
        assert!(
            told[1].starts_with("idempotency refused store: "),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_passes_to_another_while_its_work_runs() {
    let (told, store) = (Told::default(), Gated::default());
    store.set(Op::Renew, Gate::Fail(StoreErrorKind::Unavailable));
    let layer = webhook(store.clone()).observe(told.clone());
    let service = layer.layer(service_fn(move |_| {
        let store = store.clone();
        async move {
            // The lease ends, since it is not renewed, and another claims the key.
            sleep(LEASE * 2).await;
            let _ = store.inner.begin(&key("a"), None, LEASE).await.unwrap();
            Ok::<_, Infallible>(with_status(200))
        }
    }));
    call(&service, delivery("a")).await;
    let told = told.take();
    assert_eq!(told.first().unwrap(), "claimed in /hooks");
    assert_eq!(told.last().unwrap(), "lost idempotency_key");
    let between = &told[1..told.len() - 1];
    assert!(!between.is_empty());
    assert!(
        between
            .iter()
            .all(|line| line.starts_with("idempotency: claim not renewed: "))
    );
}

#[tokio::test]
async fn an_answer_that_could_not_be_stored() {
    let (told, store) = (Told::default(), Gated::default());
    store.set(Op::Complete, Gate::Fail(StoreErrorKind::Full));
    let layer = webhook(store).max_answer(3).observe(told.clone());
    let service = answering(&Runs::default(), |_| with_status(200));
    let service = layer.layer(service);
    call(&service, delivery("a")).await;
    let told = told.take();
    assert_eq!(
        told[..2],
        [
            "claimed in /hooks",
            "idempotency: answer too large to store"
        ]
    );
    assert!(
        told[2].starts_with("idempotency: claim not settled: "),
        "{told:?}"
    );
    assert_eq!(told.len(), 3);
}

#[tokio::test]
async fn work_without_http_is_told_alike() {
    let told = Told::default();
    let once = RunOnce::new(MemoryStore::default(), LEASE).unwrap();
    let once = once.observe(told.clone());
    for _ in 0..2 {
        let work = |_| async { Ok::<_, Infallible>("done".into()) };
        once.run_once(&key("a"), work).await.unwrap();
    }
    assert_eq!(told.take(), ["claimed in /hooks", "replayed in /hooks"]);
}
