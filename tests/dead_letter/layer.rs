//! The layer by itself.

use super::*;
use std::{
    convert::Infallible,
    io,
    task::{Context, Poll},
    time::{Duration, UNIX_EPOCH},
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_webhook::{
    DeadLetterLayer, RetryWithJitterLayer,
    clock::WallClock,
    dead_letter::{
        DeadLettered, DeadLetters, Direction, EntryBody, EntryLost, Reason, Redaction,
        WriteOutcome, describe_fn,
    },
    outcome::{Outcome, classify_fn},
    peer::{OnePeer, peer_fn},
    retry::RetryConfig,
};
#[cfg(feature = "grpc")]
use tower_webhook::{
    observe::{Event, observer_fn},
    outcome::{Classify, LateOutcome, LateSender, MakeClassifier},
};

fn layer(sink: &Recording) -> DeadLetterLayer {
    DeadLetterLayer::new(DeadLetters::new(sink.clone()))
}

fn answers(
    status: u16,
) -> impl Service<Request<BufferedBody>, Response = Answer, Error = BoxError, Future: Send> + Clone
{
    service_fn(move |_: Request<BufferedBody>| async move { answer(status) })
}

fn dead_lettered(res: &Answer) -> &DeadLettered {
    res.extensions().get().expect("it was dead_lettered")
}

#[tokio::test]
async fn what_goes_well_leaves_no_entry_and_no_mark() {
    let sink = Recording::default();
    let res = layer(&sink).layer(answers(204)).oneshot(request()).await;
    assert!(res.unwrap().extensions().get::<DeadLettered>().is_none());
    assert!(sink.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_entry_says_what_was_sent_and_how_it_went() {
    let sink = Recording::default();
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let layer = layer(&sink).clock(WallClock::fixed(now));
    let peer = service_fn(|_: Request<BufferedBody>| async {
        sleep(2 * SECOND).await;
        answer(500)
    });
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let req = Request::put("http://user:pass@A.test/hooks?token=abc&n=1")
        .header("webhook-id", "msg_1")
        .header("idempotency-key", "key_1")
        .header("ce-time", "2023-11-14T22:13:20Z")
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .header("authorization", "Bearer abc")
        .header("webhook-signature", "v1,abc")
        .header("x-n", "1")
        .header("x-n", "2");
    let req = req.body(BufferedBody::from("{}")).unwrap();
    let res = layer.layer(peer).oneshot(req).await.unwrap();

    let entry = sink.entry();
    assert_eq!(
        (res.status(), &res.body().as_bytes()[..]),
        (500.try_into().unwrap(), &b"answer"[..])
    );
    assert_eq!(
        (dead_lettered(&res).id(), dead_lettered(&res).end()),
        (entry.id, WriteOutcome::Written)
    );
    assert_eq!(entry.direction, Direction::Outbound);
    assert_eq!(
        (entry.kind.as_str(), entry.target.as_str()),
        ("http", "a.test")
    );
    assert_eq!(entry.method.as_deref(), Some("PUT"));
    assert_eq!(
        entry.uri.as_deref(),
        Some("http://redacted@A.test/hooks?token=redacted&n=1")
    );
    let names: Vec<_> = entry
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "webhook-id",
            "idempotency-key",
            "ce-time",
            "traceparent",
            "x-n",
            "x-n"
        ]
    );
    assert_eq!(entry.headers[5].1, "2");
    assert_eq!(
        (entry.body.bytes().as_ref(), entry.body.is_truncated()),
        (&b"{}"[..], false)
    );
    assert_eq!(entry.cause.reason, Reason::NotRetryable);
    assert_eq!(
        (entry.cause.code, entry.cause.class.as_deref()),
        (Some(500), Some("transient"))
    );
    assert_eq!(entry.written_at, now);
    assert_eq!(entry.first_attempt_at, Some(now - 2 * SECOND));
    assert_eq!(entry.last_attempt_at, Some(now));
    assert_eq!((entry.history.attempts(), entry.replays), (1, 0));
    assert_eq!(entry.event_id.as_deref(), Some("msg_1"));
    assert_eq!(entry.idempotency_key.as_deref(), Some("key_1"));
    assert_eq!(entry.event_time, Some(now));
    assert_eq!(entry.trace_id.as_deref(), Some(trace));
}

#[tokio::test]
async fn an_error_is_returned_as_it_was_and_told_in_words_without_secrets() {
    let sink = Recording::default();
    let peer = service_fn(|_: Request<BufferedBody>| async {
        let error = io::Error::other("for url (https://u:p@a.test/?api_key=abc)");
        Err::<Answer, _>(BoxError::from(error))
    });
    let error = layer(&sink)
        .layer(peer)
        .oneshot(request())
        .await
        .unwrap_err();
    assert!(error.is::<io::Error>());
    let message = sink.entry().cause.message.clone().unwrap();
    assert_eq!(message, "for url (https://a.test)");
}

#[tokio::test]
async fn a_body_over_the_limit_is_kept_in_part_and_says_so() {
    let sink = Recording::default();
    let service = layer(&sink).body_limit(1).layer(answers(400));
    service.oneshot(request()).await.unwrap();
    let body = &sink.entry().body;
    assert_eq!((body.bytes().as_ref(), body.length()), (&b"{"[..], 2));
    assert!(body.is_truncated());
}

#[tokio::test]
async fn a_redaction_has_the_last_word() {
    let sink = Recording::default();
    let redaction = Redaction::new().with(|entry| entry.body = EntryBody::default());
    let service = layer(&sink).redaction(redaction).layer(answers(400));
    service.oneshot(request()).await.unwrap();
    assert_eq!(sink.entry().body.length(), 0);
}

#[tokio::test]
async fn any_request_and_a_handler_that_cannot_fail_by_error() {
    #[derive(Clone)]
    struct Job {
        tenant: &'static str,
    }
    let sink = Recording::default();
    let judge = classify_fn(|result: Result<&bool, &Infallible>| match result {
        Ok(true) => Outcome::success(),
        _ => Outcome::permanent(),
    });
    let layer = layer(&sink)
        .classifier(judge)
        .peer(peer_fn(|job: &Job| job.tenant.into()))
        .direction(Direction::Inbound)
        .describe(describe_fn(|job: &Job, entry| {
            entry.kind = "import".to_owned();
            entry.event_id = Some(job.tenant.to_owned());
        }));
    let service = layer.layer(service_fn(|job: Job| async move {
        Ok::<_, Infallible>(job.tenant == "good")
    }));
    for tenant in ["good", "bad"] {
        let done = service.clone().oneshot(Job { tenant }).await;
        assert_eq!(done, Ok(tenant == "good"));
    }
    let entry = sink.entry();
    assert_eq!(
        (entry.kind.as_str(), entry.target.as_str()),
        ("import", "bad")
    );
    assert_eq!(entry.direction, Direction::Inbound);
    assert_eq!(entry.cause.reason, Reason::Rejected);
}

#[tokio::test]
async fn a_description_that_panics_costs_the_description_and_not_the_entry() {
    let sink = Recording::default();
    let judge = classify_fn(|_: Result<&(), &BoxError>| Outcome::permanent());
    let describe = describe_fn(|_: &u8, _| panic!("on purpose"));
    let layer = layer(&sink)
        .classifier(judge)
        .peer(OnePeer)
        .describe(describe);
    let service = layer.layer(service_fn(|_: u8| async { Ok::<_, BoxError>(()) }));
    service.oneshot(7).await.unwrap();
    assert_eq!(sink.entry().kind, "request");
}

#[tokio::test(start_paused = true)]
async fn what_no_sink_takes_cannot_be_missed() {
    for (does, first, time) in [
        (
            Does::Fails(StoreErrorKind::Full),
            StoreErrorKind::Full,
            Duration::ZERO,
        ),
        (Does::Panics, StoreErrorKind::Unavailable, Duration::ZERO),
        (Does::Hangs, StoreErrorKind::Timeout, 5 * SECOND),
    ] {
        let (sink, started) = (Recording::that(does), Instant::now());
        let res = layer(&sink)
            .layer(answers(503))
            .oneshot(request())
            .await
            .unwrap();
        assert_eq!(res.status(), 503);
        assert_eq!(
            (dead_lettered(&res).end(), started.elapsed()),
            (WriteOutcome::NotWritten, time)
        );
        let why = dead_lettered(&res).not_written().unwrap();
        assert_eq!(why.first().kind(), first);

        let peer = service_fn(|_: Request<BufferedBody>| async {
            let error = io::Error::from(io::ErrorKind::ConnectionRefused);
            Err::<Answer, _>(BoxError::from(error))
        });
        let error = layer(&sink)
            .layer(peer)
            .oneshot(request())
            .await
            .unwrap_err();
        assert_eq!(Outcome::of_error(&*error), Outcome::unreached());
        let lost: Box<EntryLost> = error.downcast().unwrap();
        assert_eq!(lost.not_written().first().kind(), first);
        assert!(lost.into_source().is::<io::Error>());
    }
}

#[tokio::test]
async fn what_the_first_sink_does_not_take_goes_to_the_fallback() {
    for does in [Does::Panics, Does::Fails(StoreErrorKind::Closed)] {
        let fallback = Recording::default();
        let entries = DeadLetters::new(Recording::that(does)).fallback(fallback.clone());
        let service = DeadLetterLayer::new(entries).layer(answers(400));
        let res = service.oneshot(request()).await.unwrap();
        assert_eq!(dead_lettered(&res).end(), WriteOutcome::FellBack);
        assert_eq!(fallback.entry().id, dead_lettered(&res).id());
    }
}

#[tokio::test]
async fn the_instance_that_was_polled_is_the_one_that_is_called() {
    #[derive(Default)]
    struct Strict(bool);
    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self(false)
        }
    }
    impl Service<Request<BufferedBody>> for Strict {
        type Response = Answer;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Answer, BoxError>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            self.0 = true;
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<BufferedBody>) -> Self::Future {
            assert!(
                std::mem::take(&mut self.0),
                "called without having been polled"
            );
            std::future::ready(answer(200))
        }
    }
    let mut service = layer(&Recording::default()).layer(Strict(false));
    for _ in 0..2 {
        service
            .ready()
            .await
            .unwrap()
            .call(request())
            .await
            .unwrap();
    }
}

