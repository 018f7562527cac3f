use super::{
    EachOf, Failover, FailoverLayerBuilder, Uris, choice::target_at, preference::Preference,
    uris::Path,
};
use crate::outcome::{HttpClassifier, Outcome};
use http::Uri;
use std::{fmt, sync::Arc};
use tokio::time::Instant;
use tower_layer::Layer;

/// Tries the next target when one fails.
///
/// See the [module docs](super) for when it moves on, and where it stands in a stack.
#[must_use]
pub struct FailoverLayer<T = Uris, M = HttpClassifier> {
    pub(super) shared: Arc<Shared<T, M>>,
}

pub(super) type Hook = Box<dyn Fn(usize, usize, Outcome) + Send + Sync>;

/// What all clones and calls have in common.
pub(super) struct Shared<T, M> {
    pub(super) targets: T,
    pub(super) count: usize,
    pub(super) make: M,
    pub(super) preference: Option<Preference>,
    pub(super) hook: Option<Hook>,
}

impl<T, M> Shared<T, M> {
    pub(super) fn start(&self) -> usize {
        match &self.preference {
            Some(preference) => preference.current(Instant::now),
            None => 0,
        }
    }

    /// The target at `position` answered a call that began at `start`.
    ///
    /// A call that did not move says nothing new. It may have begun before the others moved on, and
    /// would bring them back to where they came from.
    pub(super) fn answered(&self, start: usize, position: usize) {
        if let (Some(preference), 1..) = (&self.preference, position) {
            preference.prefer(target_at(start, position), Instant::now());
        }
    }
}

impl FailoverLayer {
    /// These URIs in their order, in the place of the request's.
    ///
    /// A URI replaces scheme, authority and path. Its query replaces the request's, which stays
    /// where it has none. A `Host` header that the request has is set to the target's; one that it
    /// has not is left to the transport.
    ///
    /// `build` refuses as `uris`: an empty list; what is not an absolute `http` or `https` URI; user
    /// names; duplicates.
    pub fn to_uris<U: TryInto<Uri>>(
        uris: impl IntoIterator<Item = U>,
    ) -> FailoverLayerBuilder<Uris> {
        Self::listed("uris", false, Path::Targets, uris)
    }

    /// These hosts in their order, in the place of the request's: a service that runs in several
    /// places. Path and query stay the request's.
    ///
    /// Written as URIs with scheme, host and port. `build` refuses as `hosts` what
    /// [`to_uris`](Self::to_uris) refuses, and paths.
    pub fn to_hosts<U: TryInto<Uri>>(
        hosts: impl IntoIterator<Item = U>,
    ) -> FailoverLayerBuilder<Uris> {
        Self::listed("hosts", false, Path::Requests, hosts)
    }

    /// The request's own URI, and then these, as [`to_uris`](Self::to_uris) takes them. An empty
    /// list is no failover.
    ///
    /// `build` refuses as `fallbacks` what [`to_uris`](Self::to_uris) refuses. That a fallback is
    /// the request's own URI cannot be known then; it is tried again.
    pub fn fallbacks<U: TryInto<Uri>>(
        uris: impl IntoIterator<Item = U>,
    ) -> FailoverLayerBuilder<Uris> {
        Self::listed("fallbacks", true, Path::Targets, uris)
    }

    fn listed<U: TryInto<Uri>>(
        name: &'static str,
        own_first: bool,
        path: Path,
        uris: impl IntoIterator<Item = U>,
    ) -> FailoverLayerBuilder<Uris> {
        let uris = Uris::new(name, own_first, path, uris);
        let count = uris.as_ref().map_or(0, Uris::count);
        FailoverLayerBuilder::new(name, uris, count)
    }
}

impl<T, F> FailoverLayer<EachOf<T, F>> {
    /// Targets of any kind, in their order, for requests of any type: `aim` makes a request one to
    /// this target. It gets a request that no target has been written to.
    ///
    /// `build` refuses an empty list as `targets`. Results are judged as HTTP until
    /// [`classifier`](FailoverLayerBuilder::classifier) says otherwise.
    ///
    /// ```
    /// use tower_webhook::FailoverLayer;
    /// use tower_webhook::outcome::{Outcome, classify_fn};
    ///
    /// #[derive(Clone)]
    /// struct Job {
    ///     queue: &'static str,
    /// }
    ///
    /// let layer = FailoverLayer::over(["near", "far"], |job: &mut Job, queue| job.queue = queue)
    ///     .classifier(classify_fn(|result: Result<&(), &std::io::Error>| match result {
    ///         Ok(()) => Outcome::success(),
    ///         Err(error) => Outcome::of_error(error),
    ///     }))
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), tower_webhook::InvalidConfig>(())
    /// ```
    pub fn over<Req>(
        targets: impl IntoIterator<Item = T>,
        aim: F,
    ) -> FailoverLayerBuilder<EachOf<T, F>>
    where
        F: Fn(&mut Req, &T),
    {
        let targets: Arc<[T]> = targets.into_iter().collect();
        let count = targets.len();
        FailoverLayerBuilder::new("targets", Ok(EachOf { targets, aim }), count)
    }
}

impl<S, T, M> Layer<S> for FailoverLayer<T, M> {
    type Service = Failover<S, T, M>;

    fn layer(&self, inner: S) -> Failover<S, T, M> {
        Failover {
            inner,
            shared: self.shared.clone(),
        }
    }
}

impl<T, M> Clone for FailoverLayer<T, M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T: fmt::Debug, M: fmt::Debug> fmt::Debug for FailoverLayer<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FailoverLayer").field(&self.shared).finish()
    }
}

impl<T: fmt::Debug, M: fmt::Debug> fmt::Debug for Shared<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("targets", &self.targets)
            .field("make", &self.make)
            .field("preference", &self.preference)
            .finish_non_exhaustive()
    }
}
