use crate::outcome::LocallyRefused;
use std::{error::Error, fmt, time::Duration};

/// The time for the whole of a call is up.
///
/// Where the call had begun, its [outcome](crate::outcome) is
/// [`Transient`](crate::outcome::OutcomeKind::Transient): the peer may have done it. Where there
/// was no time left to begin, it is [`Refused`](crate::outcome::OutcomeKind::Refused): nothing was
/// sent, so nothing was learnt about the peer.
///
/// # Examples
///
/// ```
/// use tower_webhook::deadline::DeadlineExceeded;
/// use tower_webhook::outcome::{Outcome, OutcomeKind};
///
/// let error = DeadlineExceeded::before_sending();
/// assert_eq!(Outcome::of_error(&error).kind(), OutcomeKind::Refused);
/// assert_eq!(error.to_string(), "no time left to send it");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeadlineExceeded {
    /// `None`: it was not sent.
    allowed: Option<Duration>,
}

impl DeadlineExceeded {
    /// It was given up after this long.
    pub(super) const fn after(allowed: Duration) -> Self {
        Self {
            allowed: Some(allowed),
        }
    }

    /// No time was left when the call would have begun: nothing was sent.
    pub const fn before_sending() -> Self {
        Self { allowed: None }
    }

    /// The time that the call had; `None` where none was left and it was not sent.
    pub const fn allowed(&self) -> Option<Duration> {
        self.allowed
    }

    /// Whether the call had begun, so that the peer may have done it.
    pub const fn was_sent(&self) -> bool {
        self.allowed.is_some()
    }
}

impl fmt::Display for DeadlineExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.allowed {
            Some(allowed) => write!(f, "deadline exceeded after {allowed:?}"),
            None => f.write_str("no time left to send it"),
        }
    }
}

impl Error for DeadlineExceeded {
    /// The mark by which a [classifier](crate::outcome) knows that nothing was sent, where nothing
    /// was.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static NOT_SENT: LocallyRefused = LocallyRefused::after(Duration::ZERO);
        match self.allowed {
            Some(_) => None,
            None => Some(&NOT_SENT),
        }
    }
}
