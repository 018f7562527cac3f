//! Events, jobs and entries in places of different kinds, and what becomes of them when the flags
//! change between two starts.

use super::*;
use crate::{downstream::Downstream, process::Stream};
use serde_json::Value;
use std::path::Path;

const TOKEN: &str = "an operator token for the tests";

/// A gateway on `store` that delivers to `seen`, once each.
fn start(store: &Path, seen: &Downstream, flags: &[&str]) -> Server {
    let url = seen.url();
    let mut all = vec!["--operator-token", TOKEN, "--downstream", &url];
    all.extend(["--max-attempts", "1", "--breaker-failures", "1000"]);
    all.extend(flags);
    gateway_on(store, &all)
}

fn operate(server: &Server, method: &str, path: &str, body: Option<&str>) -> Curled {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    let body = body.map(str::as_bytes);
    curl(&server.url(path), &headers, body, &["-X", method])
}

fn health(server: &Server) -> Value {
    get(server, "/health").json()
}

/// What `start` says where it refuses to.
fn refused(store: &Path, flags: &[&str]) -> String {
    let output = command()
        .args(["--listen", "127.0.0.1:0", "--secret", SECRET])
        .args(["--store", &format!("sqlite:{}", store.display())])
        .args(flags)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_repeat_is_known_after_a_restart_although_the_queue_has_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("gateway.db");
    let seen = Downstream::start();
    let mut server = start(&store, &seen, &["--queue", "memory:"]);
    let accepted = post(&server, event("evt").as_bytes());
    result_of(&server, &task_id(&accepted));
    // The end of a delivery is noted in the store a moment after its task is done.
    eventually("the end is noted", || {
        let path = store.to_str().unwrap();
        let query =
            "PRAGMA busy_timeout=5000; SELECT 'n=' || sum(finished) FROM tower_webhook_accepted";
        let said = crate::foreign::run("sqlite3", &["-readonly", path, query], b"");
        said.contains("n=1").then_some(())
    });
    server.kill();
    let server = start(&store, &seen, &["--queue", "memory:"]);
    let repeat = post(&server, event("evt").as_bytes());
    assert_eq!(repeat.json()["duplicate"], true, "{repeat:?}");
    assert_eq!(seen.got().len(), 1);
}

#[test]
fn another_queue_takes_up_what_the_one_before_had_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("gateway.db");
    let elsewhere = format!("sqlite:{}", folder.path().join("queue.db").display());
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/", hangs.local_addr().unwrap());
    let flags = ["--queue", "memory:", "--downstream", &silent];
    let mut server = gateway_on(&store, &flags);
    for n in 0..5 {
        let accepted = post(&server, event(&format!("evt_{n}")).as_bytes());
        assert_eq!(accepted.status, 200, "{accepted:?}");
    }
    server.kill();
    // To a queue in another file, which is left in the middle too, and then to the store's own.
    let flags = ["--queue", &elsewhere, "--downstream", &silent];
    let mut server = gateway_on(&store, &flags);
    eventually("all are in the queue", || {
        let queue = &health(&server)["metrics"]["queue"];
        let unfinished = queue["queued"].as_u64()? + queue["running"].as_u64()?;
        (unfinished == 5).then_some(())
    });
    server.kill();
    let seen = Downstream::start();
    let mut server = start(&store, &seen, &[]);
    eventually("all are delivered", || {
        (seen.got().len() >= 5).then_some(())
    });
    assert_eq!(server.terminate(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn jobs_are_not_left_behind_in_the_store_by_another_queue() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("gateway.db");
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/", hangs.local_addr().unwrap());
    let mut server = gateway_on(&store, &["--downstream", &silent]);
    assert_eq!(post(&server, event("evt").as_bytes()).status, 200);
    server.kill();
    let said = refused(&store, &["--queue", "memory:"]);
    assert!(
        said.contains("--queue: the file of --store holds 1 unfinished jobs"),
        "{said}"
    );
    // With attempts left: the one that was killed counts.
    let seen = Downstream::start();
    let _server = gateway_on(&store, &["--downstream", &seen.url()]);
    eventually("it is delivered", || (seen.got().len() == 1).then_some(()));
}

#[test]
fn entries_are_not_written_into_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("gateway.db");
    let path = store.display();
    let indirect = format!("jsonl:{}/./gateway.db", folder.path().display());
    let (itself, log) = (format!("jsonl:{path}"), format!("jsonl:{path}-wal"));
    for entries in [&itself, &log, &indirect] {
        let said = refused(&store, &["--dead-letters", entries]);
        assert!(said.contains("--dead-letters: must not be"), "{said}");
    }
    let said = refused(&store, &["--max-body", "8388609"]);
    assert!(said.contains("--max-body: must be 1 to 8388608"), "{said}");
}

