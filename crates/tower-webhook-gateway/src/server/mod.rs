//! The server: one task for each connection, a bound on everything that a connection may take, and a stop in
//! bounded time.
//!
//! `table.rs` decides who may stay when places run out, `stream.rs` ends connections whose reader does not
//! read, `framing.rs` refuses heads that could be read in two ways, `handles.rs` counts the places.

mod framing;
mod handles;
mod stream;
mod table;

pub use handles::places;

use self::{
    stream::Watched,
    table::{Full, Id, Table},
};
use crate::{
    args::Problem,
    peer::{Peer, TrustedProxies},
};
use axum::{Router, body::Body, middleware::Next, response::Response};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};
use tower::Service as _;
use tower_webhook::problem;

/// The time limit for the head of a request, from the connection or the last answer on. It closes idle
/// connections too.
const HEAD: Duration = Duration::from_secs(10);

/// Connections that the operating system holds until they are accepted. It may allow fewer. Those of a burst
/// beyond that try again after a second.
const BACKLOG: u32 = 4096;

/// How long a write may wait without a byte that the other side takes.
const WRITE: Duration = Duration::from_secs(10);

/// The age of a connection from which on its next answer is its last.
const AGE: Duration = Duration::from_secs(300);

/// The time limit for that answer, after which the connection is closed in the middle of it.
const LAST_ANSWER: Duration = Duration::from_secs(60);

/// The largest number of requests over one connection.
const MAX_REQUESTS: u32 = 10_000;

/// The buffer of a connection, in bytes. A longer head is answered 431.
const BUFFER: usize = 32 * 1024;

/// Connections that had to go and are not closed yet, at most.
const LEAVING: usize = 32;

/// Further requests of strangers that begin at once.
const TURNS: usize = 8;

/// The shortest time between two warnings that connections had to go.
const QUIET: Duration = Duration::from_secs(10);

/// The time limit for running requests when the gateway stops.
const LAST: Duration = Duration::from_secs(4);

/// Its number on Linux, except on MIPS (31).
#[cfg(target_os = "linux")]
const SIGXFSZ: i32 = 25;

/// Listens on the first address of this host name or address that can be listened on. If none can, the problem names
/// each.
pub async fn bind(name: &str) -> Result<TcpListener, Problem> {
    let problem = |why: String| Problem::new("--listen", why);
    let addresses = match tokio::net::lookup_host(name).await {
        Ok(addresses) => addresses,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            let why = format!("{name}: must be HOST:PORT, such as localhost:8080");
            return Err(problem(why));
        }
        Err(error) => {
            let why = format!("{name}: the address of this host cannot be found: {error}");
            return Err(problem(why));
        }
    };
    let mut failed = Vec::new();
    for address in addresses {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed.push(format!("cannot listen on {address}: {error}")),
        }
    }
    if failed.is_empty() {
        failed.push(format!("{name}: this host has no address"));
    }
    Err(problem(failed.join("; ")))
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Elsewhere it would let two programs share a port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Prints the one line on stdout. A closed stdout is no error.
pub fn announce(address: SocketAddr) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "listening on http://{address}");
    let _ = stdout.flush();
}

/// Serves up to `places` connections until `until` is done. Returns the requests that still run.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    proxies: TrustedProxies,
    places: usize,
    until: impl Future<Output = ()>,
) -> Finishing {
    // Only HTTP/1: a webhook is one exchange, and HTTP/2 would need limits of its own.
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        // A sender may close its side after the request.
        .half_close(true);
    let open = GracefulShutdown::new();
    let doors = Arc::new(Doors::new(places, proxies));
    let sockets = Arc::new(Semaphore::new(places + LEAVING));
    let mut troubled = false;
    let mut until = std::pin::pin!(until);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &sockets) => accepted,
            () = &mut until => break,
        };
        let (stream, from, socket) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most likely out of file handles: wait until some are closed. Logged once.
                if !troubled {
                    tracing::warn!(%error, "connections cannot be accepted");
                }
                troubled = true;
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        troubled = false;
        // A webhook is one small exchange, which Nagle's algorithm would only delay.
        let _ = stream.set_nodelay(true);
        let (visit, mut evicted) = doors.enter(from.ip());
        let leaves = Leaves(Arc::clone(&visit));
        let router = router.clone();
        let service = service_fn(move |req: Request<Incoming>| {
            Arc::clone(&visit).answer(router.clone(), req)
        });
        let stream = TokioIo::new(Watched::new(stream, WRITE));
        let connection = open.watch(server.serve_connection(stream, service));
        tokio::spawn(async move {
            let _socket = socket;
            let _leaves = leaves;
            tokio::select! {
                biased;
                // Where it is known the sender is dropped, and nobody will send.
                Ok(()) = &mut evicted => tracing::debug!("a connection had to go"),
                ended = tokio::time::timeout(AGE + LAST_ANSWER, connection) => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
                    Err(_) => tracing::debug!("a connection lasted too long"),
                },
            }
        });
    }
    drop(listener);
    Finishing(open)
}

