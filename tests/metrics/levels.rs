//! Attempts and deliveries, apart and together.

use super::*;
use tower::{Layer, ServiceExt};
use tower_webhook::DeliveryMetricsLayer;

fn stack<S>(
    metrics: &DeliveryMetrics,
    peer: S,
    most: u32,
) -> impl Service<Req, Response = Res, Error = BoxError, Future: Send> + Clone
where
    S: Service<Req, Response = Res, Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let inner = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .layer(peer);
    DeliveryMetricsLayer::deliveries()
        .observe(metrics.clone())
        .layer(Again { inner, most })
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_needed_three_attempts_is_one_success() {
    let metrics = DeliveryMetrics::new();
    let client = stack(&metrics, Peer::new([503, 0]), 5);
    client.oneshot(to("http://peer.test/")).await.unwrap();

    let snapshot = metrics.snapshot();
    assert_eq!(kinds(snapshot.deliveries()), [(OutcomeKind::Success, 1)]);
    assert_eq!(
        kinds(snapshot.attempts()),
        [
            (OutcomeKind::Success, 1),
            (OutcomeKind::Throttled, 1),
            (OutcomeKind::Transient, 1),
        ]
    );
    assert_eq!(snapshot.deliveries().success_rate(), Some(1.0));
    assert_eq!(snapshot.attempts().success_rate(), Some(1.0 / 3.0));
    // The delivery's time has its two waits of a second.
    assert_eq!(snapshot.deliveries().latency().max(), Some(millis(2030)));
    assert_eq!(snapshot.attempts().latency().max(), Some(millis(10)));
}

#[tokio::test(start_paused = true)]
async fn a_retry_counts_under_the_code_that_caused_it() {
    let metrics = DeliveryMetrics::new();
    for statuses in [
        vec![503, 429, 200],
        vec![503, 200],
        vec![0, 999],
        vec![200],
        vec![404, 500, 502],
    ] {
        let client = stack(&metrics, Peer::new(statuses), 3);
        let _ = client.oneshot(to("http://peer.test/")).await;
    }
    let snapshot = metrics.snapshot();
    assert_eq!(
        snapshot.retries_by_code(),
        [
            (Some(404), 1),
            (Some(429), 1),
            (Some(500), 1),
            (Some(503), 2),
            // The broken connection, and a status that is none.
            (None, 2),
        ]
    );
    assert_eq!(snapshot.retries(), 7);
    assert_eq!(snapshot.retried_deliveries(), 4);
    assert_eq!(snapshot.peer("peer.test").unwrap().retries(), 7);
    assert_eq!(
        snapshot.attempts().total(),
        snapshot.deliveries().total() + snapshot.retries()
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_alone_know_a_retry_by_its_number() {
    let metrics = DeliveryMetrics::new();
    let inner = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .layer(Peer::new([503, 503]));
    let client = Again { inner, most: 5 };
    client.oneshot(to("http://peer.test/")).await.unwrap();
    assert_eq!(metrics.snapshot().retries_by_code(), [(None, 2)]);
}

/// As in a re-drive, which is no delivery of its own.
#[cfg(feature = "retry")]
#[tokio::test(start_paused = true)]
async fn attempts_alone_learn_from_the_retry_layer_how_the_attempt_before_ended() {
    use tower_webhook::{RetryWithJitterLayer, retry::RetryConfig};
    let metrics = DeliveryMetrics::new();
    let inner = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .layer(Peer::new([500, 429]));
    let retry = RetryConfig::builder().attempts(3).build().unwrap();
    let client = RetryWithJitterLayer::new(retry).layer(inner);
    let req = Request::put("http://peer.test/").body(()).unwrap();
    client.oneshot(req).await.unwrap();
    assert_eq!(
        metrics.snapshot().retries_by_code(),
        [(Some(429), 1), (Some(500), 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn deliveries_at_the_same_time_on_one_thread_do_not_mix_their_attempts() {
    let metrics = DeliveryMetrics::new();
    let failing = stack(&metrics, Peer::new([500; 9]), 3);
    let well = stack(&metrics, Peer::default(), 3);
    let (_, _) = tokio::join!(
        failing.oneshot(to("http://failing.test/")),
        well.oneshot(to("http://well.test/")),
    );
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.retries_by_code(), [(Some(500), 2)]);
    assert_eq!(snapshot.peer("well.test").unwrap().retries(), 0);
    assert_eq!(snapshot.peer("well.test").unwrap().retried_deliveries(), 0);
    assert_eq!(
        snapshot.peer("failing.test").unwrap().retried_deliveries(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_delivery_inside_a_delivery_keeps_its_own_attempts() {
    // A handler that is measured, and delivers.
    let metrics = DeliveryMetrics::new();
    let inner = stack(&metrics, Peer::new([500]), 3);
    let outer = DeliveryMetricsLayer::deliveries()
        .observe(metrics.clone())
        .layer(inner);
    outer.oneshot(to("http://peer.test/")).await.unwrap();
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.deliveries().total(), 2);
    assert_eq!(snapshot.retried_deliveries(), 1);
    assert_eq!(snapshot.retries(), 1);
}
