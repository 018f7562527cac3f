//! The credential of deliveries: who gets it, and who does not.

use super::*;
use crate::{downstream::Downstream, process::Stream};

const TOKEN: &str = "downstream.token-of/tests";
const OPERATOR: &str = "an operator token for the tests";

/// The values of `authorization` that have arrived.
fn authorizations(seen: &Downstream) -> Vec<Option<String>> {
    let of = |headers: &http::HeaderMap| {
        let value = headers.get("authorization")?.to_str().unwrap();
        Some(value.to_owned())
    };
    seen.got().iter().map(|(headers, _)| of(headers)).collect()
}

fn deliver(server: &Server, id: &str) {
    let accepted = post(server, event(id).as_bytes());
    assert_eq!(result_of(server, &task_id(&accepted)).status, 200);
}

fn operator(server: &Server, method: &str, path: &str) -> Curled {
    let authorization = format!("Bearer {OPERATOR}");
    let headers = [("authorization", authorization.as_str())];
    curl(&server.url(path), &headers, None, &["-X", method])
}

#[test]
fn s3_a_delivery_carries_the_token_to_the_downstream_and_to_no_fallback_nor_record() {
    let (seen, fallback) = (Downstream::start(), Downstream::start());
    let mut command = command();
    command.env("DOWNSTREAM_BEARER_TOKEN", TOKEN);
    command.env("RUST_LOG", "debug");
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--secret",
        SECRET,
        "--store",
        "memory:",
    ]);
    command.args(["--allow-private", "--operator-token", OPERATOR]);
    command.args(["--max-attempts", "1", "--breaker-failures", "1000"]);
    command.args([
        "--downstream",
        &seen.url(),
        "--fallback-url",
        &fallback.url(),
    ]);
    let mut server = Server::start(command);
    let bearer = Some(format!("Bearer {TOKEN}"));

    deliver(&server, "evt_delivered");
    assert_eq!(authorizations(&seen), std::slice::from_ref(&bearer));
    // A fallback on another port is another origin.
    seen.answer(503);
    fallback.answer(503);
    deliver(&server, "evt_refused");
    assert_eq!(authorizations(&seen), [bearer.clone(), bearer.clone()]);
    assert_eq!(authorizations(&fallback), [None]);

    let entries = eventually("the entry is there", || {
        let answer = operator(&server, "GET", "/dead-letters");
        let found = answer.json()["items"][0]["id"].as_str()?.to_owned();
        Some((answer, found))
    });
    let (list, id) = entries;
    let entry = operator(&server, "GET", &format!("/dead-letters/{id}"));
    seen.answer(200);
    let again = operator(&server, "POST", &format!("/dead-letters/{id}/redrive"));
    assert_eq!(again.status, 202, "{again:?}");
    eventually("it is sent again", || (seen.got().len() == 3).then_some(()));
    assert_eq!(authorizations(&seen)[2], bearer);

    server.terminate(Duration::from_secs(10));
    let mut shown = vec![list.body, entry.body, again.body];
    shown.extend([Stream::Out, Stream::Err].map(|stream| server.written(stream)));
    for text in shown {
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[test]
fn tokens_of_an_endpoint_are_kept_and_replaced_once_when_the_downstream_refuses_one() {
    let (seen, endpoint) = (Downstream::start(), Downstream::start());
    endpoint.say(r#"{"access_token":"t-1","expires_in":3600,"token_type":"Bearer"}"#);
    let server = gateway(&[
        "--downstream",
        &seen.url(),
        "--downstream-token-url",
        &endpoint.url(),
        "--downstream-client",
        "gateway-7:its secret",
        "--downstream-scope",
        "api:customer:read",
    ]);
    deliver(&server, "evt_1");
    deliver(&server, "evt_2");
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    assert_eq!(authorizations(&seen), [bearer("t-1"), bearer("t-1")]);
    let [(_, asked)] = &endpoint.got()[..] else {
        panic!("more than one token");
    };
    let form = "grant_type=client_credentials&client_id=gateway-7&client_secret=its+secret&scope=api%3Acustomer%3Aread";
    assert_eq!(str::from_utf8(asked).unwrap(), form);

    endpoint.say(r#"{"access_token":"t-2"}"#);
    seen.answer_first(&[(401, None)]);
    deliver(&server, "evt_3");
    assert_eq!(authorizations(&seen)[2..], [bearer("t-1"), bearer("t-2")]);
    assert_eq!(endpoint.got().len(), 2);
}

#[test]
fn a_delivery_waits_while_the_token_endpoint_is_down_and_is_then_made() {
    let (seen, endpoint) = (Downstream::start(), Downstream::start());
    endpoint.answer_first(&[(503, None), (503, None)]);
    endpoint.say(r#"{"access_token":"t-1"}"#);
    let server = gateway(&[
        "--downstream",
        &seen.url(),
        "--downstream-token-url",
        &endpoint.url(),
        "--downstream-client",
        "gateway-7:its secret",
        "--base-delay-ms",
        "10",
    ]);
    deliver(&server, "evt_1");
    assert_eq!(authorizations(&seen), [Some("Bearer t-1".to_owned())]);
    assert_eq!(endpoint.got().len(), 3);
}

/// A server that sends every request on to this place, with this status.
fn redirecting(status: u16, to: String) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The request fits: it is small, and sent at once.
            let _ = stream.read(&mut [0; 16 << 10]);
            let answer = format!(
                "HTTP/1.1 {status} X\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn a_redirect_of_the_downstream_or_of_its_token_endpoint_takes_nothing_elsewhere() {
    let (elsewhere, seen) = (Downstream::start(), Downstream::start());
    elsewhere.say(r#"{"access_token":"stolen","expires_in":3600}"#);
    for status in [301, 302, 303, 307, 308] {
        let url = redirecting(status, elsewhere.url());
        let server = gateway(&["--downstream", &url, "--downstream-token", TOKEN]);
        let id = format!("evt_{status}");
        let task = task_id(&post(&server, event(&id).as_bytes()));
        let done = result_of(&server, &task).json();
        assert_eq!(done["nextNode"], "default_fallback_branch", "{status}");

        let flags = ["--downstream", &seen.url(), "--downstream-token-url", &url];
        let client = ["--downstream-client", "id:the-secret-of-a-client"];
        let server = gateway(&[&flags[..], &client].concat());
        let task = task_id(&post(&server, event(&id).as_bytes()));
        let done = result_of(&server, &task).json();
        assert_eq!(done["nextNode"], "default_fallback_branch", "{status}");
    }
    assert!(elsewhere.got().is_empty() && seen.got().is_empty());
}

#[test]
fn a_file_of_credentials_that_has_no_end_is_refused() {
    let mut command = command();
    command.args(["--listen", "127.0.0.1:0", "--store", "memory:"]);
    let ended = command.args(["--credentials", "/dev/zero"]).output();
    let ended = ended.expect("it runs");
    let written = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{written}");
    assert_eq!(
        written,
        "error: --credentials: /dev/zero: is longer than 1 MiB\n"
    );
}

/// The credential of the downstream has a name too, which is not taken from the file.
#[test]
fn a_credential_of_the_file_may_have_any_name_beside_that_of_the_downstream() {
    let (seen, target) = (Downstream::start(), Downstream::start());
    let folder = tempfile::tempdir().unwrap();
    let (routes, file) = (folder.path().join("routes"), folder.path().join("file"));
    let definition = serde_json::json!({
        "name": "all", "target_url": target.url(), "trigger_conditions": [], "credential": "downstream",
    });
    let all = serde_json::json!({"downstream": {"origin": target.url(), "bearer": "of-the-file"}});
    std::fs::create_dir(&routes).unwrap();
    std::fs::write(routes.join("all.json"), definition.to_string()).unwrap();
    std::fs::write(&file, all.to_string()).unwrap();
    let [routes, file] = [&routes, &file].map(|path| path.to_str().unwrap());
    let url = seen.url();
    let flags = ["--routes", routes, "--credentials", file];
    let downstream = ["--downstream", &url, "--downstream-token", TOKEN];
    let server = gateway(&[&flags[..], &downstream].concat());
    deliver(&server, "evt_1");
    eventually("both arrive", || (target.got().len() == 1).then_some(()));
    let bearer = |token: &str| [Some(format!("Bearer {token}"))];
    assert_eq!(authorizations(&seen), bearer(TOKEN));
    assert_eq!(authorizations(&target), bearer("of-the-file"));
}
