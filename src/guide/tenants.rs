//! Receive for many tenants, each with a secret of its own.
//!
//! For a few senders that are known when the program starts, give each a route and a [receiver](super::receive) of its own. Where
//! the secrets are in a database, [`Tenants`](crate::signature::Tenants) looks them up:
//!
//! ```
//! use axum::{Router, body::Body, routing::post};
//! use http::Request;
//! use tower::{Layer, ServiceExt};
//! use tower_webhook::{
//!     BoxError, SignLayer,
//!     body::BufferedBody,
//!     idempotency::MemoryStore,
//!     signature::{Tenants, Verified, scheme::StandardWebhooks},
//!     stack,
//! };
//!
//! /// `None` for a tenant that does not exist, and an error if the database does not answer.
//! async fn scheme_of(tenant: String) -> Result<Option<StandardWebhooks>, BoxError> {
//!     let row = (tenant == "acme").then_some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"); // select secret from ..
//!     Ok(row.map(StandardWebhooks::new).transpose()?)
//! }
//!
//! # tokio_test::block_on(async {
//! let tenants = Tenants::builder(
//!     |head| Some(head.original_uri().path().strip_prefix("/hooks/")?.into()), // whose request it is
//!     scheme_of,
//!     StandardWebhooks::new, // with which the requests of unknown tenants are refused
//! )
//! .build()?;
//! async fn on_event(verified: Verified) -> String {
//!     format!("from {}", verified.tenant().unwrap_or_default()) // the one whose secret signed it
//! }
//!
//! let app = Router::new()
//!     .route("/hooks/{tenant}", post(on_event))
//!     .layer(stack::receive(tenants.clone()).once(MemoryStore::default()).build());
//! # let sign = |path: &str, id: &str| {
//! #     let scheme = StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
//! #     let app = app.clone().map_request(|req: Request<BufferedBody>| req.map(Body::new)).map_err(BoxError::from);
//! #     let req = Request::post(path).header("webhook-id", id).body(BufferedBody::from("{}")).unwrap();
//! #     SignLayer::new(scheme).layer(app).oneshot(req)
//! # };
//! # assert_eq!(sign("/hooks/acme", "msg_1").await?.status(), 200);
//! # assert_eq!(sign("/hooks/nobody", "msg_1").await?.status(), 401);
//!
//! tenants.forget("acme"); // its secret has changed: look it up at the next request
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Whose request it is
//!
//! The first function reads the name of the tenant from the head: a part of the path, the host, a header. What the signature
//! does not cover may be changed on the way, and that is no harm: with another name the signature is wrong. Idempotency keys of
//! different tenants are apart from each other.
//!
//! In the handler, take the name from [`Verified::tenant`](crate::signature::Verified::tenant) and not from the path again:
//! axum decodes `ac%6De` in a path, and the first function may not. With `Router::nest` the path of
//! [`uri`](crate::signature::Head::uri) has lost its prefix;
//! [`original_uri`](crate::signature::Head::original_uri) has it in every place of the stack.
//!
//! A tenant should have one path: the path is part of the idempotency key, and most senders do not sign it. If the function
//! makes one name of several paths, as by writing it in lower case, see [many tenants](crate::signature#many-tenants).
//!
//! # What strangers learn
//!
//! No answer says whether a tenant exists: an unknown one is checked against a secret that nobody knows, and refused as a wrong
//! signature is. Its time may: a name that somebody asked for lately is answered without the database. While lookups fail or
//! are too many, a tenant that is remembered is told from the others by 401 in place of 503. If it must not be known who is
//! a customer, take names that cannot be guessed.
//!
//! # In a flood
//!
//! A request without a signature that could be one, or with an old timestamp, causes no lookup. The scheme that nobody's secret
//! made decides that, so it is of the same kind as those of the tenants; for several kinds, an
//! [`AnyOf`](crate::signature::scheme::AnyOf) of them. With forged signatures and fresh timestamps, strangers get half of the
//! 16 lookups at a time (8), and the newest name is next: tenants that are remembered do not notice, and one that is not passes
//! at once or is told 503 and tries again. Names that do not exist have a memory of their own. A rate limit outside keeps the
//! rest from the database.
//!
//! # When the database is down
//!
//! A tenant that was looked up lately is served for as long as its scheme is remembered (60 s by default). For the others the
//! answer is 503 with `Retry-After`, and a sender tries again: it is never 401, after which many senders give up.
//!
//! All settings are in [many tenants](crate::signature#many-tenants); `examples/hyper_tenants.rs` is a whole program.
