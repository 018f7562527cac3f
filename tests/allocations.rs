//! What a call through each layer allocates, to the last one.
//!
//! A change of these numbers is a change of what every request pays: the comment beside each says
//! where it goes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};
use tower::{Layer, Service};
use tower_webhook::{
    BufferBodyLayer, LoopGuardLayer, StoreError,
    body::{BodyBudget, BufferedBody},
};

/// How often this thread allocates while `work` runs.
fn allocations<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let mut result = None;
    let counted = allocation_counter::measure(|| result = Some(work()));
    (counted.count_total, result.expect("it ran"))
}

/// Answers at once, without an allocation.
#[derive(Clone, Copy)]
struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(BufferedBody::from("answer"))))
    }
}

/// Calls a service whose future is ready at once; says what that allocated.
fn count<S, B>(service: &mut S, req: Request<B>) -> (u64, S::Response)
where
    S: Service<Request<B>, Error = Infallible>,
{
    allocations(|| {
        let future = pin!(service.call(req));
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => response,
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => panic!("the future waits"),
        }
    })
}

#[test]
fn the_counter_counts() {
    let (none, ()) = allocations(|| ());
    let (one, _boxed) = allocations(|| Box::new(7));
    assert_eq!((none, one), (0, 1));
    assert_eq!(count(&mut Bare, Request::new(())).0, 0);
}

#[test]
fn a_message_that_was_nowhere_is_guarded_and_marked_without_an_allocation() {
    let guard = LoopGuardLayer::new("orders").unwrap();
    let request = || {
        let mut req = Request::new(BufferedBody::default());
        req.headers_mut().reserve(8);
        req
    };
    let mut server = guard.layer(Bare);
    assert_eq!(count(&mut server, request()).0, 0);
    let mut client = guard.outgoing().layer(Bare);
    assert_eq!(count(&mut client, request()).0, 0);
}

#[test]
fn buffering_a_body_that_is_here_allocates_nothing() {
    let payload = Bytes::from(vec![b'x'; 1024]);
    let request = || Request::new(Full::new(payload.clone()));
    let layer = BufferBodyLayer::new(4096);
    let shares = BodyBudget::new(1 << 20).share_by(|head| Some(head.version));
    let mut shared = layer.clone().budget(shares).unwrap().layer(Bare);
    // The share of the first peer is made; later ones take the shares of those that have left.
    let _ = count(&mut shared, request());
    for mut service in [layer.layer(Bare), shared] {
        for _ in 0..3 {
            let (allocated, response) = count(&mut service, request());
            assert_eq!((allocated, response.status().as_u16()), (0, 200));
        }
    }
}

#[cfg(feature = "signature")]
#[test]
fn looking_at_a_head_before_the_body_allocates_nothing() {
    use tower_webhook::{
        SignatureVerifyLayer,
        signature::{Scheme, scheme::GitHub, scheme::SharedToken},
    };
    let schemes: [(Box<dyn Scheme>, _, _); 2] = [
        (
            Box::new(SharedToken::bearer("a token").unwrap()),
            "authorization",
            "Bearer a token".to_owned(),
        ),
        (
            Box::new(GitHub::new("secret").unwrap()),
            "x-hub-signature-256",
            format!("sha256={}", "00".repeat(32)),
        ),
    ];
    for (scheme, name, value) in schemes {
        let mut service = SignatureVerifyLayer::new(scheme).before_body().layer(Bare);
        let req = Request::builder().header(name, value).body(()).unwrap();
        let (allocated, response) = count(&mut service, req);
        assert_eq!((allocated, response.status().as_u16()), (0, 200), "{name}");
    }
}

#[test]
fn time_limits_allocate_nothing() {
    use std::time::Duration;
    use tower_webhook::{AttemptTimeoutLayer, DeadlineLayer};

    let second = Duration::from_secs(1);
    let attempt = AttemptTimeoutLayer::new(second).unwrap().layer(Bare);
    let by_attempt = AttemptTimeoutLayer::by_attempt(move |n| second * n).layer(attempt);
    let mut service = DeadlineLayer::new(second).unwrap().layer(by_attempt);
    // The timer too, where the call has to wait.
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let _entered = runtime.enter();
    let mut hanging = DeadlineLayer::new(second)
        .unwrap()
        .layer(tower::service_fn(|()| {
            std::future::pending::<Result<(), Infallible>>()
        }));
    for _ in 0..3 {
        let (allocated, ()) = allocations(|| {
            let future = pin!(service.call(Request::new(())));
            let polled = future.poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Ready(Ok(_))));
        });
        assert_eq!(allocated, 0);
        let (allocated, ()) = allocations(|| {
            let future = pin!(hanging.call(()));
            let polled = future.poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        });
        assert_eq!(allocated, 0);
    }
}

