//! The gateway's contract, over sockets: signatures by openssl and other people's packages,
//! requests by curl, ugly ones by hand.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod bodies;
mod connections;
mod credentials;
mod delivery;
mod downstream;
mod health;
mod loops;
mod operator;
mod places;
mod programs;
mod receiving;
mod resilience;
mod routes;
mod signatures;
mod starting;
mod strangers;

#[path = "../../../../tests/support/foreign.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod foreign;
#[path = "../support/gateway.rs"]
mod gateway;
#[path = "../support/holder.rs"]
mod holder;
#[path = "../../../../tests/support/moment.rs"]
mod moment;
#[path = "../../../../tests/support/process.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod process;

use foreign::{Curled, curl, openssl_hex};
use gateway::command;
use moment::moment;
use process::Server;
use std::time::{Duration, Instant};

const SECRET: &str = "a test secret of thirty-two bytes";

/// A gateway in memory that delivers to loopback, with these flags added.
fn gateway(flags: &[&str]) -> Server {
    let mut command = command();
    command.args(["--listen", "127.0.0.1:0", "--secret", SECRET]);
    command.arg("--allow-private");
    if !flags.contains(&"--store") {
        command.args(["--store", "memory:"]);
    }
    command.args(flags);
    Server::start(command)
}

/// A gateway on a database file.
fn gateway_on(database: &std::path::Path, flags: &[&str]) -> Server {
    let store = format!("sqlite:{}", database.display());
    let mut all = vec!["--store", store.as_str()];
    all.extend(flags);
    gateway(&all)
}

fn event(id: &str) -> String {
    event_of(id, &moment().to_string())
}

/// An event with this timestamp, as JSON.
fn event_of(id: &str, timestamp: &str) -> String {
    format!(
        r#"{{"eventId":"{id}","timestamp":{timestamp},"type":"USER_INPUT_RECEIVED","payload":{{"input":"Grüße"}},"userId":"u-1","new":[1]}}"#
    )
}

/// Posts a body with the hexadecimal signature of the test secret.
fn post(server: &Server, body: &[u8]) -> Curled {
    send(server, &openssl_hex(SECRET, body), body)
}

/// Posts a body with this signature.
fn send(server: &Server, signature: &str, body: &[u8]) -> Curled {
    let headers = [
        ("content-type", "application/json"),
        ("x-cognigy-signature", signature),
    ];
    curl(&server.url("/webhooks/cognigy"), &headers, Some(body), &[])
}

fn get(server: &Server, path: &str) -> Curled {
    curl(&server.url(path), &[], None, &[])
}

/// Asks for the status of a task until it is no longer pending.
fn result_of(server: &Server, task: &str) -> Curled {
    eventually("the task ends", || {
        let answer = get(server, &format!("/webhooks/cognigy/status/{task}"));
        (answer.status != 202).then_some(answer)
    })
}

/// Waits until there is something.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn task_id(answer: &Curled) -> String {
    answer.json()["taskId"]
        .as_str()
        .expect("a task id")
        .to_owned()
}
