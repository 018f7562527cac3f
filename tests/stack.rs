//! What the ready-made stacks promise, through their public API.
#![cfg(feature = "full")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/faults/mod.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod faults;

#[path = "support/bodies.rs"]
mod bodies;

#[path = "stack/between.rs"]
mod between;

#[path = "stack/receive.rs"]
mod receive;

#[path = "stack/shared.rs"]
mod shared;

use faults::{Faults, answer, grpc_late};
use http::{HeaderName, Request, Response, StatusCode};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::{
    collections::VecDeque,
    future::{Future, pending},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, task};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::MapRequestLayer};
use tower_webhook::{
    BoxError, FailoverLayer, FallbackLayer,
    attempt::{Attempt, Failed, GaveUp, History},
    body::BufferedBody,
    circuit_breaker::{BreakerConfig, BreakerState, Breakers, CircuitOpen},
    clock::WallClock,
    deadline::AttemptTimeout,
    grpc::GrpcPeekLayer,
    metrics::{DeliveryMetrics, Snapshot},
    outcome::{Outcome, OutcomeKind, classify_fn},
    peer::OnePeer,
    retry::{Backoff, Budget, CloneExchange, Jitter, Refusals, RetryConfig},
    signature::{Message, MessageIdLayer, Scheme, scheme::StandardWebhooks},
    stack::{self, AttemptBuilder, DeliverBuilder},
    transport,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: Duration = Duration::from_secs(1);

/// What a peer does when it is asked.
#[derive(Clone, Copy, Debug)]
enum Does {
    Answers(u16),
    Busy(&'static str),
    Hangs,
}
use Does::{Answers, Busy, Hangs};

/// What a peer was asked: when, which host, and in which attempt.
type Asked = (Duration, String, u32);

/// Peers of which one host at most does otherwise than answer 200.
#[derive(Clone)]
struct Peers {
    bad: &'static str,
    does: Arc<Mutex<VecDeque<Does>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    started: Instant,
}

impl Peers {
    /// Does these one after another, and the last one again and again.
    fn new(bad: &'static str, does: &[Does]) -> Self {
        Self {
            bad,
            does: Arc::new(Mutex::new(does.iter().copied().collect())),
            asked: Arc::default(),
            started: Instant::now(),
        }
    }

    async fn ask(self, req: Request<BufferedBody>) -> Result<Response<BufferedBody>, BoxError> {
        let host = req.uri().host().unwrap().to_owned();
        let attempt = Attempt::current().unwrap().number();
        let does = if host == self.bad {
            let mut does = self.does.lock().unwrap();
            let next = does[0];
            if does.len() > 1 {
                does.pop_front();
            }
            next
        } else {
            Answers(200)
        };
        let asked = (self.started.elapsed(), host, attempt);
        self.asked.lock().unwrap().push(asked);
        let res = Response::builder();
        let res = match does {
            Answers(status) => res.status(status),
            Busy(until) => res.status(503).header("retry-after", until),
            Hangs => pending().await,
        };
        Ok(res.body(BufferedBody::default())?)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn hosts(&self) -> Vec<String> {
        self.asked().into_iter().map(|(_, host, _)| host).collect()
    }

    fn transport(
        &self,
    ) -> impl Service<
        Request<BufferedBody>,
        Response = Response<BufferedBody>,
        Error = BoxError,
        Future: Send,
    > + Clone
    + Send
    + use<> {
        let peers = self.clone();
        service_fn(move |req| peers.clone().ask(req))
    }
}

/// To `a.test`, repeatable.
fn request() -> Request<BufferedBody> {
    let req = Request::post("http://a.test/hooks").header("webhook-id", "msg_1");
    req.body(BufferedBody::from("{}")).unwrap()
}

/// Waits of a second exactly.
fn every_second() -> tower_webhook::retry::RetryConfigBuilder {
    let backoff = Backoff::constant(SECOND).jitter(Jitter::None);
    RetryConfig::builder()
        .backoff(backoff.build().unwrap())
        .refusals(Refusals::Wait(10))
}

/// Opens after three failures in a row, for 20 s exactly.
fn three_failures() -> BreakerConfig {
    let config = BreakerConfig::builder().consecutive_failures(3);
    let config = config.open_for(20 * SECOND).open_jitter(0.0);
    config.build().unwrap()
}

fn failed(error: &BoxError) -> &Failed {
    error.downcast_ref().expect("it was given up")
}

fn count(seen: &Snapshot, kind: OutcomeKind) -> (u64, u64) {
    (seen.attempts().count(kind), seen.deliveries().count(kind))
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_is_held_against_it_and_its_breaker_opens() {
    let peers = Peers::new("a.test", &[Hangs]);
    let deliver = stack::deliver()
        .retry(every_second().build().unwrap())
        .breaker(three_failures())
        .attempt_timeout(2 * SECOND);
    let deliver = deliver.build().unwrap();
    let error = deliver
        .layer(peers.transport())
        .oneshot(request())
        .await
        .unwrap_err();

    let failed = failed(&error);
    assert_eq!(failed.gave_up(), Some(GaveUp::RetriesExhausted));
    let cause = std::error::Error::source(failed).unwrap();
    assert!(cause.is::<AttemptTimeout>(), "{cause:?}");
    // Two seconds each, and one between them.
    let at: Vec<_> = peers.asked().into_iter().map(|asked| asked.0).collect();
    assert_eq!(at, [Duration::ZERO, 3 * SECOND, 6 * SECOND]);
    assert_eq!(peers.started.elapsed(), 8 * SECOND);

    let breaker = deliver.breakers().find("a.test").unwrap();
    assert_eq!(breaker.state(), BreakerState::Open);
    let seen = deliver.metrics().snapshot();
    assert_eq!(count(&seen, OutcomeKind::Transient), (3, 1));
    assert_eq!((seen.retries(), seen.breaker_trips()), (2, 1));
    let key = seen.peer("a.test").unwrap();
    assert_eq!(key.breaker(), Some(BreakerState::Open));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_costs_neither_an_attempt_nor_budget() {
    let peers = Peers::new("a.test", &[Answers(200)]);
    let budget = Budget::builder().share(1.0).floor(0).build().unwrap();
    budget.deposit();
    let retry = every_second()
        .budget(budget.clone())
        .refusals(Refusals::GiveUp);
    let deliver = stack::deliver()
        .retry(retry.build().unwrap())
        .breaker(three_failures());
    let deliver = deliver.build().unwrap();
    let mut service = deliver.layer(peers.transport());
    deliver.breakers().of("a.test").unwrap().force_open();

    let refused = service.ready().await.unwrap().call(request()).await;
    let error = refused.unwrap_err();
    let history = failed(&error).history();
    assert_eq!((history.attempts(), history.refusals()), (0, 1));
    assert_eq!(history.gave_up(), Some(GaveUp::Refused));
    let cause = std::error::Error::source(failed(&error)).unwrap();
    assert!(cause.is::<CircuitOpen>(), "{cause:?}");
    assert!(peers.asked().is_empty());
    // It neither spent a retry nor bought one.
    assert_eq!(budget.balance(), 1);
    let seen = deliver.metrics().snapshot();
    assert_eq!(count(&seen, OutcomeKind::Refused), (0, 1));
    assert_eq!((seen.attempts().total(), seen.retries()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_answered_at_once_and_a_fallback_with_it() {
    let stack = stack::deliver().build().unwrap();
    stack.breakers().of("crm.example.com").unwrap().force_open();
    let fallback = FallbackLayer::http(|outcome| {
        assert_eq!(outcome.kind(), OutcomeKind::Refused);
        Some(Response::new(BufferedBody::from("the fallback branch")))
    });
    let never = service_fn(|_: Request<BufferedBody>| async {
        Err::<Response<BufferedBody>, _>(BoxError::from("it was called"))
    });
    let started = Instant::now();
    let req = Request::post("https://crm.example.com/hooks")
        .header("webhook-id", "msg_1")
        .body(BufferedBody::default())
        .unwrap();
    let res = fallback.layer(stack.layer(never)).oneshot(req).await;
    assert_eq!(res.unwrap().status(), StatusCode::OK);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_given_an_id_is_delivered_by_another_attempt() {
    let peers = Peers::new("crm.example.com", &[Answers(500), Answers(200)]);
    let asked = peers.clone();
    let scheme = StandardWebhooks::new(SECRET).unwrap();
    let client = ServiceBuilder::new()
        .layer(MessageIdLayer::new())
        .layer(stack::deliver().sign(scheme).build().unwrap())
        .service(service_fn(move |req| peers.clone().ask(req)));
    let req = Request::post("https://crm.example.com/hooks");
    let res = client
        .oneshot(req.body(BufferedBody::default()).unwrap())
        .await;
    assert_eq!(res.unwrap().status(), StatusCode::OK);
    assert_eq!(asked.asked.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_waits_for_a_breaker_and_its_first_attempt_is_its_first() {
    let peers = Peers::new("a.test", &[Answers(200)]);
    // What is paid in stays for longer than the wait.
    let budget = Budget::builder().share(1.0).floor(0).window(60 * SECOND);
    let budget = budget.build().unwrap();
    let retry = every_second().budget(budget.clone()).build().unwrap();
    let deliver = stack::deliver().retry(retry).breaker(three_failures());
    let deliver = deliver.build().unwrap();
    for _ in 0..3 {
        let permit = deliver.breakers().admit("a.test").unwrap();
        { permit }.settle(Outcome::transient());
    }
    let service = deliver.layer(peers.transport());
    let res = service.oneshot(request()).await.unwrap();
    assert_eq!(res.status(), 200);
    // The breaker's 20 s and the own wait on top.
    let asked = [(21 * SECOND, "a.test".to_owned(), 1)];
    assert_eq!(peers.asked(), asked);
    let history = res.extensions().get::<History>().unwrap();
    assert_eq!((history.attempts(), history.refusals()), (1, 1));
    assert_eq!(budget.balance(), 1);
    let seen = deliver.metrics().snapshot();
    assert_eq!(count(&seen, OutcomeKind::Success), (1, 1));
    assert_eq!((seen.retries(), seen.retried_deliveries()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn transitions_of_breakers_reach_every_observer() {
    let peers = Peers::new(
        "a.test",
        &[Answers(500), Answers(500), Answers(500), Answers(200)],
    );
    let observers = [(); 2].map(|()| DeliveryMetrics::new());
    let deliver = stack::deliver()
        .retry(every_second().attempts(1).build().unwrap())
        .breaker(three_failures())
        .observe(observers[0].clone())
        .observe(observers[1].clone());
    let mut service = deliver.build().unwrap().layer(peers.transport());
    let shown = |observer: &DeliveryMetrics| {
        let seen = observer.snapshot();
        (seen.breaker_trips(), seen.peer("a.test").unwrap().breaker())
    };
    for n in 0..3 {
        let expected = (0, None);
        assert!(n == 0 || shown(&observers[0]) == expected);
        let res = service.ready().await.unwrap().call(request()).await;
        assert_eq!(res.unwrap().status(), 500);
    }
    for observer in &observers {
        assert_eq!(shown(observer), (1, Some(BreakerState::Open)));
    }
    advance(20 * SECOND).await;
    let res = service.ready().await.unwrap().call(request()).await;
    assert_eq!(res.unwrap().status(), 200);
    for observer in &observers {
        assert_eq!(shown(observer), (1, Some(BreakerState::Closed)));
    }
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_begun_that_the_deadline_would_end() {
    // A hint, the backoff, and a breaker: each longer than what is left.
    let deliver = stack::deliver().deadline(10 * SECOND);
    let peers = Peers::new("a.test", &[Busy("60")]);
    let service = deliver.clone().build().unwrap();
    let res = service.layer(peers.transport()).oneshot(request()).await;
    let res = res.unwrap();
    assert_eq!(res.status(), 503);
    let history = res.extensions().get::<History>().unwrap();
    assert_eq!(history.gave_up(), Some(GaveUp::HintTooLong));

    let slow = Backoff::constant(11 * SECOND).jitter(Jitter::None);
    let slow = RetryConfig::builder().backoff(slow.build().unwrap());
    let peers = Peers::new("a.test", &[Answers(500)]);
    let service = deliver.clone().retry(slow.build().unwrap()).build();
    let service = service.unwrap().layer(peers.transport());
    let res = service.oneshot(request()).await.unwrap();
    let history = res.extensions().get::<History>().unwrap();
    assert_eq!(history.gave_up(), Some(GaveUp::Deadline));

    let layer = deliver.breaker(three_failures()).build().unwrap();
    for _ in 0..3 {
        let permit = layer.breakers().admit("a.test").unwrap();
        { permit }.settle(Outcome::transient());
    }
    let service = layer.layer(peers.transport());
    let error = service.oneshot(request()).await.unwrap_err();
    assert_eq!(failed(&error).gave_up(), Some(GaveUp::Refused));
    assert_eq!(peers.started.elapsed(), Duration::ZERO);
    assert_eq!(peers.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_the_deadline_cuts_counts_against_the_peer() {
    let peers = Peers::new("a.test", &[Hangs]);
    let deliver = stack::deliver()
        .retry(every_second().build().unwrap())
        .deadline(5 * SECOND)
        .attempt_timeout(3 * SECOND);
    let deliver = deliver.build().unwrap();
    let service = deliver.layer(peers.transport());
    let error = service.oneshot(request()).await.unwrap_err();
    // 3 s, a wait of 1 s, and what was left.
    assert_eq!(peers.started.elapsed(), 5 * SECOND);
    assert_eq!(Outcome::of_error(&*error).kind(), OutcomeKind::Transient);
    let breaker = deliver.breakers().find("a.test").unwrap().snapshot();
    assert_eq!(breaker.consecutive_failures, 2);
    let seen = deliver.metrics().snapshot();
    assert_eq!(count(&seen, OutcomeKind::Transient), (2, 1));
    assert_eq!(seen.attempts().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_attempt_may_go_by_its_number() {
    let peers = Peers::new("a.test", &[Hangs]);
    let deliver = stack::deliver()
        .retry(every_second().build().unwrap())
        .attempt_timeout_by(|attempt| SECOND * attempt);
    let service = deliver.build().unwrap().layer(peers.transport());
    service.oneshot(request()).await.unwrap_err();
    let at: Vec<_> = peers.asked().into_iter().map(|asked| asked.0).collect();
    assert_eq!(at, [Duration::ZERO, 2 * SECOND, 5 * SECOND]);
    assert_eq!(peers.started.elapsed(), 8 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn each_target_of_a_failover_has_its_own_breaker_and_its_own_figures() {
    let peers = Peers::new("a.test", &[Answers(503)]);
    let deliver = stack::deliver().breaker(three_failures()).failover(
        FailoverLayer::fallbacks(["http://b.test/"])
            .build()
            .unwrap(),
    );
    let deliver = deliver.build().unwrap();
    let mut service = deliver.layer(peers.transport());
    for _ in 0..5 {
        let res = service.ready().await.unwrap().call(request()).await;
        assert_eq!(res.unwrap().status(), 200);
    }
    // Three times it was asked, and then its breaker was.
    let hosts = [
        "a.test", "b.test", "a.test", "b.test", "a.test", "b.test", "b.test", "b.test",
    ];
    assert_eq!(peers.hosts(), hosts);
    assert_eq!(peers.started.elapsed(), Duration::ZERO);
    let state = |key: &str| deliver.breakers().find(key).unwrap().state();
    assert_eq!(state("a.test"), BreakerState::Open);
    assert_eq!(state("b.test"), BreakerState::Closed);
    let seen = deliver.metrics().snapshot();
    // Deliveries are those of whom they were meant for.
    let key = |key: &str| {
        let key = seen.peer(key).unwrap();
        (key.deliveries().total(), key.attempts().total())
    };
    assert_eq!((key("a.test"), key("b.test")), ((5, 3), (0, 5)));
    assert_eq!(seen.deliveries().success_rate(), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn attempts_and_deliveries_are_counted_each_for_what_they_are() {
    let peers = Peers::new("a.test", &[Answers(503), Answers(500), Answers(200)]);
    let deliver = stack::deliver().retry(every_second().build().unwrap());
    let deliver = deliver.build().unwrap();
    let mut service = deliver.layer(peers.transport());
    let res = service.ready().await.unwrap().call(request()).await;
    assert_eq!(res.unwrap().status(), 200);
    let seen = deliver.metrics().snapshot();
    assert_eq!(count(&seen, OutcomeKind::Throttled), (1, 0));
    assert_eq!(count(&seen, OutcomeKind::Transient), (1, 0));
    assert_eq!(count(&seen, OutcomeKind::Success), (1, 1));
    assert_eq!((seen.retries(), seen.retried_deliveries()), (2, 1));
    assert_eq!(seen.retries_by_code(), [(Some(500), 1), (Some(503), 1)]);
    assert_eq!(seen.deliveries().latency().max(), Some(2 * SECOND));
    assert_eq!(seen.attempts().latency().max(), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_dropped_is_cancelled_and_leaves_nothing_behind() {
    // Once while it waits, once while its peer does.
    for (does, attempts) in [(Answers(503), 1), (Hangs, 1)] {
        let peers = Peers::new("a.test", &[does]);
        let deliver = stack::deliver().retry(every_second().build().unwrap());
        let deliver = deliver.build().unwrap();
        let mut service = deliver.layer(peers.transport());
        let mut delivery = task::spawn(service.ready().await.unwrap().call(request()));
        assert_pending!(delivery.poll());
        assert_eq!(deliver.metrics().snapshot().deliveries().in_flight(), 1);
        drop(delivery);
        let seen = deliver.metrics().snapshot();
        assert_eq!(seen.deliveries().count(OutcomeKind::Cancelled), 1);
        assert_eq!(seen.attempts().total(), attempts);
        let in_flight = (seen.attempts().in_flight(), seen.deliveries().in_flight());
        assert_eq!(in_flight, (0, 0));
        // A caller that goes is no evidence.
        let breaker = deliver.breakers().find("a.test").unwrap().snapshot();
        let evidence = u32::from(matches!(does, Answers(_)));
        assert_eq!(breaker.consecutive_failures, evidence);
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_has_its_number_and_a_signature_over_it_all() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let peer = {
        let seen = Arc::clone(&seen);
        service_fn(move |req: Request<BufferedBody>| {
            let scheme = StandardWebhooks::new(SECRET).unwrap();
            let clock = WallClock::system();
            let verified = scheme.verify(&Message::of(&req, &clock));
            assert!(verified.is_ok(), "{verified:?}");
            let text = |name: &str| req.headers()[name].to_str().unwrap().to_owned();
            let numbers = (text("webhook-id"), text("x-attempt"), text("x-copy"));
            seen.lock().unwrap().push(numbers);
            async { Ok::<_, BoxError>(answered(503)) }
        })
    };
    let copied = MapRequestLayer::new(|mut req: Request<BufferedBody>| {
        let number = req.headers()["x-attempt"].clone();
        req.headers_mut().insert("x-copy", number);
        // Signed after this, or the signature would be wrong.
        *req.body_mut() = BufferedBody::from("changed");
        req
    });
    let deliver = stack::deliver()
        .retry(every_second().build().unwrap())
        .attempt_header(HeaderName::from_static("x-attempt"))
        .each_attempt(copied)
        .sign(StandardWebhooks::new(SECRET).unwrap());
    let service = deliver.build().unwrap().layer(peer);
    let res = service.oneshot(request()).await.unwrap();
    assert_eq!(res.status(), StatusCode::SERVICE_UNAVAILABLE);
    let expected = ["1", "2", "3"].map(|n| ("msg_1".to_owned(), n.to_owned(), n.to_owned()));
    assert_eq!(*seen.lock().unwrap(), expected);
}

fn answered(status: u16) -> Response<BufferedBody> {
    let mut res = Response::new(BufferedBody::default());
    *res.status_mut() = StatusCode::from_u16(status).unwrap();
    res
}

#[test]
fn a_bad_setting_is_named() {
    fn named<M: Clone + std::fmt::Debug + 'static>(
        deliver: DeliverBuilder<AttemptBuilder<M>>,
    ) -> &'static str {
        deliver.build().expect_err("it makes no sense").setting()
    }
    let deliver = stack::deliver;
    assert_eq!(named(deliver().deadline(Duration::ZERO)), "deadline");
    let timeout = deliver().attempt_timeout(Duration::ZERO);
    assert_eq!(named(timeout), "attempt_timeout");
    assert_eq!(named(deliver().attempts(0)), "attempts");
    let grpc = deliver().grpc().deadline(Duration::ZERO).build();
    assert_eq!(grpc.unwrap_err().setting(), "deadline");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_built_records_nothing() {
    let breakers = Breakers::new(three_failures());
    let metrics = DeliveryMetrics::new();
    let deliver = stack::deliver().breakers(breakers.clone());
    let deliver = deliver.metrics(metrics.clone());
    deliver
        .clone()
        .deadline(Duration::ZERO)
        .build()
        .unwrap_err();
    let _built = deliver.build().unwrap();
    for _ in 0..3 {
        breakers
            .admit("a.test")
            .unwrap()
            .settle(Outcome::transient());
    }
    assert_eq!(metrics.snapshot().breaker_trips(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_shared_is_shared() {
    let peers = Peers::new("a.test", &[Answers(500)]);
    let retry = every_second().attempts(1).build().unwrap();
    let breakers = Breakers::new(three_failures());
    let deliver = stack::deliver().retry(retry).breakers(breakers.clone());
    let (one, other) = (deliver.clone().metrics(DeliveryMetrics::new()), deliver);
    let (one, other) = (one.build().unwrap(), other.build().unwrap());
    for layer in [&one, &one.clone(), &other] {
        let service = layer.layer(peers.transport());
        assert_eq!(service.oneshot(request()).await.unwrap().status(), 500);
    }
    assert_eq!(breakers.find("a.test").unwrap().state(), BreakerState::Open);
    for layer in [one, other] {
        let service = layer.layer(peers.transport());
        let error = service.oneshot(request()).await.unwrap_err();
        assert_eq!(failed(&error).history().refusals(), 1);
        // Each has measured its own calls, and the breaker of all.
        assert_eq!(layer.metrics().snapshot().breaker_trips(), 1);
    }
    assert_eq!(peers.asked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_http_is_delivered_too() {
    #[derive(Clone)]
    struct Job(u32);

    let done = Arc::new(Mutex::new(0));
    let deliver = stack::deliver()
        .peer(OnePeer)
        .exchange(CloneExchange)
        .classifier(classify_fn(
            |result: Result<&u32, &BoxError>| match result {
                Ok(_) => Outcome::success(),
                Err(error) => Outcome::of_error(&**error),
            },
        ));
    let deliver = deliver.build().unwrap();
    let service = deliver.layer(service_fn(|Job(number)| {
        let done = Arc::clone(&done);
        async move {
            let mut done = done.lock().unwrap();
            *done += 1;
            if *done < 3 {
                return Err(BoxError::from("not yet"));
            }
            Ok(number)
        }
    }));
    assert_eq!(service.oneshot(Job(7)).await.unwrap(), 7);
    assert_eq!(deliver.metrics().snapshot().attempts().total(), 3);
}

/// What `tokio::spawn` and a server's state ask for.
fn portable<T: Clone + Send + Sync + 'static>(service: &T) -> T {
    service.clone()
}

fn spawnable<F: Future + Send + 'static>(future: F) -> F {
    future
}

#[tokio::test]
async fn a_delivery_through_hyper_can_be_spawned() {
    let server = Faults::http1().otherwise(answer(200)).start();
    let client = Client::builder(TokioExecutor::new()).build_http::<BufferedBody>();
    let service = stack::deliver()
        .failover(FailoverLayer::fallbacks([server.url("/")]).build().unwrap())
        .attempt_header(HeaderName::from_static("x-attempt"))
        .sign(StandardWebhooks::new(SECRET).unwrap())
        .build()
        .unwrap()
        .layer(transport::hyper(client));
    let target = server.url("/");
    let mut svc = portable(&service);
    let delivery = tokio::spawn(async move {
        let req = Request::post(target).header("webhook-id", "msg_1");
        let req = req.body(BufferedBody::from("{}"))?;
        svc.ready().await?.call(req).await
    });
    assert_eq!(delivery.await.unwrap().unwrap().status(), 200);
    let req = Request::post(server.url("/")).body(BufferedBody::from("{}"));
    let once = spawnable(service.oneshot(req.unwrap()));
    assert_eq!(tokio::spawn(once).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_delivery_through_reqwest_can_be_spawned() {
    let server = Faults::http1().otherwise(answer(200)).start();
    let deliver = stack::deliver().build().unwrap();
    let service = deliver.layer(transport::reqwest(reqwest::Client::new()));
    let mut svc = portable(&service);
    let target = server.url("/");
    let delivery = tokio::spawn(async move {
        let req = Request::post(target).body(BufferedBody::from("{}"))?;
        svc.ready().await?.call(req).await
    });
    assert_eq!(delivery.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_call_through_a_tonic_channel_can_be_spawned() {
    let server = Faults::http2().otherwise(grpc_late(0, &[8, 1])).start();
    let deliver = stack::deliver().grpc().build().unwrap();
    let channel = Endpoint::from_shared(server.url(""))
        .unwrap()
        .connect_lazy();
    let unary = GrpcPeekLayer::new().assume_unary(true);
    let service = deliver.layer(transport::tonic(channel).peek(unary));
    let origin = server.url("").parse().unwrap();
    let mut client = HealthClient::with_origin(portable(&service), origin);
    let call = tokio::spawn(async move {
        let request = HealthCheckRequest {
            service: String::new(),
        };
        client.check(request).await
    });
    assert_eq!(call.await.unwrap().unwrap().into_inner().status, 1);
    let seen = deliver.metrics().snapshot();
    assert_eq!(count(&seen, OutcomeKind::Success), (1, 1));
    // Without an origin, a request of tonic's names no host.
    let key = server.address.to_string();
    assert_eq!(seen.peer(&key).unwrap().attempts().total(), 1);
    assert!(deliver.breakers().find(&key).is_some());
}

/// Runs a call as this attempt, as a worker does.
async fn within<F: Future>(attempt: Attempt, call: F) -> F::Output {
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|cx| attempt.scope(|| call.as_mut().poll(cx))).await
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_measured_as_such_and_as_no_delivery() {
    let peers = Peers::new("a.test", &[Answers(503)]);
    let stack = stack::attempt().breaker(three_failures());
    let stack = stack.build().unwrap();
    let mut client = stack.layer(peers.transport());
    // It is one of the caller's attempts, who says which.
    for _ in 0..3 {
        let call = client.ready().await.unwrap().call(request());
        assert_eq!(within(Attempt::first(), call).await.unwrap().status(), 503);
    }
    assert_eq!(peers.asked().len(), 3);
    let seen = stack.metrics().snapshot();
    assert_eq!(count(&seen, OutcomeKind::Throttled), (3, 0));
    assert_eq!(seen.deliveries().total(), 0);
    let refused = client.ready().await.unwrap().call(request()).await;
    assert!(refused.unwrap_err().is::<CircuitOpen>());
    let second = Attempt::first().next();
    stack.breakers().find("a.test").unwrap().reset();
    let call = client.ready().await.unwrap().call(request());
    within(second, call).await.unwrap();
    let numbers: Vec<_> = peers.asked().into_iter().map(|asked| asked.2).collect();
    assert_eq!(numbers, [1, 1, 1, 2]);
}
