use std::{fmt, sync::Arc};

/// The targets of a [`FailoverLayer`](super::FailoverLayer), and how a request is sent to one.
///
/// Implemented by [`Uris`](super::Uris) for HTTP, and by [`EachOf`] for everything else.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot aim requests of type `{Req}` that are answered with `{Res}`",
    note = "`Uris` takes `http::Request<_>` and `http::Response<_>`; use `FailoverLayer::over` for other requests"
)]
pub trait Targets<Req, Res> {
    /// Makes this a request to the target at `index`, from 0. `index` is below the number of
    /// targets.
    fn aim(&self, req: &mut Req, index: usize);

    /// Says on an answer which target gave it.
    fn mark(&self, res: &mut Res, index: usize);
}

/// A list of one's own, and a function that sends a request to one of it. Made by
/// [`FailoverLayer::over`](super::FailoverLayer::over).
pub struct EachOf<T, F> {
    pub(super) targets: Arc<[T]>,
    pub(super) aim: F,
}

impl<Req, Res, T, F> Targets<Req, Res> for EachOf<T, F>
where
    F: Fn(&mut Req, &T),
{
    fn aim(&self, req: &mut Req, index: usize) {
        if let Some(target) = self.targets.get(index) {
            (self.aim)(req, target);
        }
    }

    fn mark(&self, _: &mut Res, _: usize) {}
}

/// How many: what is in them is not for logs.
impl<T, F> fmt::Debug for EachOf<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EachOf")
            .field("targets", &self.targets.len())
            .finish_non_exhaustive()
    }
}
