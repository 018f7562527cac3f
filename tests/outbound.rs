//! The examples that send, as a user runs them, against a server that does wrong what it is told to.
#![cfg(feature = "full")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/faults/mod.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod faults;
#[path = "support/process.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod process;

use faults::{Faults, Point, Script, answer, go_away, grpc, grpc_late, reset};

/// `SERVING`, as the health service has it.
const SERVING: &[u8] = &[8, 1];

/// What an example prints of this many deliveries to a server.
fn lines(example: &str, server: &Faults, deliveries: u32) -> Vec<String> {
    let mut command = process::command(example);
    command.arg(server.url("/")).arg(deliveries.to_string());
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{example}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn script() -> Script {
    Faults::http1()
        .then(answer(200))
        .then(answer(503).header("retry-after", "1"))
        .then(reset(Point::Answer))
        .then(answer(200))
}

#[test]
fn hyper_and_reqwest_sign_what_they_deliver_and_judge_what_comes_of_it() {
    for example in ["outbound_hyper", "outbound_reqwest"] {
        let server = script().start();
        let said = lines(example, &server, 4);
        let expected = [
            "1: success Some(200)",
            "2: throttled Some(503)",
            "3: transient None",
            "4: success Some(200)",
        ];
        assert_eq!(said, expected, "{example}");
        let requests = server.requests();
        for (number, seen) in (1..).zip(&requests) {
            assert_eq!(seen.body, format!(r#"{{"number":{number}}}"#).as_bytes());
            assert!(seen.headers.contains_key("webhook-signature"), "{seen:?}");
        }
        server.refuse();
        assert_eq!(
            lines(example, &server, 1),
            ["1: unreached None"],
            "{example}"
        );
    }
}

#[test]
fn a_channel_judges_trailers_only_refused_streams_and_a_server_that_is_gone() {
    let server = Faults::http2()
        .then(grpc_late(0, SERVING))
        .then(grpc(14))
        .then(go_away())
        .start();
    let expected = [
        "  success None",
        "1: Serving",
        "  transient Some(14)",
        "2: Unavailable",
        "  unreached None",
        "3: Internal",
    ];
    assert_eq!(lines("outbound_grpc", &server, 3), expected);
    server.refuse();
    assert_eq!(lines("outbound_grpc", &server, 1)[0], "  unreached None");
}

#[test]
fn a_function_is_a_transport_too() {
    let server = script().start();
    let expected = ["1: success", "2: throttled", "3: transient", "4: success"];
    assert_eq!(lines("outbound_service_fn", &server, 4), expected);
    server.refuse();
    assert_eq!(lines("outbound_service_fn", &server, 1), ["1: unreached"]);
}
