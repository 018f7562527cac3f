//! The event processor: a `FastAPI` application with a database, a CRM that it asks, and a queue of dead letters.

use crate::{
    SECRET, api, bodies, deliver,
    fake_documents::{CLIENT, Fake},
    get,
    internet::Internet,
    process::{Server, Stream},
    programs::{Program, Programs},
    recorder::Recorder,
    send,
};
use http::StatusCode;
use serde_json::{Value, json};
use tower_webhook::signature::scheme::CognigyFormat::{Base64, Hex};
use tower_webhook_cognigy::{credential::ClientCredentials, documents::EventWebhook};

const EVENT: &str = r#"{"eventId":"evt-1","timestamp":"2024-01-15T10:00:00Z","type":"USER_INPUT_RECEIVED","payload":{"input":{"text":"hello"}},"externalId":"crm-1","userId":"user-1"}"#;

fn accepted() -> (StatusCode, Value) {
    (StatusCode::OK, json!({"status": "accepted"}))
}

fn program<'a>(programs: &'a Programs, internet: &Internet, queue: &str) -> Program<'a> {
    let s4 = programs.program("s4").env("COGNIGY_WEBHOOK_SECRET", SECRET);
    s4.behind(&internet.proxy, &internet.root)
        .env("AWS_ENDPOINT_URL_SQS", queue)
        .env("AWS_ACCESS_KEY_ID", "an id")
        .env("AWS_SECRET_ACCESS_KEY", "a key")
        .env("NO_PROXY", "127.0.0.1")
}

