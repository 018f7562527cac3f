//! The wall clock, for timestamps on the wire and on disk.
//!
//! Durations are measured with the monotonic clock of [`tokio::time`], which tests can pause. Times that
//! leave the process (the timestamp of a signature, a lease in a database) need the wall clock, which may
//! jump. They are read through a [`WallClock`], so that a test can set the time, and
//! [`WallClock::elapsed`] tells whether it has jumped.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The source of the time of day for a layer or store. The system clock by default.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use tower_webhook::clock::WallClock;
///
/// let clock = WallClock::fixed(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
/// assert_eq!(clock.unix_seconds(), 1_700_000_000);
/// ```
#[derive(Clone, Default)]
pub struct WallClock {
    /// `None` is the system clock, which needs no call through a pointer.
    read: Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>,
    /// `None`: as the wall clock has it.
    elapsed: Option<Arc<dyn Fn() -> Duration + Send + Sync>>,
}

impl WallClock {
    /// The system clock.
    pub const fn system() -> Self {
        Self {
            read: None,
            elapsed: None,
        }
    }

    /// A clock that always returns `now`.
    pub fn fixed(now: SystemTime) -> Self {
        Self::from_fn(move || now)
    }

    /// A clock of your own. Its changes count as time that passes.
    pub fn from_fn(read: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self {
            read: Some(Arc::new(read)),
            elapsed: None,
        }
    }

    /// A clock of your own that may be set while `elapsed` time passes, to test what a clock that leaps does.
    pub fn from_fns(
        read: impl Fn() -> SystemTime + Send + Sync + 'static,
        elapsed: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self {
            read: Some(Arc::new(read)),
            elapsed: Some(Arc::new(elapsed)),
        }
    }

    /// The time that has passed since some moment, whatever the clock was set to meanwhile: of the system clock,
    /// that of the monotonic clock.
    pub fn elapsed(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        match (&self.elapsed, &self.read) {
            (Some(elapsed), _) => elapsed(),
            (None, Some(_)) => self.since_epoch(),
            (None, None) => START.get_or_init(Instant::now).elapsed(),
        }
    }

    /// The time now.
    pub fn now(&self) -> SystemTime {
        match &self.read {
            Some(read) => read(),
            None => SystemTime::now(),
        }
    }

    /// Whole seconds since 1970; zero for earlier times.
    pub fn unix_seconds(&self) -> u64 {
        self.since_epoch().as_secs()
    }

    /// Whole milliseconds since 1970; zero for earlier times.
    pub fn unix_millis(&self) -> u64 {
        u64::try_from(self.since_epoch().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whole nanoseconds since 1970; zero for earlier times. Enough until the year 2554.
    #[cfg(feature = "moka")]
    pub(crate) fn unix_nanos(&self) -> u64 {
        u64::try_from(self.since_epoch().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn since_epoch(&self) -> Duration {
        self.now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.read {
            Some(_) => "WallClock(custom)",
            None => "WallClock(system)",
        })
    }
}
