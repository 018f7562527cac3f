//! Many at once, and handlers that panic.

use crate::{
    Fate, Runs, answering, call, delivery, disposition, fate, refusal,
    stores::{Gated, Op},
    text, webhook, with_status,
};
use http::{Request, Response};
use std::{
    convert::Infallible, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration,
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_webhook::{
    body::BufferedBody,
    idempotency::{Disposition, IdempotencyError, MemoryStore},
};

/// A handler that waits for the gate, and answers with the number of its run.
fn gated(
    runs: &Runs,
    gate: &Arc<Semaphore>,
) -> impl Service<
    Request<BufferedBody>,
    Response = Response<BufferedBody>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<BufferedBody>, Infallible>> + Send + use<>,
> + Clone
+ Send
+ use<> {
    let (runs, gate) = (runs.clone(), Arc::clone(gate));
    service_fn(move |_| {
        let (run, gate) = (runs.begin(), Arc::clone(&gate));
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(Response::new(format!("run {run}").into()))
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_at_once_one_runs_and_the_others_conflict() {
    let (runs, gate) = (Runs::default(), Arc::new(Semaphore::new(0)));
    let layer = webhook(MemoryStore::default());
    let service = layer.layer(gated(&runs, &gate));
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        tasks.spawn(service.clone().oneshot(delivery("a")));
    }
    // The one that runs cannot end before the others were answered.
    for _ in 0..49 {
        let answer = tasks.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(answer.status(), 409);
        assert!(matches!(
            refusal(&answer),
            Some(IdempotencyError::InProgress { .. })
        ));
    }
    gate.add_permits(1);
    let answer = tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(text(answer).await, "run 1");
    assert_eq!(runs.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_that_wait_one_runs_and_all_get_its_answer() {
    let (runs, gate) = (Runs::default(), Arc::new(Semaphore::new(0)));
    let store = Gated::default();
    let layer = webhook(store.clone()).wait(Duration::from_secs(60));
    let service = layer.layer(gated(&runs, &gate));
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        tasks.spawn(service.clone().oneshot(delivery("a")));
    }
    while store.count(Op::Begin) < 50 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    let mut replayed = 0;
    while let Some(answer) = tasks.join_next().await {
        let answer = answer.unwrap().unwrap();
        replayed += usize::from(disposition(&answer) == Some(Disposition::Replayed));
        assert_eq!(text(answer).await, "run 1");
    }
    assert_eq!((runs.count(), replayed), (1, 49));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_waits_no_longer_than_it_was_told_to() {
    let (runs, gate) = (Runs::default(), Arc::new(Semaphore::new(0)));
    let wait = Duration::from_secs(3);
    let layer = webhook(MemoryStore::default()).wait(wait);
    let service = layer.layer(gated(&runs, &gate));
    let mut first = task::spawn(service.clone().oneshot(delivery("a")));
    assert_pending!(first.poll());
    let started = Instant::now();
    let repeat = call(&service, delivery("a")).await;
    assert_eq!(repeat.status(), 409);
    let waited = started.elapsed();
    assert!(waited >= wait && waited < wait + Duration::from_millis(50));
}

/// A waiter that woke itself would be polled without end, and the paused clock would stand still.
#[tokio::test(start_paused = true)]
async fn a_waiting_repeat_sleeps_between_its_questions() {
    let (runs, gate) = (Runs::default(), Arc::new(Semaphore::new(0)));
    let store = Gated::default();
    let layer = webhook(store.clone()).wait(Duration::from_secs(10));
    let service = layer.layer(gated(&runs, &gate));
    let mut first = task::spawn(service.clone().oneshot(delivery("a")));
    assert_pending!(first.poll());
    call(&service, delivery("a")).await;
    let asked = store.count(Op::Begin);
    assert!((20..60).contains(&asked), "asked {asked} times in 10 s");
}

/// Fifty that came at one instant: if they slept alike, the store would get all their questions at once each time.
#[tokio::test(start_paused = true)]
async fn repeats_that_wait_together_do_not_ask_together() {
    let (runs, gate) = (Runs::default(), Arc::new(Semaphore::new(0)));
    let store = Gated::default();
    let layer = webhook(store.clone()).wait(Duration::from_secs(60));
    let service = layer.layer(gated(&runs, &gate));
    let mut tasks = JoinSet::new();
    for _ in 0..51 {
        tasks.spawn(service.clone().oneshot(delivery("a")));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (mut asked, mut most) = (store.count(Op::Begin), 0);
    let before = asked;
    for _ in 0..2000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = store.count(Op::Begin);
        most = most.max(now - asked);
        asked = now;
    }
    assert!(asked - before > 200, "{}", asked - before);
    assert!(most < 25, "{most} of 50 in one millisecond");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_repeat_runs_when_the_first_frees_the_key() {
    let runs = Runs::default();
    let layer = webhook(MemoryStore::default()).wait(Duration::from_secs(10));
    let counted = runs.clone();
    let service = layer.layer(service_fn(move |_| {
        let run = counted.begin();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(with_status(if run == 1 { 500 } else { 200 }))
        }
    }));
    let first = service.clone().oneshot(delivery("a"));
    let repeat = async {
        tokio::task::yield_now().await;
        call(&service, delivery("a")).await
    };
    let (first, repeat) = tokio::join!(first, repeat);
    assert_eq!(
        (first.unwrap().status().as_u16(), repeat.status().as_u16()),
        (500, 200)
    );
    assert_eq!(disposition(&repeat), None);
    assert_eq!(runs.count(), 2);
}

fn panics(at: &str) -> Result<Response<BufferedBody>, Infallible> {
    panic!("{at}")
}

#[tokio::test]
async fn a_panic_of_the_handler_frees_the_key() {
    let (store, runs) = (MemoryStore::default(), Runs::default());
    let layer = webhook(store.clone());

    // While it is called, and while it is polled.
    let in_call = layer.layer(answering(&runs, |_| -> Response<BufferedBody> {
        panic!("in the call")
    }));
    let result = tokio::spawn(async move { call(&in_call, delivery("a")).await }).await;
    assert!(result.unwrap_err().is_panic());
    assert_eq!(fate(&store, "a").await, Fate::Free);

    let in_poll = layer.layer(service_fn(async |_: Request<BufferedBody>| {
        tokio::task::yield_now().await;
        panics("in the poll")
    }));
    let result = tokio::spawn(in_poll.oneshot(delivery("a"))).await;
    assert!(result.unwrap_err().is_panic());
    assert_eq!(fate(&store, "a").await, Fate::Free);

    let service = layer.layer(answering(&runs, |_| with_status(200)));
    assert_eq!(disposition(&call(&service, delivery("a")).await), None);
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn a_panic_of_the_answers_body_frees_the_key() {
    struct Panics;
    impl http_body::Body for Panics {
        type Data = bytes::Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
            panic!("in the body")
        }
    }
    let store = MemoryStore::default();
    let layer = webhook(store.clone());
    let service = layer.layer(answering(&Runs::default(), |_| Response::new(Panics)));
    let result = tokio::spawn(async move { call(&service, delivery("a")).await.status() }).await;
    assert!(result.unwrap_err().is_panic());
    assert_eq!(fate(&store, "a").await, Fate::Free);
}

#[tokio::test]
async fn a_panic_that_a_layer_outside_catches_frees_the_key() {
    let store = MemoryStore::default();
    let layer = webhook(store.clone());
    let service = tower_http::catch_panic::CatchPanicLayer::new().layer(layer.layer(service_fn(
        async |_: Request<BufferedBody>| panics("caught outside"),
    )));
    let answer = AssertUnwindSafe(service.oneshot(delivery("a"))).0.await;
    assert_eq!(answer.unwrap().status(), 500);
    assert_eq!(fate(&store, "a").await, Fate::Free);
}
