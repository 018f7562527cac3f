use super::{GaveUp, History};
use crate::BoxError;
use std::{error::Error, fmt};

/// The last error of a delivery that was given up, with how it came to that.
///
/// Its [`source`](Error::source) is the error of the last attempt, so that a classifier further out
/// judges that one.
///
/// # Examples
///
/// ```
/// use tower_webhook::BoxError;
/// use tower_webhook::attempt::{Failed, GaveUp, History};
/// use tower_webhook::outcome::{Outcome, OutcomeKind, Unreached};
///
/// let history = History::new().with_gave_up(GaveUp::RetriesExhausted);
/// let error = BoxError::from(Failed::new(Unreached::new(), history));
///
/// let failed = error.downcast_ref::<Failed>().unwrap();
/// assert_eq!(failed.history().gave_up(), Some(GaveUp::RetriesExhausted));
/// assert_eq!(Outcome::of_error(failed).kind(), OutcomeKind::Unreached);
/// ```
#[derive(Debug)]
pub struct Failed {
    source: BoxError,
    history: History,
}

impl Failed {
    /// The error of the last attempt, and all that came before it.
    pub fn new(source: impl Into<BoxError>, history: History) -> Self {
        Self {
            source: source.into(),
            history,
        }
    }

    /// How the attempts went.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Why there were no more.
    pub const fn gave_up(&self) -> Option<GaveUp> {
        self.history.gave_up()
    }

    /// The error of the last attempt, and the history.
    pub fn into_parts(self) -> (BoxError, History) {
        (self.source, self.history)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.history.attempts() {
            1 => f.write_str("gave up after 1 attempt")?,
            attempts => write!(f, "gave up after {attempts} attempts")?,
        }
        match self.history.gave_up() {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
