//! The client of the management API.

use super::{
    api as client,
    fake_platform::{self, Fake, KEY},
};
use futures_util::{StreamExt, TryStreamExt};
use http::{Method, Request, Response};
use serde_json::{Map, Value, json};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use tower::service_fn;
use tower_webhook::{body::BufferedBody, target::TargetRules};
use tower_webhook_cognigy::{
    ApiError, ApiErrorKind,
    connection::Connection,
    credential::{ClientCredentials, Credential, TokenSource},
    https::HttpsClient,
    platform::{
        ApiClient, AuditEventType, Channel, Endpoint, EndpointFields, EndpointOperation, ErrorCode,
        Host, ListQuery, MongoId, TaskStatus, WebhookSettings,
        handover::{HandoverProvider, HandoverService},
    },
};

const PROJECT: &str = "667ed4ae16d66f47dc2a9400";
const ID: &str = "5e997f0cdcfc57730cf32941";

fn id(text: &str) -> MongoId {
    text.parse().unwrap()
}

fn items(count: usize) -> Vec<Value> {
    let item = |at| json!({"_id": format!("{at:024}"), "name": format!("e-{at}")});
    (0..count).map(item).collect()
}

fn fill(fake: &Fake, count: usize) {
    for item in items(count) {
        let id = item["_id"].as_str().unwrap().to_owned();
        fake.seen().endpoints.insert(id, item);
    }
}

#[tokio::test]
async fn b3_a_list_follows_its_cursors_to_the_end() {
    let fake = Fake::default();
    fill(&fake, 205);
    let (_server, api) = client(&fake).await;
    let query = ListQuery::new()
        .project(&id(PROJECT))
        .sort("name:asc")
        .filter("e&=?");
    let found: Vec<Endpoint> = api.endpoints(query).try_collect().await.unwrap();
    assert_eq!(found.len(), 205);
    let names = found.iter().map(|endpoint| endpoint.name.clone().unwrap());
    assert!(names.eq((0..205).map(|at| format!("e-{at}"))));

    let seen = fake.seen();
    let lines = seen.requests.iter().map(|(line, _, _)| line.as_str());
    let query = format!("projectId={PROJECT}&sort=name%3Aasc&filter=e%26%3D%3F");
    let expected = [
        format!("GET /new/v2.0/endpoints?limit=100&{query}"),
        format!("GET /new/v2.0/endpoints?limit=100&next={:024}&{query}", 100),
        format!("GET /new/v2.0/endpoints?limit=100&next={:024}&{query}", 200),
    ];
    assert!(
        lines.eq(expected.iter().map(String::as_str)),
        "{:?}",
        seen.requests
    );
    for (_, headers, body) in &seen.requests {
        assert_eq!(headers["x-api-key"], KEY);
        assert_eq!(headers["accept"], "application/json");
        assert!(body.is_empty(), "a GET has no body");
    }
}

#[tokio::test]
async fn b3_a_list_without_cursors_is_skipped_through() {
    let fake = Fake::default();
    fake.seen().without_cursors = true;
    fill(&fake, 60);
    let (_server, api) = client(&fake).await;
    let query = ListQuery::new().page_size(25).unwrap().skip(10);
    let found: Vec<Endpoint> = api.endpoints(query).try_collect().await.unwrap();
    assert_eq!(found.len(), 50);
    let seen = fake.seen();
    let lines = seen.requests.iter().map(|(line, _, _)| line.as_str());
    let expected = [10, 35].map(|skip| format!("GET /new/v2.0/endpoints?limit=25&skip={skip}"));
    assert!(
        lines.eq(expected.iter().map(String::as_str)),
        "{:?}",
        seen.requests
    );
}

#[tokio::test]
async fn b3_pages_are_read_as_they_are_asked_for() {
    let fake = Fake::default();
    fill(&fake, 205);
    let (_server, api) = client(&fake).await;
    let first: Vec<Endpoint> = api
        .endpoints(ListQuery::new())
        .take(100)
        .try_collect()
        .await
        .unwrap();
    assert_eq!((first.len(), fake.count()), (100, 1));
}

/// A client whose requests are answered here, without a network, so that its clock can be paused.
fn answered(
    answer: impl Fn(usize, &Request<BufferedBody>) -> Response<BufferedBody> + Send + Sync + 'static,
) -> (ApiClient, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let answer = Arc::new(answer);
    let count = calls.clone();
    let transport = service_fn(move |req: Request<BufferedBody>| {
        let (answer, count) = (answer.clone(), count.clone());
        async move { Ok::<_, Infallible>(answer(count.fetch_add(1, Ordering::Relaxed), &req)) }
    });
    let connection = Connection::builder("https://api.test").transport(transport);
    (ApiClient::over(connection.build().unwrap()), calls)
}

fn status(status: u16) -> Response<BufferedBody> {
    let mut res = Response::new(BufferedBody::from("{}"));
    *res.status_mut() = status.try_into().unwrap();
    res
}

