//! The deduplication keys, which are known until their retention is over, whatever becomes of their tasks.

use crate::{idempotency::IdempotencyKey, queue::TaskId};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};
use tokio::time::Instant;

/// 16 bytes that stand for a key.
type Digest = [u8; 16];

/// The keys of all tasks that are known, and of those that were removed before their time.
///
/// Times are milliseconds since the queue was made, rounded up: a key without a task takes 48 bytes of the map
/// and 24 of the heap.
#[derive(Debug)]
pub(super) struct Keys {
    of: HashMap<Digest, Owner>,
    /// The ends of keys whose tasks were removed.
    ends: BinaryHeap<Reverse<(u64, Digest)>>,
    began: Instant,
}

/// To whom a key belongs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    /// A task that is known by this number, and has an end of its own.
    Task(u64),
    /// A task that was removed before its retention was over.
    Gone {
        id: TaskId,
        /// When its retention is over.
        end: u64,
        /// Whether it succeeded or was cancelled.
        is_done: bool,
    },
}

impl Keys {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            of: HashMap::new(),
            ends: BinaryHeap::new(),
            began,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// The owner of a key. Of one whose end is over there may be none.
    pub(super) fn get(&self, key: &IdempotencyKey, now: Instant) -> Option<Owner> {
        let owner = self.of.get(&key.digest()).copied()?;
        match owner {
            Owner::Gone { end, .. } if end <= self.passed(now) => None,
            owner => Some(owner),
        }
    }

    /// Adds the key of a task.
    pub(super) fn insert(&mut self, key: Digest, number: u64) {
        self.of.insert(key, Owner::Task(number));
    }

    /// Whether a key has outlived this task, which did not fail.
    pub(super) fn is_done(&self, key: &IdempotencyKey, task: TaskId, now: Instant) -> bool {
        let owner = self.get(key, now);
        matches!(owner, Some(Owner::Gone { id, is_done: true, .. }) if id == task)
    }

    /// The task of this key is removed at `now`, and its retention ends at `end`. `is_done`: it did not fail.
    pub(super) fn part(
        &mut self,
        key: Digest,
        id: TaskId,
        [now, end]: [Instant; 2],
        is_done: bool,
    ) {
        if end <= now {
            self.of.remove(&key);
            return;
        }
        let since = end.saturating_duration_since(self.began);
        let end = millis(since + Duration::from_nanos(999_999));
        self.of.insert(key, Owner::Gone { id, end, is_done });
        self.ends.push(Reverse((end, key)));
    }

    /// Removes at most so many keys that are over.
    pub(super) fn pass(&mut self, now: Instant, most: usize) {
        let passed = self.passed(now);
        for _ in 0..most {
            match self.ends.peek() {
                Some(Reverse((end, _))) if *end <= passed => {}
                _ => return,
            }
            let Some(Reverse((end, key))) = self.ends.pop() else {
                return;
            };
            // It may belong to a task again.
            if matches!(self.of.get(&key), Some(Owner::Gone { end: until, .. }) if *until == end) {
                self.of.remove(&key);
            }
        }
    }

    fn passed(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.began))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
