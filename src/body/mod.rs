//! Reads a request body once, so that every inner layer shares the same bytes.
//!
//! [`BufferBodyLayer`] turns a request with any body into a `Request<`[`BufferedBody`]`>`, the only type that
//! `signature` and `idempotency` take: the verified bytes are the handled bytes, and a stack without this layer
//! does not compile.
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
//!
//! # Order
//!
//! Outside: metrics. Inside: everything that reads the body. Leave out this layer and those that need it
//! for streaming endpoints (uploads, gRPC streams).
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`new`](BufferBodyLayer::new) | to be set | bytes: the longest body |
//! | [`deadline`](BufferBodyLayer::deadline) | 10 s | time from the first poll of the body to its last byte |
//! | [`budget`](BufferBodyLayer::budget) | 64 MiB, or twice the longest body | bytes of all bodies in flight, in a [`BodyBudget`] that layers can share |
//! | [`share_by`](BodyBudget::share_by) | no peers | names the peer of a request, which then takes at most an eighth of the budget |
//! | [`refuse_with`](BufferBodyLayer::refuse_with) | `application/problem+json` | makes the response to a refused request |
//! | [`observe`](BufferBodyLayer::observe) | none except `tracing` | adds an observer of [`Event::Refused`](crate::observe::Event::Refused) |
//!
//! # Answers
//!
//! | Body | Status | [`BodyError`] |
//! | --- | --- | --- |
//! | the declared length is over the limit (nothing is read) | 413 | [`TooLarge`](BodyError::TooLarge) |
//! | the body is longer than the limit (reading stops there) | 413 | [`TooLarge`](BodyError::TooLarge) |
//! | the body is not complete after the deadline | 408 | [`Deadline`](BodyError::Deadline) |
//! | the body ends early, or the connection fails | 400 | [`Unreadable`](BodyError::Unreadable) |
//! | the length differs from `Content-Length` | 400 | [`Length`](BodyError::Length) |
//! | the [`BodyBudget`] has no room, within a second | 503 | [`Busy`](BodyError::Busy) |
//!
//! # Cancel safety
//!
//! Dropping the response future drops the body and the bytes that were read, and gives them back to the budget. While the body is read, the
//! inner service keeps what it reserved in `poll_ready` (a permit, a slot), as tower requires.
//!
//! # Memory
//!
//! The budget does not ask who sends the bodies in flight, unless [`BodyBudget::share_by`] names peers. A stack
//! that knows its senders refuses strangers before their bodies are read: with `signature`, see
//! `SignatureVerifyLayer::before_body`.
//!
//! # Panics
//!
//! A body that is pending at the first poll starts a timer, which needs a tokio runtime with time
//! enabled.

mod budget;
mod buffer;
mod buffered;
mod collect;
pub mod peek;
pub(crate) mod peeked;
mod replay;
mod response;
mod takes;

pub use self::{
    budget::BodyBudget,
    buffer::{BodyError, BufferBody, BufferBodyLayer, ResponseFuture},
    buffered::BufferedBody,
    collect::{Collect, CollectError, collect},
    peeked::PeekedBody,
    replay::{Replay, ReplayBody, ReplayError},
    response::ResponseBody,
    takes::{BufferedFrom, BufferedService, CloneService},
};
