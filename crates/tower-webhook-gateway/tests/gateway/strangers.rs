//! What those who know no secret can make the gateway hold, write and do.

use super::*;
use crate::process::Stream;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::{Barrier, Semaphore},
};

const MIB: usize = 1 << 20;

/// A connection from one of 10,000 addresses, so that no share of a peer is what holds it back.
async fn connect(to: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let [net, host] = [1 + number / 200 % 50, 1 + number % 200];
    let [net, host] = [net, host].map(|part| u8::try_from(part).unwrap());
    socket.bind((Ipv4Addr::new(127, 0, net, host), 0).into())?;
    socket.connect(to).await
}

/// The most memory that the process ever had resident, in MiB.
#[cfg(target_os = "linux")]
fn peak(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() / 1024
}

/// 600 requests at once, each with this header and all but the last byte of a body of 1 MiB; signed events
/// meanwhile. Returns the growth of the peak, in MiB.
#[cfg(target_os = "linux")]
fn growth_under_600_bodies(server: &Server, header: &'static str) -> usize {
    let before = peak(server);
    let to = server.address;
    let (sent, leave) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for number in 0..600 {
        let (sent, leave) = (sent.clone(), leave.clone());
        runtime.spawn(async move {
            let Ok(mut stream) = connect(to, number).await else {
                sent.fetch_add(1, Ordering::SeqCst);
                return;
            };
            let head = format!(
                "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\ncontent-length: {MIB}\r\n{header}\r\n"
            );
            let body = vec![b' '; MIB - 1];
            let sending = async {
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&body).await
            };
            // Refused ones fail, and what the gateway does not read does not fit.
            let _ = tokio::time::timeout(Duration::from_secs(2), sending).await;
            sent.fetch_add(1, Ordering::SeqCst);
            let _ = leave.acquire().await;
        });
    }
    let mut events = 0;
    eventually("all have sent what they can", || {
        let body = event(&format!("evt_{}_{events}", header.len()));
        let answer = post(server, body.as_bytes());
        assert_eq!(
            answer.status, 200,
            "a signed event among strangers: {answer:?}"
        );
        events += 1;
        (sent.load(Ordering::SeqCst) == 600).then_some(())
    });
    assert!(events > 1);
    let growth = peak(server) - before;
    leave.close();
    runtime.shutdown_timeout(Duration::from_secs(5));
    growth
}

#[test]
#[cfg(target_os = "linux")]
fn the_bodies_of_strangers_take_a_bounded_share_of_the_memory() {
    let server = gateway(&["--body-budget", "33554432"]);
    // Unsigned: not read at all.
    let unsigned = growth_under_600_bodies(&server, "");
    assert!(unsigned < 40, "{unsigned} MiB for unsigned bodies");
    // As a signature looks: only the body will show that it is none.
    let forged = growth_under_600_bodies(
        &server,
        "x-cognigy-signature: 3ed850e10f98e2977a8a8bc704966138973b5affe957229ecabc660d46523362\r\n",
    );
    assert!(forged < 128, "{forged} MiB for a budget of 32");
    eprintln!("600 bodies of 1 MiB: unsigned {unsigned} MiB, forged {forged} MiB");
}

