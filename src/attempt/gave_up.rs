use std::fmt;

/// Why a delivery that failed was not tried again.
///
/// # Examples
///
/// ```
/// use tower_webhook::attempt::GaveUp;
///
/// assert_eq!(GaveUp::HintTooLong.as_str(), "hint_too_long");
/// assert_eq!(GaveUp::HintTooLong.to_string(), "the peer asks for a longer wait than there is time");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GaveUp {
    /// The body has begun to be sent and cannot be sent again.
    BodyNotReplayable,
    /// Too much of the recent traffic is retries already.
    Budget,
    /// Another attempt could not end before the deadline of the call.
    Deadline,
    /// The peer asks for a longer wait than the hint limit allows, or than there is time left.
    HintTooLong,
    /// The service inside can take no more calls: it failed while it was to become ready.
    NotReady,
    /// The outcome, or the request, is not one to repeat.
    NotRetryable,
    /// It was not sent, by our own decision (a circuit is open), and waiting did not help or was
    /// not asked for.
    Refused,
    /// As many attempts as were allowed have failed.
    RetriesExhausted,
    /// Another attempt could not end inside the total window of the retries.
    Window,
}

impl GaveUp {
    /// Every reason, in alphabetical order: for counters that are set up in advance.
    pub const ALL: &'static [Self] = &[
        Self::BodyNotReplayable,
        Self::Budget,
        Self::Deadline,
        Self::HintTooLong,
        Self::NotReady,
        Self::NotRetryable,
        Self::Refused,
        Self::RetriesExhausted,
        Self::Window,
    ];

    /// The name in lower case, for metric labels, logs and records. It does not change between
    /// releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BodyNotReplayable => "body_not_replayable",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::HintTooLong => "hint_too_long",
            Self::NotReady => "not_ready",
            Self::NotRetryable => "not_retryable",
            Self::Refused => "refused",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Window => "window",
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BodyNotReplayable => "the body cannot be sent again",
            Self::Budget => "the retry budget is spent",
            Self::Deadline => "the deadline leaves no time",
            Self::HintTooLong => "the peer asks for a longer wait than there is time",
            Self::NotReady => "the service takes no more calls",
            Self::NotRetryable => "not one to repeat",
            Self::Refused => "our side refused to send it",
            Self::RetriesExhausted => "no attempts left",
            Self::Window => "the retry window leaves no time",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_every_reason_once_and_in_order() {
        assert!(GaveUp::ALL.is_sorted());
        assert!(GaveUp::ALL.iter().map(|reason| reason.as_str()).is_sorted());
        assert!(GaveUp::ALL.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
