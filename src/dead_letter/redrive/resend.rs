use crate::{
    dead_letter::{DescribeResponse, Entry},
    lease::FencingToken,
};
use std::fmt;

/// Makes the requests of entries.
///
/// Implemented by [`HttpRequests`](crate::dead_letter::HttpRequests) for HTTP, and by functions of the entry. A
/// [`DescribeResponse`] of the same type reads the attempt history of responses.
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no requests of dead-letter entries",
    note = "write a function `|entry: &Entry| -> Result<Req, NotSendable> {{ .. }}`"
)]
pub trait Resend {
    /// The type of the requests.
    type Request;

    /// Makes the request of a claimed entry. `token` proves the claim: a service that can compare it with the newest
    /// claim of the entry refuses a request whose claim has passed to another.
    ///
    /// # Errors
    ///
    /// [`NotSendable`]: the entry lacks what the request needs.
    fn to_request(&self, entry: &Entry, token: FencingToken) -> Result<Self::Request, NotSendable>;
}

impl<F, Req> Resend for F
where
    F: Fn(&Entry) -> Result<Req, NotSendable>,
{
    type Request = Req;

    fn to_request(&self, entry: &Entry, _: FencingToken) -> Result<Req, NotSendable> {
        self(entry)
    }
}

impl<F, Req, Res> DescribeResponse<Res> for F where F: Fn(&Entry) -> Result<Req, NotSendable> {}

/// Why an entry cannot be sent again. The entry stays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSendable {
    /// Another reason, in words without a secret.
    Because(String),
    /// Only the beginning of the body was stored.
    BodyTruncated {
        /// The stored bytes.
        kept: u64,
        /// The length of the whole body.
        length: u64,
    },
    /// A part of the entry is not valid in a request.
    Malformed {
        /// The part.
        part: &'static str,
    },
    /// The entry lacks a part that every request needs.
    Missing {
        /// The part.
        part: &'static str,
    },
    /// The function that makes requests panicked.
    Panicked,
}

impl NotSendable {
    /// Makes a reason from words without a secret.
    pub fn because(reason: impl Into<String>) -> Self {
        Self::Because(reason.into())
    }
}

impl fmt::Display for NotSendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Because(reason) => f.write_str(reason),
            Self::BodyTruncated { kept, length } => {
                write!(f, "only {kept} of the {length} bytes of its body were kept")
            }
            Self::Malformed { part } => write!(f, "its {part} makes no request"),
            Self::Missing { part } => write!(f, "it has no {part}"),
            Self::Panicked => f.write_str("what makes requests of entries panicked"),
        }
    }
}

impl std::error::Error for NotSendable {}
