//! The programs of the five documents, run from their own text: servers are driven by this project's clients, and
//! clients drive a strict fake of their API, to which this crate must send the same.
//!
//! Where a program does something else than its text says, the test asserts what it does.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../support/fake_documents.rs"]
mod fake_documents;
#[path = "../../../../tests/support/foreign.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod foreign;
#[path = "../support/https.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod https;
#[path = "../support/internet.rs"]
mod internet;
#[path = "../../../../tests/support/process.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod process;
#[path = "../support/programs.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod programs;

mod recorder;
mod s0;
mod s1;
mod s2;
mod s3;
mod s4;

use bytes::Bytes;
use fake_documents::{Fake, KEY};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use tower_webhook::{
    body::BufferedBody,
    retry::RetryConfig,
    signature::scheme::{Cognigy, CognigyFormat},
    stack,
    target::TargetRules,
};
use tower_webhook_cognigy::{
    connection::Connection,
    credential::{ClientCredentials, Credential, TokenSource},
    documents::Webhooks,
    https::HttpsClient,
};

const SECRET: &str = "a test secret of thirty-two bytes";

/// A client of programs on loopback.
fn client() -> HttpsClient {
    let rules = TargetRules::new().allow_http(true).allow_private(true);
    HttpsClient::builder().rules(rules).build()
}

/// Delivers a body to a program with our stack, signed.
async fn deliver(
    url: &str,
    format: CognigyFormat,
    secret: &str,
    body: &str,
) -> (StatusCode, Value) {
    let scheme = Cognigy::new(secret, [format]).unwrap().sign_as(format);
    let stack = stack::deliver().sign(scheme).build().unwrap();
    let req = Request::post(url)
        .header("content-type", "application/json")
        .body(BufferedBody::from(body.to_owned()))
        .unwrap();
    told(stack.layer(client()).oneshot(req).await.unwrap()).await
}

/// Sends a body with this signature.
async fn send(url: &str, signature: &[u8], body: &str) -> (StatusCode, Value) {
    let req = Request::post(url)
        .header("content-type", "application/json")
        .header(
            "x-cognigy-signature",
            HeaderValue::from_bytes(signature).unwrap(),
        )
        .body(BufferedBody::from(body.to_owned()))
        .unwrap();
    told(client().oneshot(req).await.unwrap()).await
}

async fn get(url: &str) -> (StatusCode, Value) {
    let req = Request::get(url).body(BufferedBody::default()).unwrap();
    told(client().oneshot(req).await.unwrap()).await
}

async fn told<B>(res: Response<B>) -> (StatusCode, Value)
where
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let (head, body) = res.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = || Value::from(String::from_utf8_lossy(&bytes));
    let value = serde_json::from_slice(&bytes);
    (head.status, value.unwrap_or_else(|_| text()))
}

/// Our client of the fake, with its key or with tokens of this grant.
async fn api(fake: &Fake, grant: Option<ClientCredentials>) -> (https::Server, Webhooks) {
    let server = https::serve(fake.app()).await;
    let rules = TargetRules::new().allow_private(true);
    let root = server.root.as_bytes();
    let credential = grant.map_or_else(
        || Credential::api_key(KEY).unwrap(),
        |grant| {
            let client = HttpsClient::builder().rules(rules).root_certificates(root);
            let tokens = TokenSource::builder(grant, &server.url).rules(rules);
            Credential::token(tokens.build(client.unwrap().build()).unwrap())
        },
    );
    let connection = Connection::builder(&server.url)
        .credential(credential)
        .rules(rules)
        .root_certificates(root)
        .retry(RetryConfig::builder().attempts(1).build().unwrap());
    let api = Webhooks::over(connection.build().unwrap());
    (server, api)
}

/// The requests, as method and target, and body.
fn bodies(requests: &[(String, HeaderMap, Bytes)]) -> Vec<(&str, &str)> {
    let text = |body| std::str::from_utf8(body).unwrap();
    requests
        .iter()
        .map(|(line, _, body)| (line.as_str(), text(body)))
        .collect()
}
