//! The client of an endpoint, and the old routes of inject and notify.

use super::{
    api, connection,
    fake_platform::{ENDPOINT_KEY, Fake, REST, WEBHOOK},
    unchanged,
};
use serde_json::json;
use tower_webhook_cognigy::{
    ApiErrorKind,
    credential::Credential,
    platform::{
        Attachment, AttachmentType, EndpointClient, Message, Reply, RestReply, UrlToken,
        handover::{GenesysCloudOm, HandoverWebhook},
        message::{Button, Buttons},
    },
};

async fn endpoint(fake: &Fake, token: &str) -> (super::https::Server, EndpointClient) {
    let (server, connection) = connection(fake).await;
    let connection = connection.build().unwrap();
    (
        server,
        EndpointClient::over(connection, token.parse().unwrap()),
    )
}

fn hello() -> Message {
    Message::new("user123", "session123").text("Hello, I need help with my order")
}

#[tokio::test]
async fn b4_a_rest_endpoint_responds_with_the_outputs_of_the_flow() {
    let fake = Fake::default();
    let (_server, endpoint) = endpoint(&fake, REST).await;
    let fields = json!({"exampleKey": "exampleValue"})
        .as_object()
        .unwrap()
        .clone();
    let reply = endpoint.send(&hello().fields(fields)).await.unwrap();
    let (line, _, body) = fake.last();
    assert_eq!(line, format!("POST /{REST}"));
    let expected = json!({"userId": "user123", "sessionId": "session123", "text": "Hello, I need help with my order",
        "data": {"exampleKey": "exampleValue"}});
    assert_eq!(body, expected);

    let texts = reply
        .outputs()
        .iter()
        .map(|output| output.text.as_deref().unwrap());
    assert!(texts.eq([
        "Hello, this is the Cognigy.AI Agent.",
        "How can I help you?"
    ]));
    assert_eq!(reply.outputs()[0].trace_id, reply.outputs()[1].trace_id);
    assert!(reply.outputs()[0].message().unwrap().template().is_none());
    let Reply::Rest(reply) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(
        reply.text.as_deref(),
        Some("Hello, this is the Cognigy.AI Agent. How can I help you?")
    );
}

#[test]
fn b4_the_documented_reply_is_read_and_written_back_unchanged() {
    let reply: RestReply = unchanged(
        r#"{"text":"Hello, this is the Cognigy.AI Agent. How can I help you?","data":{},"outputStack":[
            {"text":"Hello, this is the Cognigy.AI Agent.","data":{},"traceId":"endpoint-httpIncomingMessage-068f1748-dadb-4792-bd2e-971335e9c88c","disableSensitiveLogging":false,"source":"bot"},
            {"text":"How can I help you?","data":{},"traceId":"endpoint-httpIncomingMessage-068f1748-dadb-4792-bd2e-971335e9c88c","disableSensitiveLogging":false,"source":"bot"}],
            "userId":"user123","sessionId":"session123"}"#,
    );
    assert!(reply.other.is_empty());
    assert!(
        reply
            .output_stack
            .iter()
            .all(|output| output.other.is_empty())
    );
}

#[tokio::test]
async fn b4_a_webhook_endpoint_takes_the_message_whatever_it_says() {
    let fake = Fake::default();
    let (_server, endpoint) = endpoint(&fake, WEBHOOK).await;
    assert_eq!(endpoint.send(&hello()).await.unwrap(), Reply::Accepted);
    assert!(endpoint.send(&hello()).await.unwrap().outputs().is_empty());
    for body in [
        "",
        "OK",
        "Accepted.\n",
        r#""ok""#,
        "{}",
        r#"{"status":"accepted"}"#,
        "[1]",
    ] {
        fake.seen()
            .script
            .push_back(http::Response::new(body.into()));
        assert_eq!(
            endpoint.send(&hello()).await.unwrap(),
            Reply::Accepted,
            "{body}"
        );
    }
}

