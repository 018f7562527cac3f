//! Tries the next target when one fails.
//!
//! A call begins at the first target of the [`FailoverLayer`] and moves on when its outcome
//! [may be retried](crate::outcome::Outcome::may_retry). Each target is tried at most once in a call.
//!
//! # Examples
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_webhook::{BoxError, FailoverLayer, failover::TargetIndex};
//!
//! # tokio_test::block_on(async {
//! let client = FailoverLayer::fallbacks(["https://backup.example.com/hooks"])
//!     .build()?
//!     .layer(service_fn(|req: Request<()>| async move {
//!         let status = if req.uri().host() == Some("backup.example.com") { 200 } else { 503 };
//!         Ok::<_, BoxError>(Response::builder().status(status).body(())?)
//!     }));
//!
//! let req = Request::post("https://example.com/hooks").header("webhook-id", "msg_1").body(())?;
//! let res = client.oneshot(req).await?;
//! assert_eq!(res.status(), 200);
//! assert_eq!(res.extensions().get::<TargetIndex>().map(|index| index.get()), Some(1));
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Order
//!
//! ```text
//! fallback > deadline > retry > failover > circuit breaker by host > attempt timeout > transport
//! ```
//!
//! Inside retry and deadline: one attempt of the retry layer is one round of the targets. When the
//! [`Deadline`](crate::deadline::Deadline) leaves no time, no further target is tried. Outside a
//! breaker that is kept by host, so that each target has its own breaker and a target that is known to
//! be down costs nothing; with one breaker for all, failures of the first target would block the
//! others. Outside the signing layer, if the scheme signs the address. All targets share one service,
//! which must be ready again before each further target.
//!
//! # Settings
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`to_uris`](FailoverLayer::to_uris) | to be set | URIs that take the place of the request's own |
//! | [`to_hosts`](FailoverLayer::to_hosts) | | the same with hosts; path and query stay those of the request |
//! | [`fallbacks`](FailoverLayer::fallbacks) | | URIs after the request's own |
//! | [`over`](FailoverLayer::over) | | targets of any type, for requests of any type |
//! | [`classifier`](FailoverLayerBuilder::classifier) | HTTP; in a stack, that of the stack | decides the outcome of each attempt |
//! | [`sticky`](FailoverLayerBuilder::sticky) | off | time for which calls begin at the target that answered last |
//! | [`observe`](FailoverLayerBuilder::observe) | none except `tracing` | adds an observer of [`Event::FailedOver`](crate::observe::Event::FailedOver) |
//!
//! All targets get the same request, credentials included: list only targets that may see them.
//!
//! # Errors
//!
//! None of its own. If all targets fail, it returns the most informative result, in this order:
//!
//! 1. the latest result of an attempt that the peer may have received
//! 2. the latest failure to reach a peer
//! 3. the local refusal with the shortest `retry_after`: every breaker is open, and the first of them
//!    lets a call pass at that time
//!
//! A response carries the [`TargetIndex`] of its target.
//!
//! # Cancel safety
//!
//! Dropping the response future drops the running attempt and the results of the earlier ones. No
//! further target is tried, and the preference (see [`sticky`](FailoverLayerBuilder::sticky)) does not
//! change.
//!
//! # Cost
//!
//! With one target, nothing is cloned. With more, the request and the inner service are cloned once
//! before the first attempt, and the request once for each further target except the last.
//!
//! # When it moves on
//!
//! It moves on if the circuit is open, the peer was not reached, it sheds load, or it failed on a request that may
//! be repeated. A success, a permanent failure, and a failure of a request that may have taken effect and must not
//! be repeated end the call.

mod choice;
mod future;
mod targets;

pub use self::{future::ResponseFuture, targets::EachOf};

use self::{
    choice::{MAX_TARGETS, Preference, target_at},
    targets::{Path, Targets, Uris},
};
use crate::{
    InvalidConfig,
    observe::{Observer, Observers},
    outcome::{Classify, DefaultClassifier, MakeClassifier},
    unbuilt::IsBuilt,
};
use http::Uri;
use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