fn page(items: &Value, next: &str) -> Response<BufferedBody> {
    let page = json!({"items": items, "total": 1_000_000, "nextCursor": next});
    Response::new(BufferedBody::from(page.to_string()))
}

#[tokio::test]
async fn b3_pages_that_loop_or_never_end_are_an_error() {
    let (api, calls) = answered(|at, _| page(&json!([]), ["a", "b", "c"][at % 3]));
    let result: Result<Vec<Endpoint>, ApiError> =
        api.endpoints(ListQuery::new()).try_collect().await;
    assert_eq!(result.unwrap_err().kind(), ApiErrorKind::UnexpectedResponse);
    assert_eq!(calls.load(Ordering::Relaxed), 4);

    let (api, calls) = answered(|at, _| page(&json!([]), &format!("c-{at}")));
    let result: Result<Vec<Endpoint>, ApiError> =
        api.endpoints(ListQuery::new()).try_collect().await;
    assert_eq!(result.unwrap_err().kind(), ApiErrorKind::UnexpectedResponse);
    assert_eq!(calls.load(Ordering::Relaxed), 10_000);

    // Nothing on a page, and no cursor: nothing more comes, whatever `total` says.
    let (api, calls) = answered(|_, _| page(&json!([]), ""));
    let found: Vec<Endpoint> = api.endpoints(ListQuery::new()).try_collect().await.unwrap();
    assert_eq!((found.len(), calls.load(Ordering::Relaxed)), (0, 1));
}

#[tokio::test]
async fn b3_a_cursor_is_found_under_its_old_name_and_beside_its_new_one() {
    let (api, calls) = answered(|at, _| {
        let page = match at {
            0 => json!({"items": [], "next": "000000000000000000000001", "previous": null}),
            1 => json!({"items": [], "nextCursor": "000000000000000000000002", "next": "x"}),
            _ => json!({"items": [], "nextCursor": null, "next": null}),
        };
        Response::new(BufferedBody::from(page.to_string()))
    });
    let found: Vec<Endpoint> = api.endpoints(ListQuery::new()).try_collect().await.unwrap();
    assert_eq!((found.len(), calls.load(Ordering::Relaxed)), (0, 3));
}

#[tokio::test]
async fn a_page_that_is_none_is_an_error_that_ends_the_stream() {
    for body in [
        "{}",
        "[]",
        "<html>",
        r#"{"items":[{"name":"no id"}]}"#,
        r#"{"items":[{"_id":"../x"}]}"#,
    ] {
        let (api, _) = answered(move |_, _| Response::new(BufferedBody::from(body)));
        let all: Vec<_> = api.endpoints(ListQuery::new()).collect().await;
        assert_eq!(all.len(), 1, "{body}");
        let error = all.into_iter().next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ApiErrorKind::UnexpectedResponse, "{body}");
    }
}

#[tokio::test]
async fn b8_endpoints_are_made_read_changed_and_deleted() {
    let fake = Fake::default();
    let (_server, api) = client(&fake).await;
    let fields = EndpointFields::new()
        .name("Orders")
        .channel(&Channel::Rest)
        .flow("f-1")
        .locale("l-1");
    let made = api.create_endpoint(&id(PROJECT), &fields).await.unwrap();
    let (line, _, body) = fake.last();
    assert_eq!(line, "POST /new/v2.0/endpoints");
    let expected = json!({"projectId": PROJECT, "name": "Orders", "channel": "rest", "flowId": "f-1", "localeId": "l-1"});
    assert_eq!(body, expected);
    assert_eq!(made.channel, Some(Channel::Rest));
    assert_eq!(
        made.url_token.as_ref().unwrap().as_str(),
        fake_platform::WEBHOOK
    );
    assert!(!format!("{made:?} {:?}", made.url_token).contains(fake_platform::WEBHOOK));

    api.update_endpoint(&made.id, &EndpointFields::new().active(false))
        .await
        .unwrap();
    let (line, _, body) = fake.last();
    assert_eq!(
        (line, body),
        (
            format!("PATCH /new/v2.0/endpoints/{}", made.id),
            json!({"active": false})
        )
    );
    assert_eq!(api.endpoint(&made.id).await.unwrap().active, Some(false));

    let taken = api
        .create_endpoint(&id(PROJECT), &fields)
        .await
        .unwrap_err();
    assert_eq!(taken.kind(), ApiErrorKind::Conflict);
    assert_eq!(ErrorCode::of(&taken), Some(ErrorCode::Conflict));

    api.delete_endpoint(&made.id).await.unwrap();
    let gone = api.endpoint(&made.id).await.unwrap_err();
    assert_eq!(gone.kind(), ApiErrorKind::NotFound);
    assert_eq!(ErrorCode::of(&gone), Some(ErrorCode::ResourceNotFound));
    assert_eq!(gone.trace_id(), Some("trace-1"));
}

