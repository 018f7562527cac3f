//! The programs of the five documents, run from their own text, as senders of the gateway: what they deliver, what they
//! sign, and how they probe it.
//!
//! Two parts of the documents have no sender: what polls the status of S3, and what asks for the replay of S4. Both
//! are described and not programmed.

use super::*;
use crate::downstream::Downstream;
use serde_json::{Value, json};

#[path = "../../../tower-webhook-cognigy/tests/support/programs.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod support;

use support::{Program, Programs};

const TOKEN: &str = "an operator token for the tests";
const PASSWORD: &str = "a-password-of-some-length";
const EVENTS: &str = "/webhooks/cognigy";
const ENDPOINT: &str = "/webhooks/cognigy/endpoint";
const TRIGGER: &str = "/api/v2/webhooks/trigger";

/// What the platform delivers to a webhook endpoint.
const OUTPUT: &str = r#"{"userId":"u-1","sessionId":"s-1","AIOutput":{"text":"Grüße","traceId":"t-1","disableSensitiveLogging":false,"source":"bot"}}"#;

/// A gateway that knows the token of its operator and the password of the platform's endpoint.
fn known(flags: &[&str]) -> Server {
    let password = format!("cognigy:{PASSWORD}");
    let mut all = vec!["--operator-token", TOKEN, "--endpoint-auth", &password];
    all.extend(flags);
    gateway(&all)
}

/// The URL of the platform's endpoint with its credentials, for senders that have no setting for them.
fn endpoint(server: &Server) -> String {
    format!("http://cognigy:{PASSWORD}@{}{ENDPOINT}", server.address)
}

fn arrives(seen: &Downstream, count: usize) -> (http::HeaderMap, Value) {
    let got = eventually("the delivery arrives", || {
        let got = seen.got();
        (got.len() >= count).then_some(got)
    });
    assert_eq!(got.len(), count);
    let (headers, body) = got.last().expect("some").clone();
    (headers, serde_json::from_slice(&body).expect("JSON"))
}

/// The delivery engine of S1: what it sends there, and then how long it waited and what it gave up.
fn s1_delivers(program: &Program<'_>, url: &str, payload: &str) -> Value {
    program.script(&format!(
        r#"
import json
engine = WebhookDeliveryEngine()
await engine.start()
await engine.enqueue("{url}", json.loads('{payload}'), {{"conversation": "c-1"}})
await engine.retry_queue.join()
engine._running = False
dead = [engine.dead_letter_queue.get_nowait() for _ in range(engine.dead_letter_queue.qsize())]
answer([slept, [letter["attempts"] for letter in dead]])
"#
    ))
}

#[test]
fn s1_its_engine_delivers_to_the_endpoint_of_the_platform_and_a_repeat_goes_no_further() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let seen = Downstream::start();
    let server = known(&["--downstream", &seen.url()]);
    // In the steps it names its source, in the complete example it does not.
    for program in ["s1-steps", "s1"] {
        let program = programs.program(program);
        let said = s1_delivers(&program, &endpoint(&server), OUTPUT);
        assert_eq!(said, json!([[], []]), "taken at the first attempt");
        let (headers, body) = arrives(&seen, 1);
        assert_eq!(body, serde_json::from_str::<Value>(OUTPUT).unwrap());
        for name in ["authorization", "x-webhook-source"] {
            assert!(!headers.contains_key(name), "{name} is the sender's");
        }
    }
}

#[test]
fn s1_its_engine_tries_what_is_no_message_of_the_platform_four_times_in_vain() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let seen = Downstream::start();
    let server = known(&["--downstream", &seen.url()]);
    let given_up = json!([[2.0, 4.0, 8.0], [4]]);
    let steps = programs.program("s1-steps");
    assert_eq!(
        s1_delivers(&steps, &endpoint(&server), r#"{"id":"event-7"}"#),
        given_up
    );
    // It signs nothing and has no place for the token of an operator: its own trigger asks nobody who he is.
    for path in [EVENTS, TRIGGER] {
        assert_eq!(
            s1_delivers(&steps, &server.url(path), &event("evt_1")),
            given_up
        );
    }
    assert_eq!(post(&server, event("evt_2").as_bytes()).status, 200);
    let (_, body) = arrives(&seen, 1);
    assert_eq!(body["eventId"], "evt_2", "and nothing of the engine");
}

