//! The breaker as a tower service.

use super::*;
use http::{Request, Response};
#[cfg(feature = "grpc")]
use std::sync::{Arc, Mutex};
use std::{
    borrow::Cow,
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;
#[cfg(feature = "grpc")]
use tower_webhook::outcome::{Classify, LateOutcome, LateSender, MakeClassifier};
use tower_webhook::{
    BoxError, CircuitBreakerLayer,
    circuit_breaker::{CircuitOpen, ResponseFuture},
    outcome::{OutcomeKind, classify_fn},
    peer::{OnePeer, peer_fn},
};

fn judge(result: Result<&&'static str, &BoxError>) -> Outcome {
    match result {
        Ok(_) => Outcome::success(),
        Err(error) => Outcome::of_error(&**error),
    }
}

macro_rules! one_peer {
    ($config:expr) => {
        CircuitBreakerLayer::new($config.build().unwrap())
            .classifier(classify_fn(judge))
            .peer(OnePeer)
    };
}

fn state(breakers: &Breakers) -> BreakerState {
    breakers.find("").unwrap().state()
}

#[tokio::test(start_paused = true)]
async fn opens_after_a_failure_and_probes_after_the_open_time() {
    let layer = one_peer!(one_failure());
    let breakers = layer.breakers().clone();
    let (mut service, mut peer) = mock::spawn_layer::<&str, &str, _>(layer);

    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("a"));
    assert_pending!(call.poll());
    peer.next_request().await.unwrap().1.send_error("it broke");
    assert_eq!(assert_ready_err!(call.poll()).to_string(), "it broke");

    // Refused without the peer being asked, and ready all the same.
    assert_ready_ok!(service.poll_ready());
    let refused = assert_ready_err!(task::spawn(service.call("b")).poll());
    let open = refused.downcast_ref::<CircuitOpen>().unwrap();
    assert_eq!((open.peer(), open.retry_after()), ("", secs(10)));
    let outcome = Outcome::of_error(&*refused);
    assert_eq!(outcome.kind(), OutcomeKind::Refused);
    assert_eq!(outcome.retry_after(), Some(secs(10)));
    assert!(outcome.may_retry() && !outcome.was_attempted());

    advance(secs(10)).await;
    assert_ready_ok!(service.poll_ready());
    let mut probe = task::spawn(service.call("c"));
    assert_pending!(probe.poll());
    assert_ready_ok!(service.poll_ready());
    let refused = assert_ready_err!(task::spawn(service.call("d")).poll());
    assert!(refused.is::<CircuitOpen>());
    let (request, answer) = peer.next_request().await.unwrap();
    assert_eq!(request, "c", "neither b nor d");
    answer.send_response("well");
    assert_eq!(assert_ready_ok!(probe.poll()), "well");
    assert_eq!(state(&breakers), BreakerState::Closed);
}

