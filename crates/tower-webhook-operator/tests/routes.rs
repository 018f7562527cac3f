//! The routes, called as a tower service.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use axum::{Router, body::Body};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tower::{ServiceExt as _, service_fn};
use tower_webhook::{
    BoxError, BoxFuture, LoopGuardLayer, StoreError, StoreErrorKind,
    body::BufferedBody,
    dead_letter::{
        Cause, Discarded, Entry, EntryBody, EntryClaim, EntryId, Filter, LetterStore, Listing,
        MemoryDeadLetters, Page, Reason, Sink, redrive::Redrive,
    },
    lease::{FencingToken, Settled},
    loop_guard::Hops,
    observe::{Event, observer_fn},
    queue::{Enqueued, Status, Task, TaskId},
};
use tower_webhook_operator::{EventDelivery, EventLog, EventStatus, Operator, Trigger};

const TOKEN: &str = "an operator token for the tests";

/// Every route, with an id where there is one.
const ROUTES: [(&str, &str); 8] = [
    ("GET", "/dead-letters"),
    ("GET", "/dead-letters/00000000000000000000000000000001"),
    ("DELETE", "/dead-letters/00000000000000000000000000000001"),
    (
        "POST",
        "/dead-letters/00000000000000000000000000000001/redrive",
    ),
    ("POST", "/dead-letters/redrive"),
    ("GET", "/webhooks/events/evt"),
    ("POST", "/webhooks/replay/evt"),
    ("POST", "/api/v2/webhooks/trigger"),
];

fn id(number: u8) -> EntryId {
    let mut bytes = [0; 16];
    bytes[15] = number;
    EntryId::from_bytes(bytes)
}

async fn filled(entries: u8) -> Arc<MemoryDeadLetters> {
    let store = MemoryDeadLetters::default();
    for number in 1..=entries {
        let written = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + u64::from(number));
        let cause = Cause::new(Reason::RetriesExhausted).with_code(Some(503));
        let mut entry = Entry::new(id(number), "http", "a.test", cause, written);
        entry.method = Some("POST".to_owned());
        entry.uri = Some("https://a.test/hooks".to_owned());
        entry.event_id = Some(format!("evt-{number}"));
        entry.body = EntryBody::new(&"{}".into(), 1024);
        store.write(&Arc::new(entry)).await.unwrap();
    }
    Arc::new(store)
}

/// A peer that answers with this status and counts its calls.
#[derive(Clone, Default)]
struct Peer {
    status: Arc<AtomicU16>,
    calls: Arc<AtomicUsize>,
    slow: Duration,
}

impl Peer {
    fn answering(status: u16) -> Self {
        let peer = Self::default();
        peer.status.store(status, Ordering::SeqCst);
        peer
    }

