use crate::{
    attempt::{Attempt, History},
    catch_panic::catch_panic,
    outcome::Outcome,
};
use std::{fmt, sync::Arc, time::Duration};

/// What [`on_retry`](super::RetryConfigBuilder::on_retry) is told: an attempt failed, and another
/// will be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retrying {
    pub(super) failed: Attempt,
    pub(super) outcome: Outcome,
    pub(super) wait: Duration,
}

impl Retrying {
    /// The attempt that failed.
    pub const fn failed(&self) -> Attempt {
        self.failed
    }

    /// How it failed.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// How long is waited before the next one.
    pub const fn wait(&self) -> Duration {
        self.wait
    }
}

type Hook<T> = Arc<dyn Fn(&T) + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct Hooks {
    pub(super) on_retry: Option<Hook<Retrying>>,
    pub(super) on_give_up: Option<Hook<History>>,
}

impl Hooks {
    pub(super) fn retrying(&self, event: &Retrying) {
        call(self.on_retry.as_ref(), event);
    }

    pub(super) fn gave_up(&self, history: &History) {
        call(self.on_give_up.as_ref(), history);
    }
}

/// A hook that panics is its own trouble: the delivery goes on.
fn call<T>(hook: Option<&Hook<T>>, event: &T) {
    if let Some(hook) = hook {
        let _ = catch_panic(|| hook(event));
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("on_retry", &self.on_retry.is_some())
            .field("on_give_up", &self.on_give_up.is_some())
            .finish()
    }
}
