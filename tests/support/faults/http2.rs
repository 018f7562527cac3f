//! HTTP/2 on `h2`, whose GOAWAY is told what to say.

use super::{How, Point, Seen, Shared, Socket, Step, reset_on_drop};
use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    task::JoinSet,
    time,
};

/// What happens to a stream's connection.
struct End {
    how: How,
    stream: u32,
}

enum Over {
    Gone,
    Fault(How),
}

impl From<h2::Error> for Over {
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}

pub(super) async fn serve<S: Socket>(stream: S, shared: &Arc<Shared>, connection: usize) {
    let orders = Arc::new(Orders::default());
    let wire = Wire {
        stream,
        orders: Arc::clone(&orders),
    };
    let Ok(mut h2) = h2::server::handshake(wire).await else {
        return;
    };
    let (ends, mut ended) = mpsc::unbounded_channel();
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            next = h2.accept() => {
                let Some(Ok((req, respond))) = next else { return };
                streams.spawn(stream_task(Arc::clone(shared), connection, req, respond, ends.clone()));
            }
            Some(End { how, stream }) = ended.recv() => match how {
                How::Reset => return orders.reset.store(true, Ordering::Relaxed),
                How::GoAway { reason, processed } => {
                    let last = if processed { stream } else { stream.saturating_sub(2) };
                    orders.last.store(last + 1, Ordering::Relaxed);
                    h2.abrupt_shutdown(reason);
                    let _ = poll_fn(|cx| h2.poll_closed(cx)).await;
                    return;
                }
                _ => return,
            },
        }
    }
}

async fn stream_task(
    shared: Arc<Shared>,
    connection: usize,
    req: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    ends: mpsc::UnboundedSender<End>,
) {
    let stream = respond.stream_id().as_u32();
    let (parts, body) = req.into_parts();
    let (request, step) = shared.requested(Seen {
        method: parts.method.to_string(),
        path: parts
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers: parts.headers,
        body: Vec::new(),
        connection,
    });
    let exchange = Exchange {
        shared: &shared,
        step: &step,
        request,
    };
    let mut sender = None;
    match exchange.run(body, &mut respond, &mut sender).await {
        Err(Over::Fault(How::Stream(reason))) => match &mut sender {
            Some(sender) => sender.send_reset(reason),
            None => respond.send_reset(reason),
        },
        Err(Over::Fault(how)) => {
            let _ = ends.send(End { how, stream });
            // Held, so that no RST_STREAM says it first.
            std::future::pending::<()>().await;
        }
        Err(Over::Gone) | Ok(()) => {}
    }
}

struct Exchange<'a> {
    shared: &'a Shared,
    step: &'a Step,
    request: usize,
}

impl Exchange<'_> {
    async fn at(&self, point: Point) -> Result<(), Over> {
        match self.step.at(point) {
            Some(How::Stall) => {
                self.shared.stalled().await;
                Ok(())
            }
            Some(how) => Err(Over::Fault(how)),
            None => Ok(()),
        }
    }

    async fn run(
        &self,
        mut body: RecvStream,
        respond: &mut SendResponse<Bytes>,
        sender: &mut Option<SendStream<Bytes>>,
    ) -> Result<(), Over> {
        let step = self.step;
        self.at(Point::Accept).await?;
        self.at(Point::Head).await?;
        if !step.early {
            self.read(&mut body).await?;
            self.at(Point::Answer).await?;
        }
        self.at(Point::MidHead).await?;

        let mut head = Response::builder().status(step.status);
        for (name, value) in &step.headers {
            head = head.header(name, value);
        }
        let head = head.body(()).expect("a head");
        let ends = step.body.is_empty() && step.trailers.is_empty() && !step.endless;
        let faulty = step.how().is_some() && !step.is_at(Point::Head);
        let answer = sender.insert(respond.send_response(head, ends && !faulty)?);
        self.at(Point::AfterHead).await?;
        if ends && !faulty {
            return Ok(());
        }
        let (first, second) = step.body.split_at(step.body.len() / 2);
        self.write(answer, first).await?;
        self.at(Point::MidBody).await?;
        self.write(answer, second).await?;
        self.at(Point::End).await?;
        if step.endless {
            loop {
                self.write(answer, &[b'.'; 1024]).await?;
                time::sleep(Duration::from_millis(5)).await;
            }
        }
        let mut trailers = HeaderMap::new();
        for (name, value) in &step.trailers {
            let name: HeaderName = name.parse().expect("a name");
            trailers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        if trailers.is_empty() {
            answer.send_data(Bytes::new(), true)?;
        } else {
            answer.send_trailers(trailers)?;
        }
        if step.early {
            self.read(&mut body).await?;
        }
        Ok(())
    }

    async fn read(&self, body: &mut RecvStream) -> Result<(), Over> {
        let length = {
            let state = self.shared.state();
            let length = state.seen[self.request].headers.get("content-length");
            length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        };
        let mut read = 0;
        let mut half = length.map_or(usize::MAX, |length| length / 2);
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            self.shared.read(self.request, &data);
            read += data.len();
            if read >= half {
                half = usize::MAX;
                self.at(Point::MidRequest).await?;
            }
        }
        Ok(())
    }

    async fn write(&self, answer: &mut SendStream<Bytes>, bytes: &[u8]) -> Result<(), Over> {
        let size = if self.step.trickle.is_some() {
            1
        } else {
            bytes.len().max(1)
        };
        for piece in bytes.chunks(size) {
            answer.send_data(Bytes::copy_from_slice(piece), false)?;
            if let Some(pause) = self.step.trickle {
                time::sleep(pause).await;
            }
        }
        // Sent, before what follows.
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// What the connection is to do beside what `h2` would.
#[derive(Default)]
struct Orders {
    reset: AtomicBool,
    /// The last stream that a GOAWAY admits to have processed, plus one; zero: as `h2` has it.
    last: AtomicU32,
}

struct Wire<S: Socket> {
    stream: S,
    orders: Arc<Orders>,
}

impl<S: Socket> Drop for Wire<S> {
    fn drop(&mut self) {
        if self.orders.reset.load(Ordering::Relaxed) {
            reset_on_drop(self.stream.tcp());
        }
    }
}

impl<S: Socket> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Socket> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let last = self.orders.last.load(Ordering::Relaxed);
        if last == 0 {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        let mut buf = buf.to_vec();
        say_last(&mut buf, last - 1);
        Pin::new(&mut self.stream).poll_write(cx, &buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Changes the last stream of every GOAWAY (RFC 9113 §6.8) among whole frames.
fn say_last(mut frames: &mut [u8], last: u32) {
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let Some((payload, next)) = rest.split_at_mut_checked(length) else {
            return;
        };
        if *kind == 7 {
            payload[..4].copy_from_slice(&last.to_be_bytes());
        }
        frames = next;
    }
}