    fn slow(mut self, time: Duration) -> Self {
        self.slow = time;
        self
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn operator(&self, store: &Arc<MemoryDeadLetters>) -> Operator {
        let peer = self.clone();
        let client = service_fn(move |_: Request<BufferedBody>| {
            let peer = peer.clone();
            async move {
                peer.calls.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(peer.slow).await;
                let mut answer = Response::new(BufferedBody::default());
                *answer.status_mut() = StatusCode::from_u16(peer.status.load(Ordering::SeqCst))?;
                Ok::<_, BoxError>(answer)
            }
        });
        let store = store.clone();
        let redrive = Redrive::builder(store).no_rate().build(client).unwrap();
        Operator::builder(TOKEN).redrive(redrive).build().unwrap()
    }
}

async fn ask(app: &Router, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    ask_as(app, Some(&format!("Bearer {TOKEN}")), method, path, body).await
}

async fn ask_as(
    app: &Router,
    authorization: Option<&str>,
    method: &str,
    path: &str,
    body: &str,
) -> (StatusCode, Value) {
    let mut req = Request::builder().method(method).uri(path);
    if let Some(value) = authorization {
        req = req.header("authorization", value);
    }
    let req = req.body(Body::from(body.to_owned())).unwrap();
    let answer = app.clone().oneshot(req).await.unwrap();
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (
        status,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

/// Waits until there are as many entries as is said.
async fn left(store: &MemoryDeadLetters, expected: u64) {
    for _ in 0..500 {
        if store.count(&Filter::all()).await.unwrap() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there are never {expected} entries");
}

#[tokio::test]
async fn without_the_token_every_route_is_401_and_nothing_is_done() {
    let store = filled(1).await;
    let peer = Peer::answering(200);
    let app = peer.operator(&store).router();
    let longer = format!("Bearer {TOKEN}s");
    for wrong in [None, Some("Bearer"), Some(TOKEN), Some(longer.as_str())] {
        for (method, path) in ROUTES {
            let (status, _) = ask_as(&app, wrong, method, path, "{}").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
        }
    }
    assert_eq!(store.count(&Filter::all()).await.unwrap(), 1);
    assert_eq!(peer.calls(), 0);
}

#[tokio::test]
async fn what_was_not_given_is_501() {
    let app = Operator::builder(TOKEN).build().unwrap().router();
    for (method, path) in ROUTES {
        let body = if method == "POST" { "{}" } else { "" };
        let (status, problem) = ask(&app, method, path, body).await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{method} {path}");
        assert_eq!(problem["status"], 501);
    }
    assert!(Operator::builder("").build().is_err());
}

#[tokio::test]
async fn entries_are_listed_in_pages_shown_and_discarded() {
    let store = filled(3).await;
    let app = Peer::answering(200).operator(&store).router();
    let (status, page) = ask(&app, "GET", "/dead-letters?limit=2&reason=", "").await;
    assert_eq!(status, StatusCode::OK);
    let ids: Vec<_> = page["items"].as_array().unwrap().iter().collect();
    assert_eq!(ids[0]["eventId"], "evt-3", "newest first");
    assert_eq!(ids.len(), 2);
    let next = page["nextCursor"].as_str().unwrap();
    let (_, page) = ask(&app, "GET", &format!("/dead-letters?cursor={next}"), "").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    let (_, page) = ask(&app, "GET", "/dead-letters?eventId=evt-2", "").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    for bad in ["limit=0", "limit=x", "reason=none", "cursor=x", "who=me"] {
        let (status, problem) = ask(&app, "GET", &format!("/dead-letters?{bad}"), "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}: {problem}");
    }

    let path = format!("/dead-letters/{}", id(2));
    let (status, entry) = ask(&app, "GET", &path, "").await;
    assert_eq!(
        (status, &entry["eventId"]),
        (StatusCode::OK, &json!("evt-2"))
    );
    assert_eq!(ask(&app, "DELETE", &path, "").await.0, 204);
    assert_eq!(ask(&app, "DELETE", &path, "").await.0, 404);
    assert_eq!(ask(&app, "GET", &path, "").await.0, 404);
    assert_eq!(ask(&app, "GET", "/dead-letters/no-id", "").await.0, 404);
}

#[tokio::test]
async fn an_entry_that_is_sent_again_and_accepted_is_gone() {
    let store = filled(2).await;
    let peer = Peer::answering(503);
    let app = peer.operator(&store).router();
    let path = format!("/dead-letters/{}/redrive", id(1));
    let (status, counts) = ask(&app, "POST", &path, "").await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(
        (&counts["matched"], &counts["queued"]),
        (&json!(1), &json!(1))
    );
    left(&store, 2).await;

    peer.status.store(200, Ordering::SeqCst);
    ask(&app, "POST", &path, "").await;
    left(&store, 1).await;
    assert_eq!(ask(&app, "POST", &path, "").await.0, 404);
}

#[tokio::test]
async fn a_run_over_many_is_one_at_a_time_and_a_slip_is_not_all() {
    let store = filled(3).await;
    let peer = Peer::answering(200).slow(Duration::from_millis(50));
    let app = peer.operator(&store).router();
    for slip in [
        r#"{"resaon":"deadline"}"#,
        r#"{"limit":"1"}"#,
        r#"{"reason":""}"#,
        "[",
    ] {
        let (status, _) = ask(&app, "POST", "/dead-letters/redrive", slip).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{slip}");
    }
    assert_eq!(peer.calls(), 0);
    let (_, first) = ask(&app, "POST", "/dead-letters/redrive", "").await;
    let (_, second) = ask(&app, "POST", "/dead-letters/redrive", "").await;
    assert_eq!(first["queued"], 3, "{first}");
    assert_eq!(second["queued"], 0, "{second}");
    left(&store, 0).await;
    assert_eq!(peer.calls(), 3, "each once");
}

#[tokio::test]
async fn stopped_it_starts_no_re_drive_and_releases_what_does_not_end() {
    let store = filled(2).await;
    let peer = Peer::answering(200).slow(Duration::from_secs(3600));
    let operator = peer.operator(&store);
    let app = operator.router();
    let path = format!("/dead-letters/{}/redrive", id(1));
    assert_eq!(ask(&app, "POST", &path, "").await.1["queued"], 1);
    let path = format!("/dead-letters/{}", id(1));
    assert_eq!(ask(&app, "DELETE", &path, "").await.0, 409);

    operator.stop(Duration::from_millis(20)).await;
    let (_, refused) = ask(&app, "POST", "/dead-letters/redrive", "").await;
    assert_eq!(refused["queued"], 0);
    assert_eq!(
        ask(&app, "DELETE", &path, "").await.0,
        204,
        "it is released"
    );
}

/// Entries that can be read, and not claimed.
#[derive(Debug)]
struct Unclaimable(MemoryDeadLetters);

impl Sink for Unclaimable {
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        self.0.write(entry)
    }
}

impl LetterStore for Unclaimable {
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, StoreError>> {
        self.0.list(filter, page)
    }

    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>> {
        self.0.get(id)
    }

    fn claim(&self, _: EntryId, _: Duration, _: u32) -> BoxFuture<Result<EntryClaim, StoreError>> {
        Box::pin(async { Err(StoreError::new(StoreErrorKind::Unavailable)) })
    }

    fn renew(
        &self,
        id: EntryId,
        token: FencingToken,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        self.0.renew(id, token, lease)
    }

    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        self.0.release(token, entry)
    }

    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>> {
        self.0.remove(id, token)
    }

    fn discard(&self, _: EntryId) -> BoxFuture<Result<Discarded, StoreError>> {
        Box::pin(async { Err(StoreError::new(StoreErrorKind::Unavailable)) })
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>> {
        self.0.count(filter)
    }
}

#[tokio::test]
async fn observers_hear_of_strangers_and_of_a_store_that_fails() {
    let store = Arc::new(Unclaimable((*filled(1).await).clone()));
    let client = service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, BoxError>(Response::new(BufferedBody::default()))
    });
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let operator = Operator::builder(TOKEN)
        .redrive(Redrive::builder(store).build(client).unwrap())
        .observe(observer_fn(move |event| {
            let line = match event {
                Event::Refused { by, reason, .. } => format!("{by} {reason}"),
                Event::Trouble { part, what, .. } => format!("{part} {what}"),
                Event::Verified { .. } => return,
                _ => panic!("unexpected: {event:?}"),
            };
            let _ = tell.send(line);
        }));
    let app = operator.build().unwrap().router();
    let entry = format!("/dead-letters/{}", id(1));
    let redrive = format!("{entry}/redrive");
    for (authorized, method, path, answer, heard) in [
        (false, "GET", &*entry, 401, "bearer missing"),
        (true, "DELETE", &*entry, 503, "operator a store failed"),
        (
            true,
            "POST",
            &*redrive,
            202,
            "operator a re-drive cannot begin",
        ),
        (
            true,
            "POST",
            "/dead-letters/redrive",
            202,
            "operator a run of re-drives ended early",
        ),
    ] {
        let token = format!("Bearer {TOKEN}");
        let token = authorized.then_some(&*token);
        assert_eq!(ask_as(&app, token, method, path, "").await.0, answer);
        let line = tokio::time::timeout(Duration::from_secs(20), told.recv());
        assert_eq!(line.await.unwrap().as_deref(), Some(heard));
    }
}

#[tokio::test]
async fn observers_hear_of_entries_that_are_discarded_and_of_what_is_refused() {
    let store = filled(1).await;
    let client = service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, BoxError>(Response::new(BufferedBody::default()))
    });
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let operator = Operator::builder(TOKEN)
        .redrive(Redrive::builder(store).build(client).unwrap())
        .observe(observer_fn(move |event| {
            let line = match event {
                Event::Discarded { entry, by } => format!("{entry} discarded by {by}"),
                Event::Refused {
                    by, reason, detail, ..
                } => format!("{by}: {reason}: {detail}"),
                Event::Verified { .. } => return,
                _ => panic!("unexpected: {event:?}"),
            };
            heard.lock().unwrap().push(line);
        }));
    let app = operator.build().unwrap().router();
    let entry = format!("/dead-letters/{}", id(1));
    let discarded = format!("{} discarded by operator", id(1));
    for (method, path, body, status, line) in [
        ("DELETE", &*entry, "", 204, &*discarded),
        ("DELETE", &*entry, "", 404, "operator: not_found: Not Found"),
        (
            "POST",
            "/dead-letters/redrive",
            r#"{"secret":1}"#,
            400,
            "operator: invalid: Bad Request",
        ),
        (
            "POST",
            "/webhooks/replay/evt",
            "",
            501,
            "operator: not_configured: Not Implemented",
        ),
    ] {
        assert_eq!(ask(&app, method, path, body).await.0, status, "{path}");
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert_eq!(told, [line], "{method} {path}");
    }
}

