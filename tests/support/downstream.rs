//! A downstream that writes down what it gets.

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::any};
use http::StatusCode;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
};

pub struct Downstream {
    pub address: SocketAddr,
    state: Arc<Seen>,
}

struct Seen {
    answer: AtomicU16,
    got: Mutex<Vec<(HeaderMap, Bytes)>>,
}

impl Downstream {
    /// Listens on a free loopback port until the test ends; answers 200.
    pub fn start() -> Self {
        let state = Arc::new(Seen {
            answer: AtomicU16::new(200),
            got: Mutex::default(),
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                    .await
                    .expect("a port");
                sender
                    .send(listener.local_addr().expect("an address"))
                    .expect("awaited");
                let router = Router::new().fallback(any(take)).with_state(shared);
                axum::serve(listener, router).await.expect("it serves");
            });
        });
        Self {
            address: receiver.recv().expect("it starts"),
            state,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// Answers with this status from now on.
    pub fn answer(&self, status: u16) {
        self.state.answer.store(status, Ordering::SeqCst);
    }

    /// What has arrived so far.
    pub fn got(&self) -> Vec<(HeaderMap, Bytes)> {
        self.state
            .got
            .lock()
            .expect("nobody panics with it")
            .clone()
    }
}

async fn take(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    seen.got
        .lock()
        .expect("nobody panics with it")
        .push((headers, body));
    StatusCode::from_u16(seen.answer.load(Ordering::SeqCst)).expect("a status")
}
