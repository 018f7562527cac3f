//! Credentials for the APIs, attached to requests by a layer.
//!
//! | Credential | Header | Who takes it |
//! | --- | --- | --- |
//! | [`Credential::api_key`] | `X-API-Key` | the documents' API (S2), the platform's API |
//! | [`Credential::header`] | any | `X-Webhook-Key` of a Webhook Endpoint, `api_access_token` of Live Agent |
//! | [`Credential::basic`] | `Authorization: Basic` | the platform's management API |
//! | [`Credential::bearer`] | `Authorization: Bearer`, a fixed token | the downstream of S3 |
//! | [`Credential::token`] | `Authorization: Bearer`, from a [`TokenSource`] | the documents' API (S0, S1, S4), the platform's API |
//!
//! # Examples
//!
//! ```
//! # use std::{convert::Infallible, time::Duration};
//! # use http::{Request, Response, Uri, header::AUTHORIZATION};
//! # use tower::service_fn;
//! # use tower_webhook::BoxError;
//! use tower::{Layer, ServiceExt};
//! use tower_webhook::body::BufferedBody;
//! use tower_webhook_cognigy::credential::{ClientCredentials, Credential, CredentialLayer, TokenSource};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # // In the place of the client and of the network.
//! # let client = service_fn(|req: Request<BufferedBody>| async move {
//! #     Ok::<_, Infallible>(Response::new(BufferedBody::from(match req.uri().path() {
//! #         "/api/v2/auth/token" => r#"{"access_token":"t-1","expires_in":3600,"token_type":"Bearer"}"#,
//! #         _ if req.headers()[AUTHORIZATION] == "Bearer t-1" => "welcome",
//! #         _ => "who is it?",
//! #     })))
//! # });
//! let base = "https://api.cognigy.ai";
//! let grant = ClientCredentials::basic_form("client-7", "its secret");
//! let tokens = TokenSource::builder(grant, base).build(client.clone())?;
//! let api = CredentialLayer::new(Credential::token(tokens), base)?.layer(client);
//!
//! let request = Request::get("https://api.cognigy.ai/api/v2/bots/7/webhooks");
//! let response = api.oneshot(request.body(BufferedBody::default())?).await?;
//! assert_eq!(response.body().as_bytes(), "welcome");
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//!
//! Inside of retries, dead letters and everything that keeps, logs or repeats a request: they then never see the credential, and
//! each attempt gets the current one. Outside of the client, and of a rate limit, which counts what is sent once more after a
//! 401. A layer or client that follows redirects must stand
//! outside; inside, it would carry the header to where the server points.
//!
//! # In a task
//!
//! A call over a closure whose error is a [`BoxError`](tower_webhook::BoxError) is spawned as it is:
//! `tokio::spawn(service.oneshot(req))`. In an `async` block that owns the service the compiler says that `From` is not general
//! enough ([rust#64552](https://github.com/rust-lang/rust/issues/64552)), of this layer as of all that make such errors: box the
//! service before, or give the closure an error type of its own.
//!
//! # Where a credential goes
//!
//! To requests whose URL has the scheme, host and port of the layer's origin, and to no other. A header of its name that the caller
//! has set there is replaced. Other requests pass without it: if they carry a copy of it, since a caller repeated a request at
//! another place, it is taken away, and so is one of the last eight tokens, however its scheme is spelled; any other value is the caller's own and stays. A request with no host in its URL gets none.
//!
//! Values are marked as sensitive, so that logs, HPACK and dead letters leave them out, and their memory is overwritten
//! when the last copy is dropped. What the client writes to its connection is out of reach of that.
//!
//! # Tokens
//!
//! The first call asks for a token, and all calls meanwhile wait for the same answer. The token is kept until it is over, and
//! refreshed 60 seconds earlier, or at half of its life if that is shorter than two minutes, when a call comes by. Calls use the
//! old one meanwhile; a refresh that fails does no harm before the old one is really over. The lifetime is measured
//! by the monotonic clock, from the moment at which the token was asked for.
//!
//! A refresh runs in a task of its own: a caller that goes away does not end it for others. It ends when all clones of the source
//! and all calls that wait are gone.
//!
//! | `expires_in` | is read as |
//! | --- | --- |
//! | a number, or a text that is one | seconds, with their fraction, at most a day |
//! | missing or null | one hour, which S4 names |
//! | less than 1, or anything else | an answer that cannot be used |
//!
//! A `token_type` other than `Bearer` (in any case, or missing) cannot be used either, nor a token with other characters than
//! printable ASCII, nor an answer longer than 64 KiB.
//!
//! ## 401
//!
//! An answer of 401 means that the token is not valid, whatever its time. If it is still the current one, it is replaced, once
//! for all calls; the request is sent once more, and the second answer is returned. At most five refreshes in a row are forced
//! so, and one more every ten seconds: an answer of 401 beyond that is returned at once. Other credentials do not change, and their
//! 401 is returned.
//!
//! ## Failures
//!
//! A refresh that fails is not repeated for 1 second, doubled by each failure in a row up to 60 seconds, less a random half, and not
//! before the endpoint's `Retry-After` of at most 5 minutes. Calls until then fail at once with the same [`TokenError`],
//! which says when to try again. So does a refusal of the client (`invalid_client`), which is not to be repeated, but for the
//! next call after that time: somebody may have corrected it at the server.
//!
//! # Errors
//!
//! [`TokenError`], boxed, if there is no token: the request was not sent. The errors of the service inside pass.
//!
//! A retry layer outside repeats a call whose token could not be had for now. A call that comes too early for another refresh
//! is refused, as by an open circuit, and repeated by a layer that waits for refusals
//! ([`Refusals::Wait`](tower_webhook::retry::Refusals::Wait)).
//!
//! # Cancel safety
//!
//! Dropping a response future drops the call inside, or its wait for a token; the refresh goes on. Nothing else is held.

