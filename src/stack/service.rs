use crate::{BoxError, call::CallOrError, outcome::Unsendable};
use pin_project::pin_project;
use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::runtime::Handle;
use tower_service::Service;

/// What a [stack](super) asks of the service at its bottom: a client, or a function in its place.
///
/// Every `Service<Req>` is one. It is a bound, so that the compiler tells what to write where something else stands.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand below a stack that is given a `{Req}`",
    label = "the service below the stack does not take this request",
    note = "reqwest: `.layer(transport::reqwest(client))`; a tonic channel: `.grpc()` on the stack, and `.layer(transport::tonic(channel))`; hyper-util: `.layer(transport::hyper(client))`, where the client is made for the body `BufferedBody`",
    note = "the body of a request is a `BufferedBody`: `.body(BufferedBody::from(..))`, or `transport::post_json(..)`"
)]
pub trait Transport<Req> {
    /// Its response.
    type Response;
    /// Its error.
    type Error;
    /// Its future.
    type Future: Future<Output = Result<Self::Response, Self::Error>>;

    /// `poll_ready` of `Service`.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;

    /// `call` of `Service`.
    fn send(&mut self, req: Req) -> Self::Future;
}

// Otherwise the compiler would tell of `Service`, in its own words.
#[diagnostic::do_not_recommend]
impl<S: Service<Req>, Req> Transport<Req> for S {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.poll_ready(cx)
    }

    fn send(&mut self, req: Req) -> S::Future {
        self.call(req)
    }
}

/// The transport of a stack.
#[derive(Clone, Debug)]
pub struct Bottom<S> {
    transport: S,
}

impl<S> Bottom<S> {
    pub(super) const fn new(transport: S) -> Self {
        Self { transport }
    }
}

impl<S, Req> Service<Req> for Bottom<S>
where
    S: Transport<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.transport.poll_send(cx)
    }

    fn call(&mut self, req: Req) -> S::Future {
        self.transport.send(req)
    }
}

/// A client with a stack around it. Made by a [`StackLayer`](super::StackLayer).
///
/// Its clones share the retry budget, the breakers and the metrics.
#[derive(Clone, Debug)]
pub struct Stacked<S> {
    inner: S,
}

impl<S> Stacked<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner }
    }

    /// Calls the service once it is ready, as that of tower's `ServiceExt`, which need not be imported. Clone the service to
    /// keep it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call: see the layers of the stack.
    pub fn oneshot<Req>(self, req: Req) -> Oneshot<S, Req>
    where
        S: Service<Req, Error = BoxError>,
    {
        Oneshot {
            state: State::Waiting {
                service: self,
                req: Some(req),
            },
        }
    }
}

impl<S, Req> Service<Req> for Stacked<S>
where
    S: Service<Req, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = CallOrError<S::Future, NoRuntime>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        // The first costs less, and is nearly always true.
        if tokio::task::try_id().is_none() && Handle::try_current().is_err() {
            return CallOrError::failed(NoRuntime);
        }
        CallOrError::called(self.inner.call(req))
    }
}

/// A stack was called outside of a tokio runtime. Nothing was sent.
///
/// The clients and the timers of the layers need one: without this error they panic, one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NoRuntime;

impl fmt::Display for NoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not sent: called outside of a tokio runtime. Call it in `#[tokio::main]`, in `tokio::spawn`, or in the scope of \
             `Runtime::enter`",
        )
    }
}

impl Error for NoRuntime {
    /// Marks the error for a [classifier](crate::outcome): nothing was sent, and another attempt cannot help.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static UNSENDABLE: Unsendable = Unsendable::new();
        Some(&UNSENDABLE)
    }
}

/// Future of [`Stacked::oneshot`].
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct Oneshot<S: Service<Req>, Req> {
    #[pin]
    state: State<Stacked<S>, Req, CallOrError<S::Future, NoRuntime>>,
}

#[pin_project(project = StateProj)]
enum State<S, Req, F> {
    Waiting {
        service: S,
        /// Taken for the call.
        req: Option<Req>,
    },
    Called {
        #[pin]
        future: F,
    },
}

impl<S: Service<Req, Error = BoxError>, Req> Future for Oneshot<S, Req> {
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let future = match state.as_mut().project() {
                StateProj::Called { future } => return future.poll(cx),
                StateProj::Waiting { service, req } => {
                    ready!(service.poll_ready(cx))?;
                    let Some(req) = req.take() else {
                        // Only after an error of `poll_ready`, which ended this future.
                        return Poll::Pending;
                    };
                    service.call(req)
                }
            };
            state.set(State::Called { future });
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for Oneshot<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oneshot").finish_non_exhaustive()
    }
}
