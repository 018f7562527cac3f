//! What is repeated, and how much of it: methods, keys and the budget.

use super::*;
use tower_webhook::outcome::Unreached;

/// reqwest-retry and the .NET pipeline repeat a POST; ours needs a key, or a peer that never saw it.
#[tokio::test(start_paused = true)]
async fn what_may_have_taken_effect_is_not_repeated() {
    let keyed = |name: &str| {
        let mut req = post();
        let name: http::HeaderName = name.parse().unwrap();
        req.headers_mut().insert(name, "k-1".parse().unwrap());
        req
    };
    let put = Request::put("https://peer.example/").body(()).unwrap();
    let patch = Request::patch("https://peer.example/").body(()).unwrap();
    let cases = [
        (get(), 3),
        (put, 3),
        (post(), 1),
        (patch, 1),
        (keyed("idempotency-key"), 3),
        (keyed("webhook-id"), 3),
        (keyed("x-request-id"), 1),
    ];
    for (req, calls) in cases {
        for step in [Step::Status(503), Step::Reset] {
            let (peer, method) = (Peer::new([step]), req.method().clone());
            let result = deliver(plain(), &peer, req.clone()).await;
            assert_eq!(peer.calls(), calls, "{method} {step:?}");
            let reason = if calls == 1 {
                GaveUp::NotRetryable
            } else {
                GaveUp::RetriesExhausted
            };
            assert_eq!(gave_up(&result), Some(reason));
        }
    }
}

/// go-retryablehttp and got: 501 is final; a 4xx too, but 408, 425 and 429.
#[tokio::test(start_paused = true)]
async fn what_would_get_the_same_answer_is_not_repeated() {
    for (status, calls) in [
        (400, 1),
        (401, 1),
        (404, 1),
        (409, 1),
        (410, 1),
        (301, 1),
        (501, 1),
        (505, 1),
        (511, 1),
        (408, 3),
        (425, 3),
        (429, 3),
        (500, 3),
        (502, 3),
        (503, 3),
        (504, 3),
    ] {
        let peer = Peer::new([Step::Status(status)]);
        deliver(plain(), &peer, get()).await.unwrap();
        assert_eq!(peer.calls(), calls, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_never_arrived_is_repeated() {
    let calls = Arc::new(Mutex::new(0));
    let service = tower::service_fn({
        let calls = Arc::clone(&calls);
        move |_: Request<()>| {
            *calls.lock().unwrap() += 1;
            async { Err::<Response<()>, _>(BoxError::from(Unreached::new())) }
        }
    });
    assert!(layer(plain()).layer(service).oneshot(post()).await.is_err());
    assert_eq!(*calls.lock().unwrap(), 3);
}

/// Everything fails: twice the load with two attempts, but for the budget. Finagle's numbers: 20 %
/// of the traffic and 10 a second over 10 s.
#[tokio::test(start_paused = true)]
async fn in_a_total_outage_the_load_grows_by_the_share_and_the_floor() {
    let peer = Peer::new([Step::Status(500)]);
    let backoff = Backoff::constant(Duration::from_millis(1))
        .jitter(Jitter::None)
        .build()
        .unwrap();
    let layer = RetryWithJitterLayer::new(
        RetryConfig::builder()
            .attempts(10)
            .backoff(backoff)
            .build()
            .unwrap(),
    );
    let service = layer.layer(peer.clone());
    for _ in 0..1_000 {
        service.clone().oneshot(get()).await.unwrap();
    }
    assert!(
        peer.calls() <= 1_000 + 200 + 100 && peer.calls() > 1_200,
        "{}",
        peer.calls()
    );
    assert_eq!(layer.config().budget().balance(), 0);
}

#[tokio::test(start_paused = true)]
async fn services_that_share_a_budget_share_its_end() {
    let budget = Budget::builder().share(0.5).floor(0).build().unwrap();
    let (one, other) = (
        Peer::new([Step::Status(500)]),
        Peer::new([Step::Status(500)]),
    );
    let mut results = Vec::new();
    for peer in [&one, &one, &other, &other] {
        results.push(gave_up(&deliver(plain().budget(budget.clone()), peer, get()).await).unwrap());
    }
    assert_eq!(one.calls() + other.calls(), 4 + 2);
    assert!(
        results.iter().all(|&reason| reason == GaveUp::Budget),
        "{results:?}"
    );
}

/// gRPC and the AWS SDKs stop retrying with an empty bucket and go on sending first attempts.
#[tokio::test(start_paused = true)]
async fn an_empty_budget_stops_retries_and_nothing_else() {
    let budget = Budget::builder().share(0.001).floor(0).build().unwrap();
    let peer = Peer::new([Step::Status(500)]);
    for _ in 0..20 {
        let result = deliver(plain().budget(budget.clone()), &peer, get()).await;
        assert_eq!(
            (status(&result), gave_up(&result)),
            (500, Some(GaveUp::Budget))
        );
    }
    assert_eq!(peer.calls(), 20);
}