/// Judges every answer at its end.
#[cfg(feature = "grpc")]
#[derive(Clone)]
struct Late(LateOutcome);

#[cfg(feature = "grpc")]
impl<Req> MakeClassifier<Req> for Late {
    type Classifier = Self;

    fn make_classifier(&self, _: &Req) -> Self {
        self.clone()
    }
}

#[cfg(feature = "grpc")]
impl<Res, Err> Classify<Res, Err> for Late {
    fn classify(self, _: Result<&Res, &Err>) -> Outcome {
        Outcome::success()
    }

    fn late(&self, _: Result<&Res, &Err>) -> Option<LateOutcome> {
        Some(self.0.clone())
    }
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn an_answer_that_fails_at_its_end_is_dead_lettered_then() {
    let called = |sink: &Recording| {
        let (sender, late): (LateSender, _) = LateOutcome::new();
        let service = layer(sink).classifier(Late(late)).layer(answers(200));
        (sender, service.oneshot(request()))
    };
    let sink = Recording::default();
    let (sender, res) = called(&sink);
    res.await.unwrap();
    assert!(sink.entries().is_empty());
    sender.send(Outcome::transient().with_code(14));
    tokio::task::yield_now().await;
    assert_eq!(sink.entry().cause.code, Some(14));

    for outcome in [Some(Outcome::success()), None] {
        let sink = Recording::default();
        let (sender, res) = called(&sink);
        res.await.unwrap();
        match outcome {
            Some(outcome) => sender.send(outcome),
            None => drop(sender),
        }
        tokio::task::yield_now().await;
        assert!(sink.entries().is_empty(), "{outcome:?}");
    }
}

#[cfg(feature = "grpc")]
#[tokio::test(start_paused = true)]
async fn entries_of_answers_that_fail_at_their_end_have_a_bound() {
    const MIB: usize = 1 << 20;
    let lost = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&lost);
    let entries = DeadLetters::new(Recording::that(Does::Hangs));
    let entries = entries.observe(observer_fn(move |event| {
        if let Event::Lost { kind, .. } = event {
            told.lock().unwrap().push(*kind);
        }
    }));
    // They share their bytes, so that the test needs few.
    let whole = EntryBody::from_parts(vec![0; 10 * MIB].into(), 10 << 20, [0; 32]).unwrap();
    for _ in 0..8 {
        let (sender, late): (LateSender, _) = LateOutcome::new();
        let whole = whole.clone();
        let service = DeadLetterLayer::new(entries.clone())
            .classifier(Late(late))
            .peer(OnePeer)
            .describe(describe_fn(move |_: &u8, entry| entry.body = whole.clone()))
            .body_limit(10 * MIB)
            .layer(service_fn(|_: u8| async { Ok::<_, BoxError>(()) }));
        service.oneshot(0).await.unwrap();
        sender.send(Outcome::transient());
    }
    // 64 MiB have room for 6 of them.
    assert_eq!(*lost.lock().unwrap(), [StoreErrorKind::Full; 2]);
    sleep(6 * SECOND).await;
    assert_eq!(lost.lock().unwrap()[2..], [StoreErrorKind::Timeout; 6]);
}

