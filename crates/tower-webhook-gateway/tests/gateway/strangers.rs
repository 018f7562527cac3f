//! What those who know no secret can make the gateway hold, write and do.

use super::*;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
};

const MIB: usize = 1 << 20;

/// A connection from one of 200 addresses, so that no share of a peer is what holds it back.
async fn connect(to: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let from = u8::try_from(1 + number % 200).unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 1, from), 0).into())?;
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