#[tokio::test]
async fn b8_my_webhook_is_registered_with_its_url_and_basic_auth() {
    let fake = Fake::default();
    let (_server, api) = client(&fake).await;
    let settings = WebhookSettings::new("https://hooks.example.com/cognigy").unwrap();
    let with_auth = settings
        .clone()
        .basic_auth("cognigy", "a long random text")
        .unwrap();
    let made = api
        .register_webhook(&id(PROJECT), "Hook", "flow-1", &with_auth)
        .await
        .unwrap();
    let (_, _, body) = fake.last();
    let expected = json!({"projectId": PROJECT, "channel": "webhook", "name": "Hook", "flowId": "flow-1", "settings": {
        "webhookUrl": "https://hooks.example.com/cognigy", "basicAuthUser": "cognigy",
        "basicAuthPassword": "a long random text"}});
    assert_eq!(body, expected);
    assert_eq!(
        made.webhook_url(),
        Some("https://hooks.example.com/cognigy")
    );
    assert!(!format!("{made:?} {with_auth:?}").contains("random"));

    api.register_webhook(&id(PROJECT), "Open", "flow-1", &settings)
        .await
        .unwrap();
    let (_, _, body) = fake.last();
    assert_eq!(body["settings"]["basicAuthUser"], "");

    for url in [
        "http://hooks.example.com",
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "hooks",
        "",
    ] {
        assert!(WebhookSettings::new(url).is_err(), "{url}");
    }
    for (user, password) in [
        ("", "p"),
        ("u:v", "p"),
        ("u\n", "p"),
        ("u", ""),
        ("u", "p\r\n"),
    ] {
        assert!(
            settings.clone().basic_auth(user, password).is_err(),
            "{user:?} {password:?}"
        );
    }
}

