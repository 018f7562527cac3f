//! The health, as a load balancer sees it.

use super::*;
use crate::{holder::Holder, process::Stream};

/// Waits until the health has this status.
fn until(server: &Server, code: u16, status: &str) {
    let health = eventually(status, || {
        let health = get(server, "/health");
        (health.status == code).then_some(health)
    });
    assert_eq!(health.json()["status"], status, "{health:?}");
}

#[test]
fn it_is_unhealthy_while_the_store_does_not_answer_and_says_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("gateway.db");
    let mut server = gateway_on(&database, &[]);
    until(&server, 200, "healthy");
    // One line in ten seconds, and those at both ends.
    let began = Instant::now();
    let most = || usize::try_from(began.elapsed().as_secs() / 10).unwrap() + 3;
    // Held by another program.
    let mut holder = Holder::start(&database);
    until(&server, 503, "unhealthy");
    for _ in 0..200 {
        let health = get(&server, "/health");
        assert_eq!(health.json()["status"], "unhealthy", "{health:?}");
    }
    holder.release();
    until(&server, 200, "healthy");
    let log = server.wait_for(Stream::Err, "a store does not answer");
    let lines = log
        .lines()
        .filter(|line| line.contains("a store does not answer"));
    assert!(lines.count() <= most(), "{log}");

    // Gone.
    std::fs::remove_file(&database).unwrap();
    until(&server, 503, "unhealthy");

    // Nor does anyone who asks for tasks write a line each.
    let url = server.url("/webhooks/cognigy/status/00000000000000000000000000000000");
    for _ in 0..100 {
        assert_eq!(curl(&url, &[], None, &[]).status, 503);
    }
    let log = server.wait_for(Stream::Err, "status of a task");
    let lines = log.lines().filter(|line| line.contains("status of a task"));
    assert!(lines.count() <= most(), "{log}");
}
