//! One layer around one service.

use super::*;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, ServiceExt, service_fn};
use tower_test::mock;
#[cfg(feature = "grpc")]
use tower_webhook::outcome::{Classify, LateOutcome, MakeClassifier};
use tower_webhook::{
    DeliveryMetricsLayer,
    outcome::classify_fn,
    peer::{OnePeer, peer_fn},
};

#[tokio::test(start_paused = true)]
async fn each_result_is_counted_as_the_classifier_judges_it() {
    let metrics = DeliveryMetrics::new();
    let peer = Peer::new([200, 204, 404, 429, 500, 0]);
    let client = DeliveryMetricsLayer::deliveries()
        .observe(metrics.clone())
        .layer(peer);
    for _ in 0..6 {
        let _ = client.clone().oneshot(to("http://peer.test/")).await;
    }
    let snapshot = metrics.snapshot();
    assert_eq!(
        kinds(snapshot.deliveries()),
        [
            (OutcomeKind::Permanent, 1),
            (OutcomeKind::Success, 2),
            (OutcomeKind::Throttled, 1),
            (OutcomeKind::Transient, 2),
        ]
    );
    assert_eq!(snapshot.deliveries().failures(), 4);
    assert_eq!(snapshot.deliveries().success_rate(), Some(2.0 / 6.0));
    assert_eq!(snapshot.attempts().total(), 0);
    assert_eq!(snapshot.deliveries().latency().mean(), Some(millis(10)));
    assert_idle(&metrics);
}

#[tokio::test(start_paused = true)]
async fn results_pass_through_as_they_are() {
    let metrics = DeliveryMetrics::new();
    let mut client = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .classifier(classify_fn(|result: Result<&u32, &String>| match result {
            Ok(_) => Outcome::success(),
            Err(_) => Outcome::permanent(),
        }))
        .peer(peer_fn(|_: &&str| "jobs".into()))
        .layer(service_fn(|job: &'static str| async move {
            job.parse::<u32>().map_err(|error| error.to_string())
        }));
    assert_eq!(client.ready().await.unwrap().call("7").await, Ok(7));
    let error = client.ready().await.unwrap().call("seven").await;
    assert_eq!(error, Err("invalid digit found in string".to_owned()));

    let snapshot = metrics.snapshot();
    let jobs = snapshot.peer("jobs").unwrap();
    assert_eq!(
        kinds(jobs.attempts()),
        [(OutcomeKind::Permanent, 1), (OutcomeKind::Success, 1)]
    );
}

#[tokio::test]
async fn readiness_is_that_of_the_service_inside() {
    let metrics = DeliveryMetrics::new();
    let (mut client, mut peer) = mock::spawn_with(|inner: mock::Mock<(), ()>| {
        DeliveryMetricsLayer::attempts()
            .observe(metrics.clone())
            .classifier(classify_fn(|_: Result<&(), &BoxError>| Outcome::success()))
            .peer(OnePeer)
            .layer(inner)
    });
    peer.allow(0);
    assert_pending!(client.poll_ready());
    peer.allow(1);
    assert_ready_ok!(client.poll_ready());
    let mut call = task::spawn(client.call(()));
    assert_pending!(call.poll());
    let ((), answer) = peer.next_request().await.unwrap();
    answer.send_response(());
    assert_eq!(metrics.snapshot().attempts().in_flight(), 1);
    assert_ready_ok!(call.poll());
    assert_idle(&metrics);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_in_flight_until_it_ends() {
    let metrics = DeliveryMetrics::new();
    let mut client = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .layer(Peer::default());
    let in_flight = || metrics.snapshot().attempts().in_flight();
    let one = client.call(to("http://peer.test/"));
    let two = client.call(to("http://peer.test/"));
    assert_eq!(in_flight(), 2);
    one.await.unwrap();
    assert_eq!(in_flight(), 1);
    drop(two);
    assert_eq!(in_flight(), 0);
}

/// Judges an answer when it ends.
#[cfg(feature = "grpc")]
#[derive(Clone)]
struct AtItsEnd(LateOutcome);

#[cfg(feature = "grpc")]
impl MakeClassifier<Req> for AtItsEnd {
    type Classifier = Self;

    fn make_classifier(&self, _: &Req) -> Self {
        self.clone()
    }
}

#[cfg(feature = "grpc")]
impl Classify<Res, BoxError> for AtItsEnd {
    fn classify(self, _: Result<&Res, &BoxError>) -> Outcome {
        Outcome::success()
    }

    fn late(&self, _: Result<&Res, &BoxError>) -> Option<LateOutcome> {
        Some(self.0.clone())
    }
}

#[cfg(feature = "grpc")]
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_judged_late_is_in_flight_until_then() {
    for attempts in [true, false] {
        let metrics = DeliveryMetrics::new();
        let (sender, late) = LateOutcome::new();
        let layer = if attempts {
            DeliveryMetricsLayer::attempts()
        } else {
            DeliveryMetricsLayer::deliveries()
        };
        let layer = layer.observe(metrics.clone());
        let client = layer.classifier(AtItsEnd(late)).layer(Peer::default());
        client.oneshot(to("http://peer.test/")).await.unwrap();
        let of = |metrics: &DeliveryMetrics| {
            let snapshot = metrics.snapshot();
            if attempts {
                snapshot.attempts().clone()
            } else {
                snapshot.deliveries().clone()
            }
        };
        assert_eq!((of(&metrics).total(), of(&metrics).in_flight()), (0, 1));

        sleep(millis(90)).await;
        sender.send(Outcome::transient().with_code(14));
        assert_eq!(kinds(&of(&metrics)), [(OutcomeKind::Transient, 1)]);
        assert_eq!(of(&metrics).latency().max(), Some(millis(100)));
        assert_idle(&metrics);
    }
}

#[cfg(feature = "grpc")]
#[tokio::test(start_paused = true)]
async fn an_answer_whose_end_never_comes_is_cancelled() {
    let metrics = DeliveryMetrics::new();
    let (sender, late) = LateOutcome::new();
    let client = DeliveryMetricsLayer::attempts()
        .observe(metrics.clone())
        .classifier(AtItsEnd(late))
        .layer(Peer::default());
    client.oneshot(to("http://peer.test/")).await.unwrap();
    drop(sender);
    assert_eq!(
        kinds(metrics.snapshot().attempts()),
        [(OutcomeKind::Cancelled, 1)]
    );
    assert_idle(&metrics);
}
