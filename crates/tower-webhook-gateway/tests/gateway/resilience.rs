//! The way out: retries, the breaker, fallback targets and what is shown of them.

use super::*;
use crate::{downstream::Downstream, process::Stream};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Retries at once, so that a test does not wait.
const QUICK: [&str; 4] = ["--base-delay-ms", "1", "--max-delay-ms", "2"];

/// A breaker that does not open within a test's few failures.
const PATIENT: [&str; 2] = ["--breaker-failures", "1000"];

fn delivering_to(url: &str, flags: &[&[&str]]) -> Server {
    let mut all = vec!["--downstream", url];
    all.extend(flags.iter().copied().flatten());
    gateway(&all)
}

fn deliver(server: &Server, id: &str) -> Value {
    let accepted = post(server, event(id).as_bytes());
    result_of(server, &task_id(&accepted)).json()
}

/// A port that was free a moment ago.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

/// The value of a series whose name and labels begin like this, summed.
fn series(server: &Server, name: &str, labels: &[&str]) -> u64 {
    let text = get(server, "/metrics").body;
    let lines = text.lines().filter(|line| {
        let (series, _) = line.rsplit_once(' ').unwrap_or((line, ""));
        let its_name = series.split('{').next().unwrap_or_default();
        its_name == name && labels.iter().all(|label| series.contains(label))
    });
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
fn each_attempt_is_fresh_and_the_event_keeps_its_key() {
    let seen = Downstream::start();
    // The signature's clock counts seconds, so the second attempt is sent a second later.
    seen.answer_first(&[(503, Some("1")), (500, None)]);
    let server = delivering_to(&seen.url(), &[&QUICK, &PATIENT]);
    let done = deliver(&server, "evt_1");
    assert_eq!(done["nextNode"], "continue_dialog");

    let got = seen.got();
    assert_eq!(got.len(), 3);
    let header = |name: &str| -> Vec<&str> {
        let values = got.iter().map(|(headers, _)| &headers[name]);
        values.map(|value| value.to_str().unwrap()).collect()
    };
    assert_eq!(header("x-webhook-attempt"), ["1", "2", "3"]);
    assert_eq!(header("idempotency-key"), ["evt_1"; 3]);
    assert_eq!(header("prevent-loop"), ["true"; 3]);
    assert_eq!(header("x-cognigy-webhook-source"), ["bot-integration"; 3]);
    for fresh in ["x-request-id", "x-correlation-id"] {
        let ids: HashSet<_> = header(fresh).into_iter().collect();
        assert_eq!(ids.len(), 3, "{fresh}");
    }
    let signatures = header("x-cognigy-signature");
    assert_ne!(signatures[0], signatures[1], "signed again");
    for (headers, body) in &got {
        let signature = headers["x-cognigy-signature"].to_str().unwrap();
        let (timestamp, mac) = signature.split_once(",v1=").unwrap();
        let timestamp = timestamp.strip_prefix("t=").unwrap();
        let content = [timestamp.as_bytes(), b".", &body[..]].concat();
        assert_eq!(mac, openssl_hex(SECRET, &content));
    }

    let answers = seen.answers();
    let waited = answers[1].0 - answers[0].0;
    assert!(
        waited >= Duration::from_secs(1),
        "asked for a second: {waited:?}"
    );
    let waited = answers[2].0 - answers[1].0;
    assert!(waited < Duration::from_secs(1), "nobody asked: {waited:?}");
}

#[test]
fn what_would_be_refused_again_is_sent_once() {
    let seen = Downstream::start();
    let server = delivering_to(&seen.url(), &[&QUICK]);
    for status in [400, 401, 409, 410, 501] {
        seen.answer(status);
        let done = deliver(&server, &format!("evt_{status}"));
        assert_eq!(done["nextNode"], "default_fallback_branch", "{status}");
    }
    assert_eq!(seen.got().len(), 5);
}

#[test]
fn retries_end_and_the_answer_is_the_fallback_branch() {
    let seen = Downstream::start();
    seen.answer(500);
    let server = delivering_to(&seen.url(), &[&QUICK, &PATIENT, &["--max-attempts", "3"]]);
    let done = deliver(&server, "evt");
    assert_eq!(done["nextNode"], "default_fallback_branch");
    assert_eq!(done["variables"]["maxRetries"], 2);
    assert_eq!(seen.got().len(), 3);

    let health = get(&server, "/health").json();
    assert_eq!(health["metrics"]["total_requests"], 3, "{health}");
    assert_eq!(
        series(&server, "tower_webhook_attempts_total", &["transient"]),
        3
    );
    assert_eq!(
        series(&server, "tower_webhook_deliveries_total", &["transient"]),
        1
    );
    assert_eq!(
        series(&server, "cognigy_webhook_retries", &["status_code=\"500\""]),
        2
    );
    // The worker and its client tell of them: they are the same two.
    assert_eq!(series(&server, "cognigy_webhook_retries", &[]), 2);
    assert_eq!(health["metrics"]["retries"], 2, "{health}");
}

#[test]
fn a_host_that_fails_is_left_alone_and_tried_again_later() {
    let seen = Downstream::start();
    seen.answer(500);
    let server = delivering_to(&seen.url(), &[&QUICK, &["--breaker-open-ms", "1500"]]);
    let accepted = post(&server, event("evt").as_bytes());
    let breaker = eventually("the breaker opens", || {
        let health = get(&server, "/health").json();
        let breaker = health["breakers"][0].clone();
        (breaker["state"] == "open").then(|| {
            assert_eq!(health["status"], "degraded");
            breaker
        })
    });
    let host = seen.address.to_string();
    assert_eq!(breaker["key"], host.as_str(), "{breaker}");
    assert!(
        breaker["retry_after_ms"].as_u64().unwrap() <= 1650,
        "{breaker}"
    );
    assert_eq!(series(&server, "cognigy_circuit_breaker_trips", &[]), 1);

    // The fourth attempt waits for it, and is the probe.
    seen.answer(200);
    let done = result_of(&server, &task_id(&accepted)).json();
    assert_eq!(done["nextNode"], "continue_dialog", "{done}");
    let answers = seen.answers();
    assert_eq!(answers.len(), 4, "no call while it was open");
    let alone = answers[3].0 - answers[2].0;
    assert!(
        alone >= Duration::from_millis(1400),
        "left alone for {alone:?}"
    );
    let breakers = get(&server, "/health").json()["breakers"].clone();
    assert_eq!(breakers[0]["state"], "closed", "{breakers}");
}

#[test]
fn what_an_open_breaker_holds_back_is_delivered_later() {
    let seen = Downstream::start();
    seen.answer(500);
    let flags = ["--max-attempts", "1", "--breaker-open-ms", "1000"];
    let server = delivering_to(&seen.url(), &[&QUICK, &flags]);
    for n in 0..3 {
        let done = deliver(&server, &format!("evt_{n}"));
        assert_eq!(done["nextNode"], "default_fallback_branch");
    }
    // Whoever is let through as a probe finds it well, however slow this machine is.
    seen.answer(200);
    let tasks: Vec<_> = (3..20)
        .map(|n| task_id(&post(&server, event(&format!("evt_{n}")).as_bytes())))
        .collect();
    for task in tasks {
        assert_eq!(
            result_of(&server, &task).json()["nextNode"],
            "continue_dialog"
        );
    }
    assert_eq!(
        get(&server, "/health").json()["metrics"]["dead_letter_size"],
        3
    );
}

#[test]
fn fallback_targets_take_over_in_order_while_the_primary_is_down() {
    let (second, third) = (Downstream::start(), Downstream::start());
    second.answer(503);
    let fallbacks = format!("{},{}", second.url(), third.url());
    let server = delivering_to(
        &nobody(),
        &[&QUICK, &PATIENT, &["--fallback-url", &fallbacks]],
    );
    let done = deliver(&server, "evt");
    assert_eq!(done["nextNode"], "continue_dialog");
    assert_eq!((second.got().len(), third.got().len()), (1, 1));
    let (headers, body) = &third.got()[0];
    assert_eq!(headers["idempotency-key"], "evt");
    assert_eq!(body, event("evt").as_bytes());
    assert_eq!(headers["host"], third.address.to_string().as_str());
}

#[test]
fn a_downstream_that_never_answers_costs_the_time_of_its_attempts() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let flags = ["--attempt-timeout-ms", "100", "--max-attempts", "2"];
    let server = delivering_to(&url, &[&QUICK, &flags]);
    let started = Instant::now();
    let done = deliver(&server, "evt");
    assert_eq!(done["nextNode"], "default_fallback_branch");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(
        series(&server, "tower_webhook_attempts_total", &["transient"]),
        2
    );
}

