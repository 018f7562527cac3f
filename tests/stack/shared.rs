//! What services of one layer share, and calls outside of a runtime.

use crate::{SECRET, receive::signed};
use http::{Request, Response};
use std::{
    convert::Infallible,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio_test::{assert_pending, assert_ready_err, task};
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    BoxError,
    attempt::Failed,
    body::BufferedBody,
    circuit_breaker::CircuitOpen,
    idempotency::MemoryStore,
    outcome::{Outcome, OutcomeKind},
    signature::scheme::StandardWebhooks,
    stack::{self, NoRuntime},
    transport,
};

fn request() -> Request<BufferedBody> {
    transport::post_json("http://a.test/hooks", &7).unwrap()
}

#[tokio::test(start_paused = true)]
async fn two_stacks_of_one_layer_share_breakers_budget_and_metrics() {
    let layer = stack::deliver().attempts(1).build().unwrap();
    let broken = layer.layer(service_fn(|_: Request<BufferedBody>| async {
        let res = Response::builder().status(500);
        Ok::<_, BoxError>(res.body(BufferedBody::default())?)
    }));
    let well = layer.layer(service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, BoxError>(Response::new(BufferedBody::default()))
    }));
    for _ in 0..5 {
        assert_eq!(
            broken.clone().oneshot(request()).await.unwrap().status(),
            500
        );
    }
    // The host is broken, whichever client calls it.
    let error = well.clone().oneshot(request()).await.unwrap_err();
    let failed = error
        .downcast_ref::<Failed>()
        .and_then(Error::source)
        .unwrap();
    assert!(failed.is::<CircuitOpen>(), "{error}");
    let seen = layer.metrics().snapshot();
    assert_eq!((seen.attempts().total(), seen.deliveries().total()), (5, 6));

    // Another `build` shares nothing.
    let other = stack::deliver().attempts(1).build().unwrap();
    let well = other.layer(service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, BoxError>(Response::new(BufferedBody::default()))
    }));
    assert_eq!(well.oneshot(request()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn two_receivers_of_one_layer_share_their_store_and_each_path_is_a_scope() {
    let handled = Arc::new(AtomicUsize::new(0));
    let layer = stack::receive(StandardWebhooks::new(SECRET).unwrap())
        .once(MemoryStore::default())
        .build();
    let receiver = || {
        let count = Arc::clone(&handled);
        layer.layer(service_fn(move |_: Request<BufferedBody>| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Infallible>(Response::new(BufferedBody::default())) }
        }))
    };
    let (first, second) = (receiver(), receiver());
    for (service, path, runs) in [
        (&first, "/a", 1),
        (&second, "/a", 1),
        (&second, "/b", 2),
        (&first, "/b", 2),
    ] {
        let mut req = Request::post(path).body(BufferedBody::from("{}")).unwrap();
        *req.headers_mut() = signed("msg_1", "{}").await;
        let res = service.clone().oneshot(req).await.unwrap();
        assert_eq!(res.status(), 200);
        assert_eq!(handled.load(Ordering::SeqCst), runs, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_without_a_breaker_calls_whatever_fails() {
    let layer = stack::deliver()
        .attempts(1)
        .without_breaker()
        .build()
        .unwrap();
    let broken = layer.layer(service_fn(|_: Request<BufferedBody>| async {
        let res = Response::builder().status(500);
        Ok::<_, BoxError>(res.body(BufferedBody::default())?)
    }));
    for _ in 0..50 {
        assert_eq!(
            broken.clone().oneshot(request()).await.unwrap().status(),
            500
        );
    }
    assert_eq!(layer.metrics().snapshot().attempts().total(), 50);
}

#[test]
fn a_call_outside_of_a_runtime_fails_and_says_where_to_call() {
    let hanging = || {
        let layer = stack::deliver().build().unwrap();
        layer.layer(service_fn(|_: Request<BufferedBody>| {
            std::future::pending::<Result<Response<BufferedBody>, BoxError>>()
        }))
    };
    let error = assert_ready_err!(task::spawn(hanging().oneshot(request())).poll());
    assert!(error.is::<NoRuntime>());
    assert_eq!(Outcome::of_error(&*error).kind(), OutcomeKind::Unsendable);
    assert!(error.to_string().contains("#[tokio::main]"), "{error}");

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    assert_pending!(task::spawn(hanging().oneshot(request())).poll());
}
