//! Receive for many tenants, each with a secret of its own.
//!
//! For a few senders that are known when the program starts, give each a route and a [receiver](super::receive) of its own. Where
//! the secrets are in a database, [`Tenants`](crate::signature::Tenants) looks them up:
//!
//! ```
//! use axum::{Router, body::Body, extract::Path, routing::post};
//! use http::Request;
//! use tower::{Layer, ServiceExt};
//! use tower_webhook::{
//!     BoxError, SignLayer,
//!     body::BufferedBody,
//!     idempotency::MemoryStore,
//!     signature::{Tenants, scheme::StandardWebhooks},
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
//!     |head| Some(head.uri().path().strip_prefix("/hooks/")?.into()), // whose request it is
//!     scheme_of,
//!     StandardWebhooks::new, // with which the requests of unknown tenants are refused
//! )
//! .build()?;
//! let app = Router::new()
//!     .route("/hooks/{tenant}", post(|Path(tenant): Path<String>| async { tenant }))
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
//! # What strangers learn
//!
//! Nothing: an unknown tenant is checked against a secret that nobody knows, and refused with the answer of a wrong signature.
//! A hundred thousand names that do not exist take neither the memory of those that do, nor the database.
//!
//! # When the database is down
//!
//! A tenant that was looked up lately is served for as long as its scheme is remembered (60 s by default). For the others the
//! answer is 503 with `Retry-After`, and a sender tries again: it is never 401, after which many senders give up.
//!
//! All settings are in [many tenants](crate::signature#many-tenants); `examples/hyper_tenants.rs` is a whole program.