#[tokio::test(start_paused = true)]
async fn a_change_between_the_layers_is_in_every_attempt() {
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let marks = Arc::clone(&seen);
    let peer = service_fn(move |req: Request<BufferedBody>| {
        let marked = req.headers().contains_key("x-mark");
        marks.lock().unwrap().push(marked);
        async { answer(503) }
    });
    let retry = RetryWithJitterLayer::new(RetryConfig::default()).layer(peer);
    let marking = retry.map_request(|mut req: Request<BufferedBody>| {
        req.headers_mut().insert("x-mark", "1".parse().unwrap());
        req
    });
    let service = layer(&Recording::default()).layer(marking);
    service.oneshot(request()).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [true; 3]);
}

fn panics() -> Result<Answer, BoxError> {
    panic!("on purpose")
}

/// What a task that panicked has thrown.
async fn thrown<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> Option<&'static str> {
    let error = tokio::spawn(call).await.err()?;
    error.into_panic().downcast_ref::<&str>().copied()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_leaves_an_entry_and_the_panic_goes_on() {
    let sink = Recording::that(Does::TakesAfter(SECOND));
    let peer = service_fn(|_: Request<BufferedBody>| async {
        sleep(SECOND).await;
        panics()
    });
    let began = Instant::now();
    let call = layer(&sink).layer(peer).oneshot(request());
    assert_eq!(thrown(call).await, Some("on purpose"));
    let entry = sink.entry();
    assert_eq!(began.elapsed(), 2 * SECOND, "when it is written");
    assert_eq!(entry.cause.reason, Reason::Panicked);
    assert_eq!(
        (entry.cause.message.as_ref(), entry.history.attempts()),
        (None, 1)
    );
    assert_eq!(
        (&entry.target[..], &entry.body.bytes()[..]),
        ("a.test", &b"{}"[..])
    );
}