#[tokio::test]
async fn an_event_is_as_far_as_the_worst_of_its_deliveries() {
    let app = |log: Log| {
        Operator::builder(TOKEN)
            .events(log)
            .build()
            .unwrap()
            .router()
    };
    let known = app(Log::default());
    let ask_for = |id: &'static str| {
        let known = known.clone();
        async move { ask(&known, "GET", &format!("/webhooks/events/{id}"), "").await }
    };
    for (id, status, attempts) in [
        ("received", "received", 0),
        ("delivered", "delivered", 2),
        ("two", "queued", 4),
        ("three", "dead-lettered", 6),
    ] {
        let (code, told) = ask_for(id).await;
        assert_eq!(
            (code.as_u16(), &told["status"]),
            (200, &json!(status)),
            "{id}"
        );
        assert_eq!(
            (&told["eventId"], &told["attempts"]),
            (&json!(id), &json!(attempts))
        );
    }
    let (_, two) = ask_for("two").await;
    assert_eq!(
        two["deliveries"][1],
        json!({
            "name": "a route",
            "taskId": "02020202020202020202020202020202",
            "status": "queued",
            "attempts": 2,
            "acceptedAt": "2023-11-14T22:13:20Z",
        })
    );
    assert_eq!(ask_for("unknown").await.0, 404);
    let failing = Log {
        fails: true,
        ..Log::default()
    };
    let (code, _) = ask(&app(failing), "GET", "/webhooks/events/delivered", "").await;
    assert_eq!(code, 503);
}