#[cfg(feature = "failover")]
#[test]
fn failover_allocates_for_the_copy_of_the_request_alone() {
    use tower_webhook::{FailoverLayer, FallbackLayer};

    let builder = |uris: &[&'static str]| FailoverLayer::to_uris(uris.iter().copied());
    let once = builder(&["https://a.test/"]).build().unwrap();
    let two = ["https://a.test/", "https://b.test/"];
    let (two, sticky) = (
        builder(&two).build().unwrap(),
        builder(&two)
            .sticky(std::time::Duration::from_secs(1))
            .build()
            .unwrap(),
    );
    let fallback = FallbackLayer::http(|_| None);
    let request = || {
        let req = Request::post("https://own.test/hooks").header("webhook-id", "msg_1");
        req.body(BufferedBody::from("{}")).unwrap()
    };
    let (copy, _kept) = allocations(|| {
        let req = request();
        let before = req.clone();
        (req, before)
    });
    let (made, _kept) = allocations(request);
    let copy = copy - made;
    assert!(copy > 0, "a request with headers");
    for _ in 0..3 {
        let (none, _) = count(&mut once.layer(fallback.layer(Bare)), request());
        assert_eq!(none, 0);
        for layer in [&two, &sticky] {
            let mut service = fallback.layer(layer.layer(Bare));
            let (allocated, response) = count(&mut service, request());
            assert_eq!((allocated, response.status().as_u16()), (copy, 200));
        }
    }
}

#[cfg(all(feature = "idempotency", feature = "moka"))]
mod idempotency {
    use super::*;
    use http::HeaderName;
    use std::time::Duration;
    use tower_webhook::{
        IdempotencyLayer,
        idempotency::{Begin, Idempotency, IdempotencyKey, KeySource, MemoryStore, Store},
    };

    const ID: HeaderName = HeaderName::from_static("x-id");

    fn service(store: &MemoryStore) -> Idempotency<Bare, MemoryStore> {
        let layer = IdempotencyLayer::webhook(store.clone(), KeySource::header(ID));
        layer.layer(Bare)
    }

    /// A request as it comes out of a server: with extensions.
    fn request(id: &str) -> Request<BufferedBody> {
        let req = Request::post("/hooks").header(ID, id).extension(7_u8);
        req.body(BufferedBody::default()).unwrap()
    }

    /// A store in which the maps have grown, and what was put off is done.
    fn store() -> MemoryStore {
        let store = MemoryStore::default();
        let mut service = service(&store);
        for n in 0..1_000 {
            count(&mut service, request(&format!("warm-{n}")));
        }
        store
    }

    /// The usual count of several calls: the cache now and then catches up with its own work.
    fn usual(mut counts: Vec<u64>) -> u64 {
        counts.sort_unstable();
        counts[counts.len() / 2]
    }

    // In debug and release builds alike. `moka` is the cache's `insert`, whatever it holds.
    const MOKA: u64 = 6;

    #[test]
    fn a_first_request() {
        let mut service = service(&store());
        let counts = (0..101).map(|n| count(&mut service, request(&format!("fresh-{n}"))).0);
        // The claim among the request's extensions; the record of the answer, in the making and kept.
        assert_eq!(usual(counts.collect()), 1 + 2 + MOKA);
    }

    #[test]
    fn a_repeat() {
        let mut service = service(&store());
        count(&mut service, request("repeated"));
        let counts = (0..101).map(|_| count(&mut service, request("repeated")).0);
        // The header map, for the marker; the response's extensions, for the disposition. The body is the
        // stored one.
        assert_eq!(usual(counts.collect()), 2 + 3);
    }

    #[test]
    fn a_request_that_is_not_guarded() {
        let layer = IdempotencyLayer::api(MemoryStore::default());
        let mut service = layer.layer(Bare);
        let get = Request::get("/").body(BufferedBody::default()).unwrap();
        assert_eq!(count(&mut service, get).0, 0);
    }

    #[test]
    fn a_key_is_no_allocation_up_to_62_bytes_and_one_up_to_256() {
        for (scope_len, expected) in [(6, 0), (26, 0), (27, 1), (220, 1), (1024, 2)] {
            let (scope, id) = ("x".repeat(scope_len), "0".repeat(36));
            assert_eq!(allocations(|| IdempotencyKey::new(&scope, &id)).0, expected);
        }
    }

    #[test]
    fn the_memory_store_allocates_for_an_answer_alone() {
        let store = store();
        let lease = Duration::from_secs(30);
        let [
            mut begins,
            mut in_flight,
            mut renewals,
            mut completes,
            mut repeats,
        ] = [const { Vec::new() }; 5];
        for n in 0..101 {
            let key = IdempotencyKey::new("/hooks", &format!("key-{n}")).unwrap();
            let (allocated, begun) = allocations(|| store.begin(&key, None, lease).into_inner());
            begins.push(allocated);
            let Begin::Acquired(token) = begun.unwrap() else {
                panic!("the key was free");
            };
            in_flight.push(allocations(|| store.begin(&key, None, lease)).0);
            renewals.push(allocations(|| store.renew(&key, token, lease)).0);
            let answer = Bytes::from_static(b"answer");
            completes.push(allocations(|| store.complete(&key, token, answer, lease)).0);
            repeats.push(allocations(|| store.begin(&key, None, lease)).0);
        }
        let counts = [begins, in_flight, renewals, completes, repeats].map(usual);
        assert_eq!(counts, [0, 0, 0, MOKA, 0]);
    }
}

#[cfg(feature = "metrics")]
mod metrics {
    use super::*;
    use std::time::Duration;
    use tower_webhook::{
        DeliveryMetricsLayer,
        metrics::DeliveryMetrics,
        observe::{Event, Observer, Observers},
        outcome::Outcome,
    };

    fn to(uri: &'static str) -> Request<()> {
        Request::get(uri).body(()).unwrap()
    }

    /// Of calls to one peer, and of calls to another peer each time.
    fn both_levels<O: Observer + Clone>(observer: &O) {
        let attempts = DeliveryMetricsLayer::attempts()
            .observe(observer.clone())
            .layer(Bare);
        let mut service = DeliveryMetricsLayer::deliveries()
            .observe(observer.clone())
            .layer(attempts);
        let uris = ["http://a.test/", "http://b.test/"];
        for uri in uris {
            count(&mut service, to(uri));
        }
        for uri in ["http://a.test/"; 3].into_iter().chain(uris) {
            assert_eq!(count(&mut service, to(uri)).0, 0, "{uri}");
        }
        // A stack that is cloned for each call, and a future that is dropped.
        let req = to("http://b.test/");
        let cloned = allocations(|| drop(service.clone().call(req)));
        assert_eq!(cloned.0, 0);
    }

    #[test]
    fn measuring_a_known_peer_allocates_nothing() {
        both_levels(&DeliveryMetrics::new());
        both_levels(&Observers::new(DeliveryMetrics::new()).and(DeliveryMetrics::new()));
    }

    #[test]
    fn the_first_failure_of_a_peer_makes_room_for_failures() {
        let (metrics, peer) = (DeliveryMetrics::new(), "a.test");
        let counts = [(); 4].map(|()| {
            metrics.on(&Event::AttemptBegan {
                peer,
                retry: false,
                after: None,
            });
            let failed = Event::AttemptEnded {
                peer,
                outcome: Outcome::transient(),
                elapsed: Duration::ZERO,
            };
            allocations(|| metrics.on(&failed)).0
        });
        assert_eq!(counts, [1, 0, 0, 0]);
    }

    #[test]
    fn neither_do_retries_nor_peers_beyond_the_bound() {
        let metrics = DeliveryMetrics::with_max_peers(1).unwrap();
        both_levels(&metrics);
        let (allocated, ()) = allocations(|| {
            for after in [Some(503), None] {
                metrics.on(&Event::AttemptBegan {
                    peer: "a.test",
                    retry: true,
                    after,
                });
            }
        });
        assert_eq!(allocated, 0);
    }

    #[cfg(feature = "metrics-facade")]
    #[test]
    fn writing_to_the_facade_allocates_nothing() {
        use tower_webhook::metrics::FacadeExporter;

        both_levels(&FacadeExporter::new());
        both_levels(&FacadeExporter::builder().peer_label(9).build().unwrap());
    }
}

mod exchange {
    use super::*;
    use http_body::Body;
    use std::pin::Pin;
    use tower_webhook::body::{ReplayBody, peek::PeekBodyLayer};
    #[cfg(feature = "grpc")]
    use tower_webhook::grpc::GrpcPeekLayer;

    /// How often polling a body to its end allocates.
    fn reading<B: Body + Unpin>(mut body: B) -> u64 {
        let cx = &mut Context::from_waker(Waker::noop());
        let (allocated, ()) =
            allocations(
                || {
                    while let Poll::Ready(Some(Ok(_))) = Pin::new(&mut body).poll_frame(cx) {}
                },
            );
        allocated
    }

    #[test]
    fn a_body_that_is_sent_once_costs_nothing() {
        let body = BufferedBody::from("payload");
        let (allocated, once) = allocations(|| ReplayBody::once(body));
        assert_eq!((allocated, reading(once)), (0, 0));
    }

    #[test]
    fn a_recorded_body_costs_its_state_and_its_recording() {
        let body = BufferedBody::from("payload");
        let (allocated, (first, replay)) = allocations(|| ReplayBody::new(body, 1 << 10));
        // What the bodies share, and the original in its place.
        assert_eq!(allocated, 2);
        // The list of frames.
        assert_eq!(reading(first), 1);
        let (allocated, again) = allocations(|| replay.replay().unwrap());
        assert_eq!((allocated, reading(again)), (0, 0));
    }

    #[cfg(feature = "retry")]
    #[test]
    fn keeping_a_request_is_one_copy_of_it() {
        use tower_webhook::retry::{Exchange, HttpExchange};

        let exchange = HttpExchange::new();
        let request = || {
            let req = Request::post("/hooks").header("webhook-id", "msg_1");
            req.extension(7_u8).body(BufferedBody::from("{}")).unwrap()
        };
        let req = request();
        let (copy, _copy) = allocations(|| req.clone());
        assert!(copy > 0);
        let (kept, (_, mut again)) = allocations(|| exchange.first(request(), true));
        let (bare, _) = allocations(request);
        assert_eq!(kept - bare, copy);
        // The last attempt gets what was kept.
        let (last, _req) = allocations(|| exchange.again(&mut again, true).unwrap());
        assert_eq!(last, 0);
        let req = request();
        assert_eq!(allocations(|| exchange.first(req, false)).0, 0);
    }

    #[test]
    fn answers_that_have_not_failed_are_looked_at_for_nothing() {
        let mut service = PeekBodyLayer::new(1 << 10).layer(Bare);
        assert_eq!(count(&mut service, Request::new(())).0, 0);
        #[cfg(feature = "grpc")]
        {
            let mut service = GrpcPeekLayer::new().layer(Bare);
            assert_eq!(count(&mut service, Request::new(())).0, 0);
        }
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn a_unary_call_that_goes_well_costs_nothing() {
        #[derive(Clone, Debug)]
        struct Unary;

        impl Service<Request<Response<BufferedBody>>> for Unary {
            type Response = Response<BufferedBody>;
            type Error = Infallible;
            type Future = Ready<Result<Self::Response, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, req: Request<Response<BufferedBody>>) -> Self::Future {
                ready(Ok(req.into_body()))
            }
        }

        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        let body = BufferedBody::from("message").with_trailers(trailers);
        let res = Response::builder().header("content-type", "application/grpc");
        let res = res.body(body).unwrap();
        for layer in [
            GrpcPeekLayer::new(),
            GrpcPeekLayer::new().assume_unary(true),
        ] {
            let mut service = layer.layer(Unary);
            let (allocated, res) = count(&mut service, Request::new(res.clone()));
            assert_eq!(allocated, 0);
            assert_eq!(reading(res.into_body()), 0);
        }
    }
}

#[cfg(feature = "retry")]
mod retry {
    use super::*;
    use std::time::Duration;
    use tokio::time::Instant;
    use tower_webhook::{RetryWithJitterLayer, deadline::Deadline, retry::RetryConfig};

    /// Calls a service whose future is ready at once; says what that allocated.
    fn count_boxed<S, Req>(service: &mut S, req: Req) -> u64
    where
        S: Service<Req>,
    {
        let counted = allocations(|| {
            let future = pin!(service.call(req));
            let polled = future.poll(&mut Context::from_waker(Waker::noop()));
            assert!(
                matches!(polled, Poll::Ready(Ok(_))),
                "the call failed or waits"
            );
        });
        counted.0
    }

    #[test]
    fn an_attempt_that_succeeds_allocates_for_the_copy_of_the_request_alone() {
        let mut service = RetryWithJitterLayer::new(RetryConfig::default()).layer(Bare);
        let soon = Deadline::at(Instant::now() + Duration::from_secs(60));
        soon.scope(|| {
            for _ in 0..3 {
                // A header map without a header is copied for nothing.
                let req = Request::get("/").body(BufferedBody::default()).unwrap();
                assert_eq!(count_boxed(&mut service, req), 0);

                let req = Request::get("/")
                    .header("x-id", "7")
                    .body(BufferedBody::default())
                    .unwrap();
                // The first copy of a name of one's own makes it shared.
                drop(req.clone());
                let (copy, _copied) = allocations(|| req.clone());
                assert_eq!(count_boxed(&mut service, req), copy);
            }
        });
        let one = RetryConfig::builder().attempts(1).build().unwrap();
        let mut once = RetryWithJitterLayer::new(one).layer(Bare);
        let req = Request::get("/")
            .header("x-id", "7")
            .body(BufferedBody::default())
            .unwrap();
        assert_eq!(count_boxed(&mut once, req), 0);
    }
}

#[cfg(feature = "circuit-breaker")]
mod circuit_breaker {
    use super::*;
    use std::time::Duration;
    use tower_webhook::{
        BoxError, CircuitBreakerLayer,
        circuit_breaker::{BreakerConfig, BreakerConfigBuilder},
        outcome::Outcome,
        peer::OnePeer,
    };

    /// Calls a service whose future is ready at once; says what that allocated.
    fn call<S>(service: &mut S, uri: &str) -> (u64, Result<S::Response, BoxError>)
    where
        S: Service<Request<()>, Error = BoxError>,
    {
        let req = Request::post(uri).body(()).unwrap();
        allocations(|| {
            let future = pin!(service.call(req));
            match future.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => result,
                Poll::Pending => panic!("the future waits"),
            }
        })
    }

    fn configs() -> [BreakerConfigBuilder; 4] {
        [
            BreakerConfig::builder(),
            BreakerConfig::builder().without_failure_rate(),
            BreakerConfig::builder().window_time(Duration::from_secs(10)),
            BreakerConfig::builder().slow_call(Duration::from_secs(10)),
        ]
    }

    #[test]
    fn a_closed_breaker() {
        for config in configs() {
            let layer = CircuitBreakerLayer::new(config.build().unwrap());
            let mut one = layer.clone().peer(OnePeer).layer(Bare);
            let mut keyed = layer.layer(Bare);
            for n in 0..300 {
                assert_eq!(call(&mut one, "http://peer.test/").0, 0);
                let (allocated, result) =
                    call(&mut keyed, &format!("http://peer-{}.test/", n % 10));
                assert!(result.is_ok());
                assert!(n < 10 || allocated == 0, "a known key, {allocated}");
            }
        }
    }

    #[test]
    fn a_probe_and_its_success() {
        let config = BreakerConfig::builder().open_for(Duration::from_nanos(1));
        let layer = CircuitBreakerLayer::new(config.build().unwrap()).peer(OnePeer);
        let mut service = layer.layer(Bare);
        let breakers = layer.breakers();
        for round in 0..3 {
            for _ in 0..5 {
                breakers.admit("").unwrap().settle(Outcome::transient());
            }
            std::thread::sleep(Duration::from_millis(1));
            // The list of leases, once.
            assert_eq!(call(&mut service, "/").0, u64::from(round == 0));
        }
        assert_eq!(breakers.totals().trips, 3);
    }

    #[test]
    fn a_refusal_is_one_boxed_error() {
        let layer = CircuitBreakerLayer::new(BreakerConfig::default());
        let breakers = layer.breakers().clone();
        breakers.of("peer.test").unwrap().force_open();
        let (allocated, result) = call(&mut layer.layer(Bare), "http://peer.test/");
        assert!(result.is_err());
        assert_eq!(allocated, 1);
    }

    #[test]
    fn a_new_key() {
        let layer =
            CircuitBreakerLayer::new(BreakerConfig::builder().max_peers(64).build().unwrap());
        let mut service = layer.layer(Bare);
        for n in 0..10_000 {
            let (_, result) = call(&mut service, &format!("http://warm-{n}.test/"));
            assert!(result.is_ok());
        }
        // The key's text and the breaker. Its window allocates at the first failure.
        assert_eq!(call(&mut service, "http://new.test/").0, 2);
    }
}

