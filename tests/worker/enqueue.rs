//! Accepting requests, and telling how their tasks are.

use crate::support::{Bench, SECOND, wall_clock};
use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::ServiceExt;
use tower_webhook::{
    StoreError, StoreErrorKind,
    body::BufferedBody,
    idempotency::{IdempotencyKey, KeyError, KeySource},
    observe::{Event, observer_fn},
    problem::Problem,
    queue::{
        Ask, End, Engine, EnqueueError, EnqueueService, Enqueued, MemoryQueue, NewJob, Status,
        TaskId, TaskStatusService,
    },
};

fn post(key: Option<&str>, body: &'static str) -> Request<BufferedBody> {
    let mut req = Request::post("/hooks");
    if let Some(key) = key {
        req = req.header("idempotency-key", key);
    }
    req.body(BufferedBody::from(body)).unwrap()
}

fn event(req: Request<BufferedBody>) -> Result<NewJob, Problem> {
    if req.body().as_bytes() == "bad" {
        return Err(Problem::new(StatusCode::BAD_REQUEST).detail("not an event"));
    }
    if req.body().as_bytes() == "named" {
        return Err(Problem::new(StatusCode::BAD_REQUEST)
            .reason("syntax")
            .detail("not JSON at byte 0"));
    }
    Ok(NewJob::new("event", req.into_body().into_bytes()))
}

fn source() -> KeySource {
    KeySource::header(HeaderName::from_static("idempotency-key"))
}

fn text(res: &Response<BufferedBody>) -> String {
    String::from_utf8(res.body().as_bytes().to_vec()).unwrap()
}