/// One event, and everything that was asked.
#[derive(Clone, Default)]
struct Log {
    said: Arc<Mutex<Vec<String>>>,
    fails: bool,
}

impl EventLog for Log {
    fn replay(&self, event_id: &str) -> BoxFuture<Result<Option<Enqueued>, StoreError>> {
        let queued = (event_id == "evt").then(|| Enqueued {
            id: TaskId::from_bytes([1; 16]),
            repeated: false,
        });
        Box::pin(async move { Ok(queued) })
    }

    fn trigger(&self, trigger: Trigger) -> BoxFuture<Result<Enqueued, StoreError>> {
        let key = trigger.key.to_text();
        assert!(key.starts_with("key:trigger:"), "{key}");
        let hops = trigger.hops.as_ref().map(Hops::as_str);
        let said = format!("{:?} {:?} {hops:?}", trigger.event_id, trigger.payload);
        self.said.lock().unwrap().push(said);
        let id = TaskId::from_bytes([2; 16]);
        Box::pin(async move {
            Ok(Enqueued {
                id,
                repeated: false,
            })
        })
    }

    fn status(&self, event_id: &str) -> BoxFuture<Result<Option<EventStatus>, StoreError>> {
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let task = |id, status| Task::new(TaskId::from_bytes([id; 16]), status, at, 2);
        let done = Status::Succeeded { result: None };
        let found = match event_id {
            "received" => Some(vec![]),
            "delivered" => Some(vec![EventDelivery::new(task(1, done))]),
            "two" => Some(vec![
                EventDelivery::new(task(1, done)),
                EventDelivery::new(task(2, Status::Running)).named("a route"),
            ]),
            "three" => Some(vec![
                EventDelivery::new(task(1, Status::Failed)),
                EventDelivery::new(task(2, Status::Queued)),
                EventDelivery::new(task(3, Status::Cancelled)),
            ]),
            _ => None,
        };
        let fails = self.fails;
        Box::pin(async move {
            if fails {
                return Err(StoreError::new(StoreErrorKind::Unavailable));
            }
            Ok(found.map(EventStatus::from))
        })
    }

    fn audit(&self, action: &'static str, subject: &str) -> BoxFuture<Result<(), StoreError>> {
        self.said
            .lock()
            .unwrap()
            .push(format!("{action} {subject}"));
        let done = if self.fails {
            Err(StoreError::new(StoreErrorKind::Unavailable))
        } else {
            Ok(())
        };
        Box::pin(async move { done })
    }
}

