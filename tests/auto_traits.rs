//! Which public types may cross threads, be shared and be cloned: a change of these is a breaking
//! change that no other test would notice.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use http::Request;
use std::convert::Infallible;
use tower_webhook::{
    BoxFuture, BufferBodyLayer, InvalidConfig, StoreError, StoreErrorKind,
    body::{self, BodyError, BufferBody, BufferedBody, Collect, CollectError, ResponseBody},
    clock::WallClock,
    outcome::LateOutcome,
    problem::Problem,
};

fn shared<T: Send + Sync + 'static>() {}
fn cloned<T: Clone + Send + Sync + 'static>() {}
#[cfg(feature = "failover")]
fn cloned_value<T: Clone + Send + Sync + 'static>(_: &T) {}
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

#[test]
fn of_the_time_limits() {
    use tower_webhook::deadline::{
        AttemptTimeout, AttemptTimeoutLayer, Deadline, DeadlineExceeded, DeadlineLayer,
        PropagateDeadline, PropagateDeadlineLayer, ResponseFuture, WithAttemptTimeout,
        WithDeadline,
    };
    type FutureOf<S> = <S as tower::Service<Request<BufferedBody>>>::Future;
    fn all_cloned<T: Clone + Send + Sync + Unpin + 'static>(_: T) {}
    cloned::<DeadlineLayer>();
    cloned::<WithDeadline<Inner>>();
    let header = DeadlineLayer::from_grpc_timeout(std::time::Duration::MAX).unwrap();
    all_cloned(header);
    sent::<ResponseFuture<FutureOf<Inner>>>();
    cloned::<AttemptTimeoutLayer>();
    cloned::<WithAttemptTimeout<Inner>>();
    cloned::<PropagateDeadlineLayer>();
    cloned::<PropagateDeadline<Inner>>();
    sent::<FutureOf<PropagateDeadline<Inner>>>();
    cloned::<Deadline>();
    cloned::<DeadlineExceeded>();
    cloned::<AttemptTimeout>();
}

#[cfg(feature = "failover")]
#[test]
fn of_failover_and_fallback() {
    use tower_webhook::{
        FailoverLayer, FallbackLayer,
        failover::{EachOf, Failover, FailoverLayerBuilder, TargetIndex},
        fallback::{AnswerHttp, Failure, Fallback, FallbackReason},
    };
    type FutureOf<S> = <S as tower::Service<Request<BufferedBody>>>::Future;
    cloned::<FailoverLayer>();
    cloned::<FailoverLayer<EachOf<u8, fn(&mut u8, &u8)>>>();
    sent::<FailoverLayerBuilder>();
    cloned::<Failover<Inner>>();
    sent::<FutureOf<Failover<Inner>>>();
    cloned::<TargetIndex>();
    cloned::<FallbackLayer<AnswerHttp>>();
    let by_function = |_: &Failure<'_, (), ()>| None;
    cloned_value(&FallbackLayer::new(by_function));
    cloned::<Fallback<Inner, AnswerHttp>>();
    sent::<FutureOf<Fallback<Inner, AnswerHttp>>>();
    cloned::<FallbackReason>();
}

#[cfg(feature = "dead-letter")]
#[test]
fn of_the_dead_letter_layer() {
    use tower_webhook::{
        BoxError, DeadLetterLayer,
        dead_letter::{
            DeadLetter, DeadLettered, DeadLetters, DescribeFn, Entry, EntryLost, HttpRequests,
            NotWritten, Redaction,
        },
        outcome::HttpClassifier,
        peer::ByHost,
    };
    type Service = DeadLetter<Inner, HttpClassifier, ByHost, HttpRequests>;
    type FutureOf<S> = <S as tower::Service<Request<BufferedBody>>>::Future;
    cloned::<DeadLetterLayer>();
    cloned::<Service>();
    sent::<FutureOf<Service>>();
    cloned::<DeadLetters>();
    cloned::<Entry>();
    cloned::<Redaction>();
    cloned::<DeadLettered>();
    cloned::<HttpRequests>();
    cloned::<DescribeFn<fn()>>();
    shared::<EntryLost>();
    shared::<NotWritten>();
    sent::<BoxError>();
}