/// The requests that still run when the gateway stops.
pub(crate) struct Finishing(GracefulShutdown);

impl Finishing {
    pub async fn wait(self) {
        if tokio::time::timeout(LAST, self.0.shutdown()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
    }
}

/// The next connection. It waits for a socket only while connections that had to go are being closed.
async fn accept(
    listener: &TcpListener,
    sockets: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let socket = Arc::clone(sockets)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, from) = listener.accept().await?;
    Ok((stream, from, socket))
}

/// All open connections.
struct Doors {
    proxies: TrustedProxies,
    table: Mutex<Table<oneshot::Sender<()>>>,
    /// The running requests of each peer behind a trusted proxy, of which each may have a share, as each peer
    /// has of the connections.
    proxied: Mutex<HashMap<Peer, usize>>,
    share: usize,
    /// Strangers that send one request after the other come in through here, a few at a time and after
    /// everybody who is ready to run. Thousands of them would otherwise keep each newcomer waiting.
    turns: Semaphore,
    quiet: Mutex<Quiet>,
}

/// Connections that had to go and requests that were refused, since the last warning.
#[derive(Default)]
struct Quiet {
    until: Option<Instant>,
    gone: u64,
}

impl Doors {
    fn new(places: usize, proxies: TrustedProxies) -> Self {
        Self {
            proxies,
            table: Mutex::new(Table::new(places)),
            proxied: Mutex::default(),
            share: table::share(places),
            turns: Semaphore::new(TURNS),
            quiet: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Self>, from: IpAddr) -> (Arc<Visit>, oneshot::Receiver<()>) {
        let behind = self.proxies.contains(from);
        let (evict, evicted) = oneshot::channel();
        let (id, gone) = lock(&self.table).enter(from.into(), behind, evict);
        if let Some((evict, why)) = gone {
            // It may have ended at this moment.
            let _ = evict.send(());
            self.count(match why {
                Full::Places => "places",
                Full::Share => "share",
            });
        }
        let visit = Visit {
            doors: Arc::clone(self),
            id,
            from,
            behind,
            since: Instant::now(),
            requests: AtomicU32::new(0),
            known: AtomicBool::new(false),
        };
        (Arc::new(visit), evicted)
    }

    /// Counts a connection that had to go, or a request that was refused, and warns now and then.
    fn count(&self, why: &'static str) {
        ::metrics::counter!("tower_webhook_gateway_pushed_out_total", "reason" => why).increment(1);
        let now = Instant::now();
        let mut quiet = lock(&self.quiet);
        quiet.gone += 1;
        if quiet.until.is_none_or(|until| until <= now) {
            let gone = std::mem::take(&mut quiet.gone);
            quiet.until = Some(now + QUIET);
            drop(quiet);
            tracing::warn!(
                gone,
                reason = why,
                "connections without a verified request had to make room for others"
            );
        }
    }

    /// A request of a peer behind a proxy; `None` if its share is taken.
    fn begin(self: &Arc<Self>, peer: Peer) -> Option<Proxied> {
        let mut proxied = lock(&self.proxied);
        let running = proxied.entry(peer).or_default();
        if *running >= self.share {
            return None;
        }
        *running += 1;
        Some(Proxied(Arc::clone(self), peer))
    }
}

/// A running request of a peer behind a proxy.
struct Proxied(Arc<Doors>, Peer);

impl Drop for Proxied {
    fn drop(&mut self) {
        let mut proxied = lock(&self.0.proxied);
        if let Some(running) = proxied.get_mut(&self.1) {
            *running -= 1;
            if *running == 0 {
                proxied.remove(&self.1);
            }
        }
    }
}

/// An open connection, an extension of its requests.
pub(crate) struct Visit {
    doors: Arc<Doors>,
    id: Id,
    from: IpAddr,
    /// Whether it is a trusted proxy's.
    behind: bool,
    since: Instant,
    requests: AtomicU32,
    known: AtomicBool,
}

impl Visit {
    async fn answer<B>(
        self: Arc<Self>,
        mut router: Router,
        mut req: Request<B>,
    ) -> Result<Response, Infallible>
    where
        B: axum::body::HttpBody<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let count = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if let Err(problem) = framing::check(&req) {
            // Where the request ends is not certain.
            return Ok(last(problem.into_response().map(Body::new)));
        }
        if count > 1 && !self.known.load(Ordering::Relaxed) {
            let turn = self.doors.turns.acquire().await;
            tokio::task::yield_now().await;
            drop(turn);
        }
        let peer = self.doors.proxies.peer(self.from, req.headers());
        let share = if self.behind {
            let Some(share) = self.doors.begin(peer) else {
                self.doors.count("proxied_share");
                let full = problem::Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                    .detail("too many requests of this peer are running")
                    .retry_after(Duration::from_secs(1));
                return Ok(full.into_response().map(Body::new));
            };
            Some(share)
        } else {
            None
        };
        req.extensions_mut().insert(peer);
        req.extensions_mut().insert(Arc::clone(&self));
        // A router is always ready.
        let answer = router.call(req).await?;
        drop(share);
        Ok(if count >= MAX_REQUESTS || self.since.elapsed() >= AGE {
            last(answer)
        } else {
            answer
        })
    }

