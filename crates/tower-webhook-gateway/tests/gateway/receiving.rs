use super::*;
use serde_json::json;

#[test]
fn an_event_is_accepted_once_and_its_repeat_is_told_so() {
    for store in ["memory:", "sqlite"] {
        let folder = tempfile::tempdir().unwrap();
        let server = match store {
            "sqlite" => gateway_on(&folder.path().join("gateway.db"), &[]),
            _ => gateway(&[]),
        };
        let first = post(&server, event("evt_1").as_bytes());
        assert_eq!(first.status, 200, "{first:?}");
        assert_eq!(first.header("content-type"), Some("application/json"));
        assert_eq!(first.header("idempotent-replayed"), None);
        let task = task_id(&first);
        assert_eq!(
            first.body,
            format!(r#"{{"status":"accepted","taskId":"{task}"}}"#)
        );

        for _ in 0..2 {
            let again = post(&server, event("evt_1").as_bytes());
            assert_eq!(again.status, 200, "{again:?}");
            assert_eq!(again.body, r#"{"status":"accepted","duplicate":true}"#);
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(again.header("content-length"), Some("38"));
        }
        // Another spelling of the same event is the same event: its id decides.
        let respelled = event("evt_1").replace("\"new\":[1]", "\"new\": [2]");
        assert_eq!(
            post(&server, respelled.as_bytes()).json()["duplicate"],
            true
        );
        assert_eq!(
            post(&server, event("evt_2").as_bytes()).json()["duplicate"],
            json!(null)
        );
    }
}

/// Hazard: keys that are forgotten to make room for others, so that an event is delivered again.
#[test]
fn a_key_too_many_is_refused_and_none_is_forgotten() {
    for store in ["memory:", "sqlite"] {
        let folder = tempfile::tempdir().unwrap();
        let flags = ["--max-keys", "3"];
        let server = match store {
            "sqlite" => gateway_on(&folder.path().join("gateway.db"), &flags),
            _ => gateway(&flags),
        };
        for id in ["evt_1", "evt_2", "evt_3"] {
            let accepted = post(&server, event(id).as_bytes());
            assert_eq!(accepted.status, 200, "{accepted:?}");
            assert_eq!(result_of(&server, &task_id(&accepted)).status, 200);
        }
        assert_eq!(get(&server, "/health").json()["status"], "healthy");
        for _ in 0..2 {
            let refused = post(&server, event("evt_4").as_bytes());
            assert_eq!(refused.status, 503, "{store}: {refused:?}");
            assert!(refused.header("retry-after").is_some());
        }
        assert_eq!(get(&server, "/health").json()["status"], "degraded");
        let page = get(&server, "/metrics").body;
        // That there is no room left, and of each that was refused.
        let told = "tower_webhook_troubles_total{part=\"queue\"} 3";
        assert!(page.contains(told), "{store}: {page}");
        let repeat = post(&server, event("evt_1").as_bytes());
        assert_eq!(repeat.json()["duplicate"], true, "{store}: {repeat:?}");
    }
}

#[test]
fn a_dialog_event_has_no_id_and_is_known_by_its_bytes() {
    let server = gateway(&[]);
    let dialog =
        br#"{"conversationId":"c-1","currentNode":"lookup","variables":{"customerId":"7"}}"#;
    assert_eq!(post(&server, dialog).json()["status"], "accepted");
    assert_eq!(post(&server, dialog).json()["duplicate"], true);
    let later = br#"{"conversationId":"c-1","currentNode":"done","variables":{"customerId":"7"}}"#;
    assert_eq!(post(&server, later).json()["duplicate"], json!(null));
}

#[test]
fn the_platforms_endpoint_takes_basic_credentials_and_nothing_else() {
    let server = gateway(&["--endpoint-auth", "cognigy:a pass:word of some length"]);
    let url = server.url("/webhooks/cognigy/endpoint");
    let body = br#"{"userId":"u","sessionId":"s","AIOutput":{"text":"hi","traceId":"t","disableSensitiveLogging":false,"source":"bot"}}"#;
    let post = |more: &[&str]| {
        curl(
            &url,
            &[("content-type", "application/json")],
            Some(body),
            more,
        )
    };

    let first = post(&["-u", "cognigy:a pass:word of some length"]);
    assert_eq!(
        (first.status, first.json()["status"].as_str()),
        (200, Some("accepted"))
    );
    let again = post(&["-u", "cognigy:a pass:word of some length"]);
    assert_eq!(
        again.json(),
        json!({"status": "accepted", "duplicate": true})
    );

    for wrong in [
        &["-u", "cognigy:other"][..],
        &["-u", "other:a pass:word of some length"],
        &[],
        &["-H", "authorization: Bearer x"],
    ] {
        let refused = post(wrong);
        assert_eq!(refused.status, 401, "{wrong:?}");
        let challenge = refused.header("www-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
    }
    let signed = openssl_hex(SECRET, body);
    let signed = format!("x-cognigy-signature: {signed}");
    assert_eq!(
        post(&["-H", &signed]).status,
        401,
        "a signature is no password"
    );

    let no_trace = br#"{"userId":"u","sessionId":"s","AIOutput":{"text":"hi"}}"#;
    let refused = curl(
        &url,
        &[],
        Some(no_trace),
        &["-u", "cognigy:a pass:word of some length"],
    );
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["field"], "AIOutput.traceId");
}

/// A captured request is recognised as a repeat, or too old, and at no time taken as new.
#[test]
fn an_event_is_taken_only_while_a_repeat_of_it_will_be_known() {
    const DAY: i64 = 24 * 60 * 60;
    // `moment` is when the tests began, which may be a while ago.
    const HOUR: i64 = 60 * 60;
    let mut server = gateway(&[]);
    let now = i64::try_from(moment()).unwrap();
    for (name, seconds, taken) in [
        ("young enough", HOUR - 7 * DAY, true),
        ("too old", -HOUR - 7 * DAY, false),
        ("the longest ago", -now, false),
        ("ahead", DAY - HOUR, true),
        ("too far ahead", DAY + HOUR, false),
    ] {
        let answer = post(
            &server,
            event_of(name, &(now + seconds).to_string()).as_bytes(),
        );
        let status = if taken { 200 } else { 400 };
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        if !taken {
            assert_eq!(answer.json()["field"], "timestamp", "{answer:?}");
            // Its id is free: nothing of it was stored.
            let again = post(&server, event(name).as_bytes());
            assert_eq!(again.json()["status"], "accepted", "{again:?}");
            assert_eq!(again.json()["duplicate"], json!(null), "{again:?}");
        }
    }
    // Said to whoever starts it, because nothing can be refused there.
    let said = server.written(crate::process::Stream::Err);
    assert_eq!(
        said.matches("have no signed timestamp").count(),
        1,
        "{said}"
    );
}

#[test]
fn what_is_no_event_is_refused_with_the_name_of_the_field() {
    let server = gateway(&[]);
    for (body, field) in [
        (
            r#"{"eventId":"e","type":"DIALOG_STARTED","payload":{}}"#,
            "timestamp",
        ),
        (
            r#"{"timestamp":"2026-11-21T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#,
            "eventId",
        ),
        (
            r#"{"eventId":7,"timestamp":"2026-11-21T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#,
            "eventId",
        ),
        (
            r#"{"eventId":"","timestamp":"2026-11-21T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#,
            "eventId",
        ),
        (
            r#"{"eventId":" ","timestamp":"2026-11-21T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#,
            "eventId",
        ),
        (
            r#"{"eventId":" e","timestamp":"2026-11-21T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#,
            "eventId",
        ),
        (
            r#"{"eventId":"e\u00a0","timestamp":"2026-11-21T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#,
            "eventId",
        ),
        (
            r#"{"eventId":"e\u0007","timestamp":"2026-11-21T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#,
            "eventId",
        ),
        (
            r#"{"eventId":"e","timestamp":"yesterday","type":"DIALOG_STARTED","payload":{}}"#,
            "timestamp",
        ),
        (
            r#"{"eventId":"e","timestamp":"2026-11-21T12:00:00Z","type":"DIALOG_STARTED","payload":[]}"#,
            "payload",
        ),
        (
            r#"{"eventId":"e","timestamp":"2026-11-21T12:00:00Z","type":"PROFILE_UPDATED","payload":{}}"#,
            "payload.profile",
        ),
        (
            r#"{"eventId":"e","timestamp":"2026-11-21T12:00:00Z","type":"USER_INPUT_RECEIVED","payload":{}}"#,
            "payload.input",
        ),
        (r#"{"currentNode":"lookup"}"#, "conversationId"),
        (r#"{"conversationId":""}"#, "conversationId"),
        ("{}", "conversationId"),
    ] {
        for _ in 0..2 {
            let refused = post(&server, body.as_bytes());
            assert_eq!(refused.status, 400, "{body} {refused:?}");
            assert_eq!(
                refused.header("content-type"),
                Some("application/problem+json")
            );
            assert_eq!(refused.json()["field"], field, "{body}");
        }
    }
    // An unknown type is an event of tomorrow.
    let unknown = event("evt_new").replace("USER_INPUT_RECEIVED", "CONVERSATION_RATED");
    assert_eq!(post(&server, unknown.as_bytes()).status, 200);
    let strict = gateway(&["--strict-events"]);
    let refused = post(&strict, unknown.as_bytes());
    assert_eq!(
        (refused.status, &refused.json()["field"]),
        (400, &json!("type"))
    );
    assert_eq!(post(&strict, event("evt_known").as_bytes()).status, 200);
}

#[test]
fn fifty_concurrent_repeats_of_one_event_are_one_event() {
    let seen = downstream::Downstream::start();
    let folder = tempfile::tempdir().unwrap();
    let server = gateway_on(
        &folder.path().join("gateway.db"),
        &["--downstream", &seen.url()],
    );
    let body = event("evt_1");
    let signature = openssl_hex(SECRET, body.as_bytes());
    let answers: Vec<Curled> = std::thread::scope(|scope| {
        let repeats: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| send(&server, &signature, body.as_bytes())))
            .collect();
        repeats
            .into_iter()
            .map(|repeat| repeat.join().unwrap())
            .collect()
    });
    let mut accepted = 0;
    for answer in &answers {
        match answer.status {
            200 if answer.json()["duplicate"] == true => {}
            200 => accepted += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!(accepted, 1, "{answers:?}");
    let last = post(&server, event("evt_last").as_bytes());
    result_of(&server, &task_id(&last));
    eventually("both events arrive", || {
        (seen.got().len() >= 2).then_some(())
    });
    assert_eq!(seen.got().len(), 2, "one event is delivered once");
}

#[test]
fn only_post_receives_and_unknown_routes_are_not_found() {
    let server = gateway(&[]);
    assert_eq!(get(&server, "/webhooks/cognigy").status, 405);
    assert_eq!(get(&server, "/nowhere").status, 404);
    assert_eq!(get(&server, "/").status, 404, "not there yet");
}

#[test]
fn one_route_cannot_use_up_the_ids_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("gateway.db");
    for store in [
        "memory:".to_owned(),
        format!("sqlite:{}", database.display()),
    ] {
        let server = gateway(&[
            "--store",
            &store,
            "--endpoint-auth",
            "u:a password of the test",
        ]);
        // An envelope and a platform delivery in one.
        let both = event("pay-1").replace(
            "\"new\":[1]",
            r#""sessionId":"s","AIOutput":{"text":"hi","traceId":"t"}"#,
        );
        let url = server.url("/webhooks/cognigy/endpoint");
        let first = curl(
            &url,
            &[],
            Some(both.as_bytes()),
            &["-u", "u:a password of the test"],
        );
        assert_eq!(first.json()["status"], "accepted", "{first:?}");
        let signed = post(&server, event("pay-1").as_bytes());
        assert_eq!(signed.json()["duplicate"], json!(null), "{signed:?}");
        assert_ne!(task_id(&signed), task_id(&first));

        // An event whose id is the digest that stands for a dialog event.
        let dialog = br#"{"conversationId":"c-1"}"#;
        let digest = crate::foreign::run("openssl", &["dgst", "-sha256", "-r"], dialog);
        let digest = digest.split(' ').next().unwrap();
        post(&server, event(digest).as_bytes());
        assert_eq!(post(&server, dialog).json()["duplicate"], json!(null));
    }
}

#[test]
fn a_sender_that_closes_its_side_after_the_request_is_answered() {
    use std::io::{Read, Write};
    let server = gateway(&[]);
    let body = event("evt");
    let signature = openssl_hex(SECRET, body.as_bytes());
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nx-cognigy-signature: {signature}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
}

#[test]
fn connections_that_say_nothing_are_closed() {
    use std::io::{ErrorKind, Read, Write};
    let server = gateway(&[]);
    let openings: [&[u8]; 4] = [
        b"",
        b"PRI",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /webhooks",
    ];
    let silent = openings.map(|opening| {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream.write_all(opening).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        (opening, stream)
    });
    for (opening, mut stream) in silent {
        let mut said = Vec::new();
        // An answer or none, and then the end: not our own time-out.
        match stream.read_to_end(&mut said) {
            Ok(_) => assert!(!said.starts_with(b"HTTP/1.1 200"), "{opening:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{opening:?}"),
        }
    }
}
