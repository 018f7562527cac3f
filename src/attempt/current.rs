use std::{cell::Cell, num::NonZeroU32};

thread_local! {
    static CURRENT: Cell<Option<Attempt>> = const { Cell::new(None) };
}

/// Which attempt of a delivery the current call is.
///
/// Set by the layer that repeats calls around everything inside it, so that whatever stands there
/// can say it, log it or choose by it. Like [`Deadline`](crate::deadline::Deadline) it is no part
/// of the request: it is there while the service inside is called and its future polled, on that
/// thread.
///
/// # Examples
///
/// ```
/// use tower_webhook::attempt::Attempt;
///
/// assert_eq!(Attempt::current(), None);
///
/// let second = Attempt::first().next();
/// second.scope(|| assert_eq!(Attempt::current().map(Attempt::number), Some(2)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    number: NonZeroU32,
}

impl Attempt {
    /// The first one, whose number is 1.
    pub const fn first() -> Self {
        Self {
            number: NonZeroU32::MIN,
        }
    }

    /// The one of this number; zero is taken as 1.
    pub const fn numbered(number: u32) -> Self {
        match NonZeroU32::new(number) {
            Some(number) => Self { number },
            None => Self::first(),
        }
    }

    /// The one after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            number: self.number.saturating_add(1),
        }
    }

    /// Its number, from 1.
    pub const fn number(self) -> u32 {
        self.number.get()
    }

    /// The attempt that is made here, if a layer around this call counts them.
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }

    /// Runs `work` as part of this attempt.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(CURRENT.replace(Some(self)));
        work()
    }
}

/// Puts the former attempt back, also where the work panics.
struct Restore(Option<Attempt>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