    /// A request of this connection was verified.
    fn verified(&self) {
        // Once for each connection, unless there was no room among the known.
        if !self.known.load(Ordering::Relaxed) {
            let known = lock(&self.doors.table).verified(self.id, self.behind);
            self.known.store(known.is_some(), Ordering::Relaxed);
        }
    }
}

/// The answer after which the connection is closed.
fn last(mut answer: Response) -> Response {
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(header::CONNECTION, close);
    answer
}

/// Leaves the table when the connection is closed.
struct Leaves(Arc<Visit>);

impl Drop for Leaves {
    fn drop(&mut self) {
        lock(&self.0.doors.table).leave(self.0.id);
    }
}

/// Makes the connection of a verified request a known one. Stands inside of what verifies.
pub fn verified<B>(req: Request<B>) -> Request<B> {
    if let Some(visit) = req.extensions().get::<Arc<Visit>>() {
        visit.verified();
    }
    req
}

/// The same for routes that verify themselves: a success is the answer to a verified request.
pub async fn verified_by_success(req: axum::extract::Request, next: Next) -> Response {
    let visit = req.extensions().get::<Arc<Visit>>().cloned();
    let answer = next.run(req).await;
    if let Some(visit) = visit
        && answer.status().is_success()
    {
        visit.verified();
    }
    answer
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SIGTERM and Ctrl-C. Caught from the moment that this is made: before the line on stdout, after which
/// a signal may come at once.
pub(crate) struct Stop {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
    /// Caught, so that a write beyond the limit on file sizes fails, as on a full disk, and does not end
    /// the process.
    #[cfg(target_os = "linux")]
    _too_large: tokio::signal::unix::Signal,
}

impl Stop {
    pub fn catch() -> std::io::Result<Self> {
        #[cfg(unix)]
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            #[cfg(unix)]
            signals: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ],
            #[cfg(target_os = "linux")]
            _too_large: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    pub async fn asked(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    async fn asked(visit: &Arc<Visit>) -> Response {
        let req = Request::get("/").header(header::HOST, "x");
        let req = req.body(Body::empty()).unwrap();
        Arc::clone(visit).answer(Router::new(), req).await.unwrap()
    }

    fn is_last(answer: &Response) -> bool {
        answer.headers().get(header::CONNECTION).is_some()
    }

    fn visit() -> Arc<Visit> {
        let doors = Arc::new(Doors::new(64, TrustedProxies::default()));
        doors.enter(IpAddr::from([192, 0, 2, 1])).0
    }

    // By the monotonic clock: a leap of the other one is nothing to it.
    #[tokio::test(start_paused = true)]
    async fn an_old_connection_ends_with_its_next_answer() {
        let visit = visit();
        tokio::time::advance(AGE / 2).await;
        assert!(!is_last(&asked(&visit).await));
        tokio::time::advance(AGE / 2).await;
        assert!(is_last(&asked(&visit).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_with_its_ten_thousandth_answer() {
        let visit = visit();
        for _ in 1..MAX_REQUESTS {
            assert!(!is_last(&asked(&visit).await));
        }
        assert!(is_last(&asked(&visit).await));
    }
}
