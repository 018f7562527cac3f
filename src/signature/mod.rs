//! Verifies the signatures of received requests, and signs the requests that are sent.
//!
//! [`SignatureVerifyLayer`] lets a request pass when its [`scheme`] finds a valid signature: made with
//! one of the configured secrets, over exactly these bytes, with a timestamp inside the tolerance. Any
//! other request is refused. [`SignLayer`] writes the headers that such a layer verifies.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{BoxError, SignatureVerifyLayer, body::BufferedBody, signature::scheme::GitHub};
//!
//! # tokio_test::block_on(async {
//! let verify = SignatureVerifyLayer::new(GitHub::new("It's a Secret to Everybody")?);
//! let service = verify.layer(service_fn(|req: Request<BufferedBody>| async move {
//!     Ok::<_, BoxError>(Response::new(req.into_body()))
//! }));
//!
//! let signed = |body: &'static str| {
//!     let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
//!     Request::post("/hooks").header("x-hub-signature-256", signature).body(BufferedBody::from(body))
//! };
//! let passed = service.clone().oneshot(signed("Hello, World!")?).await?;
//! assert_eq!(passed.status(), 200);
//! let refused = service.oneshot(signed("Hello, Mallory!")?).await?;
//! assert_eq!(refused.status(), 401);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Order
//!
//! Inside [`BufferBodyLayer`](crate::BufferBodyLayer): the signature is verified over the bytes of the
//! body, never over the output of a parser. Outside idempotency and everything else that trusts the
//! request: if an id is trusted before it is verified, an attacker can use up the ids of others. The
//! handler finds [`Verified`] in the request's extensions.
//!
//! Outside the buffer, [`before_body`](SignatureVerifyLayer::before_body): it refuses a request whose head already
//! shows that it will be refused, so that strangers cannot make the server read their bodies:
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_webhook::{BufferBodyLayer, SignatureVerifyLayer, signature::scheme::GitHub};
//!
//! let verify = SignatureVerifyLayer::new(GitHub::new("It's a Secret to Everybody")?);
//! let stack = ServiceBuilder::new()
//!     .layer(verify.before_body())
//!     .layer(BufferBodyLayer::new(1 << 20))
//!     .layer(verify);
//! # let _ = stack;
//! # Ok::<(), tower_webhook::InvalidConfig>(())
//! ```
//!
//! For outgoing requests, [`SignLayer`] belongs inside the retry and [`MessageIdLayer`] outside it.
//!
//! # Settings
//!
//! Of [`SignatureVerifyLayer`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`new`](SignatureVerifyLayer::new), [`resolve`](SignatureVerifyLayer::resolve) | to be set | the [`scheme`], or the [tenants](#many-tenants) that have one each |
//! | [`reject_replays`](SignatureVerifyLayer::reject_replays) | off | refuses messages that a [`ReplayCache`] has seen |
//! | [`window`](ReplayCache::window) of that cache | that of the scheme | time for which a message is remembered |
//! | [`label_responses`](SignatureVerifyLayer::label_responses) | off | adds the label of the secret to the response, for metrics |
//! | [`refuse_with`](SignatureVerifyLayer::refuse_with) | `application/problem+json` | makes the response to a refused request |
//! | [`clock`](SignatureVerifyLayer::clock) | the system clock | the time that timestamps are compared with |
//! | [`observe`](SignatureVerifyLayer::observe) | none except `tracing` | adds an observer of [`Event::Verified`](crate::observe::Event::Verified) and [`Event::Refused`](crate::observe::Event::Refused) |
//!
//! Of [`Tenants`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`ttl`](TenantsBuilder::ttl) | 60 s | time for which a scheme is used before it is looked up again |
//! | [`unknown_ttl`](TenantsBuilder::unknown_ttl) | 60 s | the same for a name that is no tenant's |
//! | [`timeout`](TenantsBuilder::timeout) | 2 s | time limit of a lookup |
//! | [`lookups`](TenantsBuilder::lookups) | 16 | lookups at a time |
//! | [`capacity`](TenantsBuilder::capacity) | 10,000 | tenants that are remembered, and as many unknown names |
//!
//! Of [`SignLayer`] and of secrets; a [`scheme`] has its header names and its tolerance (300 s in both directions):
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`clock`](SignLayer::clock) | the system clock | the time that is signed |
//! | [`observe`](SignLayer::observe) | none except `tracing` | adds an observer of requests that cannot be signed |
//! | [`label`](Secret::label) | `key-1`, `key-2`, and so on | name of a secret |
//! | [`backend`](Secrets::backend) | [`Backend::default`] | library that computes MACs |
//! | [`observe`](SigningKeys::observe) | none except `tracing` | adds an observer of [`Event::KeysRotated`](crate::observe::Event::KeysRotated) |
//!
//! # Answers
//!
//! | Request | Status | [`SignatureError`] |
//! | --- | --- | --- |
//! | a header is missing | 401 | [`Missing`](SignatureError::Missing) |
//! | a header occurs twice, or is not in the format of the scheme | 401 | [`Malformed`](SignatureError::Malformed) |
//! | the timestamp is outside the tolerance | 401 | [`Stale`](SignatureError::Stale), [`Early`](SignatureError::Early) |
//! | the signature leaves out a part of the message that must be signed | 401 | [`NotCovered`](SignatureError::NotCovered) |
//! | the signature matches none of the secrets, or the signed bytes differ | 401 | [`Mismatch`](SignatureError::Mismatch) |
//! | the message was received before ([`reject_replays`](SignatureVerifyLayer::reject_replays)) | 401 | [`Replayed`](SignatureError::Replayed) |
//! | it names no [tenant](#many-tenants), or one that does not exist | 401 | [`UnknownTenant`](SignatureError::UnknownTenant) |
//! | the [`ReplayCache`] is full | 503 | [`ReplayCacheFull`](SignatureError::ReplayCacheFull) |
//! | the scheme of its tenant could not be looked up | 503 | [`LookupFailed`](SignatureError::LookupFailed) |
//!
//! The caller cannot tell the 401 responses apart. The typed reason is in the response's extensions and
//! in [`Event::Refused`](crate::observe::Event::Refused). A body that is too long (413) or cannot be
//! read (400) is refused by [`BufferBodyLayer`](crate::BufferBodyLayer), before the signature is verified.
//!
//! # Cancel safety
//!
//! Verification is done in `call`, before there is a future to drop, unless a [tenant](#many-tenants) is looked up: then
//! dropping the future drops the request, and the lookup goes on for the others. Dropping the response future drops
//! the handler's future; with `reject_replays` the message then counts as not received. Dropping the
//! future of [`Sign`] drops the transport's future.
//!
//! # Many tenants
//!
//! Where each tenant has a secret of its own, [`Tenants`] looks it up when a request names the tenant, and remembers it for a
//! while: give it to [`SignatureVerifyLayer::resolve`] or to [`stack::receive`](crate::stack::receive). The name of the
//! tenant is in [`Verified::tenant`], and among what tells idempotency keys apart.
//!
//! ```
//! use tower_webhook::{
//!     BoxError, SignatureVerifyLayer,
//!     signature::{Tenants, scheme::StandardWebhooks},
//! };
//!
//! async fn scheme_of(tenant: String) -> Result<Option<StandardWebhooks>, BoxError> {
//!     let row = (tenant == "acme").then_some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"); // select secret from ..
//!     Ok(row.map(StandardWebhooks::new).transpose()?)
//! }
//!
//! let tenants = Tenants::builder(
//!     |head| Some(head.original_uri().path().strip_prefix("/hooks/")?.into()), // whose request it is
//!     scheme_of,
//!     StandardWebhooks::new, // with which the requests of unknown tenants are refused
//! )
//! .build()?;
//! let layer = SignatureVerifyLayer::resolve(tenants.clone());
//!
//! tenants.forget("acme"); // its secret has changed
//! # let _ = layer;
//! # Ok::<(), tower_webhook::InvalidConfig>(())
//! ```
//!
//! The name and the lookup are two functions, because what is remembered needs a name: a request whose tenant is
//! remembered waits for nothing and allocates nothing.
//!
//! | | What happens | By |
//! | --- | --- | --- |
//! | a tenant | is used for a time, from the beginning of its lookup, also while the database is down; no longer than that | [`ttl`](TenantsBuilder::ttl) |
//! | a request without the headers of a signature, with malformed ones, or with a timestamp outside the tolerance | is refused by the decoy, whomever it names: nothing is looked up | [`Tenants::builder`] |
//! | an unknown name | is checked against the decoy, and refused after its body, with the answer of a wrong signature | [`unknown_ttl`](TenantsBuilder::unknown_ttl) |
//! | many requests for one name | share one lookup, which goes on if those who asked have left | |
//! | a lookup that hangs | is dropped: 503 with `Retry-After` | [`timeout`](TenantsBuilder::timeout) |
//! | a lookup that fails or panics | 503 with `Retry-After` for those who wait for it. It is not remembered | |
//! | many names | wait for their lookup. Those that were not known before get half of the lookups at the most, the newest first; 512 wait, and the oldest gets 503 | [`lookups`](TenantsBuilder::lookups) |
//! | more names than there is room for | tenants that were not used lately are looked up again; unknown names have a table of their own, so that they push no tenant out | [`capacity`](TenantsBuilder::capacity) |
//! | a secret that has changed | counts when the old one is looked up again, or at once | [`forget`](Tenants::forget) |
//!
//! The decoy is asked first, so it must accept the head of every honest request: it is a scheme of the kind of the tenants',
//! with their header names and the longest of their tolerances. If tenants have schemes of several kinds, it is an
//! [`AnyOf`](scheme::AnyOf) of all of them; a kind that it lacks is refused.
//!
//! [`before_body`](SignatureVerifyLayer::before_body) looks the tenant up too, and lets an unknown one pass if its decoy would:
//! it is refused after its body, as a wrong signature is.
//!
//! What a stranger can still measure, with forged signatures:
//!
//! - that a name is remembered, by the time of its answer, which has no lookup in it. A name that was asked for is
//!   remembered for equally long whether it is a tenant's or not, with the default times and while there is room for both;
//!   but a stranger's first request to a tenant that has just been served is fast, and one to nobody never is.
//! - while lookups fail or are too many: 401 for a name that is remembered, 503 for others.
//!
//! Where it must not be known who is a tenant, take names that cannot be guessed.
//!
//! The name is part of the request. Observers are told it, and so are logs, with the reason of a refusal: it should not be
//! a secret that opens anything.
//!
//! The scope of an idempotency key is the original path and the name. Most schemes do not sign the path: where several paths
//! are one tenant's, as when the name is written in lower case, a signed message that was captured is handled once on each of
//! them, until its timestamp is too old. Give [`IdempotencyLayer::webhook`](crate::IdempotencyLayer::webhook) a fixed `scope`
//! then, or accept one path for each tenant.
//!
//! # Rotation
//!
//! A scheme takes several [`Secrets`], each with a label. Its method `signing_keys()` returns a
//! [`SigningKeys`] handle, which replaces them while requests are served. The label of the secret that
//! matched is in [`Verified`]; [`SigningKeys::usage`] counts the matches of each.
//!
//! # Replays
//!
//! A valid signature does not prove that a message is new: a copy of it is valid too. A scheme that
//! signs a timestamp accepts a copy within the tolerance;
//! [`SignatureVerifyLayer::reject_replays`] refuses it. A scheme that signs no timestamp (GitHub,
//! Shopify, and others) accepts a copy at any time: put an idempotency layer inside.
//!
//! # In axum
//!
//! With the feature `axum`, [`Verified`] is an extractor, and `Signed<Json<T>>` and `Signed<Bytes>` extract what was
//! verified: the bytes that the layer saw, whatever has become of the body since.
//!
//! | Request | Status |
//! | --- | --- |
//! | its signature is not valid | 401 by the layer, before anything is parsed |
//! | its bytes are not the JSON that `Signed<Json<T>>` reads | 400, naming the field |
//! | no layer outside has verified it | 500, and an [`Event::MissingLayer`](crate::observe::Event::MissingLayer), which `tracing` writes at `ERROR` and which says what to do: a route without a layer would take requests of anyone |
//!
//! `Option<Verified>` is `None` instead. Extractors report to `tracing`, and to the
//! [`Observers`](crate::observe::Observers) in the request's extensions: `.layer(axum::Extension(observers))`.
//!
#![cfg_attr(all(feature = "axum", feature = "stack"), doc = "```")]
#![cfg_attr(not(all(feature = "axum", feature = "stack")), doc = "```text")]
//! use axum::{Json, Router, body::Body, http::Request, routing::post};
//! use serde::Deserialize;
//! use tower::ServiceExt;
//! use tower_webhook::{
//!     signature::{Signed, Verified, scheme::GitHub},
//!     stack,
//! };
//!
//! #[derive(Deserialize)]
//! struct Push {
//!     after: String,
//! }
//!
//! async fn on_push(verified: Verified, Signed(Json(push)): Signed<Json<Push>>) -> String {
//!     format!("{} after {}", verified.scheme(), push.after)
//! }
//!
//! # tokio_test::block_on(async {
//! let receive = stack::receive(GitHub::new("It's a Secret to Everybody")?).build();
//! let app: Router = Router::new().route("/github", post(on_push)).layer(receive);
//!
//! let unsigned = Request::post("/github").body(Body::from(r#"{"after":"main"}"#))?;
//! assert_eq!(app.oneshot(unsigned).await?.status(), 401);
//! # Ok::<_, tower_webhook::BoxError>(())
//! # }).unwrap();
//! ```

// To follow a request, read three files: `verify.rs` (the layer), the file of its scheme, and `mac.rs`; with tenants
// `tenants/mod.rs` too.

#[cfg(feature = "ed25519")]
mod ed25519;
mod error;
#[cfg(feature = "axum")]
mod extract;
mod mac;
mod message;
mod replay;
pub mod scheme;
mod secrets;
mod sign;
mod tenants;
mod verify;

#[cfg(feature = "axum")]
#[doc(inline)]
pub use self::extract::{Signed, SignedRejection};
#[doc(inline)]
pub use self::{
    error::{Defect, SignatureError},
    mac::{Algorithm, Backend, Encoding},
    message::{Head, Message, TimestampFormat, Tolerance, Verified},
    replay::ReplayCache,
    scheme::Scheme,
    secrets::{Keyring, Secret, SecretLabel, Secrets, SigningKeys},
    sign::{
        MessageId, MessageIdLayer, Outgoing, SetMessageId, Sign, SignError, SignLayer, SignScheme,
    },
    tenants::{LookupFailure, Tenants, TenantsBuilder},
    verify::{ResponseFuture, SignatureVerify, SignatureVerifyLayer, VerifyHead, VerifyHeadLayer},
};