#[test]
fn s0_its_dead_letter_is_refused_and_what_the_endpoint_reads_is_taken() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let seen = Downstream::start();
    let server = known(&["--downstream", &seen.url()]);
    let said = programs.program("s0").script(&format!(
        r#"
def told(url, event):
    return CognigyWebhookRetrier("https://api.cognigy.ai", None, dlq_callback_url=url).sync_to_dead_letter_queue(event)
letter = {{"webhook_id": "wh_1", "max_attempts_reached": 3, "final_error": "503"}}
output = json.loads('{OUTPUT}')
answer([told("{}", letter), told("{endpoint}", letter), told("{endpoint}", output)])
"#,
        server.url(TRIGGER),
        endpoint = endpoint(&server),
    ));
    assert_eq!(said, json!([false, false, true]));
    let (_, body) = arrives(&seen, 1);
    assert_eq!(body, serde_json::from_str::<Value>(OUTPUT).unwrap());
}

#[test]
fn s2_its_audit_triggers_a_delivery_though_it_takes_202_for_a_failure() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let seen = Downstream::start();
    let server = known(&["--downstream", &seen.url()]);
    let said = programs.program("s2").script(&format!(
        r#"
client = create_cognigy_client("an api key")
record = WebhookAuditLog("wh_1", "REGISTER", "2023-11-14T22:13:20Z", 12.0, 100.0, "TLSv1.3", 200, "https://example.com/hooks")
async def sync(token):
    return await sync_to_monitoring_platform(client, record, "{url}", {{"Authorization": "Bearer " + token}})
answer([await sync("{TOKEN}"), await sync("the token of somebody else")])
"#,
        url = server.url(TRIGGER),
    ));
    assert_eq!(said, json!([false, false]));
    let (headers, body) = arrives(&seen, 1);
    assert_eq!(
        body,
        json!({
            "webhook_id": "wh_1", "action": "REGISTER", "timestamp": "2023-11-14T22:13:20Z", "latency_ms": 12.0,
            "success_rate": 100.0, "tls_version": "TLSv1.3", "status_code": 200, "endpoint_url": "https://example.com/hooks",
        })
    );
    for name in ["authorization", "x-api-key"] {
        assert!(!headers.contains_key(name), "{name} is the sender's");
    }
}

#[test]
fn s1_and_s2_their_probes_find_the_gateway_by_their_different_rules() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let (server, api) = (known(&[]), Downstream::start());
    api.say(r#"{"access_token":"a token","expires_in":3600}"#);
    let s1 = programs.program("s1-steps").script(&format!(
        r#"
auth = CognigyAuthManager("a client", "its secret", "http://{}")
async def reached(url):
    definition = WebhookDefinition(name="gateway", target_url=url, trigger_conditions=[], payload_template="1")
    return (await validate_webhook_config(definition, auth))["endpoint_reachable"]
answer([await reached("{}"), await reached("{}")])
"#,
        api.address,
        server.url("/health"),
        server.url(EVENTS),
    ));
    // The route of events answers 405 to a GET, and that is no 2xx or 3xx.
    assert_eq!(s1, json!([true, false]));
    let s2 = programs.program("s2").script(&format!(
        r#"
found = await verify_endpoint_reachability("{}", create_cognigy_client("an api key"))
answer([found.is_reachable, found.status_code, found.tls_version])
"#,
        server.url(EVENTS),
    ));
    assert_eq!(s2, json!([true, 405, "unknown"]));
}

