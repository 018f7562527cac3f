use crate::deadline::wire::Wire;
use http::Request;
use std::{fmt, time::Duration};

/// How long the whole of a call may take.
///
/// Implemented by the settings of a [`DeadlineLayer`](super::DeadlineLayer): [`Fixed`],
/// [`AllowFn`] and [`FromHeader`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` allows no time to requests of type `{Req}`",
    note = "`FromHeader` takes `http::Request<_>`; use `DeadlineLayer::from_fn(|req: &{Req}| ...)` for other requests"
)]
pub trait AllowTime<Req> {
    /// The time for this request. `None`: no deadline of its own. Zero: none is left, and it is not
    /// sent.
    fn allowed(&self, req: &Req) -> Option<Duration>;
}

/// The same time for every request.
#[derive(Clone, Copy, Debug)]
pub struct Fixed(pub(super) Duration);

impl<Req> AllowTime<Req> for Fixed {
    fn allowed(&self, _: &Req) -> Option<Duration> {
        Some(self.0)
    }
}

/// A time that a function takes from the request.
#[derive(Clone, Copy)]
pub struct AllowFn<F>(pub(super) F);

impl<F, Req> AllowTime<Req> for AllowFn<F>
where
    F: Fn(&Req) -> Option<Duration>,
{
    fn allowed(&self, req: &Req) -> Option<Duration> {
        (self.0)(req)
    }
}

impl<F> fmt::Debug for AllowFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllowFn").finish_non_exhaustive()
    }
}

/// The time that the caller says in a header, and never more than our own.
#[derive(Clone, Debug)]
pub struct FromHeader {
    pub(super) wire: Wire,
    pub(super) max: Duration,
}

impl<B> AllowTime<Request<B>> for FromHeader {
    fn allowed(&self, req: &Request<B>) -> Option<Duration> {
        let said = self.wire.read(req.headers());
        Some(said.map_or(self.max, |said| said.min(self.max)))
    }
}
