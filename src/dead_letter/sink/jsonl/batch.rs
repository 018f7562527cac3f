//! Lines that are written as one.

use super::op::{Answer, Failed};
use crate::{
    dead_letter::{Discarded, Entry, EntryClaim, EntryId, Summary},
    lease::{FencingToken, Settled},
};
use std::{collections::HashSet, time::Duration};

/// Lines that are to be written, and what is true when they are.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<u8>,
    pub(super) changes: Vec<(u64, Change)>,
    pub(super) touched: HashSet<EntryId>,
    /// Bytes by which the entries grow.
    pub(super) grows: u64,
}

pub(super) enum Change {
    Put {
        summary: Box<Summary>,
        place: u64,
        /// The claim that ends with it.
        then: Result<Answer<()>, (FencingToken, Answer<Settled>)>,
    },
    Claimed {
        lease: Duration,
        entry: Box<Entry>,
        answer: Answer<EntryClaim>,
    },
    GivenBack {
        id: EntryId,
        token: FencingToken,
    },
    Removed {
        id: EntryId,
        then: Result<Answer<Settled>, Answer<Discarded>>,
    },
}

impl Batch {
    pub(super) fn add(&mut self, id: EntryId, line: &[u8], change: Change) {
        self.lines.extend_from_slice(line);
        self.changes.push((line.len() as u64, change));
        self.touched.insert(id);
    }
}

impl Change {
    pub(super) fn fail(self, error: &Failed) {
        match self {
            Self::Put { then, .. } => match then {
                Ok(answer) => error.tell(answer),
                Err((_, answer)) => error.tell(answer),
            },
            Self::Claimed { answer, .. } => error.tell(answer),
            Self::GivenBack { .. } => {}
            Self::Removed { then, .. } => match then {
                Ok(answer) => error.tell(answer),
                Err(answer) => error.tell(answer),
            },
        }
    }
}
