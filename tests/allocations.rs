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
use tower_webhook::{BufferBodyLayer, body::BufferedBody};

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
fn buffering_a_body_that_is_here_allocates_nothing() {
    let payload = Bytes::from(vec![b'x'; 1024]);
    let mut service = BufferBodyLayer::new(4096).layer(Bare);
    for _ in 0..3 {
        let req = Request::new(Full::new(payload.clone()));
        let (allocated, response) = count(&mut service, req);
        assert_eq!((allocated, response.status().as_u16()), (0, 200));
    }
}

#[cfg(all(feature = "idempotency", feature = "moka"))]
mod idempotency {
    use super::*;
    use http::HeaderName;
    use std::time::Duration;
    use tower_webhook::{
        IdempotencyLayer,
        idempotency::{Begin, Idempotency, Key, KeySource, MemoryStore, Store},
    };

    const ID: HeaderName = HeaderName::from_static("x-id");

    fn service(store: &MemoryStore) -> Idempotency<Bare, MemoryStore> {
        let layer = IdempotencyLayer::webhook(store.clone(), KeySource::header(ID));
        layer.build().unwrap().layer(Bare)
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
        // The key's text; the claim among the request's extensions; the record of the answer, and
        // the count of its owners.
        assert_eq!(usual(counts.collect()), 1 + 1 + 2 + MOKA);
    }

    #[test]
    fn a_repeat() {
        let mut service = service(&store());
        count(&mut service, request("repeated"));
        let counts = (0..101).map(|_| count(&mut service, request("repeated")).0);
        // The key's text; the header map, for the marker; the response's extensions, for the
        // disposition. The body is the stored one.
        assert_eq!(usual(counts.collect()), 1 + 2 + 3);
    }

    #[test]
    fn a_request_that_is_not_guarded() {
        let layer = IdempotencyLayer::api(MemoryStore::default());
        let mut service = layer.build().unwrap().layer(Bare);
        let get = Request::get("/").body(BufferedBody::default()).unwrap();
        assert_eq!(count(&mut service, get).0, 0);
    }

    #[test]
    fn a_key_is_one_allocation_up_to_256_bytes() {
        for (scope_len, expected) in [(6, 1), (220, 1), (1024, 2)] {
            let (scope, id) = ("x".repeat(scope_len), "0".repeat(36));
            assert_eq!(allocations(|| Key::new(&scope, &id)).0, expected);
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
            let key = Key::new("/hooks", &format!("key-{n}")).unwrap();
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

#[cfg(feature = "circuit-breaker")]
mod circuit_breaker {
    use super::*;
    use std::time::Duration;
    use tower_webhook::{
        BoxError, CircuitBreakerLayer,
        circuit_breaker::{BreakerConfig, BreakerConfigBuilder},
        key::NoKey,
        outcome::Outcome,
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
            BreakerConfig::builder().cognigy(),
            BreakerConfig::builder().window_time(Duration::from_secs(10)),
            BreakerConfig::builder().slow_call(Duration::from_secs(10)),
        ]
    }

    #[test]
    fn a_closed_breaker() {
        for config in configs() {
            let layer = CircuitBreakerLayer::new(config.build().unwrap());
            let mut one = layer.clone().key(NoKey).layer(Bare);
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
        let layer = CircuitBreakerLayer::new(config.build().unwrap()).key(NoKey);
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
        let layer = CircuitBreakerLayer::new(BreakerConfig::cognigy());
        let breakers = layer.breakers().clone();
        breakers.of("peer.test").unwrap().force_open();
        let (allocated, result) = call(&mut layer.layer(Bare), "http://peer.test/");
        assert!(result.is_err());
        assert_eq!(allocated, 1);
    }

    #[test]
    fn a_new_key() {
        let layer =
            CircuitBreakerLayer::new(BreakerConfig::builder().max_keys(64).build().unwrap());
        let mut service = layer.layer(Bare);
        for n in 0..10_000 {
            let (_, result) = call(&mut service, &format!("http://warm-{n}.test/"));
            assert!(result.is_ok());
        }
        // The key's text, the breaker, and the ring of its window.
        assert_eq!(call(&mut service, "http://new.test/").0, 3);
    }
}
