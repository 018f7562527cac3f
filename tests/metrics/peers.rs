//! Figures by peer.

use super::*;
use tower::{Layer, ServiceExt};
use tower_webhook::{DeliveryMetricsLayer, metrics::PeerSnapshot, peer::peer_fn};

#[tokio::test(start_paused = true)]
async fn each_host_has_its_own_figures() {
    let metrics = DeliveryMetrics::new();
    let mut client = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .layer(Peer::new([500]));
    for uri in ["http://b.test/x", "http://a.test/", "http://B.TEST:80/y"] {
        client.ready().await.unwrap().call(to(uri)).await.unwrap();
    }
    let snapshot = metrics.snapshot();
    let keys: Vec<_> = snapshot.peers().iter().map(PeerSnapshot::peer).collect();
    assert_eq!(keys, ["a.test", "b.test"]);
    let b = snapshot.peer("b.test").unwrap();
    assert_eq!(b.attempts().success_rate(), Some(0.5));
    assert_eq!(snapshot.peer("c.test"), None);
    assert_eq!(snapshot.other(), None);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_hosts_stay_under_the_bound() {
    let metrics = DeliveryMetrics::with_max_peers(100).unwrap();
    let mut client = DeliveryMetricsLayer::deliveries()
        .observe(metrics.clone())
        .layer(Peer::default());
    let mut calls = Vec::new();
    for n in 0..10_000 {
        calls.push(client.call(to(&format!("http://host-{n}.test/"))));
    }
    for call in calls {
        call.await.unwrap();
    }
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.peers().len(), 100);
    assert_eq!(snapshot.other().unwrap().deliveries().total(), 9_900);
    assert_eq!(snapshot.deliveries().total(), 10_000);
    assert!(snapshot.peer("host-99.test").is_some());
    assert_idle(&metrics);
}

#[tokio::test(start_paused = true)]
async fn hostile_keys_are_counted_and_not_kept() {
    let metrics = DeliveryMetrics::new();
    let by_header = peer_fn(|req: &Req| {
        String::from_utf8_lossy(req.headers()["x-tenant"].as_bytes())
            .into_owned()
            .into()
    });
    let client = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .peer(by_header)
        .layer(Peer::default());
    let long = "x".repeat(8192);
    for tenant in [r#"a"b\c{}"#, "tab\there", &long] {
        let mut req = to("http://peer.test/");
        req.headers_mut()
            .insert("x-tenant", tenant.parse().unwrap());
        client.clone().oneshot(req).await.unwrap();
    }
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.peers().len(), 1);
    assert!(snapshot.peer(r#"a"b\c{}"#).is_some());
    assert_eq!(snapshot.other().unwrap().attempts().total(), 2);
    assert_eq!(snapshot.attempts().total(), 3);
}

#[test]
fn what_no_call_asked_for_is_not_there() {
    let metrics = DeliveryMetrics::new();
    retried(&metrics, "peer.test", Some(503));
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.peer("peer.test").unwrap().retries(), 1);
    assert_eq!(snapshot.attempts().total(), 0);
    assert_eq!(snapshot.other(), None);
}

#[test]
fn a_bound_that_makes_no_sense_is_refused_by_name() {
    for keys in [0, 100_001, usize::MAX] {
        let refused = DeliveryMetrics::with_max_peers(keys);
        assert_eq!(refused.unwrap_err().setting(), "max_peers");
    }
    assert!(DeliveryMetrics::with_max_peers(100_000).is_ok());
}