/// Dropped before it is polled, and while the peer works; closed, and as a probe.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_is_neither_a_success_nor_a_failure() {
    let layer = one_peer!(one_failure());
    let breakers = layer.breakers().clone();
    let (mut service, mut peer) = mock::spawn_layer::<&str, &str, _>(layer);
    macro_rules! drop_twice {
        () => {
            for polled in [false, true] {
                assert_ready_ok!(service.poll_ready());
                let mut call = task::spawn(service.call("a"));
                if polled {
                    assert_pending!(call.poll());
                }
            }
        };
    }
    drop_twice!();
    assert_eq!(state(&breakers), BreakerState::Closed);

    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("fails"));
    assert_pending!(call.poll());
    for _ in 0..2 {
        drop(peer.next_request().await);
    }
    peer.next_request().await.unwrap().1.send_error("it broke");
    assert_ready_err!(call.poll());

    advance(secs(10)).await;
    for _ in 0..10 {
        drop_twice!();
        assert_eq!(state(&breakers), BreakerState::HalfOpen);
    }
    let seen = breakers.find("").unwrap().snapshot();
    assert_eq!((seen.totals.cancelled, seen.probes_in_flight), (22, 0));
    assert_eq!((seen.totals.failures, seen.totals.successes), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_gives_its_place_back() {
    let layer = one_peer!(one_failure());
    let breakers = layer.breakers().clone();
    breakers.find("").unwrap().force_open();
    breakers.find("").unwrap().auto();
    breakers.admit("").unwrap().settle(Outcome::transient());
    advance(secs(10)).await;
    let service = layer.layer(service_fn(|(): ()| async {
        if true {
            panic!("on purpose");
        }
        Ok::<_, BoxError>("never")
    }));
    let call = tokio::spawn(service.oneshot(()));
    assert!(call.await.unwrap_err().is_panic());
    let seen = breakers.find("").unwrap().snapshot();
    assert_eq!(
        (seen.state, seen.probes_in_flight),
        (BreakerState::HalfOpen, 0)
    );
}

/// The instance that was polled is the one that is called, and its error passes through readiness.
#[test]
fn readiness_is_that_of_the_service_inside() {
    #[derive(Default)]
    struct Inner {
        polled: bool,
        broken: bool,
    }
    impl Clone for Inner {
        fn clone(&self) -> Self {
            Self::default()
        }
    }
    impl Service<()> for Inner {
        type Response = &'static str;
        type Error = BoxError;
        type Future = Ready<Result<&'static str, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            if self.broken {
                return Poll::Ready(Err("broken".into()));
            }
            if std::mem::replace(&mut self.polled, true) {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        }

        fn call(&mut self, (): ()) -> Self::Future {
            assert!(
                std::mem::take(&mut self.polled),
                "called without being ready"
            );
            ready(Ok("well"))
        }
    }
    let layer = one_peer!(one_failure());
    let mut service = task::spawn(layer.layer(Inner::default()));
    service.enter(|cx, mut service| {
        assert!(service.poll_ready(cx).is_pending());
        assert!(service.poll_ready(cx).is_ready());
        let mut call = task::spawn(service.call(()));
        assert_ready_ok!(call.poll());
    });
    let broken = Inner {
        broken: true,
        polled: true,
    };
    let mut service = task::spawn(layer.layer(broken));
    let error = service.enter(|cx, mut service| assert_ready!(service.poll_ready(cx)).unwrap_err());
    assert_eq!(error.to_string(), "broken");
}

/// Without a handle being asked for, `layer()` shares: axum calls it for every route.
#[tokio::test(start_paused = true)]
async fn clones_and_repeated_layers_share_and_others_do_not() {
    let down = || service_fn(|(): ()| async { Err::<&str, BoxError>("down".into()) });
    let layer = one_peer!(one_failure());
    let refused = |error: BoxError| error.is::<CircuitOpen>();
    let first = layer.layer(down());
    assert!(!refused(first.clone().oneshot(()).await.unwrap_err()));
    assert!(refused(first.oneshot(()).await.unwrap_err()));
    assert!(refused(layer.layer(down()).oneshot(()).await.unwrap_err()));
    assert!(refused(
        layer.clone().layer(down()).oneshot(()).await.unwrap_err()
    ));

    let shared = CircuitBreakerLayer::sharing(layer.breakers().clone());
    let shared = shared.classifier(classify_fn(judge)).peer(OnePeer);
    assert!(refused(shared.layer(down()).oneshot(()).await.unwrap_err()));
    let apart = one_peer!(one_failure());
    assert!(!refused(apart.layer(down()).oneshot(()).await.unwrap_err()));
}

#[tokio::test(start_paused = true)]
async fn http_calls_are_kept_apart_by_host() {
    let layer = CircuitBreakerLayer::new(
        BreakerConfig::builder()
            .consecutive_failures(3)
            .build()
            .unwrap(),
    );
    let breakers = layer.breakers().clone();
    let client =
        ServiceBuilder::new()
            .layer(layer)
            .service(service_fn(|req: Request<()>| async move {
                let host = req.uri().host().unwrap().to_ascii_lowercase();
                let status = match host.as_str() {
                    "down.test" => 500,
                    "rude.test" => 400,
                    "busy.test" => 429,
                    _ => 200,
                };
                Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
            }));
    for host in ["down.test", "DOWN.test:443", "down.test/other?id=1"] {
        let req = Request::post(format!("https://{host}")).body(()).unwrap();
        assert_eq!(client.clone().oneshot(req).await.unwrap().status(), 500);
    }
    for (host, passes) in [
        ("down.test", false),
        ("well.test", true),
        ("rude.test", true),
        ("busy.test", true),
    ] {
        for _ in 0..10 {
            let req = Request::post(format!("https://{host}/")).body(()).unwrap();
            assert_eq!(client.clone().oneshot(req).await.is_ok(), passes, "{host}");
        }
    }
    let down = breakers.find("down.test").unwrap().snapshot();
    assert_eq!((down.totals.failures, down.totals.refused), (3, 10));
}

