use super::NotSendable;
use crate::{StoreError, StoreErrorKind, dead_letter::Cursor, outcome::Outcome};
use std::{fmt, time::Duration};

/// The result of one entry of a re-drive.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Redriven {
    /// The peer accepted the entry, and it was removed.
    Accepted,
    /// The entry failed again, and stays.
    Failed {
        /// The outcome.
        outcome: Outcome,
        /// Whether the store took the new cause and history. Otherwise the entry is unchanged.
        recorded: bool,
    },
    /// Another caller has claimed the entry.
    InProgress {
        /// The time until that lease ends, unless it is renewed.
        lease_left: Duration,
    },
    /// The claim was lost before or during the call: it could not be renewed, or another caller has claimed the entry.
    /// The entry is left to that caller, and the peer may have received it.
    Lost,
    /// There is no such entry.
    Missing,
    /// The peer accepted the entry, but it could not be removed: the next run may send it again.
    NotRemoved {
        /// The error of the store; `None` if another caller has claimed the entry.
        kind: Option<StoreErrorKind>,
    },
    /// This side did not send the entry: a breaker is open, or the service is not ready. The entry is
    /// unchanged, and no replay is counted.
    Refused {
        /// The wait before the next try, if it is known.
        retry_after: Option<Duration>,
    },
    /// The entry has been sent again as often as is allowed.
    Spent {
        /// The number of replays.
        replays: u32,
    },
    /// The run was stopped before the entry was sent. The entry is unchanged.
    Stopped,
    /// The record cannot be read. It is unchanged.
    Unreadable {
        /// The error.
        kind: StoreErrorKind,
    },
    /// The entry lacks what is needed to send it. It is unchanged.
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

/// The result of a run: the number of entries by result. See [`Redriven`] for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// All listed entries, readable or not.
    pub matched: u64,
    /// Entries that the service accepted, and that were removed.
    pub accepted: u64,
    /// Entries that the service accepted, and that were not removed: they may be sent twice.
    pub not_removed: u64,
    /// Entries that failed again.
    pub failed: u64,
    /// Entries that this side refused to send.
    pub refused: u64,
    /// Entries that another caller had claimed.
    pub in_progress: u64,
    /// Entries that were removed by others before they were claimed.
    pub missing: u64,
    /// Entries that have been sent again as often as is allowed.
    pub spent: u64,
    /// Entries that lack what is needed to send them.
    pub unsendable: u64,
    /// Records that are damaged, or of a newer schema.
    pub unreadable: u64,
    /// Entries whose claim was lost before or during the call.
    pub lost: u64,
    /// Whether the run was stopped before the end of the list.
    pub stopped: bool,
    /// The cursor at which another run can [continue](super::Run::after) after this one was stopped.
    /// `None` at the end of the list, and if no page was completed.
    pub cursor: Option<Cursor>,
}

impl Report {
    /// The number of entries that the service accepted, removed or not.
    pub const fn sent(&self) -> u64 {
        self.accepted.saturating_add(self.not_removed)
    }

    /// The number of skipped entries: in progress, missing, spent, unsendable, unreadable.
    pub const fn skipped(&self) -> u64 {
        self.in_progress
            .saturating_add(self.missing)
            .saturating_add(self.spent)
            .saturating_add(self.unsendable)
            .saturating_add(self.unreadable)
    }

    /// The number of entries that are done, with any result.
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
            // Not done: another run sends the entry.
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
    /// The report so far.
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