#[cfg(feature = "stack")]
mod stack {
    use super::*;
    use std::sync::Arc;
    use tower_webhook::{
        BoxFuture, DeadLetterLayer, FailoverLayer,
        dead_letter::{DeadLetters, Entry, Sink},
        stack::deliver,
    };

    /// What one copy of the request allocates, and what deliveries do beyond it.
    fn beyond_the_copy<S>(mut service: S) -> [(u64, u64); 4]
    where
        S: Service<Request<BufferedBody>, Response = Response<BufferedBody>>,
    {
        let request = || {
            let req = Request::post("https://peer.test/hooks").header("webhook-id", "msg_1");
            let req = req.header("content-type", "application/json");
            req.body(BufferedBody::from("{}")).unwrap()
        };
        // A stack is called in one.
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build().unwrap();
        let _entered = runtime.enter();
        [(); 4].map(|()| {
            let req = request();
            // The first copy of a name or URI of one's own makes it shared.
            drop(req.clone());
            let (copy, copied) = allocations(|| req.clone());
            drop(copied);
            let (allocated, status) = allocations(|| {
                let future = pin!(service.call(req));
                match future.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(res)) => res.status(),
                    _ => panic!("the delivery failed or waits"),
                }
            });
            assert_eq!(status, 200);
            assert!(copy > 0);
            (copy, allocated - copy)
        })
    }

    #[test]
    fn a_delivery_that_goes_well_allocates_for_the_copy_of_the_request_alone() {
        let [first, others @ ..] = beyond_the_copy(deliver().build().unwrap().layer(Bare));
        // The key, in the breakers and in the metrics.
        assert!(first.1 > 0);
        assert_eq!(others.map(|(_, beyond)| beyond), [0; 3]);
    }

    /// Nothing goes wrong here, so nothing is written.
    #[derive(Debug)]
    struct NoSink;

    impl Sink for NoSink {
        fn write(&self, _: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
            panic!("an entry")
        }
    }

    #[test]
    fn dead_letters_and_retries_share_one_copy_of_the_request() {
        let deliver = deliver().dead_letters(DeadLetters::new(NoSink));
        let [_, others @ ..] = beyond_the_copy(deliver.build().unwrap().layer(Bare));
        // What the copy is shared by.
        assert_eq!(others.map(|(_, beyond)| beyond), [1; 3]);
    }

    #[test]
    fn dead_letters_alone_keep_one_copy_of_the_request() {
        let layer = DeadLetterLayer::new(DeadLetters::new(NoSink));
        let service = layer.layer(Bare);
        let all = beyond_the_copy(service);
        assert_eq!(all.map(|(_, beyond)| beyond), [1; 4]);
    }

    #[test]
    fn a_failover_keeps_a_copy_of_its_own() {
        let failover = FailoverLayer::fallbacks(["https://other.test/"]).build();
        let deliver = deliver().failover(failover.unwrap()).build().unwrap();
        let [_, others @ ..] = beyond_the_copy(deliver.layer(Bare));
        for (copy, beyond) in others {
            assert_eq!(beyond, copy);
        }
    }
}