#[tokio::test(start_paused = true)]
async fn jobs_of_any_type_by_any_key() {
    struct Job(String, bool);
    let layer = CircuitBreakerLayer::new(one_failure().build().unwrap())
        .peer(peer_fn(|job: &Job| Cow::Borrowed(job.0.as_str())))
        .classifier(classify_fn(judge));
    let service = layer.layer(service_fn(|job: Job| async move {
        if job.1 {
            Ok("done")
        } else {
            Err(BoxError::from("broken"))
        }
    }));
    let run = |tenant: &str, works| service.clone().oneshot(Job(tenant.into(), works));
    assert!(run("a", false).await.is_err());
    assert!(run("a", true).await.unwrap_err().is::<CircuitOpen>());
    assert!(run("b", true).await.is_ok());
}

/// Judges a stream at its end, as a gRPC classifier does.
#[cfg(feature = "grpc")]
#[derive(Clone, Default)]
struct AtTheEnd {
    senders: Arc<Mutex<Vec<LateSender>>>,
}

#[cfg(feature = "grpc")]
impl MakeClassifier<()> for AtTheEnd {
    type Classifier = Self;

    fn make_classifier(&self, (): &()) -> Self {
        self.clone()
    }
}

#[cfg(feature = "grpc")]
impl Classify<&'static str, BoxError> for AtTheEnd {
    fn classify(self, _: Result<&&'static str, &BoxError>) -> Outcome {
        Outcome::success()
    }

    fn late(&self, result: Result<&&'static str, &BoxError>) -> Option<LateOutcome> {
        result.ok().map(|_| {
            let (sender, late) = LateOutcome::new();
            self.senders.lock().unwrap().push(sender);
            late
        })
    }
}

#[cfg(feature = "grpc")]
#[tokio::test(start_paused = true)]
async fn a_stream_is_judged_at_its_end_and_is_slow_by_its_head() {
    let ends = AtTheEnd::default();
    let layer = CircuitBreakerLayer::new(one_failure().slow_call(secs(1)).build().unwrap())
        .classifier(ends.clone())
        .peer(OnePeer);
    let breakers = layer.breakers().clone();
    let service = layer.layer(service_fn(|(): ()| async { Ok::<_, BoxError>("stream") }));
    let call = || service.clone().oneshot(());
    let end = |outcome| ends.senders.lock().unwrap().pop().unwrap().send(outcome);
    let totals = || breakers.totals();

    call().await.unwrap();
    advance(secs(3_600)).await;
    assert_eq!(totals().successes, 0, "it has only begun");
    end(Outcome::success());
    assert_eq!((totals().successes, totals().slow), (1, 0));

    call().await.unwrap();
    drop(ends.senders.lock().unwrap().pop());
    assert_eq!(totals().cancelled, 1, "nobody read it to its end");

    call().await.unwrap();
    end(Outcome::transient());
    assert_eq!(state(&breakers), BreakerState::Open);

    // A probe holds its place while it streams.
    advance(secs(10)).await;
    call().await.unwrap();
    assert!(call().await.unwrap_err().is::<CircuitOpen>());
    end(Outcome::success());
    assert_eq!(state(&breakers), BreakerState::Closed);
}

#[test]
fn it_works_without_a_runtime() {
    let layer = one_peer!(one_failure());
    let mut service = layer.layer(service_fn(|(): ()| ready(Ok::<_, BoxError>("well"))));
    let mut call: task::Spawn<ResponseFuture<_, _>> = task::spawn(service.call(()));
    assert_ready_ok!(call.poll());
    assert_eq!(layer.breakers().totals().successes, 1);
}
