use crate::{attempt::History, dead_letter::Entry};
use std::{fmt, marker::PhantomData};

/// Makes requests of entries.
///
/// [`ResendHttp`](super::ResendHttp) does it for HTTP;
/// [`RedriveBuilder::to_request`](super::RedriveBuilder::to_request) takes a function for the rest.
pub trait Resend {
    /// What is sent.
    type Request;

    /// The request that the entry tells of.
    ///
    /// # Errors
    ///
    /// [`NotSendable`]: the entry does not hold what is needed.
    fn to_request(&self, entry: &Entry) -> Result<Self::Request, NotSendable>;
}

/// Finds out how the attempts of a failed answer went, where it says.
pub trait ReadHistory<Res> {
    /// The history in an answer. `None`, the default: the call counts as one attempt.
    fn history<'a>(&self, response: &'a Res) -> Option<&'a History> {
        let _ = response;
        None
    }
}

/// A function that makes requests of entries. Made by
/// [`RedriveBuilder::to_request`](super::RedriveBuilder::to_request).
pub struct ResendFn<F, Req> {
    make: F,
    makes: PhantomData<fn() -> Req>,
}

impl<F, Req> ResendFn<F, Req> {
    pub(super) const fn new(make: F) -> Self {
        Self {
            make,
            makes: PhantomData,
        }
    }
}

impl<F: Clone, Req> Clone for ResendFn<F, Req> {
    fn clone(&self) -> Self {
        Self::new(self.make.clone())
    }
}

impl<F, Req> fmt::Debug for ResendFn<F, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResendFn").finish_non_exhaustive()
    }
}

impl<F, Req> Resend for ResendFn<F, Req>
where
    F: Fn(&Entry) -> Result<Req, NotSendable>,
{
    type Request = Req;

    fn to_request(&self, entry: &Entry) -> Result<Req, NotSendable> {
        (self.make)(entry)
    }
}

impl<F, Req, Res> ReadHistory<Res> for ResendFn<F, Req> {}

/// Why an entry cannot be sent again from its record. It stays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSendable {
    /// Another reason, in words that hold no secret.
    Because(String),
    /// Only the beginning of the body was kept.
    BodyTruncated {
        /// The bytes that were kept.
        kept: u64,
        /// The length of the whole.
        length: u64,
    },
    /// A part of the entry makes no request.
    Malformed {
        /// Which part.
        part: &'static str,
    },
    /// A part is missing that every request has.
    Missing {
        /// Which part.
        part: &'static str,
    },
    /// What makes requests of entries panicked.
    Panicked,
}

impl NotSendable {
    /// A reason of one's own.
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
