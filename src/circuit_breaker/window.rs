//! Counts of the last calls, by number or by time. Both windows slide at O(1) per call.

use super::model::{Tick, WindowRule};

/// The calls in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

#[derive(Debug)]
pub(super) enum Window {
    Calls(CallWindow),
    Time(TimeWindow),
}

impl Window {
    pub(super) fn new(rule: WindowRule) -> Self {
        match rule {
            WindowRule::Calls(size) => Self::Calls(CallWindow::new(size)),
            WindowRule::Time { buckets, width } => Self::Time(TimeWindow::new(buckets, width)),
        }
    }

    /// Adds a call that ended at `now`. Only a window of time uses `now`.
    pub(super) fn record(&mut self, now: Tick, failed: bool, slow: bool) {
        match self {
            Self::Calls(window) => window.record(failed, slow),
            Self::Time(window) => window.record(now, failed, slow),
        }
    }

    /// The counts as of the last [`record`](Self::record).
    pub(super) fn counts(&self) -> Counts {
        match self {
            Self::Calls(window) => window.counts(),
            Self::Time(window) => window.sums,
        }
    }

    /// The counts at `now`.
    pub(super) fn counts_at(&self, now: Tick) -> Counts {
        match self {
            Self::Calls(window) => window.counts(),
            Self::Time(window) => window.counts_at(now),
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Calls(window) => window.clear(),
            Self::Time(window) => window.clear(),
        }
    }

    /// Whether no call in the window failed or was slow, and none leaves it before another comes.
    pub(super) const fn is_well(&self) -> bool {
        match self {
            Self::Calls(window) => window.is_well(),
            Self::Time(_) => false,
        }
    }

    /// Adds calls that neither failed nor were slow, where [no other](Self::is_well) did.
    pub(super) fn succeeded(&mut self, calls: u64) {
        if let Self::Calls(window) = self {
            window.succeeded(calls);
        }
    }

    pub(super) const fn needs_time(&self) -> bool {
        matches!(self, Self::Time(_))
    }
}

/// Two bits for each of the last calls, in a ring.
#[derive(Debug)]
pub(super) struct CallWindow {
    /// Empty until a call fails or is slow. Zero where no call was recorded.
    bits: Box<[u64]>,
    size: u32,
    /// Where the next call goes: over the oldest, once the ring is full.
    next: u32,
    len: u32,
    failures: u32,
    slow: u32,
}

const FAILED: u64 = 0b01;
const SLOW: u64 = 0b10;
const PER_WORD: u32 = u64::BITS / 2;

impl CallWindow {
    fn new(size: u32) -> Self {
        Self {
            bits: Box::default(),
            size,
            next: 0,
            len: 0,
            failures: 0,
            slow: 0,
        }
    }

    fn record(&mut self, failed: bool, slow: bool) {
        if self.is_well() && !failed && !slow {
            return self.succeeded(1);
        }
        if self.bits.is_empty() {
            self.bits = vec![0; self.size.div_ceil(PER_WORD) as usize].into();
        }
        let (failed, slow) = (u64::from(failed), u64::from(slow));
        let Some(word) = self.bits.get_mut((self.next / PER_WORD) as usize) else {
            return;
        };
        let shift = self.next % PER_WORD * 2;
        if self.len == self.size {
            let oldest = *word >> shift;
            self.failures -= u32::from(oldest & FAILED != 0);
            self.slow -= u32::from(oldest & SLOW != 0);
        } else {
            self.len += 1;
        }
        let call = (failed * FAILED) | (slow * SLOW);
        *word = *word & !((FAILED | SLOW) << shift) | call << shift;
        self.failures += u32::from(failed != 0);
        self.slow += u32::from(slow != 0);
        self.next += 1;
        if self.next == self.size {
            self.next = 0;
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            calls: self.len.into(),
            failures: self.failures.into(),
            slow: self.slow.into(),
        }
    }

    const fn is_well(&self) -> bool {
        self.failures == 0 && self.slow == 0
    }

    /// All bits are zero and remain so: calls are recorded by counting them.
    fn succeeded(&mut self, calls: u64) {
        let len = u64::from(self.len).saturating_add(calls);
        self.len = u32::try_from(len).map_or(self.size, |len| len.min(self.size));
        self.next = if self.len == self.size { 0 } else { self.len };
    }

    fn clear(&mut self) {
        self.bits.fill(0);
        (self.next, self.len, self.failures, self.slow) = (0, 0, 0, 0);
    }
}

/// A ring of buckets of equal length. A call leaves with its bucket: when it is as old as the
/// window, or up to one bucket younger.
#[derive(Debug)]
pub(super) struct TimeWindow {
    buckets: Box<[Bucket]>,
    width: u64,
    /// The number of the newest bucket, counted from tick 0.
    newest: u64,
    sums: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    calls: u32,
    failures: u32,
    slow: u32,
}

impl TimeWindow {
    fn new(buckets: u32, width: u64) -> Self {
        Self {
            buckets: vec![Bucket::default(); buckets.max(1) as usize].into_boxed_slice(),
            width: width.max(1),
            newest: 0,
            sums: Counts::default(),
        }
    }

    /// The number of the bucket of `now`. A clock that goes back stays in the newest.
    fn number(&self, now: Tick) -> u64 {
        (now.0 / self.width).max(self.newest)
    }

    fn len(&self) -> u64 {
        self.buckets.len() as u64
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "the remainder is less than a length"
    )]
    fn index(&self, number: u64) -> usize {
        (number % self.len()) as usize
    }

    fn record(&mut self, now: Tick, failed: bool, slow: bool) {
        self.slide(now);
        let index = self.index(self.newest);
        let Some(bucket) = self.buckets.get_mut(index) else {
            return;
        };
        // Beyond four billion, calls of one bucket are not counted: the rates are known by then.
        if let Some(calls) = bucket.calls.checked_add(1) {
            bucket.calls = calls;
            bucket.failures += u32::from(failed);
            bucket.slow += u32::from(slow);
            self.sums.calls += 1;
            self.sums.failures += u64::from(failed);
            self.sums.slow += u64::from(slow);
        }
    }

    /// Empties the buckets whose time has passed, each at most once.
    fn slide(&mut self, now: Tick) {
        let number = self.number(now);
        let passed = number - self.newest;
        if passed == 0 {
            return;
        }
        if passed >= self.len() {
            self.buckets.fill(Bucket::default());
            self.sums = Counts::default();
        } else {
            for step in 1..=passed {
                let index = self.index(self.newest + step);
                if let Some(bucket) = self.buckets.get_mut(index) {
                    self.sums.calls -= u64::from(bucket.calls);
                    self.sums.failures -= u64::from(bucket.failures);
                    self.sums.slow -= u64::from(bucket.slow);
                    *bucket = Bucket::default();
                }
            }
        }
        self.newest = number;
    }

    fn counts_at(&self, now: Tick) -> Counts {
        let number = self.number(now);
        let gone = (number - self.newest).min(self.len());
        let mut counts = self.sums;
        for step in 1..=gone {
            if let Some(bucket) = self.buckets.get(self.index(self.newest + step)) {
                counts.calls -= u64::from(bucket.calls);
                counts.failures -= u64::from(bucket.failures);
                counts.slow -= u64::from(bucket.slow);
            }
        }
        counts
    }

    fn clear(&mut self) {
        self.buckets.fill(Bucket::default());
        self.sums = Counts::default();
    }
}