#[test]
fn the_bodies_of_one_address_leave_room_for_those_of_others() {
    // Three MiB for large bodies: at most one of them for each address.
    let server = gateway(&["--body-budget", "4194304"]);
    let to = server.address;
    let refused = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for _ in 0..100 {
        let refused = refused.clone();
        runtime.spawn(async move {
            let head = format!(
                "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\ncontent-length: {MIB}\r\nx-cognigy-signature: {}\r\n\r\n",
                "0".repeat(64)
            );
            let body = vec![b' '; MIB - 1];
            loop {
                let Ok(mut stream) = connect(to, 1).await else {
                    continue;
                };
                let (mut read, mut write) = stream.split();
                let mut answer = [0; 12];
                // Keeps the last byte back until it is told off.
                let sending = async {
                    let _ = write.write_all(head.as_bytes()).await;
                    let _ = write.write_all(&body).await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = sending => {}
                    _ = read.read_exact(&mut answer) => {}
                }
                if answer.ends_with(b"503") {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    eventually("the address has all that it gets", || {
        (refused.load(Ordering::SeqCst) > 50).then_some(())
    });
    let text = "x".repeat(20_000);
    let statuses: Vec<_> = (0..20)
        .map(|number| {
            let body = event(&format!("evt_{number}")).replace("Grüße", &text);
            post(&server, body.as_bytes()).status
        })
        .collect();
    assert_eq!(statuses, [200; 20], "{refused:?} bodies refused meanwhile");
    runtime.shutdown_timeout(Duration::from_secs(5));
}

#[test]
fn credentials_come_before_bodies() {
    let server = gateway(&["--operator-token", "a token of more than sixteen bytes"]);
    let head = |path: &str, more: &str| {
        format!("{path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n{more}\r\n")
    };
    let signed = openssl_hex(SECRET, b"something else");
    for (request, expected) in [
        (head("POST /webhooks/cognigy", ""), Some("401")),
        (
            head("POST /webhooks/cognigy", "x-cognigy-signature: 00\r\n"),
            Some("401"),
        ),
        (
            head(
                "POST /webhooks/cognigy",
                &format!("x-cognigy-signature: {signed}\r\nx-cognigy-signature: {signed}\r\n"),
            ),
            Some("401"),
        ),
        (
            head(
                "POST /webhooks/cognigy/endpoint",
                "authorization: Basic YTpi\r\n",
            ),
            Some("401"),
        ),
        (
            head(
                "POST /api/v2/webhooks/trigger",
                "authorization: Bearer wrong\r\n",
            ),
            Some("401"),
        ),
        (head("POST /dead-letters/redrive", ""), Some("401")),
        // The body must come before this one can be judged.
        (
            head(
                "POST /webhooks/cognigy",
                &format!("x-cognigy-signature: {signed}\r\n"),
            ),
            None,
        ),
    ] {
        let answer = first_bytes(&server, &request);
        let status = answer.as_deref().map(|answer| &answer[9..12]);
        assert_eq!(status, expected, "{request}");
    }
}

/// Sends a head without its body, and reads the beginning of the answer, if there is one within a second.
fn first_bytes(server: &Server, head: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Sends these requests one after the other over one connection, from the address of this number: the statuses.
/// The first of them when all are connected.
async fn statuses(
    to: SocketAddr,
    (number, requests): (usize, Vec<String>),
    all: Arc<Barrier>,
) -> Vec<u16> {
    let mut stream = connect(to, number).await.unwrap();
    all.wait().await;
    let mut statuses = Vec::new();
    for request in requests {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let (mut head, mut whole) = (0, usize::MAX);
        while answer.len() < whole {
            let mut some = [0; 4096];
            let read = stream.read(&mut some).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&some[..read]);
            let text = String::from_utf8_lossy(&answer).to_lowercase();
            if head == 0
                && let Some(end) = text.find("\r\n\r\n")
            {
                head = end + 4;
                let length = text.split("content-length: ").nth(1).unwrap();
                whole = head
                    + length
                        .split("\r\n")
                        .next()
                        .unwrap()
                        .parse::<usize>()
                        .unwrap();
            }
        }
        statuses.push(
            std::str::from_utf8(&answer[9..12])
                .unwrap()
                .parse()
                .unwrap(),
        );
    }
    statuses
}

/// All of these at once: how many answers have each status.
fn at_once(
    to: SocketAddr,
    connections: impl IntoIterator<Item = (usize, Vec<String>)>,
) -> std::collections::BTreeMap<u16, usize> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let connections: Vec<_> = connections.into_iter().collect();
    let all = Arc::new(Barrier::new(connections.len()));
    let running: Vec<_> = connections
        .into_iter()
        .map(|one| runtime.spawn(statuses(to, one, all.clone())))
        .collect();
    let mut counts = std::collections::BTreeMap::new();
    for one in running {
        for status in runtime.block_on(one).unwrap() {
            *counts.entry(status).or_default() += 1;
        }
    }
    counts
}

fn request(path: &str, authorization: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\n\r\n")
}

#[test]
fn guesses_are_counted_slowed_and_seen_and_the_right_token_passes() {
    let token = "a token of more than sixteen bytes";
    let mut server = gateway(&["--operator-token", token]);
    let wrong = |guess: usize| request("/dead-letters", &format!("Bearer guess {guess}"));
    let right = request("/dead-letters", &format!("Bearer {token}"));
    let (to, began) = (server.address, Instant::now());
    let guessing = std::thread::spawn({
        let guesses: Vec<_> = (0..600).map(|guess| (1, vec![wrong(guess)])).collect();
        move || at_once(to, guesses)
    });
    // From the same address, while they guess.
    let mut passed = 0;
    while passed < 20 || !guessing.is_finished() {
        let one = Instant::now();
        assert_eq!(at_once(to, [(1, vec![right.clone()])]), [(200, 1)].into());
        assert!(
            one.elapsed() < Duration::from_secs(3),
            "{:?}",
            one.elapsed()
        );
        passed += 1;
    }
    let counts = guessing.join().unwrap();
    let (answered, told_to_wait) = (counts[&401], counts[&429]);
    assert_eq!(answered + told_to_wait, 600);
    // A hundred, fifty that waited, and ten for each second that it took.
    let tenths = usize::try_from(began.elapsed().as_millis() / 100).unwrap();
    assert!((150..=151 + tenths).contains(&answered), "{counts:?}");

    // Another address is not slowed by it.
    let one = Instant::now();
    assert_eq!(at_once(to, [(2, vec![wrong(0)])]), [(401, 1)].into());
    assert!(one.elapsed() < Duration::from_secs(1));

    let page = get(&server, "/metrics").body;
    let count = |labels: &str| {
        let name = format!("tower_webhook_refusals_total{{{labels}}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{name}: {page}"))
            .parse::<usize>()
            .unwrap()
    };
    assert_eq!(count(r#"by="bearer",reason="mismatch""#), 601);
    assert_eq!(count(r#"by="guesses",reason="too_many""#), told_to_wait);
    // For the webhook routes too.
    assert_eq!(send(&server, "", event("evt").as_bytes()).status, 401);
    let page = get(&server, "/metrics").body;
    assert!(page.contains(r#"by="cognigy",reason="missing""#), "{page}");

    let log = server.wait_for(Stream::Err, "guesses");
    assert!(log.contains("127.0.1.2"), "the address that guesses: {log}");
    // Ten in ten seconds of each of four kinds, and not one for each guess.
    let windows = usize::try_from(began.elapsed().as_secs() / 10).unwrap() + 1;
    assert!(
        log.lines().filter(|line| line.contains("WARN")).count() <= 40 * windows,
        "{log}"
    );
    assert!(
        !log.contains("guess 1"),
        "no secret, not even a wrong one: {log}"
    );
}

#[test]
fn strangers_write_no_log_and_do_not_make_the_gateway_look_ill() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = gateway_on(&folder.path().join("gateway.db"), &[]);
    server.wait_for(Stream::Err, "operator token");
    let before = server.written(Stream::Err).len();
    // A few from each address, so that none is slowed.
    let unsigned = "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    let unknown = request("/dead-letters", "Bearer wrong");
    let connections = (0..500).map(|number| {
        let requests = [unsigned, &unknown].repeat(5);
        (number, requests.into_iter().map(str::to_owned).collect())
    });
    assert_eq!(at_once(server.address, connections), [(401, 5000)].into());

    // More at once than the store has places in its line, while events come in.
    let health = request("/health", "none");
    let to = server.address;
    let asking = std::thread::spawn(move || {
        at_once(
            to,
            (0..2500).map(|number| (number, vec![health.clone(); 2])),
        )
    });
    let mut events = 0;
    while events < 5 || !asking.is_finished() {
        let answer = post(&server, event(&format!("evt_{events}")).as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        events += 1;
    }
    assert_eq!(asking.join().unwrap(), [(200, 5000)].into());

    let written = server.written(Stream::Err).len() - before;
    eprintln!("stderr of 5,000 refusals and 5,000 health requests: {written} bytes");
    assert!(written < 10_000, "{}", server.written(Stream::Err));
}
