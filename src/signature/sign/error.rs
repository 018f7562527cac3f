use crate::outcome::Unsendable;
use std::fmt;

/// Why a request could not be signed. It was not sent.
///
/// A fault of ours or of the caller's; another attempt ends the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignError {
    /// A [`SignScheme`](super::SignScheme) outside this crate has a reason of its own.
    Custom {
        /// The reason, from a small closed set.
        reason: &'static str,
    },
    /// A header cannot hold what would be written: a separator or prefix outside ASCII.
    HeaderValue,
    /// The id of the message is not 1 to 255 visible ASCII characters without a full stop, or the
    /// request has two.
    InvalidId,
    /// The scheme signs an id and there is none.
    MissingId,
    /// All keys are public ones, which verify.
    NoSigningKey,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Custom { reason } => reason,
            Self::HeaderValue => "signature is not fit for a header",
            Self::InvalidId => "message id is not fit to be signed",
            Self::MissingId => "message has no id",
            Self::NoSigningKey => "no key can sign",
        })
    }
}

impl std::error::Error for SignError {
    /// The mark by which a [classifier](crate::outcome) knows that nothing was sent, and that
    /// another attempt cannot help.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        static UNSENDABLE: Unsendable = Unsendable::new();
        Some(&UNSENDABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BoxError,
        outcome::{Outcome, OutcomeKind},
    };

    #[test]
    fn a_signing_error_is_never_retried() {
        let error = BoxError::from(SignError::InvalidId);
        let outcome = Outcome::of_error(&*error);
        assert_eq!(outcome.kind(), OutcomeKind::Unsendable);
        assert!(!outcome.may_retry());
    }
}
