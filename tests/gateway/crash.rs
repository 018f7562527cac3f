use super::*;
use crate::downstream::Downstream;
use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tower_webhook::signature::{
    Outgoing, SignScheme,
    scheme::{Cognigy, CognigyFormat},
};

/// Rounds of kill and restart on one file; more of them with `tests/run --long`.
fn rounds() -> usize {
    if std::env::var_os("TOWER_WEBHOOK_LONG").is_some() {
        100
    } else {
        5
    }
}

/// Senders at once.
const SENDERS: usize = 16;

/// Posts events on one connection until it breaks. Gives the ids that were answered 200.
fn send_until_it_breaks(server: &Server, next: &AtomicU64, stop: &AtomicBool) -> Vec<String> {
    let scheme = Cognigy::new(SECRET, [CognigyFormat::Hex])
        .unwrap()
        .sign_as(CognigyFormat::Hex);
    let mut accepted = Vec::new();
    let Ok(mut stream) = TcpStream::connect(server.address) else {
        return accepted;
    };
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    while !stop.load(Ordering::Relaxed) {
        let id = format!("evt_{}", next.fetch_add(1, Ordering::Relaxed));
        let body = event(&id);
        let mut headers = http::HeaderMap::new();
        scheme
            .sign(&Outgoing::new(body.as_bytes(), 0), &mut headers)
            .unwrap();
        let request = format!(
            "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\nx-cognigy-signature: {}\r\ncontent-length: {}\r\n\r\n{body}",
            headers["x-cognigy-signature"].to_str().unwrap(),
            body.len(),
        );
        if stream.write_all(request.as_bytes()).is_err() {
            break;
        }
        match answer(&mut answers) {
            Some(200) => accepted.push(id),
            Some(503) => {}
            Some(status) => panic!("{status}"),
            None => break,
        }
    }
    accepted
}

/// The status of one answer, read to its end.
fn answer(stream: &mut impl BufRead) -> Option<u16> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    stream.read_exact(&mut vec![0; length]).ok()?;
    Some(status)
}

#[test]
fn killed_while_it_accepts_it_has_every_event_it_answered_and_knows_it_again() {
    let seen = Downstream::start();
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("gateway.db");
    let (next, accepted) = (AtomicU64::new(0), Mutex::new(Vec::new()));

    let rounds = rounds();
    for round in 0..rounds {
        let mut server = gateway_on(&database, &["--downstream", &seen.url()]);
        let stop = AtomicBool::new(false);
        let before = next.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS)
                .map(|_| scope.spawn(|| send_until_it_breaks(&server, &next, &stop)))
                .collect();
            // Somewhere in the middle: after some hundreds of events, another number each round.
            let enough = before + 200 + 97 * u64::try_from(round).unwrap();
            eventually("events are sent", || {
                (next.load(Ordering::Relaxed) > enough).then_some(())
            });
            kill(&server);
            for sender in senders {
                accepted.lock().unwrap().extend(sender.join().unwrap());
            }
            stop.store(true, Ordering::Relaxed);
        });
        server.kill();
    }
    let accepted = accepted.into_inner().unwrap();
    assert!(
        accepted.len() > 200,
        "{} were accepted before the kills",
        accepted.len()
    );

    let server = gateway_on(&database, &["--downstream", &seen.url()]);
    // In the store: sqlite3 is not ours.
    let ids = crate::foreign::run(
        "sqlite3",
        &[
            "-readonly",
            database.to_str().unwrap(),
            "SELECT id FROM gateway_events",
        ],
        b"",
    );
    let stored: HashSet<_> = ids.lines().collect();
    for id in &accepted {
        assert!(
            stored.contains(id.as_str()),
            "{id} was answered 200 and is lost"
        );
    }
    // Known again: a repeat is a duplicate, not a new event.
    for id in accepted.iter().step_by(accepted.len() / 20) {
        assert_eq!(
            post(&server, event(id).as_bytes()).json()["duplicate"],
            true,
            "{id}"
        );
    }
    // Delivered, at least once each, by this start if not before.
    eventually("every accepted event is delivered", || {
        let got = seen.got();
        let ids: HashSet<_> = got
            .iter()
            .map(|(headers, _)| headers["idempotency-key"].to_str().unwrap())
            .collect();
        accepted
            .iter()
            .all(|id| ids.contains(id.as_str()))
            .then_some(())
    });
    let mut times: HashMap<String, usize> = HashMap::new();
    for (headers, _) in seen.got() {
        *times
            .entry(headers["idempotency-key"].to_str().unwrap().to_owned())
            .or_default() += 1;
    }
    let repeated = times.values().filter(|times| **times > 1).count();
    println!(
        "{} accepted in {rounds} rounds, all stored and delivered; {repeated} delivered more than once across a kill",
        accepted.len()
    );
}

/// `kill -9`, while others still hold the server.
fn kill(server: &Server) {
    crate::foreign::run("kill", &["-9", &server.id().to_string()], b"");
}
