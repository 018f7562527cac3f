//! Gateways that deliver to each other: the loop ends.

use super::*;
use crate::downstream::Downstream;
use http::HeaderMap;
use serde_json::{Value, json};
use std::{
    fs,
    io::copy,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
};

/// Posts an event as a service does that sends on what it was sent: signed anew, with the header of the loop guard.
fn send_on(server: &Server, id: &str, marks: &str) -> Curled {
    let body = event(id);
    let signature = openssl_hex(SECRET, body.as_bytes());
    let headers = [
        ("content-type", "application/json"),
        ("x-cognigy-signature", &signature),
        ("webhook-loop", marks),
    ];
    curl(
        &server.url("/webhooks/cognigy"),
        &headers,
        Some(body.as_bytes()),
        &[],
    )
}

fn marks(headers: &HeaderMap) -> &str {
    headers["webhook-loop"].to_str().unwrap()
}

/// Waits for so many deliveries, and returns the marks of the last one.
fn marks_of(seen: &Downstream, count: usize) -> String {
    let got = eventually("the delivery arrives", || {
        let got = seen.got();
        (got.len() == count).then_some(got)
    });
    marks(&got[count - 1].0).to_owned()
}

#[test]
fn two_gateways_that_deliver_to_each_other_end_where_the_loop_closes() {
    let (from_one, from_other) = (Downstream::start(), Downstream::start());
    let one = gateway(&["--loop-mark", "one", "--downstream", &from_one.url()]);
    let other = gateway(&["--loop-mark", "other", "--downstream", &from_other.url()]);
    // Each round is another event, because a repeat would be known.
    assert_eq!(post(&one, event("evt_1").as_bytes()).status, 200);
    let first = marks_of(&from_one, 1);
    assert_eq!(first, "one");
    assert_eq!(send_on(&other, "evt_2", &first).status, 200);
    let second = marks_of(&from_other, 1);
    assert_eq!(second, "one, other");

    for server in [&one, &other] {
        let refused = send_on(server, "evt_3", &second);
        assert_eq!(refused.status, 508, "{refused:?}");
        assert_eq!(refused.json()["detail"], "this message was sent from here");
    }
    assert_eq!((from_one.got().len(), from_other.got().len()), (1, 1));
}

#[test]
fn a_loop_of_gateways_whose_marks_change_ends_at_the_hop_limit() {
    let seen = Downstream::start();
    let server = gateway(&["--downstream", &seen.url()]);
    let mut carried = String::new();
    for round in 1..=10 {
        // As if it had been started again in each round, with another mark.
        let accepted = send_on(&server, &format!("evt_{round}"), &carried);
        assert_eq!(accepted.status, 200, "{round}: {accepted:?}");
        let sent = marks_of(&seen, round);
        let (before, own) = sent.rsplit_once(", ").unwrap_or(("", &sent));
        assert_eq!(before, carried);
        assert!(own.starts_with("gateway-") && own.len() == 24, "{own}");
        carried = if carried.is_empty() {
            "start-1".to_owned()
        } else {
            format!("{carried}, start-{round}")
        };
    }
    let refused = send_on(&server, "evt_11", &carried);
    assert_eq!(refused.status, 508);
    let why = "this message has passed too many deployments";
    assert_eq!(refused.json()["detail"], why);
    let broken = send_on(&server, "evt_12", "hops=-1");
    assert_eq!(broken.status, 508, "what cannot be read goes no further");
    assert_eq!(seen.got().len(), 10);
}

#[test]
fn a_delivery_that_is_refused_as_a_loop_is_not_repeated() {
    let seen = Downstream::start();
    seen.answer(508);
    let server = gateway(&["--downstream", &seen.url(), "--base-delay-ms", "1"]);
    let task = task_id(&post(&server, event("evt_1").as_bytes()));
    let done = result_of(&server, &task).json();
    assert_eq!(done["nextNode"], "default_fallback_branch");
    assert_eq!(seen.got().len(), 1, "one attempt");
}

