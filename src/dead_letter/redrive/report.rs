use super::NotSendable;
use crate::{StoreError, StoreErrorKind, dead_letter::Cursor, outcome::Outcome};
use std::{fmt, time::Duration};

/// What became of one entry that was to be sent again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Redriven {
    /// It was accepted, and is removed.
    Accepted,
    /// It failed again, and stays.
    Failed {
        /// How it went.
        outcome: Outcome,
        /// Whether the newest cause and history are in the entry. Where not, the store did not
        /// take them, and the entry is as it was.
        recorded: bool,
    },
    /// Somebody else is sending it.
    InProgress {
        /// The time until their lease ends, unless they renew it.
        lease_left: Duration,
    },
    /// The claim was lost while it was being sent: the store was away for longer than the lease.
    /// It stays, and the peer may have had it.
    Lost,
    /// There is no such entry.
    Missing,
    /// It was accepted, and could not be removed: the next run may send it again.
    NotRemoved {
        /// The trouble of the store; `None` where the claim had ended.
        kind: Option<StoreErrorKind>,
    },
    /// Our side did not send it: a breaker is open, the service takes no calls. It stays as it was,
    /// and this does not count as a replay.
    Refused {
        /// When to try again, where that is known.
        retry_after: Option<Duration>,
    },
    /// It has been sent again as often as may be.
    Spent {
        /// How often that was.
        replays: u32,
    },
    /// The run was stopped before it was sent. It stays as it was.
    Stopped,
    /// Its record cannot be read. It stays as it was.
    Unreadable {
        /// Why.
        kind: StoreErrorKind,
    },
    /// It cannot be sent from its record. It stays as it was.
    Unsendable(NotSendable),
}

impl Redriven {
    /// A fixed name, for metric labels and logs. It does not change between releases.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Failed { .. } => "failed",
            Self::InProgress { .. } => "in_progress",
            Self::Lost => "lost",
            Self::Missing => "missing",
            Self::NotRemoved { .. } => "not_removed",
            Self::Refused { .. } => "refused",
            Self::Spent { .. } => "spent",
            Self::Stopped => "stopped",
            Self::Unreadable { .. } => "unreadable",
            Self::Unsendable(_) => "unsendable",
        }
    }
}

/// How many entries of a run came to what. See [`Redriven`] for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// All that were listed, readable or not.
    pub matched: u64,
    /// Accepted by the service, and removed.
    pub accepted: u64,
    /// Accepted by the service, and not removed: these may be sent twice.
    pub not_removed: u64,
    /// Failed again.
    pub failed: u64,
    /// Not sent, by our own decision.
    pub refused: u64,
    /// Just being sent by somebody else.
    pub in_progress: u64,
    /// Gone before they were claimed.
    pub missing: u64,
    /// Sent again as often as may be.
    pub spent: u64,
    /// Not to be sent from their records.
    pub unsendable: u64,
    /// Not to be read.
    pub unreadable: u64,
    /// Claims that were lost while sending.
    pub lost: u64,
}

impl Counts {
    /// How many the service accepted, removed or not.
    pub const fn sent(&self) -> u64 {
        self.accepted.saturating_add(self.not_removed)
    }

    /// How many were passed over: in progress, missing, spent, unsendable, unreadable.
    pub const fn skipped(&self) -> u64 {
        self.in_progress
            .saturating_add(self.missing)
            .saturating_add(self.spent)
            .saturating_add(self.unsendable)
            .saturating_add(self.unreadable)
    }

    /// How many are dealt with, one way or the other.
    pub const fn done(&self) -> u64 {
        self.sent()
            .saturating_add(self.skipped())
            .saturating_add(self.failed)
            .saturating_add(self.refused)
            .saturating_add(self.lost)
    }

    pub(super) const fn add(&mut self, redriven: &Redriven) {
        let count = match redriven {
            Redriven::Accepted => &mut self.accepted,
            Redriven::Failed { .. } => &mut self.failed,
            Redriven::InProgress { .. } => &mut self.in_progress,
            Redriven::Lost => &mut self.lost,
            Redriven::Missing => &mut self.missing,
            Redriven::NotRemoved { .. } => &mut self.not_removed,
            Redriven::Refused { .. } => &mut self.refused,
            Redriven::Spent { .. } => &mut self.spent,
            Redriven::Unreadable { .. } => &mut self.unreadable,
            Redriven::Unsendable(_) => &mut self.unsendable,
            // Not dealt with: the run goes on with it another time.
            Redriven::Stopped => return,
        };
        *count = count.saturating_add(1);
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What came of the entries.
    pub counts: Counts,
    /// Whether it was stopped before it came to the end of the list.
    pub stopped: bool,
    /// Where another run can [go on](super::Run::after) that was stopped. `None` at the end, and
    /// where it came no further than the beginning.
    pub cursor: Option<Cursor>,
}

/// A run that the store put an end to.
#[derive(Debug)]
pub struct RunFailed {
    pub(super) report: Report,
    pub(super) source: StoreError,
}

impl RunFailed {
    /// What came of the entries until then.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// What the store said.
    pub const fn error(&self) -> &StoreError {
        &self.source
    }
}

impl fmt::Display for RunFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the store of dead letters failed after {} entries: {}",
            self.report.counts.done(),
            self.source
        )
    }
}

impl std::error::Error for RunFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
