//! A downstream that writes down what it gets.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::any,
};
use http::StatusCode;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub struct Downstream {
    pub address: SocketAddr,
    state: Arc<Seen>,
}

struct Seen {
    answer: AtomicU16,
    /// The body of each answer with 200.
    body: Mutex<&'static str>,
    /// Answered before `answer` is: a status, and a `Retry-After`.
    first: Mutex<VecDeque<(u16, Option<&'static str>)>>,
    flapping: Mutex<Option<(Instant, Duration)>>,
    got: Mutex<Vec<(HeaderMap, Bytes)>>,
    answers: Mutex<Vec<(Instant, u16)>>,
}

impl Downstream {
    /// Listens on a free loopback port until the test ends; answers 200.
    pub fn start() -> Self {
        let state = Arc::new(Seen {
            answer: AtomicU16::new(200),
            body: Mutex::default(),
            first: Mutex::default(),
            flapping: Mutex::default(),
            got: Mutex::default(),
            answers: Mutex::default(),
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

    /// Answers 200 with this body from now on.
    pub fn say(&self, body: &'static str) {
        *self.state.body.lock().expect("nobody panics with it") = body;
        self.answer(200);
    }

    /// Answers with these first, one by one: a status, and a `Retry-After`.
    pub fn answer_first(&self, answers: &[(u16, Option<&'static str>)]) {
        let mut first = self.state.first.lock().expect("nobody panics with it");
        first.extend(answers);
    }

    /// From now on is well for this long, then answers 503 for as long, and so on.
    pub fn flap(&self, every: Duration) {
        let mut flapping = self.state.flapping.lock().expect("nobody panics with it");
        *flapping = Some((Instant::now(), every));
    }

    /// When each request was answered, and with which status; in the order of [`got`](Self::got).
    pub fn answers(&self) -> Vec<(Instant, u16)> {
        let answers = self.state.answers.lock();
        answers.expect("nobody panics with it").clone()
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

impl Seen {
    fn next(&self) -> (u16, Option<&'static str>) {
        let flapping = *self.flapping.lock().expect("nobody panics with it");
        if let Some((since, every)) = flapping {
            let turn = since.elapsed().as_nanos() / every.as_nanos();
            return (if turn % 2 == 0 { 200 } else { 503 }, None);
        }
        let first = self
            .first
            .lock()
            .expect("nobody panics with it")
            .pop_front();
        first.unwrap_or_else(|| (self.answer.load(Ordering::SeqCst), None))
    }
}

async fn take(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> Response {
    // One lock around both, so that requests and answers are in the same order.
    let mut got = seen.got.lock().expect("nobody panics with it");
    let (status, retry_after) = seen.next();
    got.push((headers, body));
    let mut answers = seen.answers.lock().expect("nobody panics with it");
    answers.push((Instant::now(), status));
    let status = StatusCode::from_u16(status).expect("a status");
    match retry_after {
        Some(wait) => (status, [("retry-after", wait)]).into_response(),
        None if status == StatusCode::OK => {
            let body = *seen.body.lock().expect("nobody panics with it");
            (status, [("content-type", "application/json")], body).into_response()
        }
        None => status.into_response(),
    }
}