#[tokio::test]
async fn a_service_that_panics_before_there_is_a_future_does_so_in_the_future() {
    let sink = Recording::default();
    let peer = service_fn(|_: Request<BufferedBody>| {
        let answer = panics();
        async { answer }
    });
    let mut service = layer(&sink).layer(peer);
    let call = service.call(request());
    assert_eq!(thrown(call).await, Some("on purpose"));
    assert_eq!(sink.entry().cause.reason, Reason::Panicked);
}

#[tokio::test]
async fn a_panic_goes_on_though_no_sink_takes_the_entry() {
    for does in [Does::Fails(StoreErrorKind::Full), Does::Panics] {
        let sink = Recording::that(does);
        let peer = service_fn(|_: Request<BufferedBody>| async { panics() });
        let call = layer(&sink).layer(peer).oneshot(request());
        assert_eq!(thrown(call).await, Some("on purpose"));
    }
}

#[tokio::test]
async fn a_key_that_panics_leaves_an_entry_and_the_panic_goes_on() {
    let sink = Recording::default();
    let key =
        peer_fn(|_: &Request<BufferedBody>| -> std::borrow::Cow<'_, str> { panic!("on purpose") });
    let fine = layer(&sink)
        .peer(key.clone())
        .layer(answers(204))
        .oneshot(request());
    assert_eq!(fine.await.unwrap().status(), 204, "nobody asks for it");
    let call = layer(&sink)
        .peer(key)
        .layer(answers(410))
        .oneshot(request());
    assert_eq!(thrown(call).await, Some("on purpose"));
    let entry = sink.entry();
    assert_eq!(entry.cause.reason, Reason::Panicked);
    assert_eq!(entry.cause.code, Some(410), "how the call itself went");
    assert_eq!(
        (entry.target.as_str(), entry.event_id.as_deref()),
        ("", Some("msg_1"))
    );
}

#[tokio::test]
async fn readiness_that_fails_is_the_callers_and_leaves_no_entry() {
    let sink = Recording::default();
    let mut service = layer(&sink).layer(Never);
    let error = service.ready().await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "the client is gone");
    assert!(sink.entries().is_empty());
}

struct Never;

impl Service<Request<BufferedBody>> for Never {
    type Response = Answer;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Err("the client is gone".into()))
    }

    fn call(&mut self, _: Request<BufferedBody>) -> Self::Future {
        std::future::ready(answer(200))
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn a_nested_router_keeps_the_uri_that_the_caller_requested() {
    use axum::{Router, body::Body};

    let sink = Recording::default();
    let guarded = layer(&sink).layer(answers(500));
    let hooks = service_fn(move |req: Request<Body>| {
        let guarded = guarded.clone();
        async move {
            let req = req.map(|_| BufferedBody::from("{}"));
            let res = guarded.oneshot(req).await.unwrap();
            Ok::<_, Infallible>(res.map(Body::new))
        }
    });
    let app = Router::new().nest_service("/v1", hooks);
    let req = Request::post("/v1/hooks?n=1").body(Body::from("{}"));
    let res = app.oneshot(req.unwrap()).await.unwrap();
    assert_eq!(res.status(), 500);
    assert_eq!(sink.entry().uri.as_deref(), Some("/v1/hooks?n=1"));
}
