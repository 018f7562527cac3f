//! The operations of the thread, the lines that it writes together, and its answers.

use super::super::{Discarded, Entry, EntryClaim, EntryId, Filter, Listing, Page, Summary};
use crate::{
    StoreError, StoreErrorKind,
    lease::{FencingToken, Settled},
};
use std::{collections::HashSet, io, sync::Arc, time::Duration};
use tokio::sync::oneshot;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Op {
    Write(Arc<Entry>, Answer<()>),
    List(Filter, Page, Answer<Listing>),
    Get(EntryId, Answer<Option<Entry>>),
    Claim(EntryId, Duration, u32, Answer<EntryClaim>),
    Renew(EntryId, FencingToken, Duration, Answer<Settled>),
    Release(FencingToken, Arc<Entry>, Answer<Settled>),
    Remove(EntryId, FencingToken, Answer<Settled>),
    Discard(EntryId, Answer<Discarded>),
    /// Undoes a claim whose future was dropped.
    Unclaim(EntryId, FencingToken),
    Count(Filter, Answer<u64>),
}

impl Op {
    /// The entry of the operation; `None` if it concerns all entries.
    pub(super) fn id(&self) -> Option<EntryId> {
        match self {
            Self::Write(entry, _) | Self::Release(_, entry, _) => Some(entry.id),
            Self::Get(id, _)
            | Self::Claim(id, ..)
            | Self::Renew(id, ..)
            | Self::Remove(id, ..)
            | Self::Discard(id, _)
            | Self::Unclaim(id, _) => Some(*id),
            Self::List(..) | Self::Count(..) => None,
        }
    }

    pub(super) fn fail(self, error: &Failed) {
        match self {
            Self::Write(_, answer) => error.tell(answer),
            Self::List(_, _, answer) => error.tell(answer),
            Self::Get(_, answer) => error.tell(answer),
            Self::Claim(_, _, _, answer) => error.tell(answer),
            Self::Renew(_, _, _, answer)
            | Self::Release(_, _, answer)
            | Self::Remove(_, _, answer) => error.tell(answer),
            Self::Discard(_, answer) => error.tell(answer),
            Self::Count(_, answer) => error.tell(answer),
            // The claim ends with its lease.
            Self::Unclaim(..) => {}
        }
    }
}

/// An error that is the answer to several operations.
pub(super) struct Failed {
    pub(super) kind: StoreErrorKind,
    pub(super) cause: String,
}

impl Failed {
    pub(super) fn tell<T>(&self, answer: Answer<T>) {
        let _ = answer.send(Err(self.error()));
    }

    pub(super) fn error(&self) -> StoreError {
        StoreError::new(self.kind).caused_by(self.cause.clone())
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => StoreErrorKind::Full,
            _ => StoreErrorKind::Unavailable,
        };
        Self {
            kind,
            cause: error.to_string(),
        }
    }
}

/// Lines that are written together, and the changes that follow.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<u8>,
    pub(super) changes: Vec<(u64, Change)>,
    pub(super) touched: HashSet<EntryId>,
    /// By how many bytes the entries grow.
    pub(super) grows: u64,
}

pub(super) enum Change {
    Put {
        summary: Box<Summary>,
        place: u64,
        /// The answer, and the claim that the line ends.
        then: Result<Answer<()>, (FencingToken, Answer<Settled>)>,
    },
    Claimed {
        lease: Duration,
        entry: Box<Entry>,
        answer: Answer<EntryClaim>,
    },
    Unclaimed {
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
            Self::Unclaimed { .. } => {}
            Self::Removed { then, .. } => match then {
                Ok(answer) => error.tell(answer),
                Err(answer) => error.tell(answer),
            },
        }
    }
}
