//! Stores that are slow, down, full, or hold something unreadable.

use crate::{
    Fate, LEASE, Runs, answering, call, counting, delivery, disposition, fate, key, refusal,
    stores::{Gate, Gated, Op},
    text, webhook, with_status,
};
use bytes::Bytes;
use http::{Request, Response, header};
use std::{convert::Infallible, time::Duration};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    StoreErrorKind,
    body::BufferedBody,
    idempotency::{Begin, Claim, Disposition, IdempotencyError, MemoryStore, Store, StoreOutage},
};

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_in_time_is_a_503() {
    let (store, runs) = (Gated::default(), Runs::default());
    store.set(Op::Begin, Gate::HoldRequest);
    let timeout = Duration::from_secs(2);
    let layer = webhook(store).store_timeout(timeout).unwrap();
    let started = Instant::now();
    let refused = call(&layer.layer(counting(&runs)), delivery("a")).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "2");
    let reason = IdempotencyError::Store(StoreErrorKind::Timeout);
    assert_eq!(refusal(&refused), Some(reason));
    let waited = started.elapsed();
    assert!(waited >= timeout && waited < timeout + Duration::from_millis(10));
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn a_slow_store_that_answers_in_time_is_waited_for() {
    let store = Gated::default();
    for op in [Op::Begin, Op::Complete] {
        store.set(op, Gate::HoldRequest);
    }
    let layer = webhook(store.clone());
    let service = layer.layer(counting(&Runs::default()));
    let mut first = task::spawn(service.oneshot(delivery("a")));
    assert_pending!(first.poll());
    store.open(Op::Begin);
    assert_pending!(first.poll());
    assert_eq!(fate(&store.inner, "a").await, Fate::Claimed);
    store.open(Op::Complete);
    assert_eq!(text(first.await.unwrap()).await, "run 1");
    assert_eq!(fate(&store.inner, "a").await, Fate::Answered);
}

#[tokio::test(start_paused = true)]
async fn open_runs_without_a_claim_and_says_so() {
    for (gate, kind) in [
        (Gate::Fail(StoreErrorKind::Unavailable), "down"),
        (Gate::Fail(StoreErrorKind::Full), "full"),
        (Gate::HoldRequest, "slow"),
    ] {
        let (store, runs) = (Gated::default(), Runs::default());
        store.set(Op::Begin, gate);
        let layer = webhook(store.clone()).store_outage(StoreOutage::FailOpen);
        let service = layer.layer(counting(&runs));
        for _ in 0..2 {
            let answer = call(&service, delivery("a")).await;
            assert_eq!(answer.status(), 200, "{kind}");
            assert_eq!(disposition(&answer), Some(Disposition::Unclaimed));
        }
        assert_eq!(runs.count(), 2);
        assert_eq!(
            (store.count(Op::Complete), store.count(Op::Release)),
            (0, 0)
        );
    }
}

#[tokio::test]
async fn open_still_refuses_what_the_store_knows_of() {
    let store = MemoryStore::default();
    store.begin(&key("a"), None, LEASE).await.unwrap();
    let layer = webhook(store).store_outage(StoreOutage::FailOpen);
    let service = layer.layer(counting(&Runs::default()));
    assert_eq!(call(&service, delivery("a")).await.status(), 409);
}