#[test]
fn where_an_event_has_been_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("gateway.db");
    let seen = Downstream::start();
    seen.answer_first(&[(503, Some("3"))]);
    let url = seen.url();
    let flags = ["--loop-mark", "one", "--downstream", &url];
    let server = gateway_on(&database, &flags);
    assert_eq!(send_on(&server, "evt_1", "other").status, 200);
    assert_eq!(marks_of(&seen, 1), "other, one");
    drop(server);

    let _again = gateway_on(&database, &flags);
    assert_eq!(marks_of(&seen, 2), "other, one");
}

#[test]
fn a_request_without_a_signature_learns_nothing_of_marks() {
    let server = gateway(&["--loop-mark", "one"]);
    let headers = [("webhook-loop", "one")];
    let body = event("evt_1");
    let url = server.url("/webhooks/cognigy");
    let refused = curl(&url, &headers, Some(body.as_bytes()), &[]);
    assert_eq!(refused.status, 401);
}

const TOKEN: &str = "an operator token for the tests";
const PASSWORD: &str = "a password of some length";

/// A gateway that sends each output of the platform, a little longer, to the endpoint of another gateway.
fn sending_to(folder: &Path, mark: &str, other: &str) -> Server {
    let output =
        r#"{"text": {{ AIOutput.text ~ "!" }}, "traceId": "t", "disableSensitiveLogging": false}"#;
    let output =
        format!(r#"{{"userId": {{{{ userId }}}}, "sessionId": "s", "AIOutput": {output}}}"#);
    let definition = json!({
        "name": "send-on", "target_url": format!("{other}/webhooks/cognigy/endpoint"), "trigger_conditions": [],
        "payload_template": output, "credential": "other",
    });
    let basic = json!({"user": "cognigy", "password": PASSWORD});
    let credentials = json!({"other": {"origin": other, "basic": basic}});
    let (routes, file) = (
        folder.join(mark),
        folder.join(format!("{mark}.credentials")),
    );
    fs::create_dir(&routes).unwrap();
    fs::write(routes.join("on.json"), definition.to_string()).unwrap();
    fs::write(&file, credentials.to_string()).unwrap();
    let [routes, file] = [&routes, &file].map(|path| path.to_str().unwrap());
    let password = format!("cognigy:{PASSWORD}");
    let flags = [
        "--routes",
        routes,
        "--credentials",
        file,
        "--loop-mark",
        mark,
    ];
    let known = ["--endpoint-auth", &password, "--operator-token", TOKEN];
    gateway(&[&flags[..], &known].concat())
}

/// Leads each connection on to this address.
fn lead(listener: TcpListener, to: SocketAddr) {
    thread::spawn(move || {
        for one in listener.incoming() {
            let (one, other) = (one.unwrap(), TcpStream::connect(to).unwrap());
            let both = [(&one, &other), (&other, &one)];
            for (from, to) in both.map(|(from, to)| (from.try_clone(), to.try_clone())) {
                let (mut from, mut to) = (from.unwrap(), to.unwrap());
                thread::spawn(move || {
                    let _ = copy(&mut from, &mut to);
                    to.shutdown(Shutdown::Write)
                });
            }
        }
    });
}

#[test]
fn a_message_that_two_gateways_change_and_send_to_each_other_ends_after_one_round() {
    let folder = tempfile::tempdir().unwrap();
    // The first has to know where the second will be.
    let to_other = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", to_other.local_addr().unwrap());
    let one = sending_to(folder.path(), "one", &url);
    let other = sending_to(folder.path(), "other", &one.url(""));
    lead(to_other, other.address);

    let user = format!("cognigy:{PASSWORD}");
    let message = br#"{"userId":"u","sessionId":"s","AIOutput":{"text":"Hi","traceId":"t","disableSensitiveLogging":false}}"#;
    let url = one.url("/webhooks/cognigy/endpoint");
    assert_eq!(curl(&url, &[], Some(message), &["-u", &user]).status, 200);

    let bearer = format!("Bearer {TOKEN}");
    let entries = |server: &Server| -> Vec<Value> {
        let url = server.url("/dead-letters");
        let list = curl(&url, &[("authorization", &bearer)], None, &[]).json();
        list["items"].as_array().unwrap().clone()
    };
    let refused = eventually("the second cannot send it on", || entries(&other).pop());
    assert_eq!(
        (&refused["lastStatus"], &refused["attempts"]),
        (&json!(508), &json!(1))
    );
    // It came as another message than the first was sent, so it was no repeat that ended it.
    let id = refused["id"].as_str().unwrap();
    let url = other.url(&format!("/dead-letters/{id}"));
    let whole = curl(&url, &[("authorization", &bearer)], None, &[]);
    assert!(whole.body.contains("Hi!"), "{whole:?}");
    assert!(!whole.body.contains(PASSWORD));
    assert!(entries(&one).is_empty());
}

/// Triggers an event as an operator, from a place that sends on what it was sent.
fn trigger(server: &Server, marks: &str, body: &str) -> Curled {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("webhook-loop", marks),
    ];
    let url = server.url("/api/v2/webhooks/trigger");
    curl(&url, &headers, Some(body.as_bytes()), &[])
}