#[tokio::test]
async fn b3_a_key_of_an_endpoint_is_shown_once_and_never_in_debug() {
    let fake = Fake::default();
    let (_server, api) = client(&fake).await;
    let made = api
        .create_endpoint_key(&id(ID), "My CRM webhook")
        .await
        .unwrap();
    let (line, _, body) = fake.last();
    assert_eq!(line, format!("POST /new/v2.0/endpoints/{ID}/apikeys"));
    assert_eq!(body, json!({"name": "My CRM webhook"}));
    assert_eq!(made.key.as_bytes(), fake_platform::ENDPOINT_KEY.as_bytes());
    assert_eq!(made.info.key_preview.as_deref(), Some("8a4f••••••••7c2e"));
    assert!(!format!("{made:?}").contains(fake_platform::ENDPOINT_KEY));
    assert!(
        !serde_json::to_string(&made.info)
            .unwrap()
            .contains(fake_platform::ENDPOINT_KEY)
    );

    let listed = api.endpoint_keys(&id(ID)).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, made.info.id);
    api.revoke_endpoint_key(&id(ID), &made.info.id)
        .await
        .unwrap();
    assert!(api.endpoint_keys(&id(ID)).await.unwrap().is_empty());

    let (api, _) =
        answered(|_, _| Response::new(BufferedBody::from(r#"{"_id":"5e997f0cdcfc57730cf32941"}"#)));
    let without = api.create_endpoint_key(&id(ID), "x").await.unwrap_err();
    assert_eq!(without.kind(), ApiErrorKind::UnexpectedResponse);
}

#[tokio::test]
async fn b3_a_batch_has_from_one_to_a_hundred_operations() {
    let fake = Fake::default();
    let (_server, api) = client(&fake).await;
    let operations = [
        EndpointOperation::create(EndpointFields::new().name("a").channel(&Channel::Rest)),
        EndpointOperation::update(id(ID), EndpointFields::new().active(true)),
        EndpointOperation::delete(id(ID)),
    ];
    api.batch_endpoints(&id(PROJECT), &operations)
        .await
        .unwrap();
    let (line, _, body) = fake.last();
    assert_eq!(
        line,
        format!("PATCH /new/v2.0/endpoints?projectId={PROJECT}")
    );
    let expected = json!({"operations": [
        {"op": "create", "value": {"name": "a", "channel": "rest"}},
        {"op": "update", "id": ID, "value": {"active": true}},
        {"op": "delete", "id": ID}]});
    assert_eq!(body, expected);

    let many = vec![EndpointOperation::delete(id(ID)); 101];
    for refused in [&many[..], &[]] {
        let error = api
            .batch_endpoints(&id(PROJECT), refused)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ApiErrorKind::InvalidRequest);
    }
    assert_eq!(fake.count(), 1, "nothing was sent");
    api.batch_endpoints(&id(PROJECT), &many[..100])
        .await
        .unwrap();
}

#[tokio::test]
async fn b4_sessions_take_and_lose_context_and_state() {
    let fake = Fake::default();
    let (_server, api) = client(&fake).await;
    let context = Map::from_iter([("order".to_owned(), json!(7))]);
    assert_eq!(
        api.inject_context("s-1", "u-1", &context).await.unwrap(),
        context
    );
    let (line, _, body) = fake.last();
    assert_eq!(line, "POST /new/v2.0/sessions/s-1/context/inject");
    assert_eq!(body, json!({"userId": "u-1", "context": {"order": 7}}));

    let reset = api
        .reset_context("s-1", "u-1", "flow-ref", "entry")
        .await
        .unwrap();
    assert_eq!(reset["key"], "value");
    let (line, _, body) = fake.last();
    assert_eq!(line, "POST /new/v2.0/sessions/s-1/context/reset");
    assert_eq!(
        body,
        json!({"flowReferenceId": "flow-ref", "entryPoint": "entry", "userId": "u-1"})
    );

    assert_eq!(
        api.inject_state("s-1", "u-1", "paying").await.unwrap(),
        "paying"
    );
    assert_eq!(fake.last().2, json!({"state": "paying", "userId": "u-1"}));
    api.reset_state("s-1", "u-1").await.unwrap();
    assert_eq!(fake.last().2, json!({"userId": "u-1"}));
}

#[tokio::test]
async fn ids_with_slashes_dots_and_percent_signs_stay_one_segment() {
    let fake = Fake::default();
    let (_server, api) = client(&fake).await;
    for (session, segment) in [
        ("a/b", "a%2Fb"),
        ("../projects", "..%2Fprojects"),
        ("a%2Fb", "a%252Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("ü ", "%C3%BC%20"),
    ] {
        api.reset_state(session, "u").await.unwrap();
        assert_eq!(
            fake.last().0,
            format!("POST /new/v2.0/sessions/{segment}/state/reset")
        );
        api.delete_conversation(&id(PROJECT), session)
            .await
            .unwrap();
        assert_eq!(
            fake.last().0,
            format!("DELETE /new/v2.0/conversations/{segment}?projectId={PROJECT}")
        );
    }
    let sent = fake.count();
    for session in ["", ".", ".."] {
        let error = api.reset_state(session, "u").await.unwrap_err();
        assert_eq!(error.kind(), ApiErrorKind::InvalidRequest, "{session:?}");
    }
    assert_eq!(fake.count(), sent, "nothing was sent");
    for wrong in [
        "",
        "..",
        "5E997F0CDCFC57730CF32941",
        "5e997f0cdcfc57730cf3294",
        "5e997f0cdcfc57730cf3294/",
    ] {
        assert!(wrong.parse::<MongoId>().is_err(), "{wrong}");
    }
}

fn task(status: &str) -> Response<BufferedBody> {
    Response::new(BufferedBody::from(
        json!({"_id": ID, "status": status}).to_string(),
    ))
}

#[tokio::test(start_paused = true)]
async fn b8_a_task_is_read_with_growing_pauses_until_it_has_ended() {
    let (api, calls) = answered(|at, _| task(if at < 6 { "active" } else { "done" }));
    let began = Instant::now();
    let ended = api
        .wait_for_task(&id(ID), Duration::from_secs(600))
        .await
        .unwrap();
    assert_eq!(ended.status, TaskStatus::Done);
    assert_eq!(calls.load(Ordering::Relaxed), 7);
    assert_eq!(began.elapsed().as_secs(), 1 + 2 + 4 + 8 + 15 + 15);
}

#[tokio::test(start_paused = true)]
async fn b8_a_task_that_does_not_end_is_returned_at_the_deadline() {
    // A status that is not known is no end.
    let (api, calls) = answered(|_, _| task("paused"));
    let began = Instant::now();
    let last = api
        .wait_for_task(&id(ID), Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(last.status, TaskStatus::Other("paused".into()));
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(calls.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn b8_a_read_of_a_task_that_is_not_answered_ends_at_the_deadline_too() {
    for (answers, calls) in [(0, 1), (2, 3)] {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let transport = service_fn(move |_: Request<BufferedBody>| {
            let at = seen.fetch_add(1, Ordering::Relaxed);
            async move {
                if at >= answers {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(task("active"))
            }
        });
        let connection = Connection::builder("https://api.test").transport(transport);
        let api = ApiClient::over(connection.build().unwrap());
        let began = Instant::now();
        let last = api.wait_for_task(&id(ID), Duration::from_secs(10)).await;
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!(count.load(Ordering::Relaxed), calls);
        match last {
            Ok(task) => assert_eq!((task.status, answers), (TaskStatus::Active, 2)),
            Err(error) => assert_eq!((error.kind(), answers), (ApiErrorKind::Transport, 0)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b8_waiting_for_a_task_ends_when_it_is_dropped() {
    let (api, calls) = answered(|_, _| task("active"));
    let id = id(ID);
    let wait = tokio::time::timeout(
        Duration::from_secs(5),
        api.wait_for_task(&id, Duration::MAX),
    );
    assert!(wait.await.is_err());
    let seen = calls.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(calls.load(Ordering::Relaxed), seen);
}

#[tokio::test]
async fn b8_tasks_have_the_documented_fields_and_can_be_cancelled() {
    let fake = Fake::default();
    fake.seen().tasks.insert(ID.to_owned(), ["queued"].into());
    let (_server, api) = client(&fake).await;
    let task = api.task(&id(ID)).await.unwrap();
    assert_eq!((task.current_step, task.total_step), (Some(1), Some(2)));
    assert_eq!(task.fail_reason, None);
    api.cancel_task(&id(ID)).await.unwrap();
    assert_eq!(fake.last().0, format!("POST /new/v2.0/tasks/{ID}/cancel"));
    assert_eq!(
        api.task(&id(ID)).await.unwrap().status,
        TaskStatus::Cancelling
    );
    assert_eq!(
        api.task(&id(ID)).await.unwrap().status,
        TaskStatus::Cancelled
    );
}

#[tokio::test]
async fn b8_audit_events_are_read_in_both_documented_forms() {
    let fake = Fake::default();
    let events = vec![
        json!({"id": ID, "timestamp": "2020-04-27T14:22:11.000Z", "type": "create", "user": "hans.mustermann@xyz.com",
            "modifiedResources": [{"resourceId": "5e997f0cdcfc57730cf32941", "resourceType": "node"}],
            "payload": {"name": "new resource name"}}),
        json!({"_id": ID, "timestamp": "2020-04-27T14:22:11.000Z", "type": "later", "user": "x", "actionType": "cancelTask",
            "chain": [{"elementId": ID, "elementType": "task"}]}),
    ];
    fake.seen().lists.insert("auditevents", events.clone());
    let (_server, api) = client(&fake).await;
    let found: Vec<_> = api
        .audit_events(ListQuery::new())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(found[0].kind, AuditEventType::Create);
    let resources = found[0].modified_resources.as_ref().unwrap();
    assert_eq!(resources[0].resource_type.as_deref(), Some("node"));
    assert_eq!(found[1].kind, AuditEventType::Other("later".into()));
    assert_eq!(
        found[1].chain.as_ref().unwrap()[0].element_type.as_deref(),
        Some("task")
    );
    assert_eq!(serde_json::to_value(&found).unwrap(), json!(events));
    assert_eq!(api.audit_event(&id(ID)).await.unwrap(), found[0]);
}

#[tokio::test]
async fn b8_conversations_profiles_and_logs_are_typed() {
    let fake = Fake::default();
    let conversation = json!({"_id": "s-1", "contactId": "c-1", "channel": "webchat3", "projectId": PROJECT, "projectName": "P",
        "flowName": "F", "messages": 123, "startTime": "x", "endTime": "y", "ratings": [1], "ratingComments": ["ok"],
        "endpointName": "E"});
    let other = json!({"_id": "s-2", "contactId": "c-2"});
    let entry = json!({"projectId": PROJECT, "inputId": "i", "sessionId": "s-1", "contactId": "c-1", "inputText": "hi",
        "inputData": {"_cognigy": {"_default": {"_image": {"type": "image", "imageUrl": "https://example.com"}}}},
        "type": "input", "source": "user", "timestamp": {}, "endpointUrlToken": fake_platform::REST, "rating": 1});
    let profile = json!({"_id": ID, "active": true, "contactIds": ["c-1"], "lastChanged": 1_694_518_620, "projectId": PROJECT,
        "profile": {"firstname": "Max", "accepted_gdpr": true, "mine": [1]}});
    let log = json!({"_id": ID, "timestamp": "2023-11-07T05:31:56Z", "type": "error", "msg": "no", "meta": {"a": 1}, "traceId": "t"});
    {
        let mut seen = fake.seen();
        seen.lists
            .insert("conversations", vec![conversation.clone(), other]);
        seen.lists.insert("conversation", vec![entry.clone()]);
        seen.lists.insert("profiles", vec![profile.clone()]);
        seen.lists
            .insert("projects/667ed4ae16d66f47dc2a9400/logs", vec![log.clone()]);
    }
    let (_server, api) = client(&fake).await;
    let found = api
        .conversations(&id(PROJECT), &["c-1", "c-3"])
        .await
        .unwrap();
    assert_eq!(serde_json::to_value(&found).unwrap(), json!([conversation]));
    assert!(found[0].other.is_empty());
    assert_eq!(api.conversations(&id(PROJECT), &[]).await.unwrap().len(), 2);

    let entries = api.conversation(&id(PROJECT), "s-1").await.unwrap();
    assert_eq!(serde_json::to_value(&entries).unwrap(), json!([entry]));
    assert!(
        entries[0]
            .message()
            .unwrap()
            .template()
            .unwrap()
            .image
            .is_some()
    );

    let query = ListQuery::new().project(&id(PROJECT));
    let profiles: Vec<_> = api.profiles(query).try_collect().await.unwrap();
    assert_eq!(serde_json::to_value(&profiles).unwrap(), json!([profile]));
    assert_eq!(api.profile(&id(ID)).await.unwrap(), profiles[0]);

    let query = ListQuery::new()
        .parameter("type", "error")
        .parameter("type", "warn");
    let logs: Vec<_> = api.logs(&id(PROJECT), query).try_collect().await.unwrap();
    assert_eq!(serde_json::to_value(&logs).unwrap(), json!([log]));
    let line = format!("GET /new/v2.0/projects/{PROJECT}/logs?limit=100&type=error&type=warn");
    assert_eq!(fake.last().0, line);
}

#[tokio::test]
async fn b6_handover_providers_are_listed_made_and_deleted() {
    let fake = Fake::default();
    let listed = json!({"_id": ID, "name": "Genesys", "service": "genesysCloudOM"});
    fake.seen().lists.insert("handover/provider", vec![listed]);
    let (_server, api) = client(&fake).await;
    let found: Vec<_> = api
        .handover_providers(ListQuery::new())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(found[0].service, Some(HandoverService::GenesysCloudOm));
    assert_eq!(api.handover_provider(&id(ID)).await.unwrap(), found[0]);

    let mut provider = HandoverProvider::default();
    provider.name = Some("New".to_owned());
    provider.service = Some(HandoverService::LiveAgent);
    provider.settings = Some(json!({"apiKey": "k"}));
    assert_eq!(
        api.create_handover_provider(&provider).await.unwrap(),
        provider
    );
    assert_eq!(
        fake.last().2,
        json!({"name": "New", "service": "liveAgent", "settings": {"apiKey": "k"}})
    );
    api.delete_handover_provider(&id(ID)).await.unwrap();
    assert_eq!(
        fake.last().0,
        format!("DELETE /new/v2.0/handover/provider/{ID}")
    );
}

#[tokio::test]
async fn resources_of_any_kind_are_listed_as_types_of_ones_own() {
    let fake = Fake::default();
    fake.seen().lists.insert("flows", items(3));
    let (_server, api) = client(&fake).await;
    let flows: Vec<Value> = api
        .list("flows", ListQuery::new())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(flows, items(3));
}

#[tokio::test]
async fn resources_that_are_no_path_below_the_api_are_refused_before_the_network() {
    let (api, calls) = answered(|_, _| page(&json!([]), ""));
    for wrong in [
        "",
        "/flows",
        "flows/",
        "a//b",
        "../../../auth/x?y=1",
        "a/../b",
        "./a",
        "a/%2e%2E/b",
        "a%2Fb",
        "a%5cb",
        "a\\b",
        "flows?x=1",
        "flows#x",
        "a b",
        "a\nb",
        "flöws",
    ] {
        let all: Vec<Result<Value, _>> = api.list(wrong, ListQuery::new()).collect().await;
        assert_eq!(all.len(), 1, "{wrong}");
        let error = all.into_iter().next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ApiErrorKind::InvalidRequest, "{wrong}");
        let cause = std::error::Error::source(&error).unwrap();
        let cause = cause.source().unwrap().to_string();
        assert!(
            cause.contains(&*wrong.escape_debug().to_string()),
            "{cause}"
        );
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    for fine in ["flows", "projects/5e99/snapshots", "a.b/..c/%20/x~y_z-1"] {
        let all: Result<Vec<Value>, _> = api.list(fine, ListQuery::new()).try_collect().await;
        assert_eq!(all.unwrap(), [Value::Null; 0], "{fine}");
    }
}

#[tokio::test]
async fn a_list_that_leaves_out_more_than_there_can_be_is_empty_or_ends() {
    let (api, calls) = answered(|_, _| {
        let page = json!({"items": [{"_id": ID}], "total": u64::MAX});
        Response::new(BufferedBody::from(page.to_string()))
    });
    let query = ListQuery::new().skip(u64::MAX);
    let all: Vec<Endpoint> = api.endpoints(query).try_collect().await.unwrap();
    assert_eq!((all.len(), calls.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn a_field_that_does_not_fit_loses_neither_the_item_nor_its_page() {
    let items = json!([
        {"_id": ID, "createdAt": "2024-01-01T00:00:00Z", "lastChanged": 1_700_000_000.5, "URLToken": "", "name": "first"},
        {"_id": ID, "createdAt": 1_700_000_000, "active": "yes", "name": null},
    ]);
    let sent = items.clone();
    let (api, _) =
        answered(move |_, _| Response::new(BufferedBody::from(json!({"items": sent}).to_string())));
    let found: Vec<Endpoint> = api.endpoints(ListQuery::new()).try_collect().await.unwrap();
    assert_eq!((found[0].created_at, &found[0].url_token), (None, &None));
    assert_eq!(found[0].other["createdAt"], "2024-01-01T00:00:00Z");
    assert_eq!(found[0].other["lastChanged"], 1_700_000_000.5);
    assert_eq!(found[0].name.as_deref(), Some("first"));
    assert_eq!(
        (found[1].created_at, found[1].active),
        (Some(1_700_000_000), None)
    );
    assert_eq!(serde_json::to_value(&found).unwrap(), items);
}

#[tokio::test]
async fn b3_codes_of_errors_are_read_as_numbers_and_as_texts() {
    let fake = Fake::default();
    let (_server, api) = client(&fake).await;
    for (code, expected) in [
        (json!(1000), ErrorCode::MissingArgument),
        (json!("1000"), ErrorCode::MissingArgument),
        (json!(1005), ErrorCode::InvalidArgument),
        (json!(400), ErrorCode::BadRequest),
        (json!("brand-new"), ErrorCode::Other("brand-new".into())),
        (json!(4711), ErrorCode::Other("4711".into())),
    ] {
        fake.seen()
            .script
            .push_back(fake_platform::problem(400, code, "what is wrong"));
        let error = api.endpoint(&id(ID)).await.unwrap_err();
        assert_eq!(error.kind(), ApiErrorKind::BadRequest);
        assert_eq!(ErrorCode::of(&error), Some(expected));
        assert_eq!(error.detail(), Some("what is wrong"));
        assert_eq!(error.trace_id(), Some("trace-1"));
    }
    fake.seen().script.push_back(
        http::Response::builder()
            .status(400)
            .body("<html>".into())
            .unwrap(),
    );
    assert_eq!(
        ErrorCode::of(&api.endpoint(&id(ID)).await.unwrap_err()),
        None
    );
}

#[tokio::test]
async fn the_fake_refuses_what_is_not_documented() {
    let fake = Fake::default();
    let (_server, api) = client(&fake).await;
    let send = async |method: Method, path: &str, body: Value| {
        let body = match body {
            Value::Null => BufferedBody::default(),
            body => BufferedBody::from(body.to_string()),
        };
        let req = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        let sent = api.connection().send(req.body(body).unwrap()).await;
        sent.map_or_else(|error| error.status().unwrap(), |res| res.status())
            .as_u16()
    };
    let right = json!({"projectId": PROJECT, "channel": "rest", "name": "a"});
    let path = "/new/v2.0/endpoints";
    assert_eq!(send(Method::POST, path, right.clone()).await, 201);
    assert_eq!(
        send(
            Method::POST,
            path,
            json!({"projectID": PROJECT, "channel": "rest", "name": "b"})
        )
        .await,
        400
    );
    assert_eq!(
        send(
            Method::POST,
            path,
            json!({"projectId": PROJECT, "channel": "rest", "name": "b", "x": 1})
        )
        .await,
        400
    );
    assert_eq!(
        send(Method::GET, &format!("{path}?pageSize=100"), Value::Null).await,
        400
    );
    assert_eq!(
        send(Method::GET, &format!("{path}?limit=101"), Value::Null).await,
        400
    );
    assert_eq!(send(Method::GET, path, right).await, 403);
    assert_eq!(
        send(Method::POST, path, json!({"name": "x".repeat(60_000)})).await,
        413
    );
    assert_eq!(
        send(Method::GET, "/new/v2.0/webhooks", Value::Null).await,
        404
    );
}

#[tokio::test]
async fn a_wrong_key_is_unauthorized() {
    let fake = Fake::default();
    let (server, _) = client(&fake).await;
    let connection = Connection::builder(&server.url)
        .credential(Credential::api_key("another").unwrap())
        .rules(TargetRules::new().allow_private(true))
        .root_certificates(server.root.as_bytes());
    let api = ApiClient::over(connection.build().unwrap());
    let error = api.endpoint(&id(ID)).await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::Unauthorized);
    assert_eq!(ErrorCode::of(&error), Some(ErrorCode::Unauthorized));
    assert_eq!(fake.count(), 1, "401 is not tried again");
}

/// How often a request is sent whose first answers have this status.
async fn tries(method: Method, first: u16) -> usize {
    let (api, calls) = answered(move |at, _| status(if at < 10 { first } else { 200 }));
    let req = Request::builder().method(method).uri("/new/v2.0/endpoints");
    let sent = api
        .connection()
        .send(req.body(BufferedBody::default()).unwrap())
        .await;
    assert!(sent.is_err());
    calls.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn b3_statuses_are_tried_again_three_times_for_idempotent_methods_only() {
    for retried in [408, 425, 429, 500, 502, 503, 504] {
        for method in [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::PUT,
            Method::DELETE,
        ] {
            assert_eq!(
                tries(method.clone(), retried).await,
                4,
                "{method} {retried}"
            );
        }
        for method in [Method::POST, Method::PATCH] {
            assert_eq!(
                tries(method.clone(), retried).await,
                1,
                "{method} {retried}"
            );
        }
    }
    for refused in [400, 401, 403, 404, 409, 413, 422, 501, 505, 511] {
        assert_eq!(tries(Method::GET, refused).await, 1, "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn b3_retry_after_is_read_as_seconds_and_never_as_a_date_of_old() {
    // The platform's own client reads these as dates.
    for seconds in ["2", "5", "60"] {
        let (api, calls) = answered(move |at, _| {
            if at > 0 {
                return task("done");
            }
            let mut busy = status(429);
            busy.headers_mut()
                .insert("retry-after", seconds.parse().unwrap());
            busy
        });
        let began = Instant::now();
        api.task(&id(ID)).await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        let waited = began.elapsed();
        let asked = Duration::from_secs(seconds.parse().unwrap());
        // A spread of a tenth, so that callers do not come back all at once, and the own delay.
        let longest = asked.mul_f64(1.1).max(Duration::from_secs(3));
        assert!((asked..=longest).contains(&waited), "{waited:?}");
    }
}

#[tokio::test]
async fn b3_a_request_that_never_left_is_tried_again_whatever_its_method() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let connection = Connection::builder(url)
        .rules(TargetRules::new().allow_private(true).allow_http(true))
        .retry(super::quick_retry())
        .build()
        .unwrap();
    let metrics = connection.metrics().clone();
    let error = ApiClient::over(connection)
        .cancel_task(&id(ID))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::Transport);
    assert_eq!(metrics.snapshot().attempts().total(), 4);
}

#[tokio::test]
async fn b3_oauth2_and_bearer_tokens_are_taken() {
    let fake = Fake::default();
    fill(&fake, 1);
    let (server, _) = client(&fake).await;
    let rules = TargetRules::new().allow_private(true);
    let root = server.root.as_bytes();
    let asks = HttpsClient::builder()
        .rules(rules)
        .root_certificates(root)
        .unwrap()
        .build();
    let grant = ClientCredentials::platform("client-7", "its-secret");
    let tokens = TokenSource::builder(grant, &server.url)
        .rules(rules)
        .build(asks)
        .unwrap();
    for credential in [
        Credential::token(tokens),
        Credential::bearer(fake_platform::TOKEN).unwrap(),
    ] {
        let connection = Connection::builder(&server.url)
            .credential(credential)
            .rules(rules)
            .root_certificates(root);
        let api = ApiClient::over(connection.build().unwrap());
        let found: Vec<Endpoint> = api.endpoints(ListQuery::new()).try_collect().await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(fake.last().1["authorization"], "Bearer a-token");
        assert!(!fake.last().1.contains_key("x-api-key"));
    }
    let asked = fake
        .seen()
        .requests
        .iter()
        .filter(|(line, _, _)| line == "POST /auth/oauth2/token")
        .count();
    assert_eq!(asked, 1);
}

/// A server that reads a request and hangs up, and the number of its connections.
async fn hangs_up() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await;
            drop((read, stream));
        }
    });
    (url, connections)
}

#[tokio::test]
async fn b3_a_connection_that_breaks_is_tried_again_for_idempotent_methods_only() {
    let (url, connections) = hangs_up().await;
    let connection = Connection::builder(url)
        .rules(TargetRules::new().allow_private(true).allow_http(true))
        .retry(super::quick_retry());
    let api = ApiClient::over(connection.build().unwrap());
    let error = api.task(&id(ID)).await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::Transport);
    assert_eq!(connections.swap(0, Ordering::Relaxed), 4);
    // It may have arrived.
    let error = api.cancel_task(&id(ID)).await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::Transport);
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn b3_a_certificate_that_is_not_trusted_ends_the_call() {
    let fake = Fake::default();
    let (server, _) = client(&fake).await;
    let connection = Connection::builder(&server.url)
        .rules(TargetRules::new().allow_private(true))
        .retry(super::quick_retry());
    let connection = connection.build().unwrap();
    let metrics = connection.metrics().clone();
    let error = ApiClient::over(connection).task(&id(ID)).await.unwrap_err();
    assert_eq!(error.kind(), ApiErrorKind::Transport);
    assert_eq!(fake.count(), 0);
    assert_eq!(
        metrics.snapshot().attempts().total(),
        1,
        "another attempt changes nothing"
    );
}

#[test]
fn b3_each_host_has_its_two_urls() {
    let own = Host::Own {
        api: "https://api.intern.example".to_owned(),
        endpoint: "https://endpoint.intern.example".to_owned(),
    };
    for (host, api, endpoint, shared) in [
        (
            Host::Trial,
            "https://api-trial.cognigy.ai",
            "https://endpoint-trial.cognigy.ai",
            true,
        ),
        (
            Host::App,
            "https://api-app.cognigy.ai",
            "https://endpoint-app.cognigy.ai",
            true,
        ),
        (
            Host::AppUs,
            "https://api-app-us.cognigy.ai",
            "https://endpoint-app-us.cognigy.ai",
            true,
        ),
        (
            Host::Company("acme".to_owned()),
            "https://api-acme.cognigy.cloud",
            "https://endpoint-acme.cognigy.cloud",
            false,
        ),
        (
            Host::Cxone("na1".to_owned()),
            "https://cognigy-api-na1.nicecxone.com",
            "https://cognigy-endpoint-na1.nicecxone.com",
            false,
        ),
        (
            own,
            "https://api.intern.example",
            "https://endpoint.intern.example",
            false,
        ),
    ] {
        assert_eq!(
            (&*host.api().unwrap(), &*host.endpoint().unwrap()),
            (api, endpoint)
        );
        assert_eq!(host.is_shared(), shared);
        assert!(
            ApiClient::new(&host, Credential::api_key("k").unwrap()).is_ok(),
            "{host:?}"
        );
    }
    for name in ["", "a.b", "a/b", "a@b", "a#", "ä"] {
        assert!(Host::Company(name.to_owned()).api().is_err(), "{name}");
        assert!(Host::Cxone(name.to_owned()).endpoint().is_err(), "{name}");
    }
}
