use super::TransportError;
use crate::outcome::Outcome;
use http::Request;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll, ready},
};
use tokio::sync::mpsc;

/// The most to one request. Servers that send any send one or two.
const MOST: u32 = 16;

/// Counts the interim answers (1xx, [RFC 9110, 15.2](https://www.rfc-editor.org/rfc/rfc9110#section-15.2)) to a request, of which
/// hyper takes any number: a peer that sends nothing else keeps a processor busy until the time limit.
///
/// A future that is ready when there were more than 16, and otherwise never; [`limit`](Self::limit) ends a call with it.
/// It costs two allocations for each request, so [`hyper()`](super::hyper()) does not do it by itself: use it towards
/// targets that strangers choose.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower::{Service, ServiceExt};
/// use tower_webhook::{body::BufferedBody, transport::{self, InterimFlood}};
///
/// # tokio_test::block_on(async {
/// # let target = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let url = format!("http://{}/", target.local_addr()?);
/// # tokio::spawn(async move {
/// #     use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// #     let (mut peer, _) = target.accept().await.unwrap();
/// #     let _ = peer.read(&mut [0; 1024]).await;
/// #     while peer.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.is_ok() {}
/// # });
/// let mut client = transport::hyper(Client::builder(TokioExecutor::new()).build_http());
///
/// let mut req = Request::post(url).body(BufferedBody::default())?;
/// let flood = InterimFlood::of(&mut req);
/// let error = flood.limit(client.ready().await?.call(req)).await.unwrap_err();
/// let cause = std::error::Error::source(&error).unwrap();
/// assert_eq!(cause.to_string(), "more than 16 interim answers (1xx) and no other");
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// It holds nothing of the call.
#[must_use = "futures do nothing unless polled"]
pub struct InterimFlood(mpsc::Receiver<()>);

impl InterimFlood {
    /// Counts those to this request, which a hyper client is then given.
    pub fn of<B>(req: &mut Request<B>) -> Self {
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

    /// Ends `call` with a transient error at the flood. Dropping the future drops the call, and with it the connection.
    pub const fn limit<F>(self, call: F) -> InterimLimited<F> {
        InterimLimited { call, flood: self }
    }
}

impl Future for InterimFlood {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.0.poll_recv(cx)) {
            Some(()) => Poll::Ready(()),
            // The request is over.
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for InterimFlood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterimFlood").finish_non_exhaustive()
    }
}

/// Future of [`InterimFlood::limit`].
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct InterimLimited<F> {
    #[pin]
    call: F,
    flood: InterimFlood,
}

impl<F, T> Future for InterimLimited<F>
where
    F: Future<Output = Result<T, TransportError>>,
{
    type Output = Result<T, TransportError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if Pin::new(this.flood).poll(cx).is_ready() {
            let why = format!("more than {MOST} interim answers (1xx) and no other");
            return Poll::Ready(Err(TransportError::new(Outcome::transient(), why)));
        }
        this.call.poll(cx)
    }
}

impl<F> fmt::Debug for InterimLimited<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterimLimited").finish_non_exhaustive()
    }
}
