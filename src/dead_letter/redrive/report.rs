use super::NotSendable;
use crate::{StoreError, StoreErrorKind, dead_letter::Cursor, outcome::Outcome};
use std::{fmt, time::Duration};

/// What came of one entry that was to be sent again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Redriven {
    /// It was accepted and removed.
    Accepted,
    /// It failed again, and stays.
    Failed {
        /// How it went.
        outcome: Outcome,
        /// Whether the store took the newest cause and history. Otherwise the entry is as it was.
        recorded: bool,
    },
    /// It is claimed by another caller.
    InProgress {
        /// The time until their lease ends, unless they renew it.
        lease_left: Duration,
    },
    /// The claim was lost while it was sent: the store was unavailable for longer than the lease. It
    /// stays, and the peer may have received it.
    Lost,
    /// There is no such entry.
    Missing,
    /// It was accepted, and could not be removed: the next run may send it again.
    NotRemoved {
        /// The error of the store; `None` where the claim had ended.
        kind: Option<StoreErrorKind>,
    },
    /// This side did not send it: a breaker is open, or the service is not ready. It stays as it was,
    /// and no replay is counted.
    Refused {
        /// When to try again, where that is known.
        retry_after: Option<Duration>,
    },
    /// It was sent again as many times as is allowed.
    Spent {
        /// How many times.
        replays: u32,
    },
    /// The run was stopped before it was sent. It stays as it was.
    Stopped,
    /// Its record cannot be read. It stays as it was.
    Unreadable {
        /// Why.
        kind: StoreErrorKind,
    },
    /// It lacks what is needed to send it. It stays as it was.
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

/// What came of a run: how many entries ended in which way. See [`Redriven`] for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// All that were listed, readable or not.
    pub matched: u64,
    /// Accepted by the service, and removed.
    pub accepted: u64,
    /// Accepted by the service, and not removed: these may be sent twice.
    pub not_removed: u64,
    /// Failed again.
    pub failed: u64,
    /// Not sent, because this side refused it.
    pub refused: u64,
    /// Claimed by another caller.
    pub in_progress: u64,
    /// Gone before they were claimed.
    pub missing: u64,
    /// Sent again as many times as is allowed.
    pub spent: u64,
    /// Without what is needed to send them.
    pub unsendable: u64,
    /// Damaged, or of a newer schema.
    pub unreadable: u64,
    /// Whose claim was lost while they were sent.
    pub lost: u64,
    /// Whether the run was stopped before the end of the list.
    pub stopped: bool,
    /// Where another run can [continue](super::Run::after) after this one was stopped. `None` at the
    /// end, and where it got no further than the beginning.
    pub cursor: Option<Cursor>,
}

impl Report {
    /// How many the service accepted, removed or not.
    pub const fn sent(&self) -> u64 {
        self.accepted.saturating_add(self.not_removed)
    }

    /// How many were skipped: in progress, missing, spent, unsendable, unreadable.
    pub const fn skipped(&self) -> u64 {
        self.in_progress
            .saturating_add(self.missing)
            .saturating_add(self.spent)
            .saturating_add(self.unsendable)
            .saturating_add(self.unreadable)
    }

    /// How many are done, in whichever way.
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
            // Not done: another run sends it.
            Redriven::Stopped => return,
        };
        *count = count.saturating_add(1);
    }
}

/// The store failed during a run.
#[derive(Debug)]
pub struct RunFailed {
    pub(super) report: Report,
    pub(super) source: StoreError,
}

impl RunFailed {
    /// The report until then.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The error of the store.
    pub const fn error(&self) -> &StoreError {
        &self.source
    }
}

impl fmt::Display for RunFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the store of dead letters failed after {} entries: {}",
            self.report.done(),
            self.source
        )
    }
}

impl std::error::Error for RunFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