mod answer;
mod cache;
mod error;
mod file;
mod grant;
mod layer;
mod named;
mod secret_text;
mod source;

pub use self::{
    error::{OAuthErrorCode, TokenError, TokenErrorKind},
    grant::ClientCredentials,
    layer::{CredentialLayer, ResponseFuture, WithCredential},
    named::{CredentialName, Credentials, WithNamed},
    source::{TokenSource, TokenSourceBuilder},
};

use http::{HeaderName, HeaderValue, header};
use std::fmt;
use tower_webhook::{InvalidConfig, signature::Secret};

/// What a caller proves with who it is. A [`CredentialLayer`] attaches it.
///
/// `Debug` shows the name of the header, never the value. Clones are cheap, and those of a token share it.
///
/// # Examples
///
/// ```
/// use tower_webhook_cognigy::credential::Credential;
///
/// let key = Credential::api_key("9f1c")?;
/// let endpoint = Credential::header("X-Webhook-Key", "8a4f")?;
/// assert_eq!(format!("{key:?} {endpoint:?}"), "Credential(x-api-key) Credential(x-webhook-key)");
/// assert!(Credential::basic("bot:7", "password").is_err());
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct Credential(Kind);

#[derive(Clone)]
enum Kind {
    None,
    Fixed {
        name: HeaderName,
        value: HeaderValue,
    },
    Token(TokenSource),
}

impl Credential {
    /// No credential.
    pub const fn none() -> Self {
        Self(Kind::None)
    }

    /// An API key in the header `X-API-Key`.
    ///
    /// # Errors
    ///
    /// As [`header`](Self::header).
    pub fn api_key(key: impl Into<Secret>) -> Result<Self, InvalidConfig> {
        let name = HeaderName::from_static("x-api-key");
        let value = secret_text::value("", key.into().as_bytes(), "api_key")?;
        Ok(Self(Kind::Fixed { name, value }))
    }

    /// A secret in a header of this name.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], if the name is none or has a meaning for the connection (such as `Host` and `Content-Length`), or the secret is
    /// empty, begins or ends with a space, or has bytes that no header carries.
    pub fn header(name: &str, secret: impl Into<Secret>) -> Result<Self, InvalidConfig> {
        let invalid = |problem| InvalidConfig::new("header", problem);
        let name = HeaderName::try_from(name).map_err(|_| invalid("is no name of a header"))?;
        if FRAMING.contains(&name) {
            return Err(invalid("has a meaning of its own for the connection"));
        }
        let value = secret_text::value("", secret.into().as_bytes(), "secret")?;
        Ok(Self(Kind::Fixed { name, value }))
    }

    /// User and password ([RFC 7617](https://www.rfc-editor.org/rfc/rfc7617)), both in UTF-8.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], if either is empty or has control characters, or the user has a `:`.
    pub fn basic(user: &str, password: impl Into<Secret>) -> Result<Self, InvalidConfig> {
        let value = secret_text::basic(user, &password.into(), "user", "password")?;
        let name = header::AUTHORIZATION;
        Ok(Self(Kind::Fixed { name, value }))
    }

    /// A token that does not change ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750)).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], if it is empty, or is not printable ASCII without spaces.
    pub fn bearer(token: impl Into<Secret>) -> Result<Self, InvalidConfig> {
        let value = secret_text::bearer(token.into().as_bytes(), "token")?;
        let name = header::AUTHORIZATION;
        Ok(Self(Kind::Fixed { name, value }))
    }

    /// The secret as it was last sent, without the scheme before it.
    #[cfg(feature = "client")]
    pub(crate) fn sent(&self) -> Option<String> {
        let (name, value) = match &self.0 {
            Kind::None => return None,
            Kind::Fixed { name, value } => (name, value.clone()),
            Kind::Token(source) => (&header::AUTHORIZATION, source.current()?),
        };
        let secret = str::from_utf8(layer::secret(name, &value)).ok()?;
        Some(secret.to_owned())
    }

    /// Tokens that a source gets and refreshes.
    pub const fn token(source: TokenSource) -> Self {
        Self(Kind::Token(source))
    }
}

/// Headers that say where a request goes, and where it ends.
const FRAMING: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::None => f.write_str("Credential(none)"),
            Kind::Fixed { name, .. } => write!(f, "Credential({name})"),
            Kind::Token(source) => f.debug_tuple("Credential").field(source).finish(),
        }
    }
}