#[cfg(feature = "queue")]
mod queue {
    use super::*;
    use std::time::Duration;
    use tower_webhook::queue::{Ask, End, Engine, MemoryQueue, NewJob};

    const LONG: Duration = Duration::from_secs(600);

    fn now<T>(future: impl Future<Output = Result<T, StoreError>>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(output)) => output,
            _ => panic!("the engine failed or waits"),
        }
    }

    /// What each operation allocates for its future, the copy of the job that a claim gives, and
    /// the sets that the job stands in: the same however much waits and was done.
    #[test]
    fn the_memory_queue_allocates_no_more_with_a_backlog() {
        for backlog in [0, 10_000] {
            let queue = MemoryQueue::default();
            for _ in 0..backlog {
                drop(now(queue.enqueue(vec![
                    NewJob::new("test", "payload").target("host"),
                ])));
            }
            let mut most = [0; 3];
            for _ in 0..100 {
                let job = NewJob::new("test", "payload").target("host");
                let (enqueued, _) = allocations(|| now(queue.enqueue(vec![job])));
                let (claimed, claims) = allocations(|| now(queue.claim(Ask::new(1, LONG))));
                let done = (claims.jobs[0].claim(), End::Done { result: None });
                let (settled, _) = allocations(|| now(queue.settle(vec![done])));
                for (most, now) in most.iter_mut().zip([enqueued, claimed, settled]) {
                    *most = now.max(*most);
                }
            }
            let [enqueued, claimed, settled] = most;
            let within = enqueued <= 14 && claimed <= 8 && settled <= 8;
            assert!(within, "with {backlog} behind it: {most:?}");
        }
    }
}