#[test]
fn a_trigger_that_was_sent_from_here_is_refused_and_another_carries_on_where_it_has_been() {
    let seen = Downstream::start();
    let url = seen.url();
    let known = ["--operator-token", TOKEN, "--downstream", &url];
    let server = gateway(&[&known[..], &["--loop-mark", "one"]].concat());
    for (marks, why) in [
        ("other, one", "this message was sent from here"),
        (
            "a, b, c, d, e, f, g, h, i, j",
            "this message has passed too many deployments",
        ),
    ] {
        let refused = trigger(&server, marks, "{}");
        assert_eq!(refused.status, 508, "{refused:?}");
        assert_eq!(refused.json()["detail"], why);
    }
    // What operators do by hand has no marks; a definition that ends at one of their routes has.
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("webhook-loop", "one")];
    let replay = server.url("/webhooks/replay/evt_1");
    assert_eq!(curl(&replay, &headers, Some(b""), &[]).status, 508);
    // Strangers learn nothing.
    let url = server.url("/api/v2/webhooks/trigger");
    let unknown = curl(&url, &[("webhook-loop", "one")], Some(b"{}"), &[]);
    assert_eq!(unknown.status, 401);

    assert_eq!(trigger(&server, "other", "{}").status, 202);
    assert_eq!(marks_of(&seen, 1), "other, one");
}

#[test]
fn a_definition_whose_target_is_the_trigger_route_ends_after_one_round() {
    let token = "an-operator-token-for-the-tests";
    let folder = tempfile::tempdir().unwrap();
    // Its own address is known only when it has started.
    let back = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", back.local_addr().unwrap());
    let (routes, file) = (folder.path().join("routes"), folder.path().join("file"));
    let definition = json!({
        "name": "round", "target_url": format!("{origin}/api/v2/webhooks/trigger"), "trigger_conditions": [],
        "credential": "own",
    });
    let credentials = json!({"own": {"origin": origin, "bearer": token}});
    fs::create_dir(&routes).unwrap();
    fs::write(routes.join("round.json"), definition.to_string()).unwrap();
    fs::write(&file, credentials.to_string()).unwrap();
    let [routes, file] = [&routes, &file].map(|path| path.to_str().unwrap());
    let flags = ["--routes", routes, "--credentials", file];
    let server = gateway(&[&flags[..], &["--operator-token", token]].concat());
    lead(back, server.address);

    assert_eq!(post(&server, event("evt_1").as_bytes()).status, 200);
    let bearer = format!("Bearer {token}");
    let url = server.url("/dead-letters");
    let entry = eventually("it is refused", || {
        let list = curl(&url, &[("authorization", &bearer)], None, &[]).json();
        list["items"].as_array().unwrap().first().cloned()
    });
    let told = (&entry["lastStatus"], &entry["eventId"]);
    assert_eq!(told, (&json!(508), &json!("evt_1")));
}
