//! Read the beginning of failed answers, so that they can be judged by what they say.
//!
//! Some peers say in the body alone whether a failure is for now or for good.
//! [`PeekBodyLayer`] reads a bounded part of such an answer, puts it into the response's extensions
//! as [`Peeked`](crate::outcome::Peeked), and passes the answer on whole: what was read in front of
//! the rest, trailers and length as they were. [`HttpClassifier::bodies`] judges by it.
//!
//! [`HttpClassifier::bodies`]: crate::outcome::HttpClassifier::bodies
//!
//! # Bounds
//!
//! No more is read than the limit (a frame that goes beyond it is kept, and shown cut), and no
//! longer than 1 second ([`time`](PeekBodyLayer::time)), nor beyond the
//! [`Deadline`](crate::deadline::Deadline) that holds. What is reached first ends the reading;
//! the answer is then judged by what is there. So the head of a failed answer comes later by that
//! time at most. Answers that have not failed pass without a look: which those are,
//! [`when`](PeekBodyLayer::when) can say otherwise.
//!
//! # Order
//!
//! Inside everything that judges: retry, breaker, metrics. Outside the transport. Outside retry it
//! would be too late for the decision.
//!
//! # Cancel safety
//!
//! Dropping the response future drops the answer and what was read of it.
//!
//! # Panics
//!
//! A body that is not there at the first poll starts a timer, which needs a tokio runtime with time
//! enabled.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{
//!     BoxError,
//!     body::peek::PeekBodyLayer,
//!     outcome::{Classify, HttpClassifier, MakeClassifier, Outcome},
//! };
//!
//! # tokio_test::block_on(async {
//! let transport = service_fn(|_: Request<()>| async {
//!     let answer = Full::<bytes::Bytes>::from(r#"{"error":"locked"}"#);
//!     Ok::<_, BoxError>(Response::builder().status(400).body(answer)?)
//! });
//! let client = PeekBodyLayer::new(4 << 10).layer(transport);
//! let classifier = HttpClassifier::new().bodies(|_, body| {
//!     let is_locked = body.windows(6).any(|window| window == b"locked");
//!     is_locked.then(Outcome::transient)
//! });
//!
//! let req = Request::put("/items/1").body(())?;
//! let classify = classifier.make_classifier(&req);
//! let res = client.oneshot(req).await;
//! assert!(classify.classify(res.as_ref()).may_retry());
//! assert_eq!(res?.into_body().collect().await?.to_bytes(), r#"{"error":"locked"}"#);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```

mod future;
mod layer;
mod service;

pub use self::{future::ResponseFuture, layer::PeekBodyLayer, service::PeekBody};