#[tokio::test]
async fn b4_a_reply_that_cannot_be_read_is_an_error_that_quotes_nothing() {
    let fake = Fake::default();
    let (_server, endpoint) = endpoint(&fake, REST).await;
    let deep = format!(
        r#"{{"outputStack":[{{"data":{}{}}}]}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for body in [
        r#"{"outputStack":{}}"#,
        r#"{"outputStack":null}"#,
        r#"{"outputStack":["s3cret"]}"#,
        r#"{"outputStack":[{"text":{"s3cret":1}}]}"#,
        r#"{"text":"s3cret","outputStack":[{"text":"s3c"#,
        r#"{"outputStack":[{"data":{"s3cret":1e400}}]}"#,
        r#"{"outputStack":[{"text":"\ud800 s3cret"}]}"#,
        "<html>s3cret</html>",
        "s3cret: a long text that is not JSON, and that no webhook endpoint says",
        &deep,
    ] {
        let script = http::Response::new(body.to_owned().into());
        fake.seen().script.push_back(script);
        let error = endpoint.send(&hello()).await.unwrap_err();
        assert_eq!(error.kind(), ApiErrorKind::UnexpectedResponse, "{body}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        let said = format!("{error} {error:?} {cause}");
        assert!(!cause.is_empty() && !said.contains("s3c"), "{said}");
    }
}

#[tokio::test]
async fn b4_inject_and_notify_use_the_routes_of_the_endpoint_service() {
    let fake = Fake::default();
    let (_server, endpoint) = endpoint(&fake, WEBHOOK).await;
    endpoint.inject(&hello()).await.unwrap();
    let (line, _, body) = fake.last();
    assert_eq!(line, format!("POST /inject/{WEBHOOK}"));
    assert_eq!(
        body,
        json!({"userId": "user123", "sessionId": "session123", "text": "Hello, I need help with my order"})
    );

    let data = Buttons::new("Help?").button(Button::phone_number("Call", "+49123"));
    let message = Message::new("u", "s")
        .data(data)
        .attachment(
            Attachment::new(AttachmentType::Image, "map", "https://example.com/map.png")
                .caption("here"),
        )
        .attachment(Attachment::location(51.2, 6.8));
    endpoint.notify(&message).await.unwrap();
    let (line, _, body) = fake.last();
    assert_eq!(line, format!("POST /notify/{WEBHOOK}"));
    let expected = json!({"userId": "u", "sessionId": "s", "data": {"_cognigy": {"_default": {"_buttons": {"type": "buttons",
        "text": "Help?", "buttons": [{"id": 1, "type": "phone_number", "title": "Call", "payload": "+49123"}]}}}},
        "attachments": [{"type": "image", "name": "map", "url": "https://example.com/map.png", "caption": "here"},
            {"type": "location", "latitude": 51.2, "longitude": 6.8}]});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn b4_a_message_without_text_and_data_is_refused_before_the_network() {
    let fake = Fake::default();
    let (_server, endpoint) = endpoint(&fake, WEBHOOK).await;
    let (_server, api) = api(&fake).await;
    let token: UrlToken = WEBHOOK.parse().unwrap();
    for message in [
        Message::new("u", "s"),
        Message::new("u", "s").attachment(Attachment::location(1.0, 2.0)),
        Message::new("", "s").text("hi"),
        Message::new("u", "").text("hi"),
    ] {
        for error in [
            endpoint.send(&message).await.unwrap_err(),
            endpoint.inject(&message).await.unwrap_err(),
            endpoint.notify(&message).await.unwrap_err(),
            api.legacy_inject(&token, &message).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ApiErrorKind::InvalidRequest, "{message:?}");
        }
    }
    assert_eq!(fake.count(), 0);
}

#[tokio::test]
async fn b4_an_endpoint_with_a_key_is_sent_it_in_x_webhook_key_or_a_header_of_ones_own() {
    let fake = Fake::default();
    fake.seen().endpoints_need_key = true;
    let (_server, without) = endpoint(&fake, WEBHOOK).await;
    assert_eq!(
        without.send(&hello()).await.unwrap_err().kind(),
        ApiErrorKind::Unauthorized
    );

    let (_server, connection) = connection(&fake).await;
    let credential = Credential::header("X-Webhook-Key", ENDPOINT_KEY).unwrap();
    let connection = connection.credential(credential).build().unwrap();
    let with = EndpointClient::over(connection, WEBHOOK.parse().unwrap());
    with.send(&hello()).await.unwrap();
    with.inject(&hello()).await.unwrap();
    with.notify(&hello()).await.unwrap();
    let (_, headers, _) = fake.last();
    assert_eq!(headers["x-webhook-key"], ENDPOINT_KEY);
    assert!(!format!("{with:?}").contains(ENDPOINT_KEY));
}

#[tokio::test]
async fn b6_genesys_reports_go_to_the_handover_webhook() {
    let fake = Fake::default();
    let (_server, endpoint) = endpoint(&fake, WEBHOOK).await;
    let report = GenesysCloudOm::new("u-1", "v2.detail.events.conversation.id.acw");
    endpoint
        .report_handover(&HandoverWebhook::GenesysCloudOm, &report)
        .await
        .unwrap();
    let (line, _, body) = fake.last();
    assert_eq!(line, "POST /handover/genesysCloudOM");
    assert_eq!(
        body,
        json!({"userId": "u-1", "topic": "v2.detail.events.conversation.id.acw"})
    );
    let out = HandoverWebhook::Other("..".into());
    let error = endpoint.report_handover(&out, &report).await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::InvalidRequest);
}