#[test]
fn a_downstream_that_switches_protocols_has_not_taken_the_event() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            );
        }
    });
    let server = delivering_to(&url, &[&QUICK]);
    let done = deliver(&server, "evt");
    assert_eq!(done["nextNode"], "default_fallback_branch");
    let health = get(&server, "/health").json();
    assert_eq!(health["metrics"]["dead_letter_size"], 1, "{health}");
}

#[test]
fn a_flapping_downstream_is_not_hit_harder_than_the_budget_allows() {
    const EVENTS: usize = 500;
    let seen = Downstream::start();
    let flags = ["--breaker-open-ms", "100", "--max-attempts", "10"];
    let mut server = delivering_to(&seen.url(), &[&QUICK, &flags]);
    seen.flap(Duration::from_millis(200));
    let started = Instant::now();
    let tasks: Vec<_> = (0..EVENTS)
        .map(|n| task_id(&post(&server, event(&format!("evt_{n}")).as_bytes())))
        .collect();
    let delivered = tasks
        .iter()
        .filter(|task| result_of(&server, task).json()["nextNode"] == "continue_dialog")
        .count();
    let seconds = started.elapsed().as_secs_f64();

    // The budget: half of the traffic, ten a second, and what ten quiet seconds have saved.
    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    let most = EVENTS as f64 * 1.5 + 10.0 * (seconds + 10.0);
    let sent = seen.got().len();
    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    let within = (sent as f64) <= most;
    assert!(
        within,
        "{sent} requests for {EVENTS} events in {seconds:.1} s"
    );
    // What the budget or the breaker held back is not given up: only all ten attempts end an event.
    let log = server.written(Stream::Err);
    let given_up: Vec<_> = log
        .lines()
        .filter(|line| line.contains("job ended") && line.contains("\"failed\""))
        .collect();
    let exhausted = |line: &&str| line.contains("retries_exhausted");
    assert!(given_up.iter().all(exhausted), "{given_up:?}");
    assert_eq!(delivered + given_up.len(), EVENTS, "{given_up:?}");
    assert!(delivered * 100 >= EVENTS * 98, "{given_up:?}");

    // After the answer that took an event, nobody sees it again.
    let mut taken: HashMap<String, usize> = HashMap::new();
    for ((headers, _), (_, status)) in seen.got().iter().zip(seen.answers()) {
        let id = headers["idempotency-key"].to_str().unwrap().to_owned();
        assert_eq!(taken.get(&id), None, "{id} was taken before");
        if status == 200 {
            taken.insert(id, 1);
        }
    }
    assert_eq!(taken.len(), delivered);
}