#[test]
fn entries_that_cannot_be_written_degrade_the_health() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("gateway.db");
    let (seen, receiver) = (Downstream::start(), Downstream::start());
    seen.answer(400);
    receiver.answer(500);
    let url = receiver.url();
    let flags = ["--dead-letters", &url, "--degraded-at", "2"];
    let server = start(&store, &seen, &flags);
    post(&server, event("evt_1").as_bytes());
    post(&server, event("evt_2").as_bytes());
    let degraded = eventually("two entries wait to be written", || {
        let health = health(&server);
        (health["metrics"]["queue"]["burying"] == 2).then_some(health)
    });
    assert_eq!(degraded["status"], "degraded", "{degraded}");
    receiver.answer(200);
    eventually("both are posted", || {
        (health(&server)["metrics"]["dead_letter_size"] == 2).then_some(())
    });
}

#[test]
fn presses_of_the_button_add_up_to_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("gateway.db");
    let seen = Downstream::start();
    seen.answer(400);
    let mut server = start(&store, &seen, &["--attempt-timeout-ms", "60000"]);
    for n in 0..3 {
        let accepted = post(&server, event(&format!("evt_{n}")).as_bytes());
        result_of(&server, &task_id(&accepted));
    }
    eventually("three entries are there", || {
        (health(&server)["metrics"]["dead_letter_size"] == 3).then_some(())
    });
    assert_eq!(server.terminate(Duration::from_secs(10)).code(), Some(0));

    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/", hangs.local_addr().unwrap());
    let flags = ["--operator-token", TOKEN, "--downstream", &silent];
    let mut server = gateway_on(&store, &flags);
    let press = || operate(&server, "POST", "/dead-letters/redrive", Some("{}"));
    let first = press();
    assert_eq!(first.json()["queued"], 3, "{first:?}");
    for _ in 0..5 {
        let again = press();
        assert_eq!((again.status, &again.json()["queued"]), (202, &0.into()));
    }
    let one = eventually("they are being sent", || {
        let items = operate(&server, "GET", "/dead-letters", None).json()["items"].clone();
        let item = items
            .as_array()?
            .iter()
            .find(|item| item["inProgress"] == true)?
            .clone();
        Some(item["id"].as_str()?.to_owned())
    });
    let path = format!("/dead-letters/{one}/redrive");
    let taken = operate(&server, "POST", &path, None);
    assert_eq!((taken.status, &taken.json()["queued"]), (202, &0.into()));
    assert_eq!(
        operate(&server, "DELETE", &format!("/dead-letters/{one}"), None).status,
        409
    );

    // Asked to stop, it gives them back at once, and not when their claims end.
    assert_eq!(server.terminate(Duration::from_secs(10)).code(), Some(0));
    let err = server.written(Stream::Err);
    seen.answer(200);
    let server = start(&store, &seen, &[]);
    let again = operate(&server, "POST", "/dead-letters/redrive", Some("{}"));
    assert_eq!(again.json()["queued"], 3, "{err}");
    eventually("all are delivered", || {
        (health(&server)["metrics"]["dead_letter_size"] == 0).then_some(())
    });
}

#[test]
fn what_was_triggered_can_be_replayed_and_an_id_has_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("gateway.db");
    let seen = Downstream::start();
    let server = start(&store, &seen, &[]);
    let path = "/api/v2/webhooks/trigger";
    let headers = [
        ("authorization", "Bearer an operator token for the tests"),
        ("idempotency-key", "trg_1"),
    ];
    let body = br#"{"id":"order-1","paid":true}"#;
    let trigger = || curl(&server.url(path), &headers, Some(body), &["-X", "POST"]);
    let first = trigger();
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(task_id(&trigger()), task_id(&first), "one task for one key");
    result_of(&server, &task_id(&first));
    // Not under the id of an event.
    let replay = |name| operate(&server, "POST", &format!("/webhooks/replay/{name}"), None);
    assert_eq!(replay("trg_1").status, 404);
    let replayed = replay("key:trigger:trg_1");
    assert_eq!(replayed.status, 202, "{replayed:?}");
    result_of(&server, &task_id(&replayed));
    assert_eq!(seen.got().len(), 2);

    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(70_000));
    let answer = operate(&server, "POST", path, Some(&long));
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.json()["field"], "id");
}