#[cfg(all(feature = "idempotency", feature = "moka"))]
#[test]
fn of_the_idempotency_layer() {
    use tower_webhook::idempotency::{
        Begin, Claim, Disposition, Fingerprint, FingerprintOf, Idempotency, IdempotencyError,
        IdempotencyKey, IdempotencyLayer, KeyError, KeySource, MemoryStore, MemoryStoreBuilder,
        Ran, ResponseFuture, RunOnce, RunOnceError, StoreOutage,
    };
    use tower_webhook::lease::{FencingToken, Settled};
    cloned::<IdempotencyLayer<MemoryStore>>();
    shared::<IdempotencyLayer<MemoryStore>>();
    cloned::<Idempotency<Inner, MemoryStore>>();
    sent::<ResponseFuture<Inner, MemoryStore, BufferedBody>>();
    cloned::<MemoryStore>();
    cloned::<MemoryStoreBuilder>();
    cloned::<RunOnce<MemoryStore>>();
    cloned::<Ran>();
    shared::<RunOnceError<Infallible>>();
    cloned::<IdempotencyKey>();
    cloned::<KeyError>();
    cloned::<KeySource>();
    cloned::<Claim>();
    cloned::<FencingToken>();
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

#[test]
fn of_bodies_that_are_sent_again_or_looked_at() {
    use tower_webhook::{
        body::{
            PeekedBody, Replay, ReplayBody, ReplayError,
            peek::{self, PeekBody, PeekBodyLayer},
        },
        outcome::Peeked,
    };
    type Answer = std::future::Ready<Result<http::Response<BufferedBody>, Infallible>>;
    /// May be sent and not shared, as most streaming bodies.
    type Sendable = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, Infallible>;
    sent::<ReplayBody<Sendable>>();
    shared::<Replay<Sendable>>();
    unpinned::<ReplayBody<Sendable>>();
    cloned::<ReplayError>();
    cloned::<PeekBodyLayer>();
    cloned::<PeekBody<Inner>>();
    sent::<peek::ResponseFuture<Answer, Sendable>>();
    sent::<PeekedBody<Sendable>>();
    unpinned::<PeekedBody<Sendable>>();
    cloned::<Peeked>();
}

/// Feature `grpc` gives the type its values. A feature only adds, so that the type without values may not
/// do more.
#[test]
fn of_late_outcomes_with_values_and_without() {
    trait Ambiguous<A> {
        fn if_copy() {}
    }
    impl<T> Ambiguous<()> for T {}
    impl<T: Copy> Ambiguous<u8> for T {}

    cloned::<LateOutcome>();
    // Compiles only if one of the two applies.
    <LateOutcome as Ambiguous<_>>::if_copy();
}

#[cfg(feature = "grpc")]
#[test]
fn of_grpc_responses_and_their_late_outcomes() {
    use tower_webhook::{
        grpc::{self, Call, GrpcBody, GrpcPeek, GrpcPeekLayer},
        outcome::LateSender,
    };
    type Answer = std::future::Ready<Result<http::Response<BufferedBody>, Infallible>>;
    type Sendable = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, Infallible>;
    cloned::<GrpcPeekLayer>();
    cloned::<GrpcPeek<Inner>>();
    cloned::<Call>();
    sent::<grpc::ResponseFuture<Answer, Sendable>>();
    sent::<GrpcBody<Sendable>>();
    unpinned::<GrpcBody<Sendable>>();
    shared::<LateSender>();
}

#[cfg(feature = "retry")]
#[test]
fn of_the_exchanges() {
    use tower_webhook::retry::{Exchange, ExchangeResponse, HttpExchange, ReplayExchange};
    type Sendable = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, Infallible>;
    cloned::<HttpExchange>();
    cloned::<ReplayExchange>();
    shared::<<ReplayExchange as Exchange<Request<Sendable>>>::Kept>();
    sent::<<HttpExchange as ExchangeResponse<http::Response<Sendable>>>::Discard>();
}

#[cfg(feature = "retry")]
#[test]
fn of_the_retry_layer() {
    use tower_webhook::{
        attempt::{Attempt, AttemptRecord, Failed, GaveUp, History},
        outcome::{ClassifyHttp, HttpClassifier},
        retry::{
            Backoff, BackoffBuilder, Budget, BudgetBuilder, BudgetPermit, CloneExchange, HintLimit,
            Jitter, Refusals, ResponseFuture, RetryConfig, RetryConfigBuilder, RetryWithJitter,
            RetryWithJitterLayer, Schedule,
        },
    };
    cloned::<RetryWithJitterLayer>();
    cloned::<RetryWithJitter<Inner, HttpClassifier>>();
    sent::<ResponseFuture<Inner, ClassifyHttp, CloneExchange, Request<BufferedBody>>>();
    cloned::<RetryConfig>();
    shared::<RetryConfigBuilder>();
    cloned::<Budget>();
    cloned::<BudgetBuilder>();
    shared::<BudgetPermit>();
    cloned::<Backoff>();
    cloned::<BackoffBuilder>();
    cloned::<Jitter>();
    cloned::<Schedule>();
    cloned::<HintLimit>();
    cloned::<Refusals>();
    cloned::<Attempt>();
    cloned::<AttemptRecord>();
    cloned::<GaveUp>();
    cloned::<History>();
    shared::<Failed>();
}

#[cfg(feature = "metrics")]
#[test]
fn of_the_metrics_layer() {
    use tower_webhook::{
        metrics::{
            DeliveryMetrics, DeliveryMetricsLayer, Latency, LevelSnapshot, Measure, PeerSnapshot,
            ResponseFuture, Snapshot,
        },
        outcome::{ClassifyHttp, HttpClassifier},
        peer::ByHost,
    };
    type Future = <Inner as tower::Service<Request<BufferedBody>>>::Future;
    cloned::<DeliveryMetricsLayer>();
    cloned::<Measure<Inner, HttpClassifier, ByHost>>();
    sent::<ResponseFuture<Future, ClassifyHttp>>();
    cloned::<DeliveryMetrics>();
    cloned::<Snapshot>();
    cloned::<PeerSnapshot>();
    cloned::<LevelSnapshot>();
    cloned::<Latency>();
}

#[cfg(feature = "metrics-facade")]
#[test]
fn of_the_facade_exporter() {
    use tower_webhook::metrics::{FacadeExporter, FacadeExporterBuilder};
    cloned::<FacadeExporter>();
    cloned::<FacadeExporterBuilder>();
}

#[cfg(feature = "circuit-breaker")]
#[test]
fn of_the_circuit_breaker() {
    use tower_webhook::{
        CircuitBreakerLayer,
        circuit_breaker::{
            BreakerConfig, BreakerConfigBuilder, BreakerMode, BreakerPermit, BreakerSnapshot,
            BreakerState, Breakers, CircuitBreaker, CircuitOpen, PeerBreaker, ResponseFuture,
            Totals,
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
    cloned::<PeerBreaker>();
    cloned::<Totals>();
    shared::<BreakerPermit>();
    unpinned::<BreakerPermit>();
    sent::<ResponseFuture<std::future::Ready<()>, ()>>();
    unpinned::<ResponseFuture<std::future::Ready<()>, ()>>();
}

#[cfg(feature = "queue")]
#[test]
fn of_the_queue() {
    use tower_webhook::queue::{
        Claims, EnqueueService, Job, NewJob, Queue, Task, TaskStatusService, Worker, WorkerBuilder,
        WorkerHandle,
    };
    type Make = fn(Request<BufferedBody>) -> Result<NewJob, Problem>;
    type FutureOf<S> = <S as tower::Service<Request<BufferedBody>>>::Future;
    cloned::<Queue>();
    cloned::<EnqueueService<Queue, Make>>();
    cloned::<TaskStatusService>();
    cloned::<(Job, NewJob, Task, Claims)>();
    shared::<StoreError>();
    shared::<WorkerHandle>();
    sent::<Worker>();
    sent::<WorkerBuilder>();
    sent::<FutureOf<EnqueueService<Queue, Make>>>();
    sent::<FutureOf<TaskStatusService>>();
}

#[cfg(feature = "queue")]
#[test]
fn of_the_memory_queue() {
    use tower_webhook::queue::{MemoryQueue, MemoryQueueBuilder};

    cloned::<MemoryQueue>();
    cloned::<MemoryQueueBuilder>();
}

#[cfg(feature = "dead-letter")]
#[test]
fn of_entries_at_rest() {
    use tower_webhook::dead_letter::{
        Cursor, DeadLetters, Entry, EntryClaim, EntryId, Filter, JsonlDeadLetters,
        JsonlDeadLettersBuilder, LetterStore, Listing, MemoryDeadLetters, MemoryDeadLettersBuilder,
        NotWritten, OpenDeadLettersError, Page, Sink, Summary,
    };
    cloned::<DeadLetters>();
    cloned::<MemoryDeadLetters>();
    cloned::<MemoryDeadLettersBuilder>();
    cloned::<JsonlDeadLetters>();
    cloned::<JsonlDeadLettersBuilder>();
    cloned::<std::sync::Arc<dyn Sink>>();
    cloned::<std::sync::Arc<dyn LetterStore>>();
    cloned::<Entry>();
    cloned::<EntryClaim>();
    cloned::<EntryId>();
    cloned::<Summary>();
    cloned::<Listing>();
    cloned::<Filter>();
    cloned::<Page>();
    cloned::<Cursor>();
    cloned::<StoreErrorKind>();
    shared::<StoreError>();
    shared::<NotWritten>();
    shared::<OpenDeadLettersError>();
}
