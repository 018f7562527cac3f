use super::*;
use crate::downstream::Downstream;
use serde_json::json;

#[test]
fn an_event_is_delivered_as_it_was_signed_with_headers_of_its_own() {
    let seen = Downstream::start();
    let server = gateway(&[
        "--downstream",
        &seen.url(),
        "--secret",
        "the one before this",
    ]);
    let body = event("evt_1");
    let accepted = post(&server, body.as_bytes());
    let done = result_of(&server, &task_id(&accepted));
    assert_eq!(done.status, 200);
    assert_eq!(
        done.body,
        r#"{"status":"success","nextNode":"continue_dialog","variables":{"lookupStatus":"completed"}}"#
    );

    let got = seen.got();
    let [(headers, delivered)] = &got[..] else {
        panic!("one delivery, not {}", got.len());
    };
    assert_eq!(delivered, body.as_bytes(), "to the byte");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["idempotency-key"], "evt_1");
    assert_eq!(headers["x-webhook-attempt"], "1");
    assert_eq!(headers["x-cognigy-webhook-source"], "bot-integration");
    assert_eq!(headers["prevent-loop"], "true");
    assert_ne!(headers["x-request-id"], headers["x-correlation-id"]);

    // The safe form: the timestamp is under the MAC, one signature a secret.
    let signature = headers["x-cognigy-signature"].to_str().unwrap();
    let mut parts = signature.split(',');
    let timestamp = parts
        .next()
        .and_then(|part| part.strip_prefix("t="))
        .unwrap();
    let content = format!("{timestamp}.{body}");
    for secret in [SECRET, "the one before this"] {
        let expected = format!("v1={}", openssl_hex(secret, content.as_bytes()));
        assert_eq!(parts.next(), Some(expected.as_str()), "{signature}");
    }
    assert_eq!(parts.next(), None);
}

const COMPLETED: &str =
    r#"{"status":"success","nextNode":"continue_dialog","variables":{"lookupStatus":"completed"}}"#;