async fn post(server: &Server, body: &str) -> (StatusCode, Value) {
    deliver(&server.url("/webhooks/cognigy"), Base64, SECRET, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_the_processor_takes_our_base64_signature_asks_its_crm_and_replays() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let contact = json!({"name": "Ada"});
    let crm = Recorder::answering([
        (200, contact.clone()),
        (200, contact.clone()),
        (200, contact.clone()),
    ]);
    let internet = Internet::of([("api.example-crm.com", crm.app())]).await;
    let server = program(&programs, &internet, "http://127.0.0.1:9").serve();

    assert_eq!(post(&server, EVENT).await, accepted());
    let seen = crm.seen();
    assert_eq!(seen[0].line, "GET /v1/contacts?external_id=crm-1");
    assert_eq!(seen[0].header("authorization"), "Bearer YOUR_CRM_TOKEN");
    let unknown = EVENT
        .replace("evt-1", "evt-2")
        .replace(r#""externalId":"crm-1","#, "");
    assert_eq!(post(&server, &unknown).await, accepted());
    assert_eq!(crm.seen()[1].line, "GET /v1/contacts?external_id=user-1");

    let replayed = get(&server.url("/webhooks/replay/evt-1")).await;
    let answer = json!({"status": "replayed", "crm_context": contact});
    assert_eq!(replayed, (StatusCode::OK, answer));
    let missing = get(&server.url("/webhooks/replay/evt-9")).await;
    let detail = json!({"detail": "Event not found in local store"});
    assert_eq!(missing, (StatusCode::NOT_FOUND, detail));
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_the_processor_never_tells_a_duplicate_though_its_text_says_so() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let crm = Recorder::default();
    let internet = Internet::of([("api.example-crm.com", crm.app())]).await;
    let server = program(&programs, &internet, "http://127.0.0.1:9").serve();
    for times in 1..=3 {
        // The text answers `"duplicate": true` from the second on; the program does the work again.
        assert_eq!(post(&server, EVENT).await, accepted());
        assert_eq!(crm.seen().len(), times);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_the_processor_refuses_a_wrong_signature_and_an_event_outside_its_schema() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let internet = Internet::of([]).await;
    let server = program(&programs, &internet, "http://127.0.0.1:9").serve();
    let url = server.url("/webhooks/cognigy");
    let unsigned = json!({"detail": "Invalid HMAC signature"});
    for refused in [
        deliver(&url, Base64, "another secret", EVENT).await,
        deliver(&url, Hex, SECRET, EVENT).await,
        send(&url, b"", EVENT).await,
    ] {
        assert_eq!(refused, (StatusCode::UNAUTHORIZED, unsigned.clone()));
    }
    for (from, to) in [
        ("USER_INPUT_RECEIVED", "PROFILE_UPDATED"),
        ("USER_INPUT_RECEIVED", "PROFILE_DELETED"),
        (r#"{"input":{"text":"hello"}}"#, "{}"),
        (r#""eventId":"evt-1","#, ""),
        ("2024-01-15T10:00:00Z", "noon"),
    ] {
        let (status, answer) = post(&server, &EVENT.replace(from, to)).await;
        assert_eq!(status, 400, "{to}");
        let why = answer["detail"].as_str().unwrap();
        assert!(why.starts_with("Payload validation failed: "), "{why}");
    }
    // Its bug, which a receiver of ours does not have: a header outside ASCII is a 500.
    assert_eq!(send(&url, "zoë".as_bytes(), EVENT).await.0, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_a_crm_that_fails_ends_in_500_until_the_dead_letter_is_mended() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let failed = || (503, json!({}));
    let failing = || Recorder::answering([failed(), failed(), failed(), failed()]);
    let queue = Recorder::answering([(200, json!({"MessageId": "1", "MD5OfMessageBody": ""}))]);
    let queue_url = queue.listen().await;

    // As it stands: the time of the event cannot be written as JSON, so nothing reaches the queue.
    let crm = failing();
    let internet = Internet::of([("api.example-crm.com", crm.app())]).await;
    let mut server = program(&programs, &internet, &queue_url).serve();
    assert_eq!(post(&server, EVENT).await.0, 500);
    assert_eq!(crm.seen().len(), 4);
    let log = server.written(Stream::Err);
    let slept: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("slept "))
        .collect();
    assert_eq!(slept, ["2", "4", "8"]);
    assert!(queue.seen().is_empty());

    // Mended: the letter that the contract describes, and the sender is told that all is well.
    let crm = failing();
    let internet = Internet::of([("api.example-crm.com", crm.app())]).await;
    let server = program(&programs, &internet, &queue_url)
        .mended("dead letter")
        .serve();
    assert_eq!(post(&server, EVENT).await, accepted());
    let sent = &queue.seen()[0];
    assert_eq!(sent.header("x-amz-target"), "AmazonSQS.SendMessage");
    let message = sent.json();
    assert_eq!(message["MessageGroupId"], "cognigy-events");
    assert_eq!(message["MessageDeduplicationId"], "evt-1");
    let letter: Value = serde_json::from_str(message["MessageBody"].as_str().unwrap()).unwrap();
    assert_eq!(letter["eventId"], "evt-1");
    assert_eq!(letter["type"], "USER_INPUT_RECEIVED");
    assert_eq!(letter["timestamp"], "2024-01-15T10:00:00+00:00");
    assert!(letter["errorMessage"].as_str().unwrap().contains("503"));
    let raw: Value = serde_json::from_str(EVENT).unwrap();
    assert_eq!(letter["rawPayload"], raw);
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_its_client_asks_for_a_token_and_registers_in_the_form_that_ours_sends() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let fake = Fake::default();
    let internet = Internet::of([("your-org.cognigy.com", fake.app())]).await;
    let setup = programs
        .program("s4-setup")
        .behind(&internet.proxy, &internet.root)
        .env("COGNIGY_CLIENT_ID", CLIENT.0)
        .env("COGNIGY_CLIENT_SECRET", CLIENT.1)
        .env("COGNIGY_WEBHOOK_SECRET", SECRET);
    let said = setup.script(r#"answer(await register_webhook("https://example.com/hooks"))"#);
    assert_eq!(said, json!({"id": "wh_events"}));
    let theirs = std::mem::take(&mut fake.seen().requests);

    let grant = ClientCredentials::form(CLIENT.0, CLIENT.1);
    let (_server, api) = api(&fake, Some(grant)).await;
    let webhook = EventWebhook::new(
        "Python Event Processor",
        "https://example.com/hooks",
        SECRET,
    );
    api.register(webhook.unwrap()).await.unwrap();
    let ours = std::mem::take(&mut fake.seen().requests);
    assert_eq!(bodies(&theirs), bodies(&ours));
}
