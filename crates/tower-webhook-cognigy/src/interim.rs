//! Interim answers (1xx), of which hyper takes any number: a peer that sends nothing else keeps a processor busy until
//! the time limit.

use http::Request;
use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// The most to one request. Servers that send any send one or two.
pub(crate) const MOST: u32 = 16;

/// Ready when a request has got more than the most: its call is to be dropped then. Otherwise never.
#[derive(Debug)]
pub(crate) struct Flood(mpsc::Receiver<()>);

impl Flood {
    pub(crate) fn of<B>(req: &mut Request<B>) -> Self {
        let (tell, flood) = mpsc::channel(1);
        let seen = AtomicU32::new(0);
        hyper::ext::on_informational(req, move |_| {
            if seen.fetch_add(1, Ordering::Relaxed) >= MOST {
                // Told already, or nobody listens any more.
                let _ = tell.try_send(());
            }
        });
        Self(flood)
    }
}

impl Future for Flood {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.poll_recv(cx) {
            Poll::Ready(Some(())) => Poll::Ready(()),
            // The request is over.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