#[tokio::test]
async fn an_unclaimed_handler_has_no_claim() {
    let store = Gated::default();
    store.set(Op::Begin, Gate::Fail(StoreErrorKind::Unavailable));
    let layer = webhook(store).store_outage(StoreOutage::FailOpen);
    let service = layer;
    let service = service.layer(service_fn(async |req: Request<BufferedBody>| {
        let claimed = req.extensions().get::<Claim>().is_some();
        Ok::<_, Infallible>(Response::new(BufferedBody::from(claimed.to_string())))
    }));
    assert_eq!(text(call(&service, delivery("a")).await).await, "false");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_stored_goes_out_and_the_lease_runs_out() {
    for gate in [Gate::Fail(StoreErrorKind::Unavailable), Gate::HoldRequest] {
        let store = Gated::default();
        store.set(Op::Complete, gate);
        let layer = webhook(store.clone());
        let service = layer.layer(counting(&Runs::default()));
        let answer = call(&service, delivery("a")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(disposition(&answer), Some(Disposition::NotStored));
        assert_eq!(text(answer).await, "run 1");
        // The effect is there, and nobody may say that it is not: the key is not freed early.
        assert_eq!(store.count(Op::Release), 0);
        assert_eq!(fate(&store.inner, "a").await, Fate::Claimed);
        advance(LEASE).await;
        assert_eq!(fate(&store.inner, "a").await, Fate::Free);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_freed_is_free_when_the_lease_ends() {
    let store = Gated::default();
    store.set(Op::Release, Gate::Fail(StoreErrorKind::Unavailable));
    let layer = webhook(store.clone());
    let service = layer.layer(answering(&Runs::default(), |_| with_status(502)));
    let answer = call(&service, delivery("a")).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(text(answer).await, "answer");
    assert_eq!(fate(&store.inner, "a").await, Fate::Claimed);
    advance(LEASE).await;
    assert_eq!(fate(&store.inner, "a").await, Fate::Free);
}

#[tokio::test]
async fn an_answer_larger_than_the_whole_store_is_not_stored() {
    let store = MemoryStore::builder().max_bytes(1024).build().unwrap();
    let layer = webhook(store);
    let service = layer.layer(answering(&Runs::default(), |_| {
        Response::new(BufferedBody::from("x".repeat(2000)))
    }));
    let answer = call(&service, delivery("a")).await;
    assert_eq!(disposition(&answer), Some(Disposition::NotStored));
    assert_eq!(text(answer).await.len(), 2000);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_a_503_whatever_the_outage_setting() {
    let newer = |found| StoreErrorKind::NewerSchema { found, known: 1 };
    for (record, kind) in [
        (&b""[..], StoreErrorKind::Corrupt),
        (b"\x00\x00\x00\xc8", StoreErrorKind::Corrupt),
        (b"\x01\x00\x00\xc8", StoreErrorKind::Corrupt),
        (b"garbage", StoreErrorKind::Corrupt),
        (b"\x02", newer(2)),
        (b"\x08\x00\x00\xc8", newer(8)),
    ] {
        for outage in [StoreOutage::FailClosed, StoreOutage::FailOpen] {
            let (store, runs, key) = (MemoryStore::default(), Runs::default(), key("a"));
            let Begin::Acquired(token) = store.begin(&key, None, LEASE).await.unwrap() else {
                panic!("the key was free");
            };
            let record = Bytes::from_static(record);
            let _ = store.complete(&key, token, record, LEASE).await.unwrap();
            let layer = webhook(store).store_outage(outage);
            let refused = call(&layer.layer(counting(&runs)), delivery("a")).await;
            assert_eq!(refusal(&refused), Some(IdempotencyError::Store(kind)));
            assert_eq!(refused.headers()[header::RETRY_AFTER], "2");
            assert_eq!((refused.status().as_u16(), runs.count()), (503, 0));
        }
    }
}

#[tokio::test]
async fn a_record_that_the_store_cannot_read_is_a_503_whatever_the_outage_setting() {
    for kind in [
        StoreErrorKind::Corrupt,
        StoreErrorKind::NewerSchema { found: 2, known: 1 },
    ] {
        let (store, runs) = (Gated::default(), Runs::default());
        store.set(Op::Begin, Gate::Fail(kind));
        let layer = webhook(store).store_outage(StoreOutage::FailOpen);
        let service = layer.layer(counting(&runs));
        let refused = call(&service, delivery("a")).await;
        assert_eq!(refusal(&refused), Some(IdempotencyError::Store(kind)));
        assert_eq!((refused.status().as_u16(), runs.count()), (503, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_full_of_claims_refuses_new_keys_and_forgets_none() {
    let store = MemoryStore::builder().max_in_flight(2).build().unwrap();
    let layer = webhook(store.clone());
    let answered = layer.layer(counting(&Runs::default()));
    call(&answered, delivery("before")).await;

    let hanging = layer.layer(service_fn(|_| {
        std::future::pending::<Result<Response<BufferedBody>, Infallible>>()
    }));
    let mut running = ["a", "b"].map(|id| task::spawn(hanging.clone().oneshot(delivery(id))));
    for call in &mut running {
        assert_pending!(call.poll());
    }
    for _ in 0..3 {
        let refused = call(&answered, delivery("c")).await;
        assert_eq!(refused.status(), 503);
        let reason = IdempotencyError::Store(StoreErrorKind::Full);
        assert_eq!(refusal(&refused), Some(reason));
        assert_eq!(call(&answered, delivery("a")).await.status(), 409);
        assert_eq!(call(&answered, delivery("b")).await.status(), 409);
        assert_eq!(
            text(call(&answered, delivery("before")).await).await,
            "run 1"
        );
        // Renewed by their handlers, over and over.
        for _ in 0..4 {
            advance(LEASE / 2).await;
            for call in &mut running {
                assert_pending!(call.poll());
            }
        }
    }
    let [a, _b] = running;
    drop(a);
    assert_eq!(call(&answered, delivery("c")).await.status(), 200);
}
