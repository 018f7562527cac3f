use super::{BreakerState, Totals, TransitionReason};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// One breaker, as it is at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BreakerSnapshot {
    /// Whose breaker it is, cut after 256 bytes; empty where there are no keys.
    pub key: Arc<str>,
    /// What it does with calls. An open breaker whose time is over stays open until a call comes.
    pub state: BreakerState,
    /// How long it has been in this state.
    pub since: Duration,
    /// How long it stays open. Zero when the next call is a probe; `None` when it is not open.
    pub time_left: Option<Duration>,
    /// The calls in the window. While it is open, those that opened it.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Those of them that were slow.
    pub slow: u64,
    /// The part of the calls that failed; `None` below the minimum of calls.
    pub failure_rate: Option<f64>,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Probes under way.
    pub probes_in_flight: usize,
    /// Probes of this round that succeeded.
    pub probe_successes: u32,
    /// Rounds of probes that failed since it was last closed: what the open time grows by.
    pub failed_rounds: u32,
    /// Goes up by one with every change of state.
    pub generation: u64,
    /// What has been counted since the breaker was made.
    pub totals: Totals,
}

/// A breaker went from one state to another.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transition {
    /// Whose breaker it is, cut after 256 bytes; empty where there are no keys.
    pub key: Arc<str>,
    /// The state it left.
    pub from: BreakerState,
    /// The state it is in.
    pub to: BreakerState,
    /// Why.
    pub reason: TransitionReason,
    /// When.
    pub at: Instant,
    /// For how long, where it opened.
    pub open_for: Option<Duration>,
    /// The generation that began. Two transitions of one key may be told at once, from two threads:
    /// the higher one is the later.
    pub generation: u64,
}