/// Tries the next target when one fails.
///
/// See the [module docs](self) for when it moves on, and where it belongs in a stack.
#[must_use]
pub struct FailoverLayer<T = Uris, M = DefaultClassifier> {
    make: M,
    shared: Arc<Shared<T>>,
}

/// What all clones and calls share.
struct Shared<T> {
    targets: T,
    count: usize,
    preference: Option<Preference>,
    observers: Observers,
}

impl<T> Shared<T> {
    fn start(&self) -> usize {
        match &self.preference {
            Some(preference) => preference.current(Instant::now),
            None => 0,
        }
    }

    /// Records that the target at `position` answered a call that began at `start`.
    ///
    /// A call that did not move on changes nothing: it may have begun before other calls moved on, and
    /// would undo their preference.
    fn answered(&self, start: usize, position: usize) {
        if let (Some(preference), 1..) = (&self.preference, position) {
            preference.prefer(target_at(start, position), Instant::now());
        }
    }
}

impl FailoverLayer {
    /// Sends requests to these URIs, in this order, instead of their own.
    ///
    /// A URI replaces scheme, authority and path. If it has a query, that replaces the request's. A `Host`
    /// header is set to the target's host if the request has one; otherwise the transport sets it.
    ///
    /// `build` fails, naming `uris`, for an empty list, for a URI that is not absolute `http` or
    /// `https`, for user names, and for duplicates.
    pub fn to_uris<U: TryInto<Uri>>(
        uris: impl IntoIterator<Item = U>,
    ) -> FailoverLayerBuilder<Uris> {
        Self::listed("uris", false, Path::Targets, uris)
    }

    /// Sends requests to these hosts, in this order, instead of their own: for a service that runs in
    /// several places. Path and query stay those of the request.
    ///
    /// Write hosts as URIs with scheme, host and port. `build` fails, naming `hosts`, as for
    /// [`to_uris`](Self::to_uris), and for paths.
    pub fn to_hosts<U: TryInto<Uri>>(
        hosts: impl IntoIterator<Item = U>,
    ) -> FailoverLayerBuilder<Uris> {
        Self::listed("hosts", false, Path::Requests, hosts)
    }

    /// Sends requests to their own URI first, and then to these, as with [`to_uris`](Self::to_uris). With
    /// an empty list there is no failover.
    ///
    /// `build` fails, naming `fallbacks`, as for [`to_uris`](Self::to_uris). It cannot detect a fallback
    /// that equals a request's own URI; such a target is tried again.
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
    /// Uses targets of any type, in this order, for requests of any type. `aim` directs a request to the
    /// given target; it always gets the unchanged request.
    ///
    /// `build` fails, naming `targets`, for an empty list. Results are judged as HTTP unless
    /// [`classifier`](FailoverLayerBuilder::classifier) sets another classifier.
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

#[cfg(feature = "stack")]
impl<T> FailoverLayer<T> {
    pub(crate) fn judged_by<M>(self, make: M) -> FailoverLayer<T, M> {
        FailoverLayer {
            make,
            shared: self.shared,
        }
    }
}

impl<S, T, M: Clone> Layer<S> for FailoverLayer<T, M> {
    type Service = Failover<S, T, M>;

