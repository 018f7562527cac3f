use super::{
    Level, Measurement, Series,
    combine::catch_panic,
    trail::{Place, Trail},
};
use crate::{attempt::Attempt, outcome::Outcome};
use std::time::Duration;
use tokio::time::Instant;

/// An attempt or a delivery that has begun. Dropped without a verdict, it was cancelled.
pub(super) struct InFlight<X: Series> {
    /// `None` once it is recorded, and where the recorder gave none.
    series: Option<X>,
    level: Level,
    started: Instant,
    pub(super) trail: Trail,
}

impl<X: Series> InFlight<X> {
    pub(super) fn start(series: Option<X>, level: Level) -> Self {
        let place = match level {
            Level::Attempt => Trail::begin_attempt().unwrap_or_else(by_number),
            Level::Delivery => Place::First,
        };
        if let Some(series) = &series {
            catch_panic(|| {
                series.started(level);
                if let Place::Retry(code) = place {
                    series.retried(code);
                }
            });
        }
        Self {
            series,
            level,
            started: Instant::now(),
            trail: Trail::default(),
        }
    }

    /// Runs `work`, which is what is measured.
    pub(super) fn scope<T>(&mut self, work: impl FnOnce() -> T) -> T {
        match self.level {
            Level::Attempt => work(),
            Level::Delivery => self.trail.scope(work),
        }
    }

    /// Leaves word of an answer for the attempt after this one.
    pub(super) fn answered(&self, outcome: Outcome) {
        if self.level == Level::Attempt {
            Trail::end_attempt(outcome.code());
        }
    }

    pub(super) fn finish(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome) {
        if let Some(series) = self.series.take() {
            let elapsed: Duration = Instant::now().saturating_duration_since(self.started);
            let attempts = match self.level {
                Level::Attempt => 1,
                Level::Delivery => self.trail.attempts,
            };
            let measurement =
                Measurement::new(self.level, outcome, elapsed).with_attempts(attempts);
            // The series with it: dropping one is the recorder's code too.
            catch_panic(move || series.finished(&measurement));
        }
    }
}

/// Where no delivery-level layer stands around it, the number that the retry layer gave it still
/// says that it is a retry, though not what of.
fn by_number() -> Place {
    match Attempt::current() {
        Some(attempt) if attempt.number() > 1 => Place::Retry(None),
        _ => Place::First,
    }
}

impl<X: Series> Drop for InFlight<X> {
    fn drop(&mut self) {
        self.record(Outcome::cancelled());
    }
}
