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