fn task_id(res: &Response<BufferedBody>) -> TaskId {
    let json: serde_json::Value = serde_json::from_str(&text(res)).unwrap();
    json["taskId"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_is_in_the_queue_and_a_repetition_gets_the_first_id() {
    let bench = Bench::new();
    let service = EnqueueService::new(bench.queue.clone(), event)
        .dedup_key("hooks", source())
        .unwrap();
    let first = service
        .clone()
        .oneshot(post(Some("evt_1"), "{}"))
        .await
        .unwrap();
    assert_eq!(first.status(), 202);
    let id = task_id(&first);
    assert_eq!(
        text(&first),
        format!(r#"{{"status":"accepted","taskId":"{id}"}}"#)
    );
    assert_eq!(bench.status(id).await, Status::Queued);
    let found = bench
        .queue
        .find(IdempotencyKey::new("hooks", "evt_1").unwrap())
        .await
        .unwrap();
    assert_eq!(found.unwrap().id, id);

    let again = service
        .clone()
        .oneshot(post(Some("evt_1"), "{}"))
        .await
        .unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    let expected = format!(r#"{{"status":"accepted","taskId":"{id}","duplicate":true}}"#);
    assert_eq!((again.status().as_u16(), text(&again)), (202, expected));

    let other = service.oneshot(post(None, "{}")).await.unwrap();
    assert_ne!(task_id(&other), id);
    assert_eq!(bench.queue.depth().await.unwrap().queued, 2);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_job_is_answered_as_the_closure_says() {
    let bench = Bench::new();
    let service = EnqueueService::new(bench.queue.clone(), event)
        .dedup_key("hooks", source())
        .unwrap();
    let res = service.clone().oneshot(post(None, "bad")).await.unwrap();
    assert_eq!(res.status(), 400);
    let res = service.oneshot(post(Some("\"open"), "{}")).await.unwrap();
    assert_eq!(res.status(), 400);
    let reason = res.extensions().get::<EnqueueError>();
    assert_eq!(
        reason,
        Some(&EnqueueError::IdempotencyKey(KeyError::Malformed))
    );
    assert_eq!(bench.queue.depth().await.unwrap().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_accepted_is_told_so() {
    let cases = [
        (StoreErrorKind::Full, 503),
        (StoreErrorKind::Unavailable, 503),
        (StoreErrorKind::Timeout, 503),
        (StoreErrorKind::Closed, 503),
        (StoreErrorKind::TooLarge, 413),
        (StoreErrorKind::Rejected, 422),
    ];
    for (kind, status) in cases {
        let never = move |_: NewJob| async move { Err::<Enqueued, _>(StoreError::new(kind)) };
        let service = EnqueueService::new(never, event).retry_after(7 * SECOND);
        let res = service.clone().oneshot(post(None, "{}")).await.unwrap();
        assert_eq!(res.status(), status, "{kind:?}");
        let retry_after = res.headers().get("retry-after");
        assert_eq!(retry_after.is_some(), status == 503, "{kind:?}");
        assert!(retry_after.is_none_or(|seconds| seconds == "7"));
        let own = service.refuse_with(|_, _| Response::new("own".into()));
        let res = own.oneshot(post(None, "{}")).await.unwrap();
        assert_eq!(text(&res), "own");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_before_it_is_safe() {
    let slow = |job: NewJob| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(Enqueued {
            id: job.id,
            repeated: false,
        })
    };
    let service = EnqueueService::new(slow, event).answer(|_| Response::new("own".into()));
    let mut call = tokio_test::task::spawn(service.oneshot(post(None, "{}")));
    tokio_test::assert_pending!(call.poll());
    tokio::time::advance(Duration::from_millis(49)).await;
    tokio_test::assert_pending!(call.poll());
    tokio::time::advance(Duration::from_millis(2)).await;
    assert_eq!(text(&call.await.unwrap()), "own");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_hangs_is_answered_for_and_a_repetition_finds_what_is_there() {
    let bench = Bench::new();
    let queue = bench.queue.clone();
    let hangs = move |job: NewJob| {
        let queue = queue.clone();
        async move {
            queue.enqueue(job).await?;
            std::future::pending().await
        }
    };
    let service = EnqueueService::new(hangs, event).dedup_key("hooks", source());
    let service = service.unwrap().retry_after(Duration::MAX);
    let began = tokio::time::Instant::now();
    let res = service.clone().oneshot(post(Some("evt_1"), "{}")).await;
    let res = res.unwrap();
    assert_eq!((res.status().as_u16(), began.elapsed()), (503, 10 * SECOND));
    assert_eq!(res.headers()["retry-after"], "86400");
    assert!(matches!(
        res.extensions().get(),
        Some(EnqueueError::NotAccepted {
            kind: StoreErrorKind::Timeout,
            ..
        })
    ));
    let works = EnqueueService::new(bench.queue.clone(), event).dedup_key("hooks", source());
    let again = works.unwrap().oneshot(post(Some("evt_1"), "{}")).await;
    assert!(text(&again.unwrap()).contains(r#""duplicate":true"#));
    let zero = service.time_limit(Duration::ZERO).unwrap_err();
    assert_eq!(zero.setting(), "time_limit");
}

#[test]
fn a_scope_that_is_too_long_is_named() {
    let never = |_: NewJob| async { Err::<Enqueued, _>(StoreError::new(StoreErrorKind::Full)) };
    let error = EnqueueService::new(never, event)
        .dedup_key(&"x".repeat(2_000), source())
        .unwrap_err();
    assert_eq!(error.setting(), "dedup_key");
}

async fn status(service: &TaskStatusService, path: &str) -> Response<BufferedBody> {
    let req = Request::get(path).body(()).unwrap();
    let res = service.clone().oneshot(req).await.unwrap();
    assert_eq!(res.headers()["cache-control"], "no-store");
    res
}

#[tokio::test(start_paused = true)]
async fn a_task_is_told_of_from_beginning_to_end() {
    let bench = Bench::with_queue(wall_clock(), MemoryQueue::builder().retention(SECOND));
    let service = TaskStatusService::new(bench.queue.clone());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.put("").await);
    }
    let path = |id: TaskId| format!("/webhooks/status/{id}");
    let waits = status(&service, &path(ids[0])).await;
    assert_eq!(
        (waits.status().as_u16(), text(&waits)),
        (202, r#"{"status":"processing"}"#.into())
    );

    let claims = bench.engine.inner.claim(Ask::new(9, SECOND)).await.unwrap();
    let results = [Some(Bytes::from_static(b"{\"n\":1}")), None];
    for (job, result) in claims.jobs.iter().zip(results) {
        let done = vec![(job.claim(), End::Done { result })];
        assert!(bench.engine.inner.settle(done).await.is_ok());
    }
    let done = status(&service, &path(claims.jobs[0].id)).await;
    assert_eq!(
        (done.status().as_u16(), text(&done)),
        (200, r#"{"n":1}"#.into())
    );
    assert_eq!(done.headers()["content-type"], "application/json");
    let bare = status(&service, &path(claims.jobs[1].id)).await;
    assert_eq!(
        (bare.status().as_u16(), text(&bare)),
        (200, r#"{"status":"success"}"#.into())
    );
    let runs = status(&service, &path(claims.jobs[2].id)).await;
    assert_eq!(runs.status(), 202);
    let cancelled = bench.queue.cancel(claims.jobs[2].id).await.unwrap();
    assert_eq!(cancelled, Some(Status::Cancelled));
    let cancelled = status(&service, &path(claims.jobs[2].id)).await;
    assert_eq!(
        (cancelled.status().as_u16(), text(&cancelled)),
        (410, r#"{"status":"cancelled"}"#.into())
    );

    // Over, unknown and malformed are one answer.
    tokio::time::sleep(2 * SECOND).await;
    let over = status(&service, &path(claims.jobs[0].id)).await;
    assert_eq!(over.status(), 404);
    let unknown = path(TaskId::random());
    for other in [
        unknown.as_str(),
        "/webhooks/status/..%2f",
        "/",
        "/webhooks/status/1%20OR%201",
    ] {
        let res = status(&service, other).await;
        assert_eq!(
            (res.status().as_u16(), text(&res)),
            (404, text(&over)),
            "{other}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_says_nothing_of_why() {
    let bench = Bench::new();
    let id = bench.put("").await;
    let broken = tower::service_fn(|_| async { Err::<(), _>(std::io::Error::other("secret")) });
    let _worker = bench.worker().build(broken).unwrap().spawn();
    bench.end(id).await;
    let service = TaskStatusService::new(bench.queue.clone());
    let path = format!("/{id}");
    let failed = status(&service, &path).await;
    assert_eq!(
        (failed.status().as_u16(), text(&failed)),
        (500, r#"{"status":"failed"}"#.into())
    );
    let own = service.failed(|task| {
        assert_eq!(task.attempts, 3);
        Response::new(r#"{"status":"success","nextNode":"fallback"}"#.into())
    });
    assert_eq!(status(&own, &path).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn observers_are_told_what_was_accepted_and_what_was_refused_and_why() {
    let bench = Bench::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let told = Arc::clone(&told);
        Arc::new(observer_fn(move |event| {
            let text = match event {
                Event::Accepted {
                    kind,
                    peer,
                    repeated,
                    ..
                } => format!("{kind} {peer} {repeated}"),
                Event::Refused { by, reason, detail } => format!("{by} {reason}: {detail}"),
                other => format!("{other:?}"),
            };
            told.lock().unwrap().push(text);
        }))
    };
    let job = |req: Request<BufferedBody>| event(req).map(|job| job.target("peer"));
    let service = EnqueueService::new(bench.queue.clone(), job)
        .dedup_key("hooks", source())
        .unwrap()
        .observe(observer.clone());
    let full = |_: NewJob| async { Err(StoreError::new(StoreErrorKind::Full)) };
    let full = EnqueueService::new(full, event).observe(observer.clone());
    let far = |req: Request<BufferedBody>| event(req).map(|job| job.delay(u32::MAX * SECOND));
    let far = EnqueueService::new(bench.queue.clone(), far).observe(observer);
    for id in ["evt_1", "evt_1", ""] {
        drop(service.clone().oneshot(post(Some(id), "{}")).await);
    }
    drop(full.oneshot(post(None, "{}")).await);
    drop(far.oneshot(post(None, "{}")).await);
    drop(service.clone().oneshot(post(None, "bad")).await);
    drop(service.clone().oneshot(post(None, "named")).await);
    assert_eq!(
        *told.lock().unwrap(),
        [
            "event peer false",
            "event peer true",
            "enqueue malformed_key: the idempotency key is empty",
            "enqueue full: the queue did not accept the job: full",
            "enqueue rejected: `delay` is 4294967295 s from now, and this queue keeps a job for at most 946080000 s before its first attempt",
            "enqueue no_job: 400 Bad Request",
            "enqueue syntax: not JSON at byte 0",
        ]
    );
}

#[cfg(feature = "axum")]
#[test]
fn a_request_from_a_nested_router_is_kept_with_the_uri_that_the_caller_requested() {
    let mut req = post(Some("evt_1"), "{}");
    let original = axum::extract::OriginalUri("/v1/hooks".parse().unwrap());
    req.extensions_mut().insert(original);
    let job = NewJob::http(req);
    assert!(job.payload.windows(9).any(|part| part == b"/v1/hooks"));
}
