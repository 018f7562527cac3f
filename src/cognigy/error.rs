use crate::{
    body::BodyError,
    problem::{Problem, Refusal},
};
#[cfg(any(feature = "axum", feature = "signature"))]
use crate::{
    observe::{Event, Id, Observers},
    original_uri::original,
};
use http::StatusCode;
#[cfg(any(feature = "axum", feature = "signature"))]
use http::{Extensions, Uri};
use std::{borrow::Cow, fmt, time::Duration};

/// Why a body is not a valid event. It contains names and expectations, never a value, so it is safe to
/// log and to return to the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// Objects and arrays are nested deeper than the limit.
    Deep {
        /// The limit, in levels.
        limit: u32,
    },
    /// A field occurs twice, and readers differ in which of the two they use.
    Duplicate {
        /// Its path, such as `payload.profile`.
        field: Cow<'static, str>,
    },
    /// The body is not UTF-8.
    Encoding {
        /// The position of the first byte that is not UTF-8.
        offset: usize,
    },
    /// A field has another type than documented, or breaks a rule.
    Invalid {
        /// Its path, such as `AIOutput.traceId`.
        field: Cow<'static, str>,
        /// The expected value.
        expected: Cow<'static, str>,
    },
    /// A field is missing.
    Missing {
        /// Its path, such as `eventId`.
        field: Cow<'static, str>,
        /// The expected value.
        expected: Cow<'static, str>,
    },
    /// JSON, but not an object.
    NotAnObject,
    /// The event is too old by its own `timestamp`, or too far in the future.
    Stale {
        /// The largest age that is accepted.
        max_age: Duration,
        /// The largest distance into the future that is accepted.
        max_ahead: Duration,
    },
    /// Not JSON.
    Syntax {
        /// The position of the first byte that is not JSON.
        offset: usize,
        /// The expected text.
        expected: &'static str,
    },
}

impl EventError {
    pub(super) const fn invalid(field: &'static str, expected: &'static str) -> Self {
        Self::Invalid {
            field: Cow::Borrowed(field),
            expected: Cow::Borrowed(expected),
        }
    }

    pub(super) const fn missing(field: &'static str, expected: &'static str) -> Self {
        Self::Missing {
            field: Cow::Borrowed(field),
            expected: Cow::Borrowed(expected),
        }
    }

    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Deep { .. } => "deep",
            Self::Duplicate { .. } => "duplicate",
            Self::Encoding { .. } => "encoding",
            Self::Invalid { .. } => "invalid",
            Self::Missing { .. } => "missing",
            Self::NotAnObject => "not_an_object",
            Self::Stale { .. } => "stale",
            Self::Syntax { .. } => "syntax",
        }
    }

    /// The path of the field at fault, such as `payload.profile`; `None` if the error concerns the whole
    /// body.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Duplicate { field }
            | Self::Invalid { field, .. }
            | Self::Missing { field, .. } => Some(field),
            Self::Stale { .. } => Some("timestamp"),
            Self::Deep { .. } | Self::Encoding { .. } | Self::NotAnObject | Self::Syntax { .. } => {
                None
            }
        }
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deep { limit } => write!(f, "the body is nested deeper than {limit} levels"),
            Self::Duplicate { field } => write!(f, "`{field}` is there twice"),
            Self::Encoding { offset } => write!(f, "the body is not UTF-8 at byte {offset}"),
            Self::Invalid { field, expected } => {
                write!(f, "`{field}` must be {expected}")
            }
            Self::Missing { field, expected } => {
                write!(f, "`{field}` is missing, expected {expected}")
            }
            Self::NotAnObject => f.write_str("the body is not a JSON object"),
            Self::Stale { max_age, max_ahead } => write!(
                f,
                "`timestamp` must be at most {} h old and at most {} h in the future",
                max_age.as_secs() / 3600,
                max_ahead.as_secs() / 3600
            ),
            Self::Syntax { offset, expected } => {
                write!(
                    f,
                    "the body is not JSON at byte {offset}, expected {expected}"
                )
            }
        }
    }
}

impl std::error::Error for EventError {}

/// 400, with the path of the field at fault as the member `field`.
impl Refusal for EventError {
    fn problem(&self) -> Problem {
        let problem = Problem::new(StatusCode::BAD_REQUEST)
            .reason(self.as_str())
            .detail(self.to_string());
        match self.field() {
            Some(field) => problem.member("field", field.to_owned()),
            None => problem,
        }
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        error.problem()
    }
}

/// Why an extractor or [`EventLayer`](super::EventLayer) refused a request. Its response is `application/problem+json`, with the typed reason
/// in its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventRejection {
    /// The body could not be read (400) or is too long (413).
    Body(BodyError),
    /// The body is not a valid event: 400, with the path of the field at fault as the member `field`.
    Event(EventError),
    /// No outer layer has checked the signature: 500 without detail, and an [`Event::MissingLayer`] to the
    /// [observers](crate::cognigy#in-axum) of the router. The fault is in the router, not in the request.
    /// `Unverified` skips the check.
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
            Self::Unverified => f.write_str(
                "no layer outside has verified the signature: put a `SignatureVerifyLayer` around this route",
            ),
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

impl EventRejection {
    /// Tells the observers. A missing signature layer is a fault of the program, not of the request.
    #[cfg(any(feature = "axum", feature = "signature"))]
    pub(super) fn tell(&self, observers: &Observers, uri: &Uri, extensions: &Extensions) {
        observers.tell(|| match self {
            Self::Unverified => Event::MissingLayer {
                part: "cognigy",
                path: original(uri, extensions).path(),
                what: "an event was asked for on a route whose signature no layer checks: put a \
                       `SignatureVerifyLayer` around it, or take `Unverified`",
            },
            Self::Body(_) | Self::Event(_) => Event::Refused {
                by: "cognigy",
                reason: self.as_str(),
                detail: Id::new(self),
            },
        });
    }
}
