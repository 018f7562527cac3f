//! The alert of S0: a delivery whose attempts are used up tells of it, once.

use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, RetryWithJitterLayer,
    body::BufferedBody,
    observe::{Event, observer_fn},
    retry::RetryConfig,
    target::TargetRules,
};
use tower_webhook_cognigy::documents::{Monitor, RetryExhausted, RetryPolicy};

/// A delivery to a peer that answers with these statuses, under S0's policy, and the alerts of it.
async fn alerts(statuses: &[u16]) -> Vec<RetryExhausted> {
    let alerts = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&alerts);
    let alert = observer_fn(move |event| {
        let Event::GaveUp { reason, history } = event else {
            return;
        };
        let record = RetryExhausted::new(
            "wh_1",
            history.attempts(),
            reason.as_str(),
            SystemTime::UNIX_EPOCH,
            0.0,
            Duration::ZERO,
        );
        heard.lock().expect("alerts").push(record);
    });
    let policy = RetryPolicy::builder().build().expect("the defaults");
    let retry = RetryConfig::builder().schedule(policy.schedule().expect("a schedule"));
    let layer = RetryWithJitterLayer::new(retry.build().expect("a policy")).observe(alert);
    let script = Mutex::new(statuses.iter().copied());
    let peer = service_fn(|_: Request<BufferedBody>| {
        let next = script.lock().expect("a script").next().expect("an attempt");
        let mut answer = Response::new(BufferedBody::default());
        *answer.status_mut() = StatusCode::from_u16(next).expect("a status");
        ready(Ok::<_, BoxError>(answer))
    });
    let req = Request::put("https://hooks.example.com/").body(BufferedBody::default());
    let _ = layer.layer(peer).oneshot(req.expect("a request")).await;
    alerts.lock().expect("alerts").drain(..).collect()
}

#[tokio::test(start_paused = true)]
async fn s0_the_alert_is_raised_once_when_the_attempts_are_used_up_and_only_then() {
    assert_eq!(alerts(&[200]).await, []);
    assert_eq!(alerts(&[503, 503, 200]).await, []);
    let raised = alerts(&[503, 503, 503]).await;
    assert_eq!(raised.len(), 1);

    let posted = Arc::new(Mutex::new(Vec::<Value>::new()));
    let log = Arc::clone(&posted);
    let service = service_fn(move |req: Request<BufferedBody>| {
        let body = serde_json::from_slice(req.body().as_bytes()).expect("JSON");
        log.lock().expect("a log").push(body);
        ready(Ok::<_, Infallible>(Response::new(BufferedBody::default())))
    });
    let url = "https://monitor.example.com/alerts";
    let monitor = Monitor::with(url, TargetRules::new(), service).expect("a monitor");
    monitor.post(&raised[0]).await.expect("it is stored");
    let expected = json!([{
        "event": "webhook_retry_exhausted",
        "webhook_id": "wh_1",
        "timestamp": "1970-01-01T00:00:00Z",
        "error_details": {"webhook_id": "wh_1", "max_attempts_reached": 3, "final_error": "retries_exhausted"},
        "success_rate": 0.0,
        "avg_latency_ms": 0.0,
    }]);
    assert_eq!(json!(*posted.lock().expect("a log")), expected);
}
