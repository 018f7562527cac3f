//! Which public types may cross threads, be shared and be cloned: a change of these is a breaking
//! change that no other test would notice.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use http::Request;
use std::convert::Infallible;
use tower_webhook::{
    BufferBodyLayer, InvalidConfig,
    body::{self, BodyError, BufferBody, BufferedBody, Collect, CollectError, ResponseBody},
    clock::WallClock,
    problem::Problem,
};

fn shared<T: Send + Sync + 'static>() {}
fn cloned<T: Clone + Send + Sync + 'static>() {}
fn sent<T: Send + 'static>() {}
fn unpinned<T: Unpin>() {}

/// A service whose futures may be sent and not shared, as most are.
#[derive(Clone, Debug)]
struct Inner;

impl tower::Service<Request<BufferedBody>> for Inner {
    type Response = http::Response<BufferedBody>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        unreachable!("never called")
    }

    fn call(&mut self, _: Request<BufferedBody>) -> Self::Future {
        unreachable!("never called")
    }
}

#[test]
fn of_the_body_layer() {
    cloned::<BufferBodyLayer>();
    cloned::<BufferBody<Inner>>();
    cloned::<BufferedBody>();
    cloned::<ResponseBody<BufferedBody>>();
    cloned::<BodyError>();
    cloned::<CollectError<Infallible>>();
    cloned::<InvalidConfig>();
    cloned::<WallClock>();
    cloned::<Problem>();
    shared::<Collect<BufferedBody>>();
    sent::<body::ResponseFuture<Inner, BufferedBody>>();
    unpinned::<BufferedBody>();
    unpinned::<ResponseBody<BufferedBody>>();
}

#[cfg(all(feature = "idempotency", feature = "moka"))]
#[test]
fn of_the_idempotency_layer() {
    use tower_webhook::idempotency::{
        Begin, BoxFuture, Claim, Disposition, Fingerprint, FingerprintOf, Idempotency,
        IdempotencyError, IdempotencyLayer, IdempotencyLayerBuilder, Key, KeyError, KeySource,
        MemoryStore, MemoryStoreBuilder, Ran, ResponseFuture, RunOnce, RunOnceError, Settled,
        StoreError, StoreErrorKind, StoreOutage, Token,
    };
    cloned::<IdempotencyLayer<MemoryStore>>();
    shared::<IdempotencyLayerBuilder<MemoryStore>>();
    cloned::<Idempotency<Inner, MemoryStore>>();
    sent::<ResponseFuture<Inner, MemoryStore, BufferedBody>>();
    cloned::<MemoryStore>();
    cloned::<MemoryStoreBuilder>();
    cloned::<RunOnce<MemoryStore>>();
    cloned::<Ran>();
    shared::<RunOnceError<Infallible>>();
    cloned::<Key>();
    cloned::<KeyError>();
    cloned::<KeySource>();
    cloned::<Claim>();
    cloned::<Token>();
    cloned::<Fingerprint>();
    cloned::<FingerprintOf>();
    cloned::<Begin>();
    cloned::<Settled>();
    cloned::<Disposition>();
    cloned::<IdempotencyError>();
    cloned::<StoreOutage>();
    cloned::<StoreErrorKind>();
    shared::<StoreError>();
    sent::<BoxFuture<()>>();
}

#[cfg(feature = "circuit-breaker")]
#[test]
fn of_the_circuit_breaker() {
    use tower_webhook::{
        CircuitBreakerLayer,
        circuit_breaker::{
            BreakerConfig, BreakerConfigBuilder, BreakerMode, BreakerSnapshot, BreakerState,
            Breakers, CircuitBreaker, CircuitOpen, KeyBreaker, Permit, ResponseFuture, Totals,
            Transition, TransitionReason,
        },
    };
    cloned::<CircuitBreakerLayer>();
    cloned::<CircuitBreaker<Inner>>();
    cloned::<BreakerConfig>();
    cloned::<BreakerConfigBuilder>();
    cloned::<BreakerMode>();
    cloned::<BreakerSnapshot>();
    cloned::<BreakerState>();
    cloned::<Breakers>();
    cloned::<CircuitOpen>();
    cloned::<KeyBreaker>();
    cloned::<Totals>();
    cloned::<Transition>();
    cloned::<TransitionReason>();
    shared::<Permit>();
    unpinned::<Permit>();
    sent::<ResponseFuture<std::future::Ready<()>, ()>>();
    unpinned::<ResponseFuture<std::future::Ready<()>, ()>>();
}
