use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The target that answered last, for as long as it is tried first.
#[derive(Debug)]
pub(super) struct Preference {
    /// Until when, in milliseconds since `since`, above the target in the lowest byte. One word, so
    /// that no call sees half of a change. 0: the first one.
    state: AtomicU64,
    since: Instant,
    hold: u64,
}

/// As many as the lowest byte tells apart.
pub(super) const MAX_TARGETS: usize = 255;

const LAST: u64 = u64::MAX >> 8;

impl Preference {
    pub(super) fn new(hold: Duration, now: Instant) -> Self {
        Self {
            state: AtomicU64::new(0),
            since: now,
            hold: millis(hold).max(1),
        }
    }

    /// The target to begin at. The clock is read only where one is preferred.
    pub(super) fn current(&self, now: impl FnOnce() -> Instant) -> usize {
        // Relaxed: the word stands for itself.
        let state = self.state.load(Ordering::Relaxed);
        if state == 0 || self.at(now()) >= state >> 8 {
            return 0;
        }
        usize::from(state.to_le_bytes()[0])
    }

    /// This one answered after another had not.
    pub(super) fn prefer(&self, target: usize, now: Instant) {
        let state = match u8::try_from(target) {
            Ok(0) | Err(_) => 0,
            Ok(target) => {
                let until = self.at(now).saturating_add(self.hold).min(LAST);
                until << 8 | u64::from(target)
            }
        };
        self.state.store(state, Ordering::Relaxed);
    }

    fn at(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.since))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).map_or(LAST, |millis| millis.min(LAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_ends_and_is_replaced() {
        let start = Instant::now();
        let after = |seconds| move || start + Duration::from_secs(seconds);
        let preference = Preference::new(Duration::from_secs(10), start);
        assert_eq!(preference.current(after(0)), 0);
        preference.prefer(2, start + Duration::from_secs(5));
        assert_eq!(preference.current(after(5)), 2);
        assert_eq!(preference.current(after(14)), 2);
        assert_eq!(preference.current(after(15)), 0);
        preference.prefer(254, start + Duration::from_secs(20));
        assert_eq!(preference.current(after(29)), 254);
        preference.prefer(0, start + Duration::from_secs(21));
        assert_eq!(preference.current(after(21)), 0);
    }

    #[test]
    fn the_longest_holds_for_ever() {
        let start = Instant::now();
        let preference = Preference::new(Duration::MAX, start);
        preference.prefer(1, start + Duration::from_secs(1));
        let much_later = start + Duration::from_secs(3600 * 24 * 36500);
        assert_eq!(preference.current(|| much_later), 1);
    }
}
