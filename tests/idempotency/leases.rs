//! Handlers that outlive their lease.

use crate::{
    Fate, LEASE, Runs, answering,
    bodies::{Script, Step, data},
    call, counting, delivery, disposition, fate, key,
    stores::{Gate, Gated, Op},
    text, webhook, with_status,
};
use http::Response;
use std::{convert::Infallible, time::Duration};
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_webhook::{
    StoreErrorKind,
    body::{BufferedBody, ResponseBody},
    idempotency::{Begin, Disposition, MemoryStore, Store},
    lease::Settled,
};

type Answer = Response<ResponseBody<BufferedBody>>;

/// A handler that takes this long, behind the layer.
fn slow(
    store: &Gated,
    takes: Duration,
) -> impl Service<http::Request<BufferedBody>, Response = Answer, Error = Infallible> + Clone + use<>
{
    let layer = webhook(store.clone());
    layer.layer(service_fn(move |_| async move {
        sleep(takes).await;
        Ok(with_status(200))
    }))
}

/// The whole seconds from `started` at which the claim was renewed.
fn renewals(store: &Gated, started: Instant) -> Vec<u64> {
    let times = store.times(Op::Renew);
    let seconds = times.iter().map(|at| (*at - started).as_secs());
    seconds.collect()
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_renewed_every_third_of_its_lease() {
    let store = Gated::default();
    let started = Instant::now();
    let answer = call(&slow(&store, LEASE * 3), delivery("a")).await;
    assert_eq!(disposition(&answer), None);
    assert_eq!(renewals(&store, started), [10, 20, 30, 40, 50, 60, 70, 80]);
    assert_eq!(fate(&store.inner, "a").await, Fate::Answered);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_no_longer_than_an_answer_is_kept() {
    let store = Gated::default();
    let started = Instant::now();
    let layer = webhook(store.clone()).ttl(LEASE / 2).unwrap();
    let service = layer.layer(service_fn(async |_| {
        sleep(Duration::from_secs(12)).await;
        Ok::<_, Infallible>(with_status(200))
    }));
    call(&service, delivery("a")).await;
    assert_eq!(renewals(&store, started), [5, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_within_a_third_of_its_lease_renews_nothing() {
    let store = Gated::default();
    call(
        &slow(&store, (LEASE / 3).saturating_sub(Duration::from_secs(1))),
        delivery("a"),
    )
    .await;
    assert_eq!(store.count(Op::Renew), 0);
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_kept_when_the_answers_body_follows() {
    let store = Gated::default();
    let layer = webhook(store.clone());
    let service = layer.layer(service_fn(async |_| {
        sleep(Duration::from_secs(8)).await;
        let body = Script::new([Step::Wait(Duration::from_secs(14)), data("x")]);
        Ok::<_, Infallible>(Response::new(body))
    }));
    let started = Instant::now();
    assert_eq!(call(&service, delivery("a")).await.status(), 200);
    assert_eq!(renewals(&store, started), [10, 20]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again_a_twelfth_later() {
    let store = Gated::default();
    store.set(Op::Renew, Gate::Fail(StoreErrorKind::Unavailable));
    let started = Instant::now();
    let service = slow(&store, LEASE * 2);
    let mut first = task::spawn(service.oneshot(delivery("a")));
    assert_pending!(first.poll());
    advance(LEASE / 3).await;
    assert_pending!(first.poll());
    store.set(Op::Renew, Gate::Pass);
    let answer = (&mut first).await.unwrap();
    assert_eq!(disposition(&answer), None);
    assert_eq!(renewals(&store, started), [10, 12, 22, 32, 42, 52]);
}

/// A store that never answers one renewal must not use up the tries that follow.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_is_given_up_and_tried_again_before_the_lease_ends() {
    let store = Gated::default();
    store.set(Op::Renew, Gate::HoldRequest);
    let started = Instant::now();
    let mut first = task::spawn(slow(&store, LEASE * 2).oneshot(delivery("a")));
    assert_pending!(first.poll());
    let mut released = false;
    while !first.is_woken() || first.poll().is_pending() {
        advance(Duration::from_secs(1)).await;
        if store.count(Op::Renew) == 1 && !released {
            released = true;
            store.set(Op::Renew, Gate::Pass);
        }
    }
    assert_eq!(renewals(&store, started)[..2], [10, 18]);
    assert_eq!(fate(&store.inner, "a").await, Fate::Answered);
}

#[tokio::test(start_paused = true)]
async fn a_lost_claim_is_left_alone_and_the_answer_still_goes_out() {
    let store = Gated::default();
    store.set(Op::Renew, Gate::Lose);
    let answer = call(&slow(&store, LEASE * 2), delivery("a")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(disposition(&answer), Some(Disposition::NotStored));
    assert_eq!(store.count(Op::Renew), 1);
    assert_eq!(
        (store.count(Op::Complete), store.count(Op::Release)),
        (0, 0)
    );
    assert_eq!(text(answer).await, "answer");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_lost_while_the_body_is_read_is_left_alone_too() {
    for last in [data("x"), Step::Fail] {
        let store = Gated::default();
        store.set(Op::Renew, Gate::Lose);
        let layer = webhook(store.clone());
        let steps = std::sync::Arc::new(std::sync::Mutex::new(Some(last)));
        let service = layer.layer(answering(&Runs::default(), move |_| {
            let last = steps.lock().unwrap().take().unwrap();
            Response::new(Script::new([Step::Wait(LEASE), last]))
        }));
        let answer = call(&service, delivery("a")).await;
        assert_eq!(disposition(&answer), Some(Disposition::NotStored));
        assert_eq!(
            (store.count(Op::Complete), store.count(Op::Release)),
            (0, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_found_lost_when_it_is_settled_is_said_to_be_not_stored() {
    for (status, op) in [(200, Op::Complete), (500, Op::Release)] {
        let store = Gated::default();
        store.set(op, Gate::Lose);
        let layer = webhook(store.clone());
        let service = layer.layer(answering(&Runs::default(), move |_| with_status(status)));
        let answer = call(&service, delivery("a")).await;
        assert_eq!(answer.status(), status);
        assert_eq!(disposition(&answer), Some(Disposition::NotStored));
        assert_eq!(text(answer).await, "answer");
    }
}

/// A handler that blocks its thread is not renewed: its answer is kept if no repeat has run meanwhile.
#[tokio::test(start_paused = true)]
async fn a_handler_that_outlives_its_lease_is_done_if_nobody_else_has_the_key() {
    let runs = Runs::default();
    let layer = webhook(MemoryStore::default());
    let service = layer.layer(answering(&runs, |run| {
        assert_pending!(task::spawn(advance(LEASE * 2)).poll());
        Response::new(format!("run {run}").into())
    }));
    for replayed in [None, Some(Disposition::Replayed)] {
        let answer: Answer = call(&service, delivery("a")).await;
        assert_eq!(disposition(&answer), replayed);
        assert_eq!(text(answer).await, "run 1");
    }
    assert_eq!(runs.count(), 1);
}

/// A handler that blocks its thread is not renewed: the one that follows has the key, and the late
/// answer replaces nothing.
#[tokio::test(start_paused = true)]
async fn a_handler_that_comes_back_too_late_changes_nothing() {
    let store = MemoryStore::default();
    let layer = webhook(store.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = std::sync::Arc::new(std::sync::Mutex::new(Some(stopped)));
    let late = layer.layer(service_fn(move |_| {
        let stopped = stopped.lock().unwrap().take().unwrap();
        async move {
            stopped.await.unwrap();
            Ok::<_, Infallible>(with_status(202))
        }
    }));
    let mut late = task::spawn(late.oneshot(delivery("a")));
    assert_pending!(late.poll());
    advance(LEASE + Duration::from_secs(1)).await;

    let service = layer.layer(counting(&Runs::default()));
    assert_eq!(call(&service, delivery("a")).await.status(), 200);
    stop.send(()).unwrap();
    let answer = late.await.unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(disposition(&answer), Some(Disposition::NotStored));
    assert_eq!(text(call(&service, delivery("a")).await).await, "run 1");
}

#[tokio::test(start_paused = true)]
async fn a_crash_frees_its_key_when_the_lease_ends() {
    let (store, key) = (MemoryStore::default(), key("a"));
    let Begin::Acquired(crashed) = store.begin(&key, None, LEASE).await.unwrap() else {
        panic!("the key was free");
    };
    let layer = webhook(store.clone());
    let service = layer.layer(counting(&Runs::default()));
    advance(LEASE.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(call(&service, delivery("a")).await.status(), 409);
    advance(Duration::from_millis(1)).await;
    assert_eq!(text(call(&service, delivery("a")).await).await, "run 1");
    let late = store.release(&key, crashed).await.unwrap();
    assert_eq!(late, Settled::Lost);
}

#[tokio::test(start_paused = true)]
async fn the_shortest_lease_is_renewed_without_a_busy_loop() {
    let store = Gated::default();
    let layer = webhook(store.clone())
        .lease(Duration::from_nanos(1))
        .unwrap();
    let service = layer.layer(service_fn(async |_| {
        sleep(Duration::from_millis(100)).await;
        Ok::<_, Infallible>(with_status(200))
    }));
    assert_eq!(call(&service, delivery("a")).await.status(), 200);
    assert!(store.count(Op::Renew) <= 101, "{}", store.count(Op::Renew));
}
