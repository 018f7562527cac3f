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
/// Times are milliseconds since the queue was made, rounded up: a key without a task takes 40 bytes of the map
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
    /// A task that was removed before this time.
    Gone(TaskId, u64),
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
            Owner::Gone(_, end) if end <= self.passed(now) => None,
            owner => Some(owner),
        }
    }

    /// Adds the key of a task.
    pub(super) fn insert(&mut self, key: Digest, number: u64) {
        self.of.insert(key, Owner::Task(number));
    }

    /// The task of this key is removed, and its retention ends then.
    pub(super) fn part(&mut self, key: Digest, id: TaskId, end: Instant, now: Instant) {
        if end <= now {
            self.of.remove(&key);
            return;
        }
        let since = end.saturating_duration_since(self.began);
        let end = millis(since + Duration::from_nanos(999_999));
        self.of.insert(key, Owner::Gone(id, end));
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
            if matches!(self.of.get(&key), Some(Owner::Gone(_, until)) if *until == end) {
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
