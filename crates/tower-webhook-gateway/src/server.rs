//! The listening side: one task a connection, and an end in bounded time.

use crate::args::Problem;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// The time that a request's head has to arrive, from the moment of the connection or of the last
/// answer: a connection that says nothing is not kept.
const HEAD: Duration = Duration::from_secs(10);

/// Connections at once. Further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 4096;

/// How long running requests have when the gateway stops.
const LAST: Duration = Duration::from_secs(4);

/// On every Linux but those on MIPS, where it is 31.
#[cfg(target_os = "linux")]
const SIGXFSZ: i32 = 25;

pub async fn bind(address: SocketAddr) -> Result<TcpListener, Problem> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Problem::new("--listen", format!("{address}: {error}")))
}

/// The one line on stdout. Whoever started us may have closed it: that is no reason to end.
pub fn announce(address: SocketAddr) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "listening on http://{address}");
    let _ = stdout.flush();
}

/// Serves until `until` is done; then the running requests are to be waited for.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    until: impl Future<Output = ()>,
) -> Finishing {
    // HTTP/1 alone: a webhook is one exchange, and a second protocol is a second way to hold a
    // connection without saying anything.
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // A sender may close its side once it has said everything.
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
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, most likely: wait for some to be closed. Said once.
                if !troubled {
                    tracing::warn!(%error, "connections cannot be accepted");
                }
                troubled = true;
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        troubled = false;
        // A webhook is one small exchange: waiting for a full packet only delays it.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
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

/// The requests that run when the gateway stops.
pub struct Finishing(GracefulShutdown);

impl Finishing {
    pub async fn wait(self) {
        if tokio::time::timeout(LAST, self.0.shutdown()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// SIGTERM and Ctrl-C, caught from the moment that this is made: whoever reads that we are ready
/// may ask us to stop at once.
pub struct Stop {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
    /// Caught, so that a limit on the size of files is an error of the one write, as a full disk
    /// is, and not our end.
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
