//! The examples that send, as a user runs them, against a server that does wrong what it is told to;
//! and the stack that they show, where they cannot be told to.
#![cfg(feature = "full")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/faults/mod.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod faults;
#[path = "support/process.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod process;

use faults::{Faults, How, Point, Script, Seen, answer, go_away, grpc, grpc_late, reset, stall};
use h2::Reason;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};
use tower::{Service, ServiceExt};
use tower_webhook::{
    BoxError,
    attempt::{GaveUp, History},
    body::BufferedBody,
    circuit_breaker::BreakerConfig,
    clock::WallClock,
    metrics::DeliveryMetrics,
    retry::{Backoff, Budget, RetryConfig},
    signature::{Message, Scheme, scheme::StandardWebhooks},
    stack, transport,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The examples that speak HTTP.
const HTTP: [&str; 2] = ["outbound_hyper", "outbound_reqwest"];

/// `SERVING`, as the health service has it.
const SERVING: &[u8] = &[8, 1];

const NO_MORE: &str =
    "gave up after 3 attempts: no attempts left (Connection refused (os error 111))";

/// What an example prints of this many deliveries to a server.
fn lines(example: &str, server: &Faults, deliveries: u32) -> Vec<String> {
    let mut command = process::command(example);
    command.arg(server.url("/")).arg(deliveries.to_string());
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{example}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// That a request is signed as it should be, and what changes with each signature.
fn signed(seen: &Seen) -> (String, String, String) {
    let mut request = Request::post("/").body(BufferedBody::from(seen.body.clone()));
    *request.as_mut().unwrap().headers_mut() = seen.headers.clone();
    let (scheme, clock) = (StandardWebhooks::new(SECRET).unwrap(), WallClock::system());
    let verified = scheme.verify(&Message::of(&request.unwrap(), &clock));
    assert!(verified.is_ok(), "{verified:?}: {seen:?}");
    let text = |name: &str| seen.headers[name].to_str().unwrap().to_owned();
    (
        text("webhook-id"),
        text("webhook-timestamp"),
        text("webhook-signature"),
    )
}

#[test]
fn a_receiver_that_is_busy_is_asked_again_when_it_wants_with_a_fresh_signature_and_the_same_id() {
    for example in HTTP {
        let busy = answer(503).header("retry-after", "1");
        let server = Faults::http1().then(busy).start();
        let started = Instant::now();
        let said = lines(example, &server, 1);
        assert_eq!(
            said,
            ["1: 200 OK", "attempts: 2, failed deliveries: 0"],
            "{example}"
        );
        assert!(started.elapsed() >= Duration::from_secs(1), "{example}");
        let [first, second] = &server.requests()[..] else {
            panic!("{example}: {:?}", server.requests());
        };
        assert_eq!(first.body, br#"{"number":1}"#);
        assert_eq!(first.body, second.body);
        let (first, second) = (signed(first), signed(second));
        assert_eq!(first.0, second.0, "the id");
        assert!(first.1 < second.1, "the timestamp: {first:?} {second:?}");
        assert_ne!(first.2, second.2, "the signature");
    }
}

#[test]
fn what_was_cut_before_its_answer_is_delivered_by_another_attempt() {
    for example in HTTP.into_iter().chain(["outbound_service_fn"]) {
        for point in [Point::Head, Point::Answer] {
            let server = Faults::http1().then(reset(point)).start();
            let said = lines(example, &server, 2);
            assert!(
                said[0].contains("200") && said[1].contains("200"),
                "{said:?}"
            );
            assert_eq!(said[2], "attempts: 3, failed deliveries: 0", "{example}");
            assert_eq!(server.requests().len(), 3, "{example} {point:?}");
        }
    }
}

#[test]
fn what_hangs_is_given_up_after_the_time_of_an_attempt() {
    for example in HTTP.into_iter().chain(["outbound_service_fn"]) {
        let server = Faults::http1().then(stall(Point::Answer)).start();
        let started = Instant::now();
        let said = lines(example, &server, 1);
        assert!(said[0].contains("200"), "{example}: {said:?}");
        assert_eq!(said[1], "attempts: 2, failed deliveries: 0");
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(2), "{example}: {took:?}");
        assert_eq!(server.requests().len(), 2, "{example}");
    }
}

#[test]
fn what_the_receiver_does_not_want_is_sent_once() {
    for example in HTTP.into_iter().chain(["outbound_service_fn"]) {
        let server = Faults::http1().then(answer(400)).start();
        let said = lines(example, &server, 1);
        assert!(said[0].contains("400"), "{example}: {said:?}");
        assert_eq!(said[1], "attempts: 1, failed deliveries: 1");
        assert_eq!(server.requests().len(), 1, "{example}");
    }
}

#[test]
fn a_receiver_that_is_not_there_costs_the_attempts_there_are() {
    for example in HTTP.into_iter().chain(["outbound_service_fn"]) {
        let server = Faults::http1().start();
        server.refuse();
        let said = lines(example, &server, 1);
        let expected = [
            format!("1: {NO_MORE}"),
            "attempts: 3, failed deliveries: 1".to_owned(),
        ];
        assert_eq!(said, expected, "{example}");
    }
}

/// What the gRPC example prints of one call, and how many calls the server saw.
fn call(script: Script) -> (Vec<String>, usize) {
    let server = script.start();
    let said = lines("outbound_grpc", &server, 1);
    (said, server.requests().len())
}

const SERVED: [&str; 2] = ["1: Serving", "attempts: 2, failed deliveries: 0"];

#[test]
fn a_call_that_fails_in_its_trailers_is_made_again() {
    let (said, calls) = call(
        Faults::http2()
            .then(grpc_late(14, SERVING))
            .otherwise(grpc_late(0, SERVING)),
    );
    assert_eq!((&said[..], calls), (&SERVED.map(str::to_owned)[..], 2));
    let (said, calls) = call(Faults::http2().otherwise(grpc_late(14, SERVING)));
    let failed = ["1: Unavailable", "attempts: 3, failed deliveries: 1"];
    assert_eq!((&said[..], calls), (&failed.map(str::to_owned)[..], 3));
}

#[test]
fn a_server_that_pushes_back_is_obeyed() {
    let pushed = |after: &str| grpc(14).header("grpc-retry-pushback-ms", after);
    let well = grpc_late(0, SERVING);
    let started = Instant::now();
    let (said, calls) = call(Faults::http2().then(pushed("1200")).otherwise(well.clone()));
    assert_eq!((&said[..], calls), (&SERVED.map(str::to_owned)[..], 2));
    // Its own delay would be 100 ms at the most.
    assert!(started.elapsed() >= Duration::from_millis(1200));

    let (said, calls) = call(Faults::http2().then(pushed("-1")).otherwise(well));
    let once = ["1: Unavailable", "attempts: 1, failed deliveries: 1"];
    assert_eq!((&said[..], calls), (&once.map(str::to_owned)[..], 1));
}

#[test]
fn calls_outlive_connections_that_end_and_streams_that_are_refused_or_hang() {
    let refused = answer(200).fault(How::Stream(Reason::REFUSED_STREAM), Point::Head);
    for step in [
        go_away(),
        refused,
        reset(Point::Head),
        stall(Point::Answer),
        grpc_late(0, SERVING).fault(How::Stall, Point::MidBody),
        grpc_late(0, SERVING).fault(How::Stall, Point::End),
    ] {
        let what = format!("{step:?}");
        let (said, calls) = call(Faults::http2().then(step).otherwise(grpc_late(0, SERVING)));
        assert_eq!(
            (&said[..], calls),
            (&SERVED.map(str::to_owned)[..], 2),
            "{what}"
        );
    }
}

#[test]
fn a_call_that_is_wrong_is_made_once_and_one_to_nobody_three_times() {
    let (said, calls) = call(Faults::http2().otherwise(grpc(3)));
    let once = ["1: InvalidArgument", "attempts: 1, failed deliveries: 1"];
    assert_eq!((&said[..], calls), (&once.map(str::to_owned)[..], 1));

    let server = Faults::http2().start();
    server.refuse();
    let said = lines("outbound_grpc", &server, 1);
    assert_eq!(
        said,
        ["1: Unavailable", "attempts: 3, failed deliveries: 1"]
    );
}

/// The stack of `outbound_hyper`, with settings of its own.
struct Hyper {
    retry: RetryConfig,
    breaker: BreakerConfig,
    metrics: DeliveryMetrics,
    http2: bool,
}

impl Hyper {
    fn new(retry: RetryConfig) -> Self {
        Self {
            retry,
            breaker: BreakerConfig::default(),
            metrics: DeliveryMetrics::new(),
            http2: false,
        }
    }

    fn service(
        &self,
    ) -> impl Service<
        Request<BufferedBody>,
        Response = Response<Incoming>,
        Error = BoxError,
        Future: Send,
    > + Clone {
        let client = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .http2_only(self.http2)
            .build_http();
        let deliver = stack::deliver()
            .retry(self.retry.clone())
            .breaker(self.breaker.clone())
            .metrics(self.metrics.clone())
            .sign(StandardWebhooks::new(SECRET).unwrap());
        deliver.build().unwrap().layer(transport::hyper(client))
    }
}

fn soon() -> Backoff {
    let backoff = Backoff::constant(Duration::from_millis(2));
    backoff.build().unwrap()
}

#[tokio::test]
async fn over_http2_what_the_receiver_never_saw_is_sent_again_even_where_it_may_be_sent_once_only()
{
    let stream = |reason| answer(200).fault(How::Stream(reason), Point::Head);
    for (step, sent) in [
        (go_away(), 2),
        (stream(Reason::REFUSED_STREAM), 2),
        (stream(Reason::INTERNAL_ERROR), 1),
    ] {
        let what = format!("{step:?}");
        let server = Faults::http2().then(step).start();
        let retry = RetryConfig::builder().backoff(soon()).build().unwrap();
        let client = Hyper {
            http2: true,
            ..Hyper::new(retry)
        };
        // No id: done twice, it would be done twice.
        let request = Request::post(server.url("/")).body(BufferedBody::from("{}"));
        let result = client.service().oneshot(request.unwrap()).await;
        assert_eq!(result.is_ok(), sent == 2, "{what}: {result:?}");
        assert_eq!(server.requests().len(), sent, "{what}");
        let seen = client.metrics.snapshot();
        assert_eq!(seen.attempts().total(), sent as u64, "{what}");
    }
}

#[tokio::test]
async fn a_receiver_that_flaps_gets_what_the_budget_allows() {
    const DELIVERIES: usize = 40;
    let script = Faults::http1().flapping((1, answer(200)), (3, answer(503)));
    let server = script.start();
    let budget = Budget::builder().share(0.2).floor(0).build().unwrap();
    let retry = RetryConfig::builder().backoff(soon()).budget(budget);
    let mut client = Hyper::new(retry.build().unwrap());
    // One in four is well, and the budget alone is looked at.
    let breaker = BreakerConfig::builder().without_consecutive_failures();
    client.breaker = breaker.failure_rate(1.0).build().unwrap();
    let mut service = client.service();

    let mut ends = HashSet::new();
    for number in 0..DELIVERIES {
        let request = Request::post(server.url("/")).header("webhook-id", format!("msg_{number}"));
        let request = request.body(BufferedBody::from("{}")).unwrap();
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        if let Some(history) = response.extensions().get::<History>() {
            ends.insert(history.gave_up());
        }
    }
    let requests = server.requests().len();
    let most = DELIVERIES + DELIVERIES / 5;
    assert!(requests > DELIVERIES && requests <= most, "{requests}");
    assert!(ends.contains(&Some(GaveUp::Budget)), "{ends:?}");
    let seen = client.metrics.snapshot();
    assert_eq!(seen.deliveries().total(), DELIVERIES as u64);
    assert_eq!(seen.attempts().total(), requests as u64);
    assert_eq!(seen.retries(), (requests - DELIVERIES) as u64);
    assert_eq!(seen.breaker_trips(), 0);
}