#[test]
fn the_answer_of_the_downstream_is_the_result_of_the_task() {
    let seen = Downstream::start();
    let server = gateway(&["--downstream", &seen.url()]);
    let long = format!(
        r#"{{"nextNode":"long","variables":{{"text":"{}"}}}}"#,
        "x".repeat(70_000)
    );
    let own = r#"{"status":"success","nextNode":"greet","variables":{"name":"Ada","ids":[1,12345678901234567890123]}}"#;
    let greeted =
        r#"{"status":"success","nextNode":"greet","variables":{"lookupStatus":"completed"}}"#;
    let named = r#"{"status":"success","nextNode":"continue_dialog","variables":{"name":"Ada"}}"#;
    for (n, (said, result)) in [
        (own, own),
        (
            r#"{"nextNode":"greet","debug":"not for the flow"}"#,
            greeted,
        ),
        (r#"{"variables":{"name":"Ada"}}"#, named),
        (r#"{"nextNode":7,"variables":[]}"#, COMPLETED),
        (r#"{"nextNode":"","variables":null}"#, COMPLETED),
        (r#"["nextNode"]"#, COMPLETED),
        ("<html>thanks</html>", COMPLETED),
        ("", COMPLETED),
        (long.leak(), COMPLETED),
    ]
    .into_iter()
    .enumerate()
    {
        seen.say(said);
        let accepted = post(&server, event(&format!("evt_{n}")).as_bytes());
        let done = result_of(&server, &task_id(&accepted));
        let start = said.get(..60).unwrap_or(said);
        assert_eq!((done.status, &*done.body), (200, result), "{start}");
        assert_eq!(done.header("content-type"), Some("application/json"));
    }
}

#[test]
fn a_task_succeeds_when_its_dead_letter_is_delivered() {
    let seen = Downstream::start();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let memory = "memory:".to_owned();
    for (store, letters) in [
        (memory.clone(), memory),
        (
            format!("sqlite:{}", file("a.db")),
            format!("sqlite:{}", file("a.db")),
        ),
        (
            format!("sqlite:{}", file("b.db")),
            format!("jsonl:{}", file("b.jsonl")),
        ),
    ] {
        let server = gateway(
            &[
                &[
                    "--downstream",
                    &seen.url(),
                    "--store",
                    &store,
                    "--dead-letters",
                    &letters,
                ][..],
                &["--operator-token", "an operator token for the tests"],
                &["--max-attempts", "1", "--breaker-failures", "1000"],
            ]
            .concat(),
        );
        let before = seen.got().len();
        seen.answer(500);
        let task = task_id(&post(&server, event("evt_1").as_bytes()));
        let failed = result_of(&server, &task).json();
        assert_eq!(failed["nextNode"], "default_fallback_branch", "{store}");

        let answer = r#"{"status":"success","nextNode":"greet","variables":{"name":"Ada"}}"#;
        seen.say(answer);
        let operator = [("authorization", "Bearer an operator token for the tests")];
        let redrive = server.url("/dead-letters/redrive");
        eventually("the task has succeeded", || {
            // Its entry may not be written yet.
            assert_eq!(curl(&redrive, &operator, Some(b"{}"), &[]).status, 202);
            (result_of(&server, &task).body == answer).then_some(())
        });
        eventually("its entry is gone", || {
            let left = curl(&server.url("/dead-letters"), &operator, None, &[]).json();
            (left["items"] == json!([])).then_some(())
        });
        assert_eq!(
            seen.got().len(),
            before + 2,
            "{store}: refused, and delivered once"
        );
    }
}

#[test]
fn a_delivery_that_fails_is_answered_with_the_fallback_branch() {
    let refusing = Downstream::start();
    refusing.answer(500);
    let nobody = {
        // A port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    for url in [refusing.url(), nobody] {
        let once = ["--max-attempts", "1", "--breaker-failures", "1000"];
        let server = gateway(&[&["--downstream", &url], &once[..]].concat());
        for n in 0..10 {
            let accepted = post(&server, event(&format!("evt_{n}")).as_bytes());
            let done = result_of(&server, &task_id(&accepted));
            assert_eq!(done.status, 200);
            assert_eq!(done.json()["nextNode"], "default_fallback_branch");
            assert_eq!(
                done.json()["variables"]["failureReason"],
                "downstream_unavailable"
            );
        }
        let health = get(&server, "/health");
        assert_eq!(health.status, 200);
        assert_eq!(health.json()["status"], "degraded");
        assert_eq!(health.json()["metrics"]["dead_letter_size"], 10);
        assert_eq!(health.json()["metrics"]["success_rate"], 0.0);
    }
}

#[test]
fn health_tells_how_the_deliveries_went() {
    let server = gateway(&[]);
    let before = get(&server, "/api/v2/health").json();
    assert_eq!(before["status"], "healthy");
    assert_eq!(before["breakers"], json!([]));
    assert_eq!(before["metrics"]["total_requests"], 0);
    let accepted = post(&server, event("evt").as_bytes());
    result_of(&server, &task_id(&accepted));
    let after = get(&server, "/health").json();
    assert_eq!(after["metrics"]["total_requests"], 1);
    assert_eq!(after["metrics"]["success_rate"], 1.0);
    assert!(after["metrics"]["avg_latency_ms"].as_f64().unwrap() > 0.0);
    assert!(after["timestamp"].as_f64().unwrap() > 1.7e9);
}

/// S4 makes its slow work before its answer: up to 54 s, of which a sender waits for 10.
#[test]
fn s4_the_answer_comes_before_slow_work_whose_task_is_pending() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let server = gateway(&["--downstream", &url]);
    let began = Instant::now();
    let accepted = post(&server, event("evt_1").as_bytes());
    assert_eq!(accepted.status, 200, "{accepted:?}");
    assert!(began.elapsed() < Duration::from_secs(8));
    eventually("the delivery is under way", || {
        let health = get(&server, "/health").json();
        (health["metrics"]["queue"]["running"] == 1).then_some(())
    });
    let path = format!("/webhooks/cognigy/status/{}", task_id(&accepted));
    let pending = get(&server, &path);
    assert_eq!(
        (pending.status, &*pending.body),
        (202, r#"{"status":"processing"}"#)
    );
}

#[test]
fn s1_the_success_rate_is_a_fraction_of_four_digits_and_the_latency_has_two() {
    let seen = Downstream::start();
    seen.answer_first(&[(500, None)]);
    let once = ["--max-attempts", "1", "--downstream", &seen.url()];
    let server = gateway(&once);
    for n in 0..3 {
        let accepted = post(&server, event(&format!("evt_{n}")).as_bytes());
        assert_eq!(result_of(&server, &task_id(&accepted)).status, 200);
    }
    let metrics = get(&server, "/health").json()["metrics"].clone();
    assert_eq!(metrics["total_requests"], 3);
    assert_eq!(metrics["success_rate"], 0.6667);
    assert_eq!(metrics["dead_letter_size"], 1);
    let latency = metrics["avg_latency_ms"].to_string();
    let digits = latency
        .split_once('.')
        .map_or(0, |(_, digits)| digits.len());
    assert!(
        digits <= 2 && metrics["avg_latency_ms"].as_f64() > Some(0.0),
        "{latency}"
    );
}

#[test]
fn an_unknown_task_is_not_found() {
    let server = gateway(&[]);
    for id in [
        "1",
        "00000000-0000-0000-0000-000000000000",
        "..%2F..%2Fetc",
        "%00",
        "%FF",
        "'%20OR%201=1",
    ] {
        let answer = get(&server, &format!("/webhooks/cognigy/status/{id}"));
        assert_eq!(answer.status, 404, "{id}");
    }
}

#[test]
fn an_id_of_any_script_travels_downstream_as_it_is() {
    let seen = Downstream::start();
    let server = gateway(&["--downstream", &seen.url()]);
    let accepted = post(&server, event("évt-日本").as_bytes());
    assert_eq!(result_of(&server, &task_id(&accepted)).status, 200);
    let got = seen.got();
    assert_eq!(
        got[0].0["idempotency-key"].as_bytes(),
        "évt-日本".as_bytes()
    );
}
