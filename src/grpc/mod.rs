//! See how a gRPC call ends, although its answer has begun well.
//!
//! A gRPC server says how a call went in trailers, after the message. The head of such an answer
//! is always a 200, so retry, breaker and metrics would take every call for a success. Innermost on
//! the client's side, [`GrpcPeekLayer`] makes the end visible to
//! [`GrpcClassifier`](crate::outcome::GrpcClassifier):
//!
//! | The answer | What is done | Judged |
//! | --- | --- | --- |
//! | its head has a `grpc-status`, or it is no gRPC | nothing | at its head |
//! | the trailers are here, behind the first frames or at once | they are read: a [`GrpcEnd`] in the response's extensions, unless it is `OK` | at its head |
//! | the call is known to be unary | its message and trailers are waited for, as above | at its head |
//! | any other: a stream | passes on as it comes; a [`LateOutcome`] in the response's extensions | when it ends |
//!
//! What has been read is given again, in front of the rest, frame by frame and without a copy.
//!
//! # Which calls are unary
//!
//! Nothing in a gRPC call says it. Without being told, this layer takes only what is there already
//! when the head comes and never waits: the head of a stream whose first message comes in an hour
//! must not be held back, and a peer that waits for our next message would wait for ever. So tell
//! it: [`assume_unary`](GrpcPeekLayer::assume_unary) for a service without streams,
//! [`unary`](GrpcPeekLayer::unary) by the path, or a [`Call`] in the request's extensions. A call
//! whose answer is one message counts as unary, also if the request streams.
//!
//! Said of a call whose answer streams, it holds that answer back until it ends or goes over
//! [`max_message`](GrpcPeekLayer::max_message): wrong for a stream that is meant to be read as it
//! comes, and a deadlock for a dialogue. A timeout around the attempt covers the wait for the
//! trailers as for the head: put one there.
//!
//! # Order
//!
//! Inside retry, breaker and metrics; outside the transport. Outside retry, a call that fails in its
//! trailers is not retried.
//!
//! # Streams
//!
//! The verdict on a stream is said once, when its trailers are read. It is `UNKNOWN` where it ends
//! without a status, `UNAVAILABLE` where it breaks off, and
//! [`Cancelled`](crate::outcome::OutcomeKind::Cancelled) where the body is dropped before its end.
//!
//! # Cancel safety
//!
//! Dropping the response future drops the answer and what was read of it.
//!
//! # Examples
//!
//! ```
//! use bytes::Bytes;
//! use http::{HeaderMap, Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError,
//!     grpc::GrpcPeekLayer,
//!     outcome::{Classify, GrpcClassifier, MakeClassifier, OutcomeKind},
//! };
//!
//! # tokio_test::block_on(async {
//! let channel = service_fn(|_: Request<()>| async {
//!     let mut trailers = HeaderMap::new();
//!     trailers.insert("grpc-status", 14.into());
//!     let body = Full::<Bytes>::from("a message").with_trailers(std::future::ready(Some(Ok(trailers))));
//!     Ok::<_, BoxError>(Response::builder().header("content-type", "application/grpc").body(body)?)
//! });
//! let client = GrpcPeekLayer::new().assume_unary(true).layer(channel);
//!
//! let call = Request::post("/greeter.Greeter/SayHello").body(())?;
//! let classify = GrpcClassifier::new().make_classifier(&call);
//! let outcome = classify.classify(client.oneshot(call).await.as_ref());
//! assert_eq!((outcome.kind(), outcome.code()), (OutcomeKind::Transient, Some(14)));
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! [`GrpcEnd`]: crate::outcome::GrpcEnd
//! [`LateOutcome`]: crate::outcome::LateOutcome

mod body;
mod future;
mod layer;
mod service;

pub use self::{
    body::GrpcBody,
    future::ResponseFuture,
    layer::{Call, GrpcPeekLayer},
    service::GrpcPeek,
};
