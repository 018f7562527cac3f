//! Describes a request in its entry, and makes the entry when the call has failed.

use super::{DeadLettered, Entry, EntryId, Reason, cause, layer::Shared};
use crate::{
    attempt::{AttemptRecord, History},
    catch_panic::catch_panic,
    outcome::Outcome,
    peer::PeerKey,
};
use std::{
    any::Any,
    error::Error,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// Fills in the entry of a request. [`DescribeResponse`] handles the response.
///
/// Implemented by [`HttpRequests`](super::HttpRequests) and what [`describe_fn`] returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not describe requests of type `{Req}`",
    note = "`HttpRequests` takes `http::Request<BufferedBody>`; use `describe_fn(|req: &{Req}, entry| ...)` for other requests"
)]
pub trait Describe<Req> {
    /// Fills in the entry of a failed request: kind, body, event and so on. Target, cause, history and
    /// times are already set. A panic is caught, and the entry is written as it is then.
    fn describe(&self, req: &Req, entry: &mut Entry);
}

/// Reads the attempt history of a response, and adds its entry to it. Both do nothing by default.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not describe responses of type `{Res}`",
    note = "`HttpRequests` takes an `http::Response`; use `describe_fn(..)` for others"
)]
pub trait DescribeResponse<Res> {
    /// Returns the attempt history that an inner retry layer added to the response.
    fn history<'a>(&self, res: &'a Res) -> Option<&'a History> {
        let _ = res;
        None
    }

    /// Adds the entry to a failed response.
    fn annotate(&self, res: &mut Res, dead_lettered: DeadLettered) {
        let _ = (res, dead_lettered);
    }
}

/// A [`Describe`] that calls a function. Made by [`describe_fn`].
#[derive(Clone, Copy)]
pub struct DescribeFn<F> {
    describe: F,
}

/// Makes a [`Describe`] from a function.
///
/// Nothing is added to responses; [observers](super::DeadLetters::observe) are told of each entry.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use tower_webhook::dead_letter::{EntryBody, describe_fn};
///
/// #[derive(Clone)]
/// struct Import {
///     file: String,
/// }
///
/// let describe = describe_fn(|job: &Import, entry| {
///     entry.kind = "import".to_owned();
///     entry.body = EntryBody::new(&Bytes::from(job.file.clone()), usize::MAX);
/// });
/// # let _ = describe;
/// ```
pub const fn describe_fn<F, Req>(describe: F) -> DescribeFn<F>
where
    F: Fn(&Req, &mut Entry),
{
    DescribeFn { describe }
}

impl<F, Req> Describe<Req> for DescribeFn<F>
where
    F: Fn(&Req, &mut Entry),
{
    fn describe(&self, req: &Req, entry: &mut Entry) {
        (self.describe)(req, entry);
    }
}

impl<F, Res> DescribeResponse<Res> for DescribeFn<F> {}

impl<F> fmt::Debug for DescribeFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DescribeFn").finish_non_exhaustive()
    }
}

/// A call in progress, with what its entry needs if it fails.
pub(super) struct Case<K, D, Req> {
    pub(super) shared: Arc<Shared<K, D>>,
    kept: Arc<Req>,
    started: Instant,
}

impl<K, D, Req> Case<K, D, Req>
where
    K: PeerKey<Req>,
    D: Describe<Req>,
{
    pub(super) fn open(shared: &Arc<Shared<K, D>>, kept: Arc<Req>, now: Instant) -> Self {
        Self {
            shared: Arc::clone(shared),
            kept,
            started: now,
        }
    }

    /// Makes the entry of a call that has panicked.
    pub(super) fn panicked(&self) -> Entry {
        let (mut entry, _) = self.entry(Outcome::transient(), None, None);
        entry.cause.reason = Reason::Panicked;
        entry
    }

    /// Makes the entry of a call that has failed. Also returns the panic of the peer key. `noted` is the
    /// history in the response.
    pub(super) fn entry(
        &self,
        outcome: Outcome,
        noted: Option<&History>,
        error: Option<&(dyn Error + 'static)>,
    ) -> (Entry, Option<Thrown>) {
        let Shared {
            settings,
            peer,
            describe,
        } = &*self.shared;
        let (mut cause, history) = cause::find(outcome, noted, error);
        let took = self.started.elapsed();
        let history = history.unwrap_or_else(|| alone(outcome, took));
        let now = settings.clock.now();

        let mut thrown = None;
        let target = caught(|| peer.key(&self.kept).into_owned()).unwrap_or_else(|panic| {
            cause.reason = Reason::Panicked;
            thrown = Some(panic);
            String::new()
        });
        let mut entry = Entry::new(EntryId::random(), "request", &target, cause, now);
        entry.direction = settings.direction;
        if history.attempts() > 0 {
            let began = now.checked_sub(took).unwrap_or(now);
            let last = history.last().map(|last| last.started() + last.took());
            entry.first_attempt_at = Some(began);
            entry.last_attempt_at =
                Some(last.and_then(|last| began.checked_add(last)).unwrap_or(now));
        }
        entry.history = history;
        if catch_panic(|| describe.describe(&self.kept, &mut entry)).is_none() {
            let what = "describing a request panicked: its entry is not complete";
            settings.dead_letters.trouble(what, &entry.id);
        }
        entry.body = mem::take(&mut entry.body).cut(settings.body_limit);
        settings.redaction.apply(&mut entry);
        (entry, thrown)
    }
}

/// The payload of a panic.
pub(super) type Thrown = Box<dyn Any + Send>;

/// The result of `work`, or its panic. State that it left half changed is not used again: the panic
/// resumes when the entry is written.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Thrown> {
    catch_unwind(AssertUnwindSafe(work))
}

/// The history of a call that has none: there is no inner retry layer, or its call was dropped.
fn alone(outcome: Outcome, took: Duration) -> History {
    let mut history = History::new();
    if outcome.was_attempted() {
        history.push(AttemptRecord::new(1, Duration::ZERO, took, outcome));
    }
    history
}
