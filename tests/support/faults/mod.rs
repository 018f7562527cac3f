//! A server that does wrong what it is told to do wrong: HTTP/1.1 and HTTP/2, with and without TLS.
//!
//! ```ignore
//! let server = Faults::http1()
//!     .then(reset(Point::Head))
//!     .then(answer(503).header("retry-after", "1"))
//!     .otherwise(answer(200))
//!     .start();
//! client.post(server.url("/hook")).send().await;
//! assert_eq!(server.requests().len(), 3);
//! ```
//!
//! It has a thread and a runtime of its own, so that it works under a paused clock, in a test
//! without a runtime and beside a child process. It ends when it is dropped, and after a minute
//! in any case: nothing that waits for it waits for ever.

mod http1;
mod http2;
mod step;
mod tls;

#[allow(unused_imports, reason = "each test file uses some of it")]
pub use self::{
    step::{How, Point, Step, answer, close, go_away, grpc, grpc_late, reset, stall},
    tls::{Certificate, client_config},
};

use http::HeaderMap;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as sync_mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time,
};
use tokio_rustls::TlsAcceptor;

/// The longest life of a server, and so of every stall.
const LIFE: Duration = Duration::from_secs(60);

/// A request that was seen, as far as it was read.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Which connection it came on, from 0 in the order of their arrival.
    pub connection: usize,
}

/// What a server will do, before it is started.
pub struct Script {
    steps: VecDeque<Step>,
    afterwards: Vec<Step>,
    certificate: Option<Certificate>,
    http2: bool,
}

/// A running server.
pub struct Faults {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    control: mpsc::UnboundedSender<Control>,
    requests: watch::Receiver<usize>,
    authority: Option<tls::Der>,
    thread: Option<JoinHandle<()>>,
}

enum Control {
    Refuse(sync_mpsc::Sender<()>),
    Listen(sync_mpsc::Sender<()>),
}

struct Shared {
    state: Mutex<State>,
    /// One permit for each stall that was let go on.
    released: Semaphore,
}

struct State {
    steps: VecDeque<Step>,
    afterwards: Vec<Step>,
    /// How many steps of `afterwards` were taken.
    taken: usize,
    seen: Vec<Seen>,
    connections: usize,
    /// Until the server is over.
    count: Option<watch::Sender<usize>>,
}

/// Tells those who wait for requests that none will come.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.state().count = None;
    }
}

impl Script {
    fn new(http2: bool) -> Self {
        Self {
            steps: VecDeque::new(),
            afterwards: vec![answer(200)],
            certificate: None,
            http2,
        }
    }

    /// What the next request, or connection, meets.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    /// The same step this many times.
    pub fn times(mut self, times: usize, step: Step) -> Self {
        self.steps.extend(vec![step; times]);
        self
    }

    /// What everything meets once the steps are used up. Default: 200.
    pub fn otherwise(mut self, step: Step) -> Self {
        self.afterwards = vec![step];
        self
    }

    /// Once the steps are used up: this many good ones, that many bad ones, and again.
    pub fn flapping(mut self, good: (usize, Step), bad: (usize, Step)) -> Self {
        self.afterwards = vec![good.1; good.0];
        self.afterwards.extend(vec![bad.1; bad.0]);
        self
    }

    /// Speaks TLS, for `localhost` and 127.0.0.1 if the certificate is good.
    pub fn tls(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    pub fn start(self) -> Faults {
        assert!(!self.afterwards.is_empty(), "a server does something");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (count, requests) = watch::channel(0);
        let (control, commands) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                steps: self.steps,
                afterwards: self.afterwards,
                taken: 0,
                seen: Vec::new(),
                connections: 0,
                count: Some(count),
            }),
            released: Semaphore::new(0),
        });
        let (acceptor, authority) = self
            .certificate
            .map(|certificate| tls::acceptor(certificate, self.http2))
            .unzip();
        let server = Server {
            shared: Arc::clone(&shared),
            acceptor,
            http2: self.http2,
        };
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let _over = Over(Arc::clone(&server.shared));
            let _ = runtime
                .block_on(async { time::timeout(LIFE, server.run(listener, commands)).await });
        });
        Faults {
            address,
            shared,
            control,
            requests,
            authority,
            thread: Some(thread),
        }
    }
}

impl Faults {
    /// A server of HTTP/1.1.
    pub fn http1() -> Script {
        Script::new(false)
    }

    /// A server of HTTP/2: with prior knowledge in plain text, through ALPN with TLS.
    pub fn http2() -> Script {
        Script::new(true)
    }

