//! Send webhooks, or call any HTTP or gRPC service, through one stack.
//!
//! ```
//! # use axum::{Router, routing::post};
//! use serde_json::json;
//! use std::time::Duration;
//! use tower_webhook::{BoxError, signature::scheme::StandardWebhooks, stack, transport};
//!
//! # tokio_test::block_on(async {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let url = format!("http://{}/hooks", listener.local_addr()?);
//! # tokio::spawn(async { axum::serve(listener, Router::new().route("/hooks", post(async || ()))).await });
//! let deliver = stack::deliver()
//!     .attempts(5)
//!     .attempt_timeout(Duration::from_secs(10))
//!     .deadline(Duration::from_secs(60)) // of all attempts, and the waits between them
//!     .sign(StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?)
//!     .build()?
//!     .layer(transport::reqwest(reqwest::Client::new()));
//!
//! let mut req = transport::post_json(&url, &json!({"id": 7}))?;
//! req.headers_mut().insert("webhook-id", "msg_1".parse()?);
//! assert_eq!(deliver.oneshot(req).await?.status(), 200);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! A redirected webhook is lost, because a client follows it with a `GET`: build a `reqwest::Client` with
//! `redirect(Policy::none())`, so that the answer is the 301 that it was. With a client that follows, the delivery is an error.
//!
//! Build the stack once, and clone the service that `layer` returns for each call: clones share the retry budget, the
//! breakers, the metrics and the connections.
//!
//! # Which client
//!
//! [`transport::reqwest`](crate::transport::reqwest()) for most programs, [`transport::hyper`](crate::transport::hyper()) for
//! the fewest dependencies, [`transport::tonic`](crate::transport::tonic()) below generated gRPC clients, with
//! [`grpc()`](crate::stack::DeliverBuilder::grpc) on the stack. They judge their own errors: an address that the client does
//! not take is not retried, and is no evidence against a peer.
//!
//! # What is repeated
//!
//! | The call | Is repeated |
//! | --- | --- |
//! | `GET`, `HEAD`, `PUT`, `DELETE`, and what never reached the peer | yes |
//! | `POST` with `idempotency-key`, `webhook-id` or `svix-id` | yes: the peer recognises it |
//! | `POST` without | no: the peer may have acted on it |
//! | answered 408, 425, 429 or 5xx | as the rows above say, and not before the peer's `Retry-After` |
//! | answered with another 4xx | no |
//!
//! [`outcome`](crate::outcome) has the whole table. Retries wait 200 ms to 20 s with full jitter, and are at most a fifth of
//! the traffic plus ten a second.
//!
//! # When it fails
//!
//! ```
//! use tower_webhook::{BoxError, attempt::Failed, stack, transport};
//!
//! # tokio_test::block_on(async {
//! let deliver = stack::deliver().attempts(2).build()?.layer(transport::reqwest(reqwest::Client::new()));
//!
//! // Nobody listens there.
//! let error = deliver.oneshot(transport::post_json("http://127.0.0.1:1/hooks", &7)?).await.unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "gave up after 2 attempts: no attempts left (Connection refused (os error 111))"
//! );
//! let failed = error.downcast_ref::<Failed>().ok_or("a delivery that was given up")?;
//! for call in failed.history().records() {
//!     println!("{} after {:?}", call.outcome().kind(), call.took());
//! }
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! A last answer of 503 is a response, not an error, with the [`History`](crate::attempt::History) in its extensions. To keep
//! what failed for good, add [`dead_letters`](crate::stack::DeliverBuilder::dead_letters); to try for longer than a caller
//! waits, put the request into a [queue](super::queue).
//!
//! # Targets that others choose
//!
//! A URL that a customer registered may point into your own network. [`TargetRules`](crate::target::TargetRules) permits
//! `https` at public addresses, and checks the address again when a connection is made.