/// Whatever else is delivered, it is not taken for an event by the downstream, nor replayed in its place.
#[test]
fn nothing_but_an_event_goes_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("gateway.db");
    let store = format!("sqlite:{}", database.display());
    let dialog = r#"{"conversationId":"c-1"}"#;
    let output = r#"{"userId":"u","sessionId":"s","AIOutput":{"text":"hi","traceId":"t"}}"#;
    let digest = |body: &str| {
        let digest = crate::foreign::run("openssl", &["dgst", "-sha256", "-r"], body.as_bytes());
        digest.split(' ').next().unwrap().to_owned()
    };
    for store in ["memory:", &store] {
        let seen = Downstream::start();
        let flags = [
            "--store",
            store,
            "--endpoint-auth",
            "u:a password of the test",
        ];
        let url = seen.url();
        let mut all = vec!["--operator-token", TOKEN, "--downstream", &url];
        all.extend(flags);
        let server = gateway(&all);
        // Each id is used twice: by an event, and by something else after it.
        let ids = ["id1".to_owned(), digest(dialog), digest(output)];
        let odd = ["key:trigger:id1", "\\\"id1\\\""];
        for id in ids.iter().map(String::as_str).chain(odd) {
            let accepted = post(&server, event(id).as_bytes());
            result_of(&server, &task_id(&accepted));
        }
        let headers = [
            ("authorization", "Bearer an operator token for the tests"),
            ("idempotency-key", "id1"),
        ];
        let trigger = server.url("/api/v2/webhooks/trigger");
        let triggered = curl(
            &trigger,
            &headers,
            Some(b"{\"from\":\"trigger\"}"),
            &["-X", "POST"],
        );
        assert_eq!(triggered.status, 202, "{triggered:?}");
        result_of(&server, &task_id(&triggered));
        result_of(&server, &task_id(&post(&server, dialog.as_bytes())));
        let endpoint = server.url("/webhooks/cognigy/endpoint");
        let basic = ["-u", "u:a password of the test"];
        let platform = curl(&endpoint, &[], Some(output.as_bytes()), &basic);
        result_of(&server, &task_id(&platform));

        let keys: Vec<_> = seen
            .got()
            .iter()
            .map(|(headers, _)| headers["idempotency-key"].to_str().unwrap().to_owned())
            .collect();
        assert_eq!(keys[..3], ids, "an event's key is its id");
        let mut different = keys.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 8, "{keys:?}");
        assert_eq!(keys[5], "key:trigger:id1");

        for (id, is_event) in [("id1", true), ("key:trigger:id1", false)] {
            let path = format!("/webhooks/replay/{id}");
            let replayed = operate(&server, "POST", &path, None);
            assert_eq!(replayed.status, 202, "{replayed:?}");
            result_of(&server, &task_id(&replayed));
            let (headers, body) = seen.got().pop().unwrap();
            assert_eq!(headers["idempotency-key"], id);
            assert_eq!(body == event("id1"), is_event, "{id}: {body:?}");
        }
    }
}

#[test]
fn a_trigger_has_one_key_that_can_be_read() {
    let seen = Downstream::start();
    let url = seen.url();
    let server = gateway(&["--operator-token", TOKEN, "--downstream", &url]);
    let trigger = |keys: &[&str]| {
        let mut headers = vec![("authorization", "Bearer an operator token for the tests")];
        headers.extend(keys.iter().map(|key| ("idempotency-key", *key)));
        let url = server.url("/api/v2/webhooks/trigger");
        curl(&url, &headers, Some(b"{}"), &["-X", "POST"])
    };
    let long = "x".repeat(255);
    for keys in [
        &["one", "two"][..],
        &["one", "one"],
        &["Grüße"],
        &["\"open"],
        &["\" padded \""],
        &["\" \""],
        &[long.as_str()],
    ] {
        let refused = trigger(keys);
        assert_eq!(refused.status, 400, "{keys:?}: {refused:?}");
        assert_eq!(refused.json()["field"], "idempotency-key", "{keys:?}");
    }
    let first = trigger(&["one"]);
    assert_eq!(first.status, 202, "{first:?}");
    // Quoted, as the draft has it, or bare.
    assert_eq!(task_id(&trigger(&["\"one\""])), task_id(&first));
    result_of(&server, &task_id(&first));
    assert_eq!(seen.got().len(), 1);
}

#[test]
fn a_store_that_was_cut_off_accepts_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("gateway.db");
    let seen = Downstream::start();
    let server = start(&store, &seen, &[]);
    for n in 0..40 {
        let accepted = post(&server, event(&format!("evt_{n}")).as_bytes());
        assert_eq!(accepted.status, 200, "{accepted:?}");
    }
    let checkpoint = "PRAGMA busy_timeout=5000; PRAGMA wal_checkpoint(TRUNCATE)";
    crate::foreign::run("sqlite3", &[store.to_str().unwrap(), checkpoint], b"");
    assert_eq!(post(&server, event("checkpointed").as_bytes()).status, 200);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&store)
        .unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let answers: Vec<_> = (0..20)
        .map(|n| post(&server, event(&format!("lost_{n}")).as_bytes()).status)
        .collect();
    assert_eq!(answers, [503; 20]);
    eventually("the health tells it", || {
        (health(&server)["status"] == "unhealthy").then_some(())
    });
}