    /// Where it is, with `http:` or `https:`.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.authority.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}{path}", self.address)
    }

    /// The certificate that clients have to trust, in DER.
    pub fn authority(&self) -> tls::Der {
        self.authority.clone().expect("the server speaks TLS")
    }

    /// Every request whose head was read, in order.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Waits until this many requests were seen.
    pub async fn seen(&self, requests: usize) {
        let mut count = self.requests.clone();
        let waited = count.wait_for(|seen| *seen >= requests).await;
        waited.map(drop).expect("it is seen within a minute");
    }

    /// Lets one stall go on: one that waits, or the next.
    pub fn release(&self) {
        self.shared.released.add_permits(1);
    }

    /// Drops every connection and listens no more: as if the process had died.
    pub fn refuse(&self) {
        self.command(Control::Refuse);
    }

    /// Listens again, on the same port.
    pub fn listen(&self) {
        self.command(Control::Listen);
    }

    fn command(&self, command: impl FnOnce(sync_mpsc::Sender<()>) -> Control) {
        let (done, wait) = sync_mpsc::channel();
        assert!(self.control.send(command(done)).is_ok(), "it runs");
        wait.recv().expect("it runs");
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        // The end of the commands is the end of the server.
        self.control = mpsc::unbounded_channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection, and gives the next step if that is one for connections.
    fn connected(&self) -> (usize, Option<Step>) {
        let mut state = self.state();
        let number = state.connections;
        state.connections += 1;
        let step = state.peek().is_at(Point::Accept).then(|| state.next());
        (number, step)
    }

    /// Notes a request and gives its number and step.
    fn requested(&self, seen: Seen) -> (usize, Step) {
        let mut state = self.state();
        let number = state.seen.len();
        state.seen.push(seen);
        if let Some(count) = &state.count {
            count.send_replace(number + 1);
        }
        (number, state.next())
    }

    fn read(&self, request: usize, bytes: &[u8]) {
        self.state().seen[request].body.extend_from_slice(bytes);
    }

    async fn stalled(&self) {
        let permit = self.released.acquire().await;
        permit.expect("never closed").forget();
    }
}

impl State {
    fn peek(&self) -> &Step {
        let cycle = &self.afterwards;
        let next = || &cycle[self.taken % cycle.len()];
        self.steps.front().unwrap_or_else(next)
    }

    fn next(&mut self) -> Step {
        let step = self.peek().clone();
        if self.steps.pop_front().is_none() {
            self.taken += 1;
        }
        step
    }
}

struct Server {
    shared: Arc<Shared>,
    acceptor: Option<TlsAcceptor>,
    http2: bool,
}

impl Server {
    async fn run(
        self,
        listener: std::net::TcpListener,
        mut commands: mpsc::UnboundedReceiver<Control>,
    ) {
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket");
        let mut listener = Some(TcpListener::from_std(listener).expect("a socket"));
        let mut connections = JoinSet::new();
        loop {
            let accept = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Control::Refuse(done)) => {
                        listener = None;
                        connections.shutdown().await;
                        let _ = done.send(());
                    }
                    Some(Control::Listen(done)) => {
                        listener = Some(TcpListener::bind(address).await.expect("the same port"));
                        let _ = done.send(());
                    }
                    None => return,
                },
                Ok((stream, _)) = accept => {
                    let (shared, acceptor) = (Arc::clone(&self.shared), self.acceptor.clone());
                    let http2 = self.http2;
                    connections.spawn(connection(stream, shared, acceptor, http2));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    shared: Arc<Shared>,
    acceptor: Option<TlsAcceptor>,
    http2: bool,
) {
    let (number, step) = shared.connected();
    // Each byte of a trickle is a packet of its own.
    let _ = stream.set_nodelay(true);
    if let Some(step) = step {
        match step.how() {
            Some(How::Stall) => shared.stalled().await,
            Some(How::Close) => return close_cleanly(stream).await,
            _ => return stream.reset(),
        }
    }
    let Some(acceptor) = acceptor else {
        return protocol(stream, shared, number, http2).await;
    };
    if let Ok(stream) = acceptor.accept(stream).await {
        protocol(stream, shared, number, http2).await;
    }
}

async fn protocol<S: Socket>(stream: S, shared: Arc<Shared>, number: usize, http2: bool) {
    if http2 {
        http2::serve(stream, &shared, number).await;
    } else {
        http1::serve(stream, &shared, number).await;
    }
}

/// A connection that can end with an RST.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn tcp(&self) -> &TcpStream;

    fn reset(self)
    where
        Self: Sized,
    {
        reset_on_drop(self.tcp());
    }
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

fn reset_on_drop(stream: &TcpStream) {
    stream.set_zero_linger().expect("a socket");
}

/// A FIN, and never an RST: which is what the kernel sends when something is left unread.
async fn close_cleanly<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 4096];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
}
