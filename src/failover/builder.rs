use super::{
    FailoverLayer,
    layer::{Hook, Shared},
    preference::{MAX_TARGETS, Preference},
};
use crate::{
    InvalidConfig,
    outcome::{HttpClassifier, Outcome},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Settings of a [`FailoverLayer`].
#[must_use]
pub struct FailoverLayerBuilder<T, M = HttpClassifier> {
    targets: Result<T, InvalidConfig>,
    /// The list's name in errors.
    list: &'static str,
    count: usize,
    make: M,
    sticky: Option<Duration>,
    hook: Option<Hook>,
}

impl<T> FailoverLayerBuilder<T> {
    pub(super) const fn new(
        list: &'static str,
        targets: Result<T, InvalidConfig>,
        count: usize,
    ) -> Self {
        Self {
            targets,
            list,
            count,
            make: HttpClassifier::new(),
            sticky: None,
            hook: None,
        }
    }
}

impl<T, M> FailoverLayerBuilder<T, M> {
    /// What judges the results. Default: [`HttpClassifier::new`].
    pub fn classifier<N>(self, make: N) -> FailoverLayerBuilder<T, N> {
        FailoverLayerBuilder {
            targets: self.targets,
            list: self.list,
            count: self.count,
            make,
            sticky: self.sticky,
            hook: self.hook,
        }
    }

    /// Begins at the target that answered last, for this long from when a call moved on to it;
    /// then at the first again. Shared by all clones of the layer and its services. Default: every
    /// call begins at the first.
    ///
    /// Not prolonged by further answers, so that the first target is asked again now and then
    /// however busy the others are. Saves the wait for a first target that hangs, where no breaker
    /// stands inside; with one, a refusal costs next to nothing.
    pub const fn sticky(mut self, hold: Duration) -> Self {
        self.sticky = Some(hold);
        self
    }

    /// Calls `hook` before each move, with the index of the target that failed, of the next one,
    /// and how it failed. On the thread of the call, so it is brief. One that panics is its own
    /// trouble: the call goes on.
    pub fn on_failover(
        mut self,
        hook: impl Fn(usize, usize, Outcome) + Send + Sync + 'static,
    ) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] where the list is empty, too long, or has a target that is not right or is
    /// there twice, or where `sticky` is zero.
    pub fn build(self) -> Result<FailoverLayer<T, M>, InvalidConfig> {
        let targets = self.targets?;
        if self.count == 0 {
            return Err(InvalidConfig::new(self.list, "must name a target"));
        }
        if self.count > MAX_TARGETS {
            let problem = format!("must be at most {MAX_TARGETS} targets");
            return Err(InvalidConfig::new(self.list, problem));
        }
        if self.sticky.is_some_and(|hold| hold.is_zero()) {
            return Err(InvalidConfig::new("sticky", "must be longer than zero"));
        }
        let now = Instant::now();
        Ok(FailoverLayer {
            shared: Arc::new(Shared {
                targets,
                count: self.count,
                make: self.make,
                preference: self.sticky.map(|hold| Preference::new(hold, now)),
                hook: self.hook,
            }),
        })
    }
}

impl<T: fmt::Debug, M: fmt::Debug> fmt::Debug for FailoverLayerBuilder<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailoverLayerBuilder")
            .field("targets", &self.targets)
            .field("make", &self.make)
            .field("sticky", &self.sticky)
            .finish_non_exhaustive()
    }
}
