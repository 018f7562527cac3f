//! The server: one task for each connection, and a stop in bounded time.

use crate::{args::Problem, peer::TrustedProxies};
use axum::Router;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tower::Service as _;

/// The time limit for the head of a request, from the connection or the last answer on. It closes idle
/// connections too.
const HEAD: Duration = Duration::from_secs(10);

/// The largest number of open connections. Further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 4096;

/// The time limit for running requests when the gateway stops.
const LAST: Duration = Duration::from_secs(4);

/// Its number on Linux, except on MIPS (31).
#[cfg(target_os = "linux")]
const SIGXFSZ: i32 = 25;

/// Listens on the first address of this host name or address that can be listened on.
pub async fn bind(address: &str) -> Result<TcpListener, Problem> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Problem::new("--listen", format!("{address}: {error}")))
}

/// Prints the one line on stdout. A closed stdout is no error.
pub fn announce(address: SocketAddr) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "listening on http://{address}");
    let _ = stdout.flush();
}

/// Serves until `until` is done. Returns the requests that still run.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    proxies: TrustedProxies,
    until: impl Future<Output = ()>,
) -> Finishing {
    // Only HTTP/1: a webhook is one exchange, and HTTP/2 would need limits of its own.
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // A sender may close its side after the request.
        .half_close(true);
    let open = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut troubled = false;
    let mut until = std::pin::pin!(until);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut until => break,
        };
        let (stream, from, place) = match accepted {
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
        let (router, proxies) = (router.clone(), proxies.clone());
        let service = service_fn(move |mut req: Request<Incoming>| {
            let peer = proxies.peer(from.ip(), req.headers());
            req.extensions_mut().insert(peer);
            // A router is always ready.
            router.clone().call(req)
        });
        let connection = server.serve_connection(TokioIo::new(stream), service);
        let connection = open.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
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

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, from) = listener.accept().await?;
    Ok((stream, from, place))
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
