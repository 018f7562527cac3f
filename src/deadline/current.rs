use std::{cell::Cell, time::Duration};
use tokio::time::Instant;

thread_local! {
    static CURRENT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time by which the whole of the current call must have ended.
///
/// Set by `DeadlineLayer` around everything inside it, and read by whatever
/// waits or chooses there. It is not part of the request, so that it holds for requests of any type
/// and costs no allocation: it is there while the service inside is called and its future polled,
/// on that thread. A task that is spawned meanwhile does not inherit it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_webhook::deadline::Deadline;
///
/// assert_eq!(Deadline::current(), None);
///
/// let outer = Deadline::at(Instant::now() + Duration::from_secs(5));
/// outer.scope(|| {
///     assert_eq!(Deadline::current(), Some(outer));
///     // An inner one cannot be later.
///     let inner = Deadline::at(Instant::now() + Duration::from_secs(60));
///     inner.scope(|| assert_eq!(Deadline::current(), Some(outer)));
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// A deadline at this time, by the clock of [`tokio::time`].
    pub const fn at(at: Instant) -> Self {
        Self { at }
    }

    /// The deadline that holds here, if one does.
    pub fn current() -> Option<Self> {
        CURRENT.get().map(Self::at)
    }

    /// When it is.
    pub const fn instant(self) -> Instant {
        self.at
    }

    /// What is left of it at `now`: zero when it has passed.
    pub fn left(self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
    }

    /// Runs `work` under this deadline, or under the one that holds already where that is earlier.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        let before = CURRENT.get();
        let at = before.map_or(self.at, |before| before.min(self.at));
        CURRENT.set(Some(at));
        let _restore = Restore(before);
        work()
    }
}

/// Puts the former deadline back, also where the work panics.
struct Restore(Option<Instant>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic;

    #[test]
    fn the_former_deadline_is_back_after_a_panic() {
        let now = Instant::now();
        let (near, far) = (
            Deadline::at(now),
            Deadline::at(now + Duration::from_secs(9)),
        );
        far.scope(|| {
            let _ = panic::catch_unwind(|| near.scope(|| panic!("on purpose")));
            assert_eq!(Deadline::current(), Some(far));
        });
        assert_eq!(Deadline::current(), None);
        assert_eq!(near.left(now + Duration::from_secs(1)), Duration::ZERO);
    }
}
