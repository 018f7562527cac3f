//! What a service owes its neighbours: readiness, copies, and the attempt that is made.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tower_webhook::outcome::{Outcome, classify_fn};
use tower_webhook::retry::Refusals;

/// A request that counts its copies.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

/// tower-resilience and reqwest-retry copy the request for every attempt, the only and the last one
/// included.
#[tokio::test(start_paused = true)]
async fn a_request_is_copied_once_and_never_for_an_attempt_that_is_the_last() {
    let copies = async |attempts, refusals, failures: usize| {
        let (copies, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let service = tower::service_fn({
            let calls = Arc::clone(&calls);
            move |_: Counted| {
                let fail = calls.fetch_add(1, Ordering::Relaxed) < failures;
                async move {
                    if fail {
                        Err(BoxError::from("no"))
                    } else {
                        Ok(())
                    }
                }
            }
        });
        let judge = classify_fn(|result: Result<&(), &BoxError>| match result {
            Ok(()) => Outcome::success(),
            Err(_) => Outcome::transient(),
        });
        let config = plain()
            .attempts(attempts)
            .refusals(refusals)
            .build()
            .unwrap();
        let layer = RetryWithJitterLayer::new(config).classifier(judge);
        let _ = layer
            .layer(service)
            .oneshot(Counted(Arc::clone(&copies)))
            .await;
        copies.load(Ordering::Relaxed)
    };
    let default = Refusals::Wait(10);
    assert_eq!(copies(1, default, 9).await, 0);
    assert_eq!(copies(3, default, 0).await, 1);
    assert_eq!(copies(3, Refusals::GiveUp, 1).await, 2);
    assert_eq!(copies(3, Refusals::GiveUp, 9).await, 2);
    // The last attempt could be refused, and made later.
    assert_eq!(copies(3, default, 9).await, 3);
}

#[tokio::test(start_paused = true)]
async fn the_instance_that_was_ready_is_the_one_that_is_called_each_time() {
    // `Peer` panics otherwise.
    let peer = Peer::new([Step::Status(500)]);
    let mut service = layer(plain().attempts(5)).layer(peer.clone());
    for _ in 0..3 {
        ready(&mut service).await;
        service.call(get()).await.unwrap();
    }
    assert_eq!(peer.calls(), 15);
    // The test's own, the layer's, and one for each delivery.
    assert_eq!(peer.shared.lock().unwrap().clones, 1 + 3);
}

#[tokio::test(start_paused = true)]
async fn with_one_attempt_nothing_is_cloned() {
    let peer = Peer::new([Step::Status(500)]);
    let mut service = layer(plain().attempts(1)).layer(peer.clone());
    ready(&mut service).await;
    let result = service.call(get()).await;
    assert_eq!(gave_up(&result), Some(GaveUp::RetriesExhausted));
    assert_eq!(peer.shared.lock().unwrap().clones, 1);
}

#[tokio::test(start_paused = true)]
async fn the_attempt_is_told_to_what_is_inside_in_call_and_poll_and_to_nobody_else() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = tower::service_fn({
        let seen = Arc::clone(&seen);
        move |_: Request<()>| {
            let seen = Arc::clone(&seen);
            seen.lock().unwrap().push(Attempt::current());
            async move {
                sleep(secs(1)).await;
                seen.lock().unwrap().push(Attempt::current());
                Err::<Response<()>, _>(BoxError::from("no"))
            }
        }
    });
    assert!(
        layer(plain().attempts(2))
            .layer(service)
            .oneshot(get())
            .await
            .is_err()
    );
    let (one, two) = (Attempt::first(), Attempt::first().next());
    assert_eq!(*seen.lock().unwrap(), [one, one, two, two].map(Some));
    assert_eq!(Attempt::current(), None);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_that_of_the_service_inside() {
    let (mut service, mut handle) = tower_test::mock::spawn_layer::<Request<()>, Response<()>, _>(
        RetryWithJitterLayer::new(RetryConfig::default()),
    );
    handle.allow(0);
    tokio_test::assert_pending!(service.poll_ready());
    handle.allow(1);
    tokio_test::assert_ready_ok!(service.poll_ready());
    handle.send_error("gone");
    assert!(matches!(service.poll_ready(), Poll::Ready(Err(_))));
}