#[tokio::test]
async fn b4_the_old_routes_are_called_with_text_data_and_token() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let token: UrlToken = WEBHOOK.parse().unwrap();
    let said = api.legacy_inject(&token, &hello()).await.unwrap();
    assert_eq!(said, "Message was sent to AI for Flow processing");
    let (line, _, body) = fake.last();
    assert_eq!(line, "POST /new/v2.0/endpoint/inject");
    let expected = json!({"userId": "user123", "sessionId": "session123", "text": "Hello, I need help with my order",
        "data": {}, "URLToken": WEBHOOK});
    assert_eq!(body, expected);

    let data = Message::new("u", "s").fields(serde_json::Map::new());
    let said = api.legacy_notify(&token, &data).await.unwrap();
    assert_eq!(said, "Sucessfully sent message to user");
    assert_eq!(fake.last().2["text"], "");
}

#[tokio::test]
async fn b9_old_routes_that_are_gone_are_an_error_that_says_so() {
    let fake = Fake::default();
    let (_server, api) = api(&fake).await;
    let token: UrlToken = WEBHOOK.parse().unwrap();
    for status in [404, 410] {
        fake.seen().legacy_gone = Some(status);
        for error in [
            api.legacy_inject(&token, &hello()).await.unwrap_err(),
            api.legacy_notify(&token, &hello()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ApiErrorKind::NotFound);
            let text = error.to_string();
            assert!(
                text.contains("removal was planned for September 2026"),
                "{text}"
            );
            assert!(text.contains("EndpointClient::"), "{text}");
            assert!(!text.contains(WEBHOOK), "{text}");
        }
    }
}

#[tokio::test]
async fn a_message_that_may_have_arrived_is_not_sent_again() {
    let fake = Fake::default();
    let (_server, endpoint) = endpoint(&fake, WEBHOOK).await;
    let busy = http::Response::builder()
        .status(503)
        .body("".into())
        .unwrap();
    fake.seen().script.push_back(busy);
    let error = endpoint.send(&hello()).await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::Server);
    assert_eq!(fake.count(), 1);
}

#[test]
fn the_url_of_an_endpoint_is_split_and_its_token_never_shown() {
    for url in [
        format!("https://endpoint-trial.cognigy.ai/{REST}"),
        format!("https://endpoint.example.com/cognigy/{REST}"),
    ] {
        let client = EndpointClient::new(&url).unwrap();
        assert!(!format!("{client:?}").contains(REST), "{client:?}");
        let client = EndpointClient::with_key(&url, "secret-key").unwrap();
        assert!(!format!("{client:?}").contains("secret-key"), "{client:?}");
    }
    let short = &REST[1..];
    for url in [
        String::new(),
        "https://endpoint-trial.cognigy.ai/".to_owned(),
        format!("https://endpoint-trial.cognigy.ai/{short}"),
        format!("https://endpoint-trial.cognigy.ai/{short}g"),
        format!("https://endpoint-trial.cognigy.ai/{REST}?a=b"),
        format!("/{REST}"),
        format!("http://endpoint-trial.cognigy.ai/{REST}"),
        format!("https://127.0.0.1/{REST}"),
    ] {
        let error = EndpointClient::new(&url).unwrap_err();
        assert!(!error.to_string().contains(short), "{error}");
    }
    let token: UrlToken = REST.parse().unwrap();
    assert!(!format!("{token:?}").contains(REST));
    assert_eq!(serde_json::to_value(&token).unwrap(), REST);
}

#[test]
fn debug_of_a_message_shows_neither_text_nor_user() {
    let shown = format!("{:?}", hello());
    assert!(
        !shown.contains("order") && !shown.contains("user123"),
        "{shown}"
    );
}
