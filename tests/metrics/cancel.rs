//! A response future that is dropped, at each point.

use super::*;
use tokio_test::{assert_pending, task};
use tower::Layer;
use tower_webhook::DeliveryMetricsLayer;

fn stack(
    metrics: &DeliveryMetrics,
    peer: Peer,
) -> impl Service<Req, Response = Res, Error = BoxError, Future: Send> {
    let attempts = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .layer(peer);
    let again = Again {
        inner: attempts,
        most: 3,
    };
    DeliveryMetricsLayer::deliveries()
        .observe(metrics.clone())
        .layer(again)
}

#[tokio::test(start_paused = true)]
async fn before_it_is_polled() {
    let metrics = DeliveryMetrics::new();
    drop(stack(&metrics, Peer::default()).call(to("http://peer.test/")));
    let snapshot = metrics.snapshot();
    assert_eq!(kinds(snapshot.deliveries()), [(OutcomeKind::Cancelled, 1)]);
    assert_eq!(snapshot.attempts().total(), 0);
    assert_idle(&metrics);
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_each_attempt_and_of_each_wait() {
    // Attempts are at 0..10, 1010..1020 and 2020..2030 ms.
    for (after, ended, cancelled) in [
        (5, 0, 1),
        (15, 1, 0),
        (1015, 1, 1),
        (1500, 2, 0),
        (2025, 2, 1),
    ] {
        let metrics = DeliveryMetrics::new();
        let mut call = task::spawn(stack(&metrics, Peer::new([500, 500])).call(to("http://a/")));
        let mut left = after;
        while left > 0 {
            assert_pending!(call.poll());
            let step = left.min(5);
            tokio::time::advance(millis(step)).await;
            left -= step;
        }
        assert_pending!(call.poll());
        drop(call);

        let snapshot = metrics.snapshot();
        let attempts = snapshot.attempts();
        assert_eq!(
            (
                attempts.count(OutcomeKind::Transient),
                attempts.count(OutcomeKind::Cancelled)
            ),
            (ended, cancelled),
            "dropped after {after} ms"
        );
        assert_eq!(kinds(snapshot.deliveries()), [(OutcomeKind::Cancelled, 1)]);
        // Nobody waited for it, so it says nothing of how long deliveries take, or whether they succeed.
        assert_eq!(snapshot.deliveries().latency().count(), 0);
        assert_eq!(snapshot.deliveries().success_rate(), None);
        assert_idle(&metrics);
    }
}

#[tokio::test(start_paused = true)]
async fn after_its_end_nothing_is_counted_again() {
    let metrics = DeliveryMetrics::new();
    let mut call = task::spawn(stack(&metrics, Peer::default()).call(to("http://peer.test/")));
    assert_pending!(call.poll());
    tokio::time::advance(millis(10)).await;
    assert!(call.poll().is_ready());
    drop(call);
    let snapshot = metrics.snapshot();
    assert_eq!(kinds(snapshot.deliveries()), [(OutcomeKind::Success, 1)]);
    assert_eq!(kinds(snapshot.attempts()), [(OutcomeKind::Success, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_leaves_nothing_in_flight() {
    let metrics = DeliveryMetrics::new();
    let panics =
        tower::service_fn(|_: Req| async { panic!("on purpose") as Result<Res, BoxError> });
    let mut client = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .layer(panics);
    let call = client.call(to("http://peer.test/"));
    assert!(tokio::spawn(call).await.unwrap_err().is_panic());
    assert_eq!(
        kinds(metrics.snapshot().attempts()),
        [(OutcomeKind::Cancelled, 1)]
    );
    assert_idle(&metrics);
}
