//! The small examples, as a user runs them: over sockets, with signatures made by clients that we
//! did not write.
#![cfg(feature = "full")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/foreign.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod foreign;
#[path = "support/process.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod process;

use foreign::{Curled, Foreign, now, openssl_hex, post};
use process::{Server, command};
use std::io::Write as _;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn start(example: &str, secret: &str) -> Server {
    let mut command = command(example);
    command.env("WEBHOOK_SECRET", secret).arg("127.0.0.1:0");
    Server::start(command)
}

#[test]
fn axum_takes_what_standardwebhooks_and_svix_sign() {
    let server = start("axum_server", SECRET);
    let url = server.url("/hooks");
    let mut clients = Foreign::start();
    let body = r#"{"event":"paid","note":"Zoë"}"#;
    // The route takes the unbranded headers; Svix signs the same bytes under its own names.
    let signed = clients.sign("standardwebhooks", SECRET, "msg_1", body);

    let first = post(&url, &signed, body);
    assert_eq!(
        (first.status, first.json()["handled"].as_str()),
        (200, Some("msg_1")),
        "{first:?}"
    );
    assert_eq!(first.header("idempotent-replayed"), None);

    let again = clients.sign("standardwebhooks", SECRET, "msg_1", body);
    let again = post(&url, &again, body);
    assert_eq!(again.status, 200);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.body, first.body);

    let forged = post(&url, &signed, &body.replace("paid", "void"));
    assert_eq!(forged.status, 401);
    assert!(!forged.body.contains("mismatch"), "{}", forged.body);

    let stale = clients.sign_at("standardwebhooks", SECRET, "msg_2", body, now() - 301);
    assert_eq!(post(&url, &stale, body).status, 401);
    let early = clients.sign_at("standardwebhooks", SECRET, "msg_3", body, now() + 330);
    assert_eq!(post(&url, &early, body).status, 401);
    let other = clients.sign(
        "standardwebhooks",
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "m",
        body,
    );
    assert_eq!(post(&url, &other, body).status, 401);
    let branded = clients.sign("svix", SECRET, "msg_4", body);
    assert_eq!(
        post(&url, &branded, body).status,
        401,
        "this route does not take svix-* headers"
    );
}