/// The signature that the code of a document computes of a body: what it compares with the header.
fn signature_of(programs: &Programs, document: &'static str, body: &str) -> String {
    let (how, at) = match document {
        "s2" => (
            format!(r#"verify_webhook_signature(body, f"{{int(time.time())}},?", "{SECRET}")"#),
            0,
        ),
        "s3" => (r#"verify_cognigy_signature(body, "?")"#.to_owned(), 0),
        "s4" => (
            r#"
class Request:
    headers = {"X-Cognigy-Signature": "?"}
    async def body(self):
        return body
await verify_signature(Request())"#
                .to_owned(),
            1,
        ),
        other => panic!("{other} signs nothing"),
    };
    let program = programs.program(document);
    let said = program
        .env("COGNIGY_WEBHOOK_SECRET", SECRET)
        .script(&format!(
            "body = '{body}'.encode()\n{how}\nanswer(compared[0][{at}])"
        ));
    let digest = said.as_str().expect("a signature");
    match document {
        "s2" => format!("{},{digest}", foreign::now()),
        _ => digest.to_owned(),
    }
}

/// The text with the lowest bit of one byte turned, for each of its bytes from this one on.
fn altered(text: &str, from: usize) -> impl Iterator<Item = Vec<u8>> {
    let bytes = text.as_bytes();
    (from..bytes.len()).map(|at| {
        let mut altered = bytes.to_vec();
        altered[at] ^= 1;
        altered
    })
}

/// What the code of this document signs is taken, and with any byte altered it is not.
fn is_taken_and_with_any_byte_altered_is_not(document: &'static str, kind: &str, body: &str) {
    let Some(programs) = Programs::here() else {
        return;
    };
    assert!(body.is_ascii(), "so that it is text when it is altered too");
    let signature = signature_of(&programs, document, body);
    // Each has its own gateway: after a hundred refusals it answers more slowly.
    let server = gateway(&["--signature", kind]);
    for body in altered(body, 0) {
        let refused = send(&server, &signature, &body);
        assert_eq!(refused.status, 401, "{}", String::from_utf8_lossy(&body));
    }
    let server = gateway(&["--signature", kind]);
    let digest = signature.find(',').unwrap_or(0);
    for signature in altered(&signature, digest) {
        let signature = String::from_utf8(signature).expect("ASCII");
        let refused = send(&server, &signature, body.as_bytes());
        assert_eq!(refused.status, 401, "{signature}");
    }
    let taken = send(&server, &signature, body.as_bytes());
    assert_eq!(
        (taken.status, &taken.json()["status"]),
        (200, &json!("accepted"))
    );
}

const DIALOG: &str = r#"{"conversationId":"c-1","currentNode":"lookup","variables":{}}"#;

#[test]
fn s2_its_code_signs_what_the_gateway_takes_with_no_byte_altered() {
    is_taken_and_with_any_byte_altered_is_not("s2", "timestamped", DIALOG);
}

#[test]
fn s3_its_code_signs_what_the_gateway_takes_with_no_byte_altered() {
    is_taken_and_with_any_byte_altered_is_not("s3", "hex", DIALOG);
}

#[test]
fn s4_its_code_signs_what_the_gateway_takes_with_no_byte_altered() {
    is_taken_and_with_any_byte_altered_is_not("s4", "base64", DIALOG);
}

#[test]
fn s4_its_signed_event_passes_the_gateway_to_the_application_of_s1() {
    let Some(programs) = Programs::here() else {
        return;
    };
    let s1 = programs.program("s1").serve();
    let server = known(&["--downstream", &s1.url(TRIGGER)]);
    let body = event("evt_1").replace("Grüße", "hello");
    let accepted = send(
        &server,
        &signature_of(&programs, "s4", &body),
        body.as_bytes(),
    );
    assert_eq!(accepted.json()["status"], "accepted");
    let done = result_of(&server, &task_id(&accepted)).json();
    assert_eq!(done["status"], "success");
    assert_eq!(done["nextNode"], "continue_dialog", "{done}");
}
