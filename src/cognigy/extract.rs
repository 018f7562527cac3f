use super::{CognigyEvent, DialogEvent, Envelope, EventError, EventRejection, WebhookDelivery};
use crate::{
    body::{BodyError, CollectError, collect},
    extract::{observers, respond},
};
use axum_core::{
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::Extensions;

/// The longest body that is read by [`Unverified`]: 1 MiB.
const MAX_BODY: usize = 1 << 20;

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
        let (parts, body) = req.into_parts();
        let body = collect(body, MAX_BODY).await.map_err(|error| {
            EventRejection::Body(match error {
                CollectError::Read(_) => BodyError::Unreadable,
                CollectError::TooLarge { limit } => BodyError::TooLarge { limit },
            })
        });
        body.and_then(|body| Ok(T::try_from(body.into_bytes())?))
            .map(Self)
            .inspect_err(|reason| {
                let observers = observers(&parts.extensions);
                reason.tell(&observers, &parts.uri, &parts.extensions);
            })
    }
}

macro_rules! extractor {
    ($($event:ty, $take:expr;)+) => {$(
        /// Refuses an event whose signature was not checked: see the
        /// [module](crate::cognigy#in-axum).
        impl<S: Send + Sync> FromRequest<S> for $event {
            type Rejection = EventRejection;

            async fn from_request(mut req: Request, _: &S) -> Result<Self, EventRejection> {
                let event = verified(req.extensions_mut(), $take);
                event.inspect_err(|reason| {
                    let extensions = req.extensions();
                    reason.tell(&observers(extensions), req.uri(), extensions);
                })
            }
        }
    )+};
}
extractor!(
    CognigyEvent, Some;
    DialogEvent, |event| match event {
        CognigyEvent::Dialog(event) => Some(event),
        CognigyEvent::Envelope(_) => None,
    };
    Envelope, |event| match event {
        CognigyEvent::Dialog(_) => None,
        CognigyEvent::Envelope(event) => Some(event),
    };
    WebhookDelivery, |_| None;
);

/// The event in the verified bytes. `take` takes it out of the one that [`EventLayer`](super::EventLayer) has read.
#[cfg_attr(
    not(feature = "signature"),
    expect(unused_variables, reason = "nothing is verified")
)]
fn verified<T>(
    extensions: &mut Extensions,
    take: impl FnOnce(CognigyEvent) -> Option<T>,
) -> Result<T, EventRejection>
where
    T: TryFrom<Bytes, Error = EventError>,
{
    #[cfg(feature = "signature")]
    if let Some(verified) = extensions.get::<crate::signature::Verified>()
        && let Some(body) = verified.body().cloned()
    {
        let read = extensions.remove::<CognigyEvent>();
        // Any code can put an event there. One that shares the memory of the verified bytes was read from them.
        let read = read.filter(|event| event.raw().as_ptr_range() == body.as_ptr_range());
        return match read.and_then(take) {
            Some(event) => Ok(event),
            None => Ok(T::try_from(body)?),
        };
    }
    Err(EventRejection::Unverified)
}

#[cfg(all(test, feature = "signature"))]
mod tests {
    use super::*;
    use crate::signature::Verified;
    use axum_core::body::Body;
    use http::Extensions;

    const BODY: &str = r#"{"conversationId":"conv-1","variables":{}}"#;
    const OTHER: &str = r#"{"conversationId":"conv-2","variables":{}}"#;

    async fn extract(body: &str, extensions: Extensions) -> Result<CognigyEvent, EventRejection> {
        let mut req = Request::new(Body::from(body.to_owned()));
        *req.extensions_mut() = extensions;
        CognigyEvent::from_request(req, &()).await
    }

    fn verified(body: &Bytes) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(Verified::new("test").with_body(body.clone()));
        extensions
    }

    #[tokio::test]
    async fn the_verified_bytes_are_given_and_not_those_of_the_body() {
        let bytes = Bytes::from(BODY.to_owned());
        let event = extract(OTHER, verified(&bytes)).await.unwrap();
        assert_eq!(event.raw().as_ptr(), bytes.as_ptr());
    }

    #[tokio::test]
    async fn an_event_of_other_bytes_is_not_given() {
        let bytes = Bytes::from(BODY.to_owned());
        let mut extensions = verified(&bytes);
        extensions.insert(CognigyEvent::from_bytes(OTHER).unwrap());
        let event = extract(OTHER, extensions).await.unwrap();
        assert_eq!(event.raw(), BODY);

        // An event alone proves nothing, nor does a verification that does not say of which bytes.
        let mut extensions = Extensions::new();
        extensions.insert(CognigyEvent::from_bytes(bytes).unwrap());
        for _ in 0..2 {
            let refused = extract(BODY, extensions.clone()).await;
            assert_eq!(refused.unwrap_err(), EventRejection::Unverified);
            extensions.insert(Verified::new("test"));
        }
    }

    #[tokio::test]
    async fn the_event_that_was_read_before_is_given() {
        let bytes = Bytes::from(r#"{"conversationId":"\u0063"}"#.to_owned());
        let mut extensions = verified(&bytes);
        extensions.insert(CognigyEvent::from_bytes(bytes.clone()).unwrap());
        let mut req = Request::new(Body::empty());
        *req.extensions_mut() = extensions;
        // To read this id again would allocate: it has an escape.
        let counted = allocation_counter::measure(|| {
            let future = std::pin::pin!(DialogEvent::from_request(std::mem::take(&mut req), &()));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let std::task::Poll::Ready(event) = future.poll(&mut cx) else {
                panic!("nothing to wait for");
            };
            assert_eq!(event.unwrap().conversation_id(), "c");
        });
        assert_eq!(counted.count_total, 0);
    }
}
