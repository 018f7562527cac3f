use super::{DeadLettered, Entry};
use crate::attempt::{History, Kept};
use std::{fmt, sync::Arc};

/// What an entry says of a request: one side of what differs between HTTP and everything else. The
/// other side is [`DescribeAnswer`].
///
/// Implemented by [`HttpRequests`](super::HttpRequests) and what [`describe_fn`] returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not describe requests of type `{Req}`",
    note = "`HttpRequests` takes `http::Request<BufferedBody>`; use `describe_fn(|req: &{Req}, entry| ...)` for other requests"
)]
pub trait Describe<Req> {
    /// What is kept of a request while it is under way.
    type Kept;

    /// Keeps what an entry would need. Called for every request, so it is cheap.
    fn keep(&self, req: &Req) -> Self::Kept;

    /// Fills in the entry of a request that has failed: kind, body, event and so on. Its target,
    /// cause, history and times are filled in already. A panic in it is caught; the entry is
    /// written as it then is.
    fn describe(&self, kept: &Self::Kept, entry: &mut Entry);

    /// The request itself, where that is what is kept: it gives the entry's target then, and a
    /// retry layer inside can [share](super::DeadLetterLayer::share_copy) it. `None`, the default,
    /// takes the target from each request beforehand, which costs an allocation.
    fn share(&self, kept: &Self::Kept) -> Option<Kept<Req>> {
        let _ = kept;
        None
    }
}

/// What an answer says of its attempts, and how it is told where its entry is.
///
/// Both do nothing by default.
pub trait DescribeAnswer<Res> {
    /// How the attempts went, as a retry layer inside has noted it.
    fn history<'a>(&self, res: &'a Res) -> Option<&'a History> {
        let _ = res;
        None
    }

    /// Adds to a failed answer where its entry is.
    fn annotate(&self, res: &mut Res, dead_lettered: DeadLettered) {
        let _ = (res, dead_lettered);
    }
}

/// A description of one's own. Made by [`describe_fn`].
#[derive(Clone, Copy)]
pub struct DescribeFn<F> {
    describe: F,
}

/// A description from a function, for requests that can be cloned. Each request is, once.
///
/// Its answers have no place to say where their entries are:
/// [observers](super::DeadLetters::observe) are told.
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
    Req: Clone + Send + Sync + 'static,
{
    type Kept = Arc<Req>;

    fn keep(&self, req: &Req) -> Arc<Req> {
        Arc::new(req.clone())
    }

    fn describe(&self, kept: &Arc<Req>, entry: &mut Entry) {
        (self.describe)(kept, entry);
    }

    fn share(&self, kept: &Arc<Req>) -> Option<Kept<Req>> {
        Some(Kept::new(Arc::clone(kept)))
    }
}

impl<F, Res> DescribeAnswer<Res> for DescribeFn<F> {}

impl<F> fmt::Debug for DescribeFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DescribeFn").finish_non_exhaustive()
    }
}
