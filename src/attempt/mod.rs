//! The attempts of a delivery: the number of the current one, and the history of the earlier ones.

mod copied;
mod history;
#[cfg(feature = "dead-letter")]
pub(crate) mod wire;

pub use self::{
    copied::Copied,
    history::{AttemptRecord, Failed, GaveUp, History},
};

use crate::context::CallContext;
use http::{HeaderName, HeaderValue, Request};
use std::{
    num::NonZeroU32,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// The number of the current attempt within its delivery.
///
/// Set by the layer that retries, around everything inside it, as a part of the [context](crate::context) of the
/// call.
///
/// # Examples
///
/// ```
/// use tower_webhook::attempt::Attempt;
///
/// assert_eq!(Attempt::current(), None);
///
/// let second = Attempt::first().next();
/// second.scope(|| assert_eq!(Attempt::current().map(Attempt::number), Some(2)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    number: NonZeroU32,
}

impl Attempt {
    /// The first attempt, whose number is 1.
    pub const fn first() -> Self {
        Self {
            number: NonZeroU32::MIN,
        }
    }

    /// The attempt of this number; zero counts as 1.
    pub const fn numbered(number: u32) -> Self {
        match NonZeroU32::new(number) {
            Some(number) => Self { number },
            None => Self::first(),
        }
    }

    /// The next attempt.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            number: self.number.saturating_add(1),
        }
    }

    /// The number, from 1.
    pub const fn number(self) -> u32 {
        self.number.get()
    }

    /// The attempt of the current call, if an outer layer counts attempts.
    pub fn current() -> Option<Self> {
        CallContext::current().attempt()
    }

    /// Runs `work` as part of this attempt.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        let context = CallContext::current().with_attempt(self, None);
        context.enter(work)
    }
}

/// Writes the number of the attempt into a header of each request, from 1.
///
/// It belongs inside the layer that retries; without one, the number is 1. Futures, responses and errors
/// are not changed.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_webhook::{BoxError, attempt::AttemptHeaderLayer};
///
/// # tokio_test::block_on(async {
/// let client = ServiceBuilder::new()
///     .layer(AttemptHeaderLayer::new())
///     .service(service_fn(|req: Request<()>| async move {
///         assert_eq!(req.headers()["x-webhook-attempt"], "1");
///         Ok::<_, BoxError>(Response::new(()))
///     }));
/// client.oneshot(Request::new(())).await?;
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct AttemptHeaderLayer {
    name: HeaderName,
}

impl AttemptHeaderLayer {
    /// Writes `x-webhook-attempt`.
    pub const fn new() -> Self {
        Self::named(HeaderName::from_static("x-webhook-attempt"))
    }

    /// Writes the header `name`.
    pub const fn named(name: HeaderName) -> Self {
        Self { name }
    }
}

impl Default for AttemptHeaderLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for AttemptHeaderLayer {
    type Service = AttemptHeader<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptHeader {
            inner,
            name: self.name.clone(),
        }
    }
}

/// Middleware of [`AttemptHeaderLayer`].
#[derive(Clone, Debug)]
pub struct AttemptHeader<S> {
    inner: S,
    name: HeaderName,
}

impl<S, B> Service<Request<B>> for AttemptHeader<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> S::Future {
        let attempt = Attempt::current().unwrap_or(Attempt::first());
        // No allocation for the usual numbers.
        let value = match attempt.number() {
            1 => HeaderValue::from_static("1"),
            2 => HeaderValue::from_static("2"),
            3 => HeaderValue::from_static("3"),
            number => HeaderValue::from(number),
        };
        req.headers_mut().insert(self.name.clone(), value);
        self.inner.call(req)
    }
}
