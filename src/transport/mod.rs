//! Clients at the bottom of a stack: hyper-util, reqwest, a tonic channel.
//!
//! Each function makes a tower service of a client. Its errors are [`TransportError`]s, which know what they say about
//! the call, so that every layer outside judges them rightly without a setting:
//!
//! | Service | Takes | Feature |
//! | --- | --- | --- |
//! | [`hyper(client)`](hyper()) | hyper-util's client or a hyper connection, with the body that it was made for | `hyper-util` |
//! | [`reqwest(client)`](reqwest()) | `Request<BufferedBody>` | `reqwest` |
//! | [`tonic(channel)`](tonic()) | the requests of generated gRPC clients | `tonic` |
//!
//! [`InterimFlood`] ends a call to a target that answers with nothing but interim answers (1xx).
//! [`post_json`] makes a request of a value, [`read_json`] a value of a response.
//!
//! # Examples
//!
//! ```
//! # use axum::{Json, Router, routing::post};
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use serde_json::{Value, json};
//! use tower::{Layer, ServiceExt};
//! use tower_webhook::{BoxError, stack, transport};
//!
//! # tokio_test::block_on(async {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let url = format!("http://{}/hooks", listener.local_addr()?);
//! # let app = Router::new().route("/hooks", post(|Json(_): Json<Value>| async { Json(json!({"ok": true})) }));
//! # tokio::spawn(async { axum::serve(listener, app).await });
//! let client = Client::builder(TokioExecutor::new()).build_http();
//! let deliver = stack::deliver().build()?.layer(transport::hyper(client));
//!
//! let mut req = transport::post_json(&url, &json!({"id": 7}))?;
//! req.headers_mut().insert("webhook-id", "msg_1".parse()?); // so it may be repeated
//! let answer: Value = transport::read_json(deliver.oneshot(req).await?).await?;
//! assert_eq!(answer["ok"], true);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Order
//!
//! Innermost. For another client, wrap its errors in [`Unreached`](crate::outcome::Unreached),
//! [`Unsendable`](crate::outcome::Unsendable) or a [`TransportError`].
//!
//! The clients repeat some requests themselves, before anything is judged: hyper-util repeats what
//! was not yet written to a pooled connection (`retry_canceled_requests`), reqwest the two HTTP/2
//! cases (`ClientBuilder::retry`). Turn that off if each attempt must be counted.
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`peek`](Tonic::peek) | never waits | how the status in trailers is read: see [`GrpcPeekLayer`](crate::grpc::GrpcPeekLayer) |
//!
//! All others are the client's.
//!
//! # Errors
//!
//! A request that provably never reached the peer is [`Unreached`](crate::outcome::OutcomeKind::Unreached), and may be
//! sent again even if it is a POST without a key; one that the client does not take is
//! [`Unsendable`](crate::outcome::OutcomeKind::Unsendable): not retried, and no evidence against the peer.
//!
//! | What happened | Outcome |
//! | --- | --- |
//! | this machine has no file handle left | `Refused` |
//! | no address (DNS), connection refused, connect timeout | `Unreached` |
//! | TLS: handshake cut, plaintext peer, certificate of another name, expired or untrusted | `Unreached`: see below |
//! | the connection ended before the request was written | `Unreached` |
//! | HTTP/2 `REFUSED_STREAM` | `Unreached` ([RFC 9113 §8.7](https://www.rfc-editor.org/rfc/rfc9113#section-8.7)) |
//! | HTTP/2 GOAWAY with `NO_ERROR`, whose last stream is before this one | `Unreached` ([RFC 9113 §6.8](https://www.rfc-editor.org/rfc/rfc9113#section-6.8)) |
//! | HTTP/2 `ENHANCE_YOUR_CALM` | `Throttled` |
//! | any other `RST_STREAM` or GOAWAY | `Transient` |
//! | reset or closed after the request was written, also on a connection that was idle for long | `Transient` |
//! | half a head, or one that is not HTTP | `Transient` |
//! | a timeout that is not the connector's | `Transient` |
//! | an address or method that the client does not take: no host, `https` without TLS, another scheme | `Unsendable` |
//! | the request's own body failed | `Unsendable` |
//! | reqwest: too many redirects | `Permanent` |
//!
//! A bad certificate is `Unreached`, and so retried: nothing was sent, a certificate may be renewed
//! while a delivery waits, and only one of several hosts behind a name may have a bad one. To change
//! that, give the classifier a [rule](crate::outcome::HttpClassifier::errors) that calls
//! [`Outcome::never_retry`](crate::outcome::Outcome::never_retry).
//!
//! # Cancel safety
//!
//! As the client's: dropping the future of a call drops the call.

mod interim;
mod json;
mod judge;
#[cfg(feature = "reqwest")]
mod reqwest;
mod service;
#[cfg(feature = "tonic")]
mod tonic;

#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub use self::reqwest::{Reqwest, ReqwestFuture, reqwest};
#[cfg(feature = "tonic")]
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
pub use self::tonic::{Tonic, tonic};
pub use self::{
    interim::{InterimFlood, InterimLimited},
    json::{post_json, read_json},
    service::{Hyper, ResponseFuture, hyper},
};
pub use crate::outcome::TransportError;
