use super::{CognigyEvent, DialogEvent, Envelope, EventError, WebhookDelivery};
use crate::{
    body::{BodyError, CollectError, collect},
    observe::{Event, Id, Observers},
    problem::{Problem, Refusal},
};
use axum_core::{
    body::Body,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{Extensions, StatusCode};
use http_body::{Body as _, SizeHint};
use std::fmt;

/// The longest body that is read when no layer has buffered it: 1 MiB.
const MAX_BODY: usize = 1 << 20;

/// Whether an outer signature layer has verified the request.
fn is_authenticated(extensions: &Extensions) -> bool {
    #[cfg(feature = "signature")]
    return extensions.get::<crate::signature::Verified>().is_some();
    #[cfg(not(feature = "signature"))]
    {
        let _ = extensions;
        false
    }
}

/// Why an extractor returned no event. Its response is `application/problem+json`, with the typed reason
/// in its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventRejection {
    /// The body could not be read (400) or is too long (413).
    Body(BodyError),
    /// The body is not a valid event: 400, with the path of the field at fault as the member `field`.
    Event(EventError),
    /// No outer layer has checked the signature: 500 without detail, and an [`Event::Trouble`] to the
    /// [observers](crate::cognigy#in-axum) of the router. The fault is in the router, not in the request.
    /// [`Unverified`] skips the check.
    Unverified,
}

impl EventRejection {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Body(BodyError::TooLarge { .. }) => "body_too_large",
            Self::Body(_) => "body_unreadable",
            Self::Event(error) => error.as_str(),
            Self::Unverified => "unverified",
        }
    }
}

impl fmt::Display for EventRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(error) => error.fmt(f),
            Self::Event(error) => error.fmt(f),
            Self::Unverified => f.write_str("no layer has checked the signature"),
        }
    }
}

impl std::error::Error for EventRejection {}

impl From<EventError> for EventRejection {
    fn from(error: EventError) -> Self {
        Self::Event(error)
    }
}

impl Refusal for EventRejection {
    fn problem(&self) -> Problem {
        match self {
            Self::Body(error) => error.problem(),
            Self::Event(error) => error.problem(),
            Self::Unverified => Problem::new(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl IntoResponse for EventRejection {
    fn into_response(self) -> Response {
        respond(self)
    }
}

/// 400, with the path of the field at fault as the member `field`. Lets a handler use `?` on
/// `payload_as`.
impl IntoResponse for EventError {
    fn into_response(self) -> Response {
        respond(self)
    }
}

fn respond(reason: impl Refusal) -> Response {
    let mut response = reason.problem().into_response().map(Body::new);
    response.extensions_mut().insert(reason);
    response
}

/// Extracts an event without the check that its signature was verified.
///
/// For routes with another protection (mutual TLS, a gateway in front), and for tests. The body is read
/// up to 1 MiB.
#[derive(Clone, Copy, Debug)]
pub struct Unverified<T>(
    /// The event.
    pub T,
);

impl<S, T> FromRequest<S> for Unverified<T>
where
    S: Send + Sync,
    T: TryFrom<Bytes, Error = EventError>,
{
    type Rejection = EventRejection;

    async fn from_request(req: Request, _: &S) -> Result<Self, EventRejection> {
        read(req).await.map(Self)
    }
}

macro_rules! extractor {
    ($($event:ty),+) => {$(
        /// Refuses an event whose signature was not checked: see the
        /// [module](crate::cognigy#in-axum).
        impl<S: Send + Sync> FromRequest<S> for $event {
            type Rejection = EventRejection;

            async fn from_request(req: Request, _: &S) -> Result<Self, EventRejection> {
                if !is_authenticated(req.extensions()) {
                    observers(req.extensions()).tell(|| Event::Trouble {
                        part: "cognigy",
                        what: "an event was asked for on a route whose signature no layer checks",
                        detail: None,
                    });
                    return Err(EventRejection::Unverified);
                }
                read(req).await
            }
        }
    )+};
}
extractor!(CognigyEvent, DialogEvent, Envelope, WebhookDelivery);

async fn read<T>(req: Request) -> Result<T, EventRejection>
where
    T: TryFrom<Bytes, Error = EventError>,
{
    let limit = limit(is_authenticated(req.extensions()), &req.body().size_hint());
    let observers = observers(req.extensions());
    let body = collect(req.into_body(), limit).await.map_err(|error| {
        EventRejection::Body(match error {
            CollectError::Read(_) => BodyError::Unreadable,
            CollectError::TooLarge { limit } => BodyError::TooLarge { limit },
        })
    });
    body.and_then(|body| Ok(T::try_from(body.into_bytes())?))
        .inspect_err(|reason| {
            observers.tell(|| Event::Refused {
                by: "cognigy",
                reason: reason.as_str(),
                detail: Id::new(reason),
            });
        })
}

/// The observers in the extensions of the request. An extractor has no builder, and a route without a
/// signature layer, which it must report, has no layer of this crate that could insert them: the router does,
/// with axum's own layer.
fn observers(extensions: &Extensions) -> Observers {
    extensions.get().cloned().unwrap_or_default()
}

/// The longest body to read.
///
/// A verified request is in memory already, under the limit of the layer that buffered it; a second,
/// smaller limit here would refuse bodies that this layer accepted.
fn limit(verified: bool, hint: &SizeHint) -> usize {
    match hint.exact().map(usize::try_from) {
        Some(Ok(length)) if verified => length.max(MAX_BODY),
        _ => MAX_BODY,
    }
}

#[cfg(all(test, feature = "signature"))]
mod tests {
    use super::*;
    use crate::{body::BufferedBody, signature::Verified};

    const BODY: &str = r#"{"conversationId":"conv-1","variables":{}}"#;

    fn verified(body: Body) -> Request {
        let mut req = Request::new(body);
        req.extensions_mut().insert(Verified::new("test"));
        req
    }

    #[tokio::test]
    async fn a_verified_event_is_given_and_shares_the_bytes() {
        let bytes = Bytes::from(BODY.to_owned());
        let body = Body::new(BufferedBody::new(bytes.clone()));
        let event = CognigyEvent::from_request(verified(body), &())
            .await
            .unwrap();
        assert_eq!(event.raw().as_ptr(), bytes.as_ptr());
    }

    #[tokio::test]
    async fn what_was_verified_is_not_measured_again() {
        let padded = format!("{BODY}{}", " ".repeat(MAX_BODY));
        let event = CognigyEvent::from_request(verified(Body::from(padded.clone())), &()).await;
        assert!(event.is_ok());

        let event =
            Unverified::<CognigyEvent>::from_request(Request::new(padded.into()), &()).await;
        let limit = MAX_BODY;
        assert_eq!(
            event.unwrap_err(),
            EventRejection::Body(BodyError::TooLarge { limit })
        );
    }
}
