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

    #[test]
    fn a_fresh_key() {
        let mut service = service(&store());
        let counts = (0..101).map(|n| count(&mut service, request(&format!("fresh-{n}"))).0);
        assert_eq!(usual(counts.collect()), 0);
    }

    #[test]
    fn a_repeat() {
        let mut service = service(&store());
        count(&mut service, request("repeated"));
        let counts = (0..101).map(|_| count(&mut service, request("repeated")).0);
        assert_eq!(usual(counts.collect()), 0);
    }

    #[test]
    fn the_store() {
        let store = store();
        let lease = Duration::from_secs(30);
        let (mut begins, mut repeats, mut completes) = (Vec::new(), Vec::new(), Vec::new());
        let mut in_flight = Vec::new();
        for n in 0..101 {
            let key = Key::new("/hooks", &format!("key-{n}")).unwrap();
            let (allocated, begun) = allocations(|| store.begin(&key, None, lease).into_inner());
            begins.push(allocated);
            let Begin::Acquired(token) = begun.unwrap() else {
                panic!("the key was free");
            };
            in_flight.push(allocations(|| store.begin(&key, None, lease)).0);
            let answer = Bytes::from_static(b"answer");
            completes.push(allocations(|| store.complete(&key, token, answer, lease)).0);
            repeats.push(allocations(|| store.begin(&key, None, lease)).0);
        }
        assert_eq!(usual(begins), 0);
        assert_eq!(usual(in_flight), 0);
        assert_eq!(usual(repeats), 0);
        assert_eq!(usual(completes), 0);
    }
    #[test]
    fn moka() {
        let store = ::moka::sync::Cache::builder()
            .max_capacity(10000)
            .time_to_live(Duration::from_secs(60))
            .build();
        let mut v = vec![];
        for n in 0..1000 {
            let key: std::sync::Arc<str> = format!("key-{n}").into();
            v.push(allocations(|| store.insert(key, n)).0);
        }
        assert_eq!(usual(v), 0);
    }

    #[test]
    fn a_key() {
        let (allocated, _key) = allocations(|| Key::new("/hooks", "id"));
        assert_eq!(allocated, 0);
    }
}
