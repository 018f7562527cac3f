//! Read a request body once; every layer behind shares the same bytes.
//!
//! [`BufferBodyLayer`] turns a request with any body into a `Request<`[`BufferedBody`]`>`. The
//! layers that need the whole body (`signature`,
//! `idempotency`) take that type and no other: the limit is written once, the
//! verified bytes are the handled bytes by type, and forgetting this layer is a compile error.
//!
//! # Refusals
//!
//! | What | Status | [`BodyError`] |
//! | --- | --- | --- |
//! | declared length over the limit, before a byte is read | 413 | [`TooLarge`](BodyError::TooLarge) |
//! | streamed past the limit, stopped there | 413 | [`TooLarge`](BodyError::TooLarge) |
//! | not whole after the deadline (10 s by default) | 408 | [`Deadline`](BodyError::Deadline) |
//! | ends early, or the connection fails | 400 | [`Unreadable`](BodyError::Unreadable) |
//! | another length than `Content-Length` says | 400 | [`Length`](BodyError::Length) |
//!
//! # Order
//!
//! Outside: metrics. Inside: everything that looks at the body. A streaming endpoint (uploads,
//! gRPC streams) does without this layer and without those that need it.
//!
//! # Cancel safety
//!
//! Dropping the response future drops the connection's body and what was read of it. While the
//! body is read, the service behind holds its readiness (a permit, a slot), as tower asks.
//!
//! # Panics
//!
//! A body that is not there at the first poll starts a timer, which needs a tokio runtime with
//! time enabled, as every tokio server has.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Full;
//! use std::convert::Infallible;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{BufferBodyLayer, body::BufferedBody};
//!
//! # tokio_test::block_on(async {
//! let service = BufferBodyLayer::new(16).layer(service_fn(|req: Request<BufferedBody>| async move {
//!     Ok::<_, Infallible>(Response::new(req.into_body()))
//! }));
//!
//! let small = Request::new(Full::<bytes::Bytes>::from("hello"));
//! assert_eq!(service.clone().oneshot(small).await?.status(), StatusCode::OK);
//!
//! let large = Request::new(Full::<bytes::Bytes>::from("more than sixteen bytes"));
//! assert_eq!(service.oneshot(large).await?.status(), StatusCode::PAYLOAD_TOO_LARGE);
//! # Ok::<_, Infallible>(())
//! # }).unwrap();
//! ```

mod buffered;
mod collect;
mod error;
pub(crate) mod front;
mod future;
mod layer;
pub mod peek;
mod rebuild;
mod replay;
mod response;
mod service;

pub use self::{
    buffered::BufferedBody,
    collect::{Collect, CollectError, collect},
    error::BodyError,
    front::PeekedBody,
    future::ResponseFuture,
    layer::BufferBodyLayer,
    rebuild::RebuildBody,
    replay::{Replay, ReplayBody, ReplayError},
    response::ResponseBody,
    service::BufferBody,
};
