//! What is stored as JSON: who a job is from, how its attempts went, why it failed.

use tower_webhook::{
    attempt::History,
    codec::{self, decode},
    dead_letter::{Cause, Reason},
    queue::About,
};

/// `None` where there is nothing to tell.
pub(super) fn about(about: &About) -> Option<String> {
    (*about != About::default()).then(|| codec::encode(about))
}

/// What cannot be read is left out: the payload is what matters.
pub(super) fn read_about(text: Option<&str>) -> About {
    text.and_then(|text| decode(text).ok()).unwrap_or_default()
}

/// Empty where nothing was tried.
pub(super) fn history(history: &History) -> String {
    if *history == History::new() {
        return String::new();
    }
    codec::encode(history)
}

/// What cannot be read is left out: the payload is what matters.
pub(super) fn read_history(text: Option<&str>) -> History {
    text.and_then(|text| decode(text).ok()).unwrap_or_default()
}

pub(super) fn cause(cause: &Cause) -> String {
    codec::encode(cause)
}

/// A job that is dead-lettered for a reason that cannot be read was not done, and is not tried again.
pub(super) fn read_cause(text: Option<&str>) -> Cause {
    let cause = text.and_then(|text| decode(text).ok());
    cause.unwrap_or_else(|| Cause::new(Reason::NotRetryable))
}