/// The limit is the one that was set, and not that of axum's extractors, 2 MiB.
#[tokio::test]
async fn a_body_may_be_as_long_as_is_set() {
    let operator = Operator::builder(TOKEN).max_body(4 << 20).build().unwrap();
    let body = |bytes: usize| format!(r#"{{"id":"{}"}}"#, "x".repeat(bytes));
    for (path, bytes, expected) in [
        // Read, and found to have an id that is too long, or a field that no filter has.
        ("/api/v2/webhooks/trigger", 3 << 20, 400),
        ("/dead-letters/redrive", 3 << 20, 400),
        ("/api/v2/webhooks/trigger", 4 << 20, 413),
        ("/dead-letters/redrive", 4 << 20, 413),
    ] {
        let answer = ask(&operator.router(), "POST", path, &body(bytes)).await;
        assert_eq!(answer.0, expected, "{path} {bytes}");
    }
    let small = tower_webhook::body::BodyBudget::new(1 << 20);
    let error = Operator::builder(TOKEN).body_budget(small).build();
    assert_eq!(error.unwrap_err().setting(), "budget");
}

#[tokio::test]
async fn events_are_replayed_and_triggered_and_both_are_recorded() {
    let log = Log::default();
    let operator = Operator::builder(TOKEN).events(log.clone()).max_body(64);
    let app = operator.build().unwrap().router();
    let (status, answer) = ask(&app, "POST", "/webhooks/replay/evt", "").await;
    assert_eq!(
        (status, &answer["status"]),
        (StatusCode::ACCEPTED, &json!("queued"))
    );
    assert_eq!(answer["taskId"], TaskId::from_bytes([1; 16]).to_string());
    assert_eq!(ask(&app, "POST", "/webhooks/replay/other", "").await.0, 404);

    let trigger = "/api/v2/webhooks/trigger";
    assert_eq!(ask(&app, "POST", trigger, r#"{"id":"mine"}"#).await.0, 202);
    assert_eq!(ask(&app, "POST", trigger, "[]").await.0, 400);
    assert_eq!(
        ask(&app, "POST", trigger, &format!("{:65}", "{}")).await.0,
        413
    );
    // Both record what they do themselves.
    let said = log.said.lock().unwrap();
    assert_eq!(said[..], [r#"Some("mine") b"{\"id\":\"mine\"}" None"#]);
}

/// The trigger route is where a delivery may end that was sent from here.
#[tokio::test]
async fn a_loop_ends_at_the_trigger_route_after_the_token_is_known_to_be_right() {
    let log = Log::default();
    let operator = Operator::builder(TOKEN).events(log.clone());
    let guard = LoopGuardLayer::new("one").unwrap();
    let app = operator.loop_guard(guard).build().unwrap().router();
    for (token, marks, status) in [
        ("wrong", "one", 401),
        (TOKEN, "one", 508),
        (TOKEN, "a, b, c, d, e, f, g, h, i, j", 508),
        (TOKEN, "other", 202),
    ] {
        let req = Request::post("/api/v2/webhooks/trigger")
            .header("authorization", format!("Bearer {token}"))
            .header("webhook-loop", marks)
            .body(Body::from("{}"));
        let answer = app.clone().oneshot(req.unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{marks}");
    }
    let said = log.said.lock().unwrap();
    assert_eq!(said[..], [r#"None b"{}" Some("other")"#]);
}

#[tokio::test]
async fn nothing_is_done_that_cannot_be_recorded() {
    let log = Log {
        fails: true,
        ..Log::default()
    };
    let (peer, store) = (Peer::answering(200), filled(2).await);
    let client = service_fn({
        let peer = peer.clone();
        move |_: Request<BufferedBody>| {
            peer.calls.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, BoxError>(Response::new(BufferedBody::default())) }
        }
    });
    let redrive = Redrive::builder(store.clone()).no_rate().build(client);
    let operator = Operator::builder(TOKEN)
        .redrive(redrive.unwrap())
        .events(log.clone())
        .build()
        .unwrap();
    let app = operator.router();
    for (method, path) in [
        ("DELETE", format!("/dead-letters/{}", id(1))),
        ("POST", format!("/dead-letters/{}/redrive", id(1))),
        ("POST", "/dead-letters/redrive".to_owned()),
    ] {
        let (status, _) = ask(&app, method, &path, "").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{method} {path}");
    }
    operator.stop(Duration::from_secs(5)).await;
    assert_eq!(store.count(&Filter::all()).await.unwrap(), 2);
    assert_eq!(peer.calls(), 0);
    // What is not there is not asked for.
    let path = format!("/dead-letters/{}", id(9));
    assert_eq!(ask(&app, "DELETE", &path, "").await.0, 404);
    assert_eq!(log.said.lock().unwrap().len(), 3);
}
