//! Interim answers (1xx) of a target, of which a client takes any number: a target that sends nothing else
//! keeps a processor busy until the attempt times out.

use http::Request;
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::sync::oneshot;
use tower_webhook::BoxError;

/// The most interim answers to one request. Targets that send any send one or two.
const MOST: u32 = 16;

/// Makes the call fail, and with it the connection end, with the interim answer after the most.
pub fn limited<B, F>(mut req: Request<B>, call: impl FnOnce(Request<B>) -> F) -> Limited<F> {
    let (tell, flood) = oneshot::channel();
    let left = Mutex::new((MOST, Some(tell)));
    hyper::ext::on_informational(&mut req, move |_| {
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, tell) = &mut *left;
        match left.checked_sub(1) {
            Some(less) => *left = less,
            None => {
                if let Some(tell) = tell.take() {
                    // Nobody hears it if the call was dropped.
                    let _ = tell.send(());
                }
            }
        }
    });
    Limited {
        call: call(req),
        flood: Some(flood),
    }
}

/// Future of [`limited`]. When it is dropped, so is the call.
pub(crate) struct Limited<F> {
    call: F,
    /// `None` once nothing more will be told.
    flood: Option<oneshot::Receiver<()>>,
}

impl<F, T, E> Future for Limited<F>
where
    F: Future<Output = Result<T, E>> + Unpin,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(flood) = &mut self.flood
            && let Poll::Ready(told) = Pin::new(flood).poll(cx)
        {
            if told.is_ok() {
                let why = format!("more than {MOST} interim answers (1xx) and no other");
                return Poll::Ready(Err(io::Error::other(why).into()));
            }
            self.flood = None;
        }
        Pin::new(&mut self.call).poll(cx).map_err(Into::into)
    }
}
