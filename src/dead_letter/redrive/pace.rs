//! Not more than so many a second.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Gives out times to begin, evenly spaced. Nothing is saved up: after a pause there is no burst.
#[derive(Debug)]
pub(super) struct Pace {
    spacing: Duration,
    /// When the next may begin.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) const fn new(spacing: Duration) -> Self {
        Self {
            spacing,
            next: Mutex::new(None),
        }
    }

    /// When the caller may begin: `now`, or later.
    pub(super) fn take(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = next.map_or(now, |next| next.max(now));
        *next = begin.checked_add(self.spacing);
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starts_are_evenly_spaced_and_nothing_is_saved_up() {
        let spacing = Duration::from_millis(100);
        let (pace, now) = (Pace::new(spacing), Instant::now());
        assert_eq!([pace.take(now), pace.take(now)], [now, now + spacing]);
        let later = now + Duration::from_secs(60);
        assert_eq!(
            [pace.take(later), pace.take(later)],
            [later, later + spacing]
        );
    }
}