#[test]
fn hyper_takes_what_stripe_signs() {
    let server = start("hyper_server", "whsec_taken_as_it_stands");
    let url = server.url("/");
    let mut clients = Foreign::start();
    let body = r#"{"id":"evt_1","object":"event","type":"invoice.paid"}"#;
    let signed = clients.sign("stripe", "whsec_taken_as_it_stands", "", body);
    let first = post(&url, &signed, body);
    assert_eq!(
        (first.status, first.body.as_str()),
        (200, r#"{"received":true}"#),
        "{first:?}"
    );
    assert_eq!(
        post(&url, &signed, body).header("idempotent-replayed"),
        Some("true")
    );

    let without_id = r#"{"object":"event"}"#;
    let signed = clients.sign("stripe", "whsec_taken_as_it_stands", "", without_id);
    assert_eq!(post(&url, &signed, without_id).status, 400);
    let stale = clients.sign_at("stripe", "whsec_taken_as_it_stands", "", body, now() - 301);
    assert_eq!(post(&url, &stale, body).status, 401);
}

/// Starts the server of three senders, whose secrets are these.
fn start_senders() -> Server {
    let mut command = command("axum_senders");
    for (sender, secret) in [("GITHUB", GITHUB), ("STRIPE", STRIPE), ("SVIX", SECRET)] {
        command.env(format!("{sender}_SECRET"), secret);
    }
    command.arg("127.0.0.1:0");
    Server::start(command)
}

const GITHUB: &str = "It's a Secret to Everybody";
const STRIPE: &str = "whsec_taken_as_it_stands";

#[test]
fn each_tenant_has_a_secret_in_the_database() {
    let (first_secret, second_secret) = (SECRET, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tenants.txt");
    let write = |rows: &str| std::fs::write(&file, rows).expect("it can be written");
    write(&format!(
        "acme {first_secret}\nglobex {second_secret}\nbroken x\n"
    ));
    let (input, mut names) = std::io::pipe().expect("a pipe");
    let mut command = command("hyper_tenants");
    command
        .env("TENANTS", &file)
        .arg("127.0.0.1:0")
        .stdin(input);
    let server = Server::start(command);
    let mut clients = Foreign::start();
    let mut send = |tenant: &str, secret: &str, id: &str| {
        let signed = clients.sign("standardwebhooks", secret, id, "{}");
        post(&server.url(&format!("/hooks/{tenant}")), &signed, "{}")
    };

    // The same id of two tenants is not the same event.
    for (tenant, secret) in [("acme", first_secret), ("globex", second_secret)] {
        let first = send(tenant, secret, "msg_1");
        assert_eq!(
            (first.status, &*first.body),
            (200, &*format!("from {tenant}"))
        );
        assert_eq!(first.header("idempotent-replayed"), None);
        let again = send(tenant, secret, "msg_1");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }

    let forged = send("acme", second_secret, "msg_2");
    let unknown = send("initech", first_secret, "msg_2");
    assert_eq!((forged.status, unknown.status), (401, 401));
    assert_eq!(forged.body, unknown.body);
    let head = |answer: &Curled| {
        let lines = answer.head.lines().map(str::to_lowercase);
        let lines = lines.filter(|line| !line.starts_with("date:"));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(head(&forged), head(&unknown));

    let broken = send("broken", first_secret, "msg_2");
    assert_eq!(
        (broken.status, broken.header("retry-after")),
        (503, Some("2"))
    );

    // Another secret in the database, and the server is told so.
    write(&format!("acme {second_secret}\n"));
    assert_eq!(send("acme", first_secret, "msg_3").status, 200);
    names.write_all(b"acme\n").expect("it reads");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while send("acme", second_secret, "msg_4").status != 200 {
        assert!(
            std::time::Instant::now() < until,
            "the tenant is not forgotten"
        );
    }
    assert_eq!(send("acme", first_secret, "msg_5").status, 401);

    // Without a database: those that are known pass, and others are asked to come again.
    std::fs::remove_file(&file).expect("it is there");
    assert_eq!(send("acme", second_secret, "msg_6").status, 200);
    assert_eq!(send("hooli", second_secret, "msg_6").status, 503);
}

#[test]
fn github_deliveries_signed_by_githubkit_are_handled_once() {
    let server = start_senders();
    let (url, mut clients) = (server.url("/github"), Foreign::start());
    let body = "payload=%7B%22zen%22%3A%22Practicality+beats+purity.%22%7D";
    let signed = clients.sign("github", GITHUB, "", body);
    let [(_, signature)] = &signed[..] else {
        panic!("{signed:?}");
    };
    assert_eq!(
        *signature,
        format!("sha256={}", openssl_hex(GITHUB, body.as_bytes()))
    );
    let headers = |delivery: &str, signature: &str| {
        [
            ("x-hub-signature-256", signature),
            ("x-github-delivery", delivery),
            ("x-github-event", "ping"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let first = post(&url, &headers("d-1", signature), body);
    assert_eq!(
        (first.status, first.body.as_str()),
        (200, "ping: 58 bytes"),
        "{first:?}"
    );
    let again = post(&url, &headers("d-1", signature), body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let another = post(&url, &headers("d-2", signature), body);
    assert_eq!(another.header("idempotent-replayed"), None);

    // The prefix counts: it names the algorithm.
    let renamed = signature.replace("sha256=", "sha1=");
    assert_eq!(post(&url, &headers("d-3", &renamed), body).status, 401);
    assert_eq!(post(&url, &[], body).status, 401);
}

#[test]
fn what_stripe_and_svix_sign_is_taken_at_their_routes_alone() {
    let server = start_senders();
    let mut clients = Foreign::start();
    let body = r#"{"id":"evt_1","type":"invoice.paid"}"#;
    let stripe = clients.sign("stripe", STRIPE, "", body);
    let svix = clients.sign("svix", SECRET, "msg_1", body);
    for (route, signed, other) in [("/stripe", &stripe, &svix), ("/svix", &svix, &stripe)] {
        let url = server.url(route);
        let first = post(&url, signed, body);
        assert_eq!(
            (first.status, first.body.as_str()),
            (200, "invoice.paid"),
            "{route}"
        );
        assert_eq!(first.header("idempotent-replayed"), None, "{route}");
        let again = post(&url, signed, body);
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{route}");
        assert_eq!(post(&url, other, body).status, 401, "{route}");
        assert_eq!(
            post(&url, signed, &body.replace("paid", "void")).status,
            401,
            "{route}"
        );
    }
}

#[test]
fn the_examples_that_only_talk_to_themselves_end_well() {
    for example in [
        "custom_engine",
        "custom_scheme",
        "custom_store",
        "handshakes",
        "key_rotation",
    ] {
        let output = command(example).output().expect("it starts");
        assert!(output.status.success(), "{example}: {output:?}");
    }
}

#[test]
fn entries_of_a_peer_that_was_down_are_sent_again_when_it_is_back() {
    let output = command("dead_letters").output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        ["kept: 20", "accepted: 18", "failed: 2", "still kept: 2"]
    );
}

#[tokio::test]
async fn a_tonic_client_is_told_in_grpc_what_was_refused() {
    use http::Request;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tower::{ServiceBuilder, ServiceExt};
    use tower_webhook::{
        BufferBodyLayer, SignLayer, body::BufferedBody, signature::scheme::GitHub,
    };

    let server = start("tonic_server", "a gRPC secret");
    let channel = tonic::transport::Endpoint::from_shared(server.url(""))
        .expect("a URL")
        .connect()
        .await
        .expect("it listens");
    let ask = || HealthCheckRequest {
        service: "webhooks".to_owned(),
    };

    let unsigned = HealthClient::new(channel.clone()).check(ask()).await;
    assert_eq!(unsigned.unwrap_err().code(), tonic::Code::Unauthenticated);

    let signing = |secret: &str| {
        ServiceBuilder::new()
            .layer(BufferBodyLayer::new(4 << 20))
            .layer(SignLayer::new(GitHub::new(secret).expect("a secret")))
            .map_request(|req: Request<BufferedBody>| req.map(tonic::body::Body::new))
            .service(channel.clone().map_err(tower_webhook::BoxError::from))
    };
    let answer = HealthClient::new(signing("a gRPC secret"))
        .check(ask())
        .await;
    assert_eq!(answer.expect("signed").into_inner().status, 1);
    let forged = HealthClient::new(signing("another")).check(ask()).await;
    let refusal = forged.unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::Unauthenticated);
    assert_eq!(refusal.message(), "Unauthorized");
}
