//! Reads a request body once, so that every inner layer shares the same bytes.
//!
//! [`BufferBodyLayer`] turns a request with any body into a `Request<`[`BufferedBody`]`>`. The layers
//! that need the whole body (`signature`, `idempotency`) take only that type: the limit is set once,
//! the type guarantees that the verified bytes are the handled bytes, and a stack without this layer
//! does not compile.
//!
//! # Refusals
//!
//! | Body | Status | [`BodyError`] |
//! | --- | --- | --- |
//! | the declared length is over the limit (nothing is read) | 413 | [`TooLarge`](BodyError::TooLarge) |
//! | the body is longer than the limit (reading stops there) | 413 | [`TooLarge`](BodyError::TooLarge) |
//! | the body is not complete after the deadline (10 s by default) | 408 | [`Deadline`](BodyError::Deadline) |
//! | the body ends early, or the connection fails | 400 | [`Unreadable`](BodyError::Unreadable) |
//! | the length differs from `Content-Length` | 400 | [`Length`](BodyError::Length) |
//! | the [`BodyBudget`] has no room, within a second | 503 | [`Busy`](BodyError::Busy) |
//!
//! Observers are told of each refusal as [`Event::Refused`](crate::observe::Event::Refused).
//!
//! # Order
//!
//! Outside: metrics. Inside: everything that reads the body. Leave out this layer and those that need it
//! for streaming endpoints (uploads, gRPC streams).
//!
//! # Memory
//!
//! The bodies in flight share a [`BodyBudget`], 64 MiB by default. It does not ask who sends them;
//! with [`BodyBudget::share_by`] no peer takes more than an eighth of it. A stack
//! that knows its senders refuses strangers before their bodies are read: with `signature`, see
//! `SignatureVerifyLayer::before_body`.
//!
//! # Cancel safety
//!
//! Dropping the response future drops the body and the bytes that were read, and gives them back to the budget. While the body is read, the
//! inner service keeps what it reserved in `poll_ready` (a permit, a slot), as tower requires.
//!
//! # Panics
//!
//! A body that is pending at the first poll starts a timer, which needs a tokio runtime with time
//! enabled.
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

mod budget;
mod buffer;
mod buffered;
mod collect;
pub mod peek;
pub(crate) mod peeked;
mod replay;
mod response;

pub use self::{
    budget::BodyBudget,
    buffer::{BodyError, BufferBody, BufferBodyLayer, ResponseFuture},
    buffered::BufferedBody,
    collect::{Collect, CollectError, collect},
    peeked::PeekedBody,
    replay::{Replay, ReplayBody, ReplayError},
    response::ResponseBody,
};
