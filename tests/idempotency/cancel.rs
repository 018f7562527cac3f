//! A response future that is dropped, at each point where it waits, and what its key is then.

use crate::{
    Fate, LEASE, Runs, answering,
    bodies::{Script, Step, data},
    call, counting, delivery, disposition, fate,
    stores::{Gate, Gated, Op},
    text, webhook, with_status,
};
use http::{Request, Response};
use std::{convert::Infallible, time::Duration};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_webhook::{
    body::BufferedBody,
    idempotency::{Disposition, MemoryStore, Store},
};

type Hang = std::future::Pending<Result<Response<BufferedBody>, Infallible>>;

fn hanging<St: Store>(
    store: &St,
) -> impl Service<
    Request<BufferedBody>,
    Response = Response<tower_webhook::body::ResponseBody<BufferedBody>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ use<St> {
    let layer = webhook(store.clone());
    layer.layer(service_fn(|_| -> Hang { std::future::pending() }))
}

#[tokio::test(start_paused = true)]
async fn before_it_is_polled_nothing_was_claimed() {
    let (store, runs) = (MemoryStore::default(), Runs::default());
    let layer = webhook(store.clone());
    drop(layer.layer(counting(&runs)).call(delivery("a")));
    assert_eq!(fate(&store, "a").await, Fate::Free);
    assert_eq!((store.in_flight(), runs.count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_asked_the_key_stays_free() {
    let store = Gated::default();
    store.set(Op::Begin, Gate::HoldRequest);
    let mut call = task::spawn(hanging(&store).oneshot(delivery("a")));
    assert_pending!(call.poll());
    drop(call);
    store.open(Op::Begin);
    assert_eq!(fate(&store.inner, "a").await, Fate::Free);
}

#[tokio::test(start_paused = true)]
async fn while_the_stores_answer_is_on_its_way_the_key_is_free_when_the_lease_ends() {
    let store = Gated::default();
    store.set(Op::Begin, Gate::HoldAnswer);
    let mut call = task::spawn(hanging(&store).oneshot(delivery("a")));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(fate(&store.inner, "a").await, Fate::Claimed);
    advance(LEASE).await;
    assert_eq!(fate(&store.inner, "a").await, Fate::Free);
}

#[tokio::test(start_paused = true)]
async fn while_the_handler_runs_the_key_is_freed() {
    let store = MemoryStore::default();
    let mut call = task::spawn(hanging(&store).oneshot(delivery("a")));
    assert_pending!(call.poll());
    assert_eq!(fate(&store, "a").await, Fate::Claimed);
    drop(call);
    assert_eq!(fate(&store, "a").await, Fate::Free);
}

#[tokio::test(start_paused = true)]
async fn while_the_handler_runs_a_slow_store_frees_the_key_in_its_time() {
    let store = Gated::default();
    store.set(Op::Release, Gate::HoldRequest);
    let mut call = task::spawn(hanging(&store).oneshot(delivery("a")));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(fate(&store.inner, "a").await, Fate::Claimed);
    store.open(Op::Release);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fate(&store.inner, "a").await, Fate::Free);
    assert_eq!(store.count(Op::Release), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_claim_is_renewed_the_key_is_freed() {
    for gate in [Gate::HoldRequest, Gate::HoldAnswer] {
        let store = Gated::default();
        store.set(Op::Renew, gate);
        let mut call = task::spawn(hanging(&store).oneshot(delivery("a")));
        assert_pending!(call.poll());
        advance(LEASE / 2).await;
        assert_pending!(call.poll());
        assert_eq!(store.count(Op::Renew), 1);
        drop(call);
        assert_eq!(fate(&store.inner, "a").await, Fate::Free);
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_repeat_waits_the_first_keeps_its_claim() {
    let store = MemoryStore::default();
    let mut first = task::spawn(hanging(&store).oneshot(delivery("a")));
    assert_pending!(first.poll());
    let waiting = webhook(store.clone()).wait(LEASE);
    let waiting = waiting.layer(counting(&Runs::default()));
    let mut repeat = task::spawn(waiting.oneshot(delivery("a")));
    assert_pending!(repeat.poll());
    drop(repeat);
    assert_eq!(fate(&store, "a").await, Fate::Claimed);
}

#[tokio::test(start_paused = true)]
async fn while_the_answers_body_is_read_the_key_is_freed_and_the_body_dropped() {
    let store = MemoryStore::default();
    let body = Script::new([data("half"), Step::Hang]);
    let probe = body.probe();
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let layer = webhook(store.clone());
    let service = layer.layer(answering(&Runs::default(), move |_| {
        Response::new(body.lock().unwrap().take().unwrap())
    }));
    let mut call = task::spawn(service.oneshot(delivery("a")));
    assert_pending!(call.poll());
    assert_eq!(probe.polls(), 2);
    assert_eq!(fate(&store, "a").await, Fate::Claimed);
    drop(call);
    assert!(probe.is_dropped());
    assert_eq!(fate(&store, "a").await, Fate::Free);
}

#[tokio::test(start_paused = true)]
async fn while_the_answer_is_stored_it_is_stored_all_the_same() {
    for gate in [Gate::HoldRequest, Gate::HoldAnswer] {
        let (store, runs) = (Gated::default(), Runs::default());
        store.set(Op::Complete, gate);
        let layer = webhook(store.clone());
        let service = layer.layer(counting(&runs));
        let mut first = task::spawn(service.clone().oneshot(delivery("a")));
        assert_pending!(first.poll());
        drop(first);
        store.open(Op::Complete);
        store.reached(Op::Complete, 2).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fate(&store.inner, "a").await, Fate::Answered, "{gate:?}");
        let repeat = call(&service, delivery("a")).await;
        assert_eq!(disposition(&repeat), Some(Disposition::Replayed));
        assert_eq!(text(repeat).await, "run 1");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_key_is_freed_it_is_freed_all_the_same() {
    for gate in [Gate::HoldRequest, Gate::HoldAnswer] {
        let store = Gated::default();
        store.set(Op::Release, gate);
        let layer = webhook(store.clone());
        let service = layer.layer(answering(&Runs::default(), |_| with_status(500)));
        let mut first = task::spawn(service.oneshot(delivery("a")));
        assert_pending!(first.poll());
        drop(first);
        store.open(Op::Release);
        store.reached(Op::Release, 2).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fate(&store.inner, "a").await, Fate::Free, "{gate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_answer_nothing_is_owed() {
    let store = Gated::default();
    let layer = webhook(store.clone());
    let service = layer.layer(counting(&Runs::default()));
    let mut call = task::spawn(service.oneshot(delivery("a")));
    let answer = assert_ready!(call.poll()).unwrap();
    drop(call);
    drop(answer);
    assert_eq!(
        (store.count(Op::Complete), store.count(Op::Release)),
        (1, 0)
    );
    assert_eq!(fate(&store.inner, "a").await, Fate::Answered);
}

#[tokio::test]
async fn without_a_runtime_a_ready_store_frees_the_key_and_a_slow_one_lets_the_lease_end() {
    let ready = MemoryStore::default();
    let slow = Gated::default();
    slow.set(Op::Release, Gate::HoldRequest);
    let mut one = task::spawn(Box::pin(hanging(&ready).oneshot(delivery("a"))));
    let mut other = task::spawn(Box::pin(hanging(&slow).oneshot(delivery("a"))));
    assert_pending!(one.poll());
    assert_pending!(other.poll());
    let elsewhere = std::thread::spawn(move || drop((one, other)));
    elsewhere.join().unwrap();
    assert_eq!(fate(&ready, "a").await, Fate::Free);
    assert_eq!(fate(&slow.inner, "a").await, Fate::Claimed);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_frees_the_key() {
    let store = MemoryStore::default();
    let service = tower::timeout::Timeout::new(hanging(&store), Duration::from_secs(1));
    assert!(service.oneshot(delivery("a")).await.is_err());
    assert_eq!(fate(&store, "a").await, Fate::Free);
}
