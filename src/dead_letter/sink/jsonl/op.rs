//! What the thread is asked for, and what it says when it cannot.

use crate::{
    dead_letter::{
        Discarded, Filter, Letter, LetterClaim, LetterId, Listing, Page, SinkError, SinkErrorKind,
    },
    fence::{Settled, Token},
};
use std::{io, sync::Arc, time::Duration};
use tokio::sync::oneshot;

pub(super) type Answer<T> = oneshot::Sender<Result<T, SinkError>>;

pub(super) enum Op {
    Write(Arc<Letter>, Answer<()>),
    List(Filter, Page, Answer<Listing>),
    Get(LetterId, Answer<Option<Letter>>),
    Claim(LetterId, Duration, u32, Answer<LetterClaim>),
    Renew(LetterId, Token, Duration, Answer<Settled>),
    Release(Token, Arc<Letter>, Answer<Settled>),
    Remove(LetterId, Token, Answer<Settled>),
    Discard(LetterId, Answer<Discarded>),
    /// A claim that nobody got.
    GiveBack(LetterId, Token),
    Count(Filter, Answer<u64>),
}

impl Op {
    /// The letter that it is about. `None` where it is about all.
    pub(super) fn id(&self) -> Option<LetterId> {
        match self {
            Self::Write(letter, _) | Self::Release(_, letter, _) => Some(letter.id),
            Self::Get(id, _)
            | Self::Claim(id, ..)
            | Self::Renew(id, ..)
            | Self::Remove(id, ..)
            | Self::Discard(id, _)
            | Self::GiveBack(id, _) => Some(*id),
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
            // It ends with its lease.
            Self::GiveBack(..) => {}
        }
    }
}

/// One failure, which is told to several.
pub(super) struct Failed {
    pub(super) kind: SinkErrorKind,
    pub(super) cause: String,
}

impl Failed {
    pub(super) fn tell<T>(&self, answer: Answer<T>) {
        let _ = answer.send(Err(self.error()));
    }

    pub(super) fn error(&self) -> SinkError {
        SinkError::new(self.kind).caused_by(self.cause.clone())
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => SinkErrorKind::Full,
            _ => SinkErrorKind::Unavailable,
        };
        Self {
            kind,
            cause: error.to_string(),
        }
    }
}