#[test]
fn metrics_are_prometheus_text_without_the_events() {
    let server = gateway(&[]);
    deliver(&server, "evt_secret_id");
    let answer = get(&server, "/metrics");
    assert_eq!(answer.status, 200);
    let content_type = answer.header("content-type").unwrap();
    assert!(
        content_type.starts_with("text/plain; version=0.0.4"),
        "{content_type}"
    );
    assert!(
        answer
            .body
            .contains("# TYPE tower_webhook_attempts_total counter")
    );
    assert!(
        answer
            .body
            .contains("# HELP cognigy_circuit_breaker_trips ")
    );
    assert!(!answer.body.contains("evt_secret_id"));
    assert_eq!(
        series(&server, "tower_webhook_deliveries_total", &["success"]),
        1
    );
}

/// A downstream that answers each request with so many interim answers, and then with 200.
fn interim(answers: usize) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n";
                let told = (0..answers).try_for_each(|_| stream.write_all(hint));
                let last = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                told.and_then(|()| stream.write_all(last))
            });
        }
    });
    url
}

#[test]
fn a_flood_of_interim_answers_ends_the_attempt() {
    let server = delivering_to(&interim(16), &[&QUICK]);
    assert_eq!(deliver(&server, "few")["nextNode"], "continue_dialog");

    // An attempt that nothing else ends outlasts the wait for the result.
    let flags = ["--max-attempts", "2", "--attempt-timeout-ms", "600000"];
    let server = delivering_to(&interim(usize::MAX), &[&QUICK, &flags]);
    assert_eq!(
        deliver(&server, "many")["nextNode"],
        "default_fallback_branch"
    );
}

/// A claim counts as an attempt, and a kill leaves it counted: few are claimed beyond those that are sent.
#[test]
fn few_events_are_claimed_before_their_request_can_begin() {
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/", hangs.local_addr().unwrap());
    let server = gateway(&["--downstream", &silent, "--attempt-timeout-ms", "600000"]);
    for n in 0..110 {
        let accepted = post(&server, event(&format!("evt_{n}")).as_bytes());
        assert_eq!(accepted.status, 200, "{accepted:?}");
    }
    eventually("64 are sent, and half as many wait for that", || {
        let queue = &get(&server, "/health").json()["metrics"]["queue"];
        (queue["running"] == 96 && queue["queued"] == 14).then_some(())
    });
}
