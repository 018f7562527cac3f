//! What a call and the machine say to each other.

use super::{
    model::{BreakerState, TransitionReason},
    rules::Tick,
};

/// A call that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    pub(super) generation: u64,
    /// Zero for a call that is no probe.
    pub(super) ticket: u32,
    /// Read only where calls can be slow.
    pub(super) started: Option<Tick>,
    /// When the answer came, where the verdict comes later.
    pub(super) answered: Option<Tick>,
}

/// A call that may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) state: BreakerState,
    pub(super) retry_after: u64,
}

/// What a call says about the peer. A hint is when the peer wants to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Cancelled,
    Failed { hint: Option<u64> },
    Healthy,
    Neutral,
    Throttled { hint: Option<u64> },
}

/// From one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: BreakerState,
    pub(super) to: BreakerState,
    pub(super) reason: TransitionReason,
    pub(super) at: Tick,
    /// The generation that begins.
    pub(super) generation: u64,
    pub(super) open_for: Option<u64>,
}
