//! A sender of signed events: everything is signed before the clock starts.

use jiff::Timestamp;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_webhook::signature::{
    Outgoing, SignScheme,
    scheme::{Cognigy, CognigyFormat},
};

/// A user's turn, 1 KiB.
const EVENT: &str = include_str!("event.json");

pub struct Load {
    requests: Vec<Vec<u8>>,
}

pub struct Report {
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
    pub refused: usize,
}

impl Load {
    /// Events of 1 KiB that no round has sent before, signed in the documents' base64 form.
    pub fn signed(secret: &str, round: usize, events: usize) -> Self {
        let scheme = Cognigy::new(secret, [CognigyFormat::Base64])
            .expect("a secret")
            .sign_as(CognigyFormat::Base64);
        // Events of long ago are refused.
        let now = format!("{:.3}", Timestamp::now());
        let event = EVENT.replace("2024-01-15T10:00:00.123Z", &now);
        let requests = (0..events).map(|n| {
            let body = event.replace("evt_01HQ3K5Z8Y7X6W5V4T3S2R1Q0P", &format!("evt_{round:04}_{n:021}"));
            let mut headers = http::HeaderMap::new();
            scheme
                .sign(&Outgoing::new(body.as_bytes(), 0), &mut headers)
                .expect("it signs");
            let signature = headers["x-cognigy-signature"].to_str().expect("base64");
            format!(
                "POST /webhooks/cognigy HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 x-cognigy-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        });
        Self {
            requests: requests.collect(),
        }
    }

    /// Sends all of them, one after another on each connection.
    pub fn run(&self, to: SocketAddr, connections: usize, limit: Duration) -> Report {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let local = tokio::task::LocalSet::new();
        // Each connection has a share; leaked, because tasks outlive borrows and the program ends
        // soon anyway.
        let shares: Vec<Vec<Vec<u8>>> = (0..connections)
            .map(|at| {
                self.requests
                    .iter()
                    .skip(at)
                    .step_by(connections)
                    .cloned()
                    .collect()
            })
            .collect();
        let started = Instant::now();
        let results = local.block_on(&runtime, async move {
            let tasks: Vec<_> = shares
                .into_iter()
                .map(|share| tokio::task::spawn_local(send(to, share)))
                .collect();
            let all = async {
                let mut results = Vec::new();
                for task in tasks {
                    results.push(task.await.expect("it sends"));
                }
                results
            };
            tokio::time::timeout(limit, all)
                .await
                .expect("in bounded time")
        });
        let elapsed = started.elapsed();

        let refused = results.iter().map(|(_, refused)| refused).sum();
        let mut times: Vec<Duration> = results.into_iter().flat_map(|(times, _)| times).collect();
        times.sort_unstable();
        let at = |share: f64| {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            let index = ((times.len() - 1) as f64 * share) as usize;
            times[index].as_secs_f64() * 1e3
        };
        #[allow(clippy::cast_precision_loss)]
        let per_second = times.len() as f64 / elapsed.as_secs_f64();
        Report {
            per_second,
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
            refused,
        }
    }
}

async fn send(to: SocketAddr, requests: Vec<Vec<u8>>) -> (Vec<Duration>, usize) {
    let mut stream = TcpStream::connect(to).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let mut times = Vec::with_capacity(requests.len());
    let mut refused = 0;
    let mut answer = Vec::with_capacity(1024);
    for request in &requests {
        let sent = Instant::now();
        stream.write_all(request).await.expect("it reads");
        answer.clear();
        while !is_whole(&answer) {
            let read = stream.read_buf(&mut answer).await.expect("it answers");
            assert_ne!(read, 0, "it keeps the connection");
        }
        times.push(sent.elapsed());
        refused += usize::from(!answer.starts_with(b"HTTP/1.1 200"));
    }
    (times, refused)
}

/// Whether an answer with a `content-length` is here to its end. Cheap: the sender shares the
/// machine with what it measures.
fn is_whole(answer: &[u8]) -> bool {
    const LENGTH: &[u8] = b"content-length: ";
    let find = |what: &[u8]| answer.windows(what.len()).position(|window| window == what);
    let Some(end) = find(b"\r\n\r\n") else {
        return false;
    };
    let at = find(LENGTH).expect("a length") + LENGTH.len();
    let digits = answer[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    answer.len() >= end + 4 + length
}
