//! The cause of a failed call, from its outcome, history and error.

use super::{Cause, Entry, Reason, redaction::beginning};
use crate::{
    attempt::{Failed, History},
    deadline::DeadlineExceeded,
    outcome::{LocallyRefused, Outcome, links},
};
use std::{
    error::Error,
    fmt::{self, Write},
};

/// The facts about the cause that are found in the sources of an error.
#[derive(Clone, Copy, Default)]
struct Told<'a> {
    history: Option<&'a History>,
    /// Whether a deadline was exceeded.
    overdue: Overdue,
    circuit_open: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Overdue {
    #[default]
    No,
    /// The deadline of the whole call.
    Outside,
    /// The timeout of an attempt, which a retry layer classified.
    Inside,
}

fn told<'a>(error: &'a (dyn Error + 'static)) -> Told<'a> {
    let mut told = Told::default();
    for link in links(error) {
        if let Some(failed) = link.downcast_ref::<Failed>() {
            told.history = told.history.or(Some(failed.history()));
            let mut refusal = failed.refusal().into_iter().flat_map(links);
            told.circuit_open |= refusal.any(is_open_circuit);
        }
        if link.is::<DeadlineExceeded>() && told.overdue == Overdue::No {
            told.overdue = match told.history {
                None => Overdue::Outside,
                Some(_) => Overdue::Inside,
            };
        }
        told.circuit_open |= is_open_circuit(link);
    }
    told
}

fn is_open_circuit(link: &(dyn Error + 'static)) -> bool {
    let refused = link.downcast_ref::<LocallyRefused>();
    refused.is_some_and(LocallyRefused::is_circuit_open)
}

/// Returns the cause of a failure, and its history if there is one. `noted` is the history in the
/// response.
pub(super) fn find(
    outcome: Outcome,
    noted: Option<&History>,
    error: Option<&(dyn Error + 'static)>,
) -> (Cause, Option<History>) {
    let told = error.map(told).unwrap_or_default();
    let history = told.history.or(noted);
    let cause = Cause::new(reason(outcome, history, told))
        .with_code(outcome.code())
        .with_class(outcome.kind().as_str());
    let cause = match error {
        Some(error) => cause.with_message(&message(error)),
        None => cause,
    };
    (cause, history.cloned())
}

fn reason(outcome: Outcome, history: Option<&History>, told: Told<'_>) -> Reason {
    let reason = Reason::of(outcome, history.and_then(History::gave_up));
    // The retry layer's reason for the call has priority over the outcome of its last attempt.
    match (told.overdue, reason) {
        (Overdue::Outside, _) | (Overdue::Inside, Reason::NotRetryable | Reason::Refused) => {
            Reason::Deadline
        }
        (Overdue::No, Reason::Refused) if told.circuit_open => Reason::CircuitOpen,
        (_, reason) => reason,
    }
}

/// Joins the messages of the error and its sources. Leaves out a message with which the text before it
/// already ends, and that of a retry layer: its number of attempts is that of one call, and an entry has the history of all
/// calls and the reason.
pub(crate) fn message(error: &(dyn Error + 'static)) -> String {
    let mut message = String::new();
    for link in links(error).filter(|link| !link.is::<Failed>()) {
        let mut text = Bounded::default();
        // An error means that the text is full, or that the link failed to format itself.
        let _ = write!(text, "{link}");
        if message.len() >= Bounded::MOST || message.ends_with(&text.text) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&text.text);
    }
    message
}

/// A text that grows no longer than a message may be.
#[derive(Default)]
struct Bounded {
    text: String,
}

impl Bounded {
    /// In bytes: a character has at most four.
    const MOST: usize = 4 * Entry::MAX_MESSAGE;
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = Self::MOST.saturating_sub(self.text.len());
        let kept = beginning(text, room);
        self.text.push_str(kept);
        if kept.len() < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{attempt::GaveUp, outcome::Unreached};
    use std::{io, time::Duration};

    fn reason_of(error: impl Error + 'static) -> Reason {
        let outcome = Outcome::of_error(&error);
        find(outcome, None, Some(&error)).0.reason
    }

    fn given_up(error: impl Into<crate::BoxError>, gave_up: GaveUp) -> Failed {
        Failed::new(error, History::new().with_gave_up(gave_up))
    }

    #[test]
    fn an_open_circuit_is_told_from_another_refusal() {
        let second = Duration::from_secs(1);
        assert_eq!(reason_of(LocallyRefused::after(second)), Reason::Refused);
        let open = LocallyRefused::by_circuit(second);
        assert_eq!(reason_of(open), Reason::CircuitOpen);
        let given_up = given_up(open, GaveUp::Refused);
        assert_eq!(reason_of(given_up), Reason::CircuitOpen);
        // After an attempt that failed with an error.
        let given_up = self::given_up(io::Error::other("reset"), GaveUp::Refused);
        let refused = given_up.with_refusal(LocallyRefused::by_circuit(second));
        assert_eq!(reason_of(refused), Reason::CircuitOpen);
    }

    /// An entry has the history of every call: the number of one of them would contradict it.
    #[test]
    fn a_message_is_that_of_the_last_attempt() {
        let given_up = given_up(io::Error::other("reset"), GaveUp::RetriesExhausted);
        assert_eq!(message(&given_up), "reset");
    }

    #[test]
    fn what_was_said_of_the_whole_comes_before_what_was_said_of_an_attempt() {
        let overdue = DeadlineExceeded::before_sending;
        assert_eq!(reason_of(overdue()), Reason::Deadline);
        let refused = given_up(overdue(), GaveUp::Refused);
        assert_eq!(reason_of(refused), Reason::Deadline);
        let exhausted = given_up(overdue(), GaveUp::RetriesExhausted);
        assert_eq!(reason_of(exhausted), Reason::RetriesExhausted);
    }

    #[test]
    fn a_message_says_each_link_once() {
        #[derive(Debug)]
        struct Repeats(io::Error);
        impl fmt::Display for Repeats {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sending failed: {}", self.0)
            }
        }
        impl Error for Repeats {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Unreached::because(Repeats(io::Error::other("no route")));
        assert_eq!(
            message(&error),
            "the peer was not reached: sending failed: no route"
        );
    }

    #[test]
    fn a_message_without_end_is_cut() {
        #[derive(Debug)]
        struct Endless(bool);
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("é…")?;
                    if self.0 {
                        return Ok(());
                    }
                }
            }
        }
        impl Error for Endless {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(self)
            }
        }
        assert!(message(&Endless(false)).len() <= Bounded::MOST);
        assert_eq!(message(&Endless(true)), "é…");
        let cause = find(Outcome::transient(), None, Some(&Endless(false))).0;
        let length = cause.message.map(|message| message.chars().count());
        assert_eq!(length, Some(Entry::MAX_MESSAGE));
    }
}