    fn layer(&self, inner: S) -> Failover<S, T, M> {
        Failover {
            inner,
            make: self.make.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<T, M: Clone> Clone for FailoverLayer<T, M> {
    fn clone(&self) -> Self {
        Self {
            make: self.make.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<T: fmt::Debug, M: fmt::Debug> fmt::Debug for FailoverLayer<T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailoverLayer")
            .field("make", &self.make)
            .field("shared", &self.shared)
            .finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("targets", &self.targets)
            .field("preference", &self.preference)
            .finish_non_exhaustive()
    }
}

/// Builder of a [`FailoverLayer`].
#[must_use]
pub struct FailoverLayerBuilder<T = Uris, M = DefaultClassifier> {
    targets: Result<T, InvalidConfig>,
    /// The name of the list in errors.
    list: &'static str,
    count: usize,
    make: M,
    sticky: Option<Duration>,
    observers: Observers,
}

impl<T> FailoverLayerBuilder<T> {
    const fn new(list: &'static str, targets: Result<T, InvalidConfig>, count: usize) -> Self {
        Self {
            targets,
            list,
            count,
            make: DefaultClassifier,
            sticky: None,
            observers: Observers::none(),
        }
    }
}

impl<T, M> FailoverLayerBuilder<T, M> {
    /// Sets the classifier, which decides the outcome of each attempt. Default: [`DefaultClassifier`], which judges
    /// HTTP. A [stack](crate::stack) has one classifier for all of its layers and takes no layer with another one.
    pub fn classifier<N>(self, make: N) -> FailoverLayerBuilder<T, N> {
        FailoverLayerBuilder {
            targets: self.targets,
            list: self.list,
            count: self.count,
            make,
            sticky: self.sticky,
            observers: self.observers,
        }
    }

    /// Sets how long calls begin at the target that answered last, measured from the call that moved on to
    /// it; after that time, calls begin at the first target again. Default: every call begins at the
    /// first. All clones of the layer and its services share the preference.
    ///
    /// Further answers do not prolong it, so that the first target is tried again from time to time. This
    /// setting saves the wait for a first target that hangs, if no breaker stands inside; with a breaker, a
    /// refusal costs almost nothing.
    pub const fn sticky(mut self, hold: Duration) -> Self {
        self.sticky = Some(hold);
        self
    }

    /// Adds an observer of [`Event::FailedOver`](crate::observe::Event::FailedOver), which is told before
    /// each move to another target. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if the list is empty, has more than 255 targets, an invalid one or a
    /// duplicate, or if `sticky` is zero.
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
            make: self.make,
            shared: Arc::new(Shared {
                targets,
                count: self.count,
                preference: self.sticky.map(|hold| Preference::new(hold, now)),
                observers: self.observers,
            }),
        })
    }
}

impl<S, T, M> Layer<S> for FailoverLayerBuilder<T, M>
where
    Self: IsBuilt<S>,
{
    type Service = <Self as IsBuilt<S>>::Layered;

    fn layer(&self, inner: S) -> Self::Service {
        self.layered(inner)
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

/// Response extension: the target that answered, unless it was the first one.
///
/// The first target has index 0; with [`fallbacks`](FailoverLayer::fallbacks), that is the request's own URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetIndex(usize);

impl TargetIndex {
    /// The index.
    pub const fn get(self) -> usize {
        self.0
    }
}

/// Middleware of [`FailoverLayer`]. See the [module docs](self).
pub struct Failover<S, T = Uris, M = DefaultClassifier> {
    inner: S,
    make: M,
    shared: Arc<Shared<T>>,
}

impl<S, Req, T, M> Service<Req> for Failover<S, T, M>
where
    S: Service<Req> + Clone,
    Req: Clone,
    T: Targets<Req, S::Response>,
    M: MakeClassifier<Req> + Clone,
    M::Classifier: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, Req, S::Response, S::Error, T, M, M::Classifier>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Req) -> Self::Future {
        let shared = self.shared.clone();
        if shared.count == 1 {
            shared.targets.aim(&mut req, 0);
            return ResponseFuture::only(self.inner.call(req), shared);
        }
        // The future takes the instance that was polled ready, for this target and those that follow. A
        // clone, which is polled before its first call, replaces it.
        let spare = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, spare);
        let start = shared.start();
        let mut first = req.clone();
        shared.targets.aim(&mut first, start);
        let classifier = self.make.make_classifier(&first);
        let future = ready.call(first);
        let make = self.make.clone();
        ResponseFuture::first(future, shared, make, classifier, start, ready, req)
    }
}

impl<S: Clone, T, M: Clone> Clone for Failover<S, T, M> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            make: self.make.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<S: fmt::Debug, T: fmt::Debug, M: fmt::Debug> fmt::Debug for Failover<S, T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failover")
            .field("inner", &self.inner)
            .field("make", &self.make)
            .field("shared", &self.shared)
            .finish()
    }
}
