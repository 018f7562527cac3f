//! What is returned in the end, and what it says.

use super::*;
use tower_webhook::outcome::{Classify, HttpClassifier, MakeClassifier, Outcome, OutcomeKind};

#[tokio::test(start_paused = true)]
async fn the_last_response_is_returned_with_the_history() {
    let peer = Peer::new([Step::Status(500), Step::Reset, Step::Busy(503, 2)]);
    let result = deliver(plain(), &peer, get()).await;
    assert_eq!(status(&result), 503);
    let history = history(&result).unwrap();
    let told: Vec<_> = history
        .records()
        .iter()
        .map(|record| {
            (
                record.number(),
                record.started().as_secs(),
                record.outcome().kind(),
                record.outcome().code(),
                record.wait(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, 0, OutcomeKind::Transient, Some(500), Some(secs(1))),
            (2, 1, OutcomeKind::Transient, None, Some(secs(1))),
            (3, 2, OutcomeKind::Throttled, Some(503), None),
        ]
    );
    assert_eq!(history.gave_up(), Some(GaveUp::RetriesExhausted));
}

#[tokio::test(start_paused = true)]
async fn the_last_error_is_returned_inside_one_that_says_how_it_came_to_that() {
    let peer = Peer::new([Step::Status(500), Step::Slow(3), Step::Reset]);
    let error = deliver(plain(), &peer, get()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "gave up after 3 attempts: no attempts left (reset)"
    );
    assert_eq!(
        format!("{error:?}"),
        "Failed: gave up after 3 attempts: no attempts left (reset); reset"
    );
    assert_eq!(error.source().unwrap().to_string(), "reset");
    let failed = error.downcast_ref::<Failed>().unwrap();
    assert_eq!(failed.history().records()[1].took(), secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_safe_to_repeat_is_told_what_it_lacks() {
    let post = || Request::post("http://peer.test/").body(()).unwrap();
    let error = deliver(plain(), &Peer::new([Step::Reset]), post())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "gave up after 1 attempt: it is not retried, because the peer may have acted on it and cannot tell a repetition: \
         use an idempotent method, or add an idempotency-key, webhook-id or svix-id (reset)"
    );
}

/// A classifier further out judges what the transport said, not that we gave up on it.
#[tokio::test(start_paused = true)]
async fn an_error_is_still_understood_further_out() {
    let peer = Peer::new([Step::Refused(7_200)]);
    let error = deliver(plain(), &peer, get()).await.unwrap_err();
    let outcome: Outcome = HttpClassifier::new()
        .make_classifier(&get())
        .classify(Err::<&Response<()>, _>(&error));
    assert_eq!(
        (outcome.kind(), outcome.retry_after()),
        (OutcomeKind::Refused, Some(secs(7_200)))
    );
    assert_eq!(gave_up(&Err(error)), Some(GaveUp::Refused));
}

#[tokio::test(start_paused = true)]
async fn a_success_after_a_failure_has_a_history_and_a_first_success_has_none() {
    let late = deliver(plain(), &Peer::new([Step::Reset, Step::Status(204)]), get()).await;
    let told = history(&late).unwrap();
    assert_eq!(
        (told.attempts(), told.gave_up(), told.records().len()),
        (2, None, 2)
    );

    let first = deliver(plain(), &Peer::new([Step::Status(204)]), get()).await;
    assert_eq!((status(&first), history(&first)), (204, None));
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_before_a_retry_ends_the_delivery() {
    let peer = Peer::new([Step::Status(500), Step::Closed]);
    let result = deliver(plain(), &peer, get()).await;
    assert_eq!(gave_up(&result), Some(GaveUp::NotReady));
    assert_eq!(result.unwrap_err().source().unwrap().to_string(), "closed");
    assert_eq!(peer.calls(), 1);
}

/// The service is ready only when the deadline has passed: the response of the failed attempt is
/// gone by then, so an error stands for it.
#[tokio::test(start_paused = true)]
async fn a_service_that_becomes_ready_too_late_is_not_called() {
    #[derive(Clone)]
    struct Lazy(Peer, Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>);

    impl Service<Request<()>> for Lazy {
        type Response = Response<()>;
        type Error = BoxError;
        type Future = <Peer as Service<Request<()>>>::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            if self.0.calls() > 0 {
                let mut timer = self.1.lock().unwrap();
                let timer = timer.get_or_insert_with(|| Box::pin(sleep(secs(30))));
                std::task::ready!(timer.as_mut().poll(cx));
            }
            Service::<Request<()>>::poll_ready(&mut self.0, cx)
        }

        fn call(&mut self, req: Request<()>) -> Self::Future {
            self.0.call(req)
        }
    }

    for step in [Step::Status(500), Step::Reset] {
        let peer = Peer::new([step]);
        let service = layer(plain().window(secs(20))).layer(Lazy(peer.clone(), Arc::default()));
        let result = service.oneshot(get()).await;
        assert_eq!((gave_up(&result), peer.calls()), (Some(GaveUp::Window), 1));
        assert!(result.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_sent_again_is_sent_once() {
    #[derive(Clone, Copy)]
    struct Once;

    impl Exchange<Request<()>> for Once {
        type Sent = Request<()>;
        type Kept = ();

        fn first(&self, req: Request<()>, _: bool) -> (Request<()>, Option<()>) {
            (req, Some(()))
        }

        fn can_send_again(&self, (): &()) -> bool {
            false
        }

        fn again(&self, _: &mut Option<()>, _: bool) -> Option<Request<()>> {
            None
        }
    }

    impl ExchangeResponse<Response<()>> for Once {
        type Discard = std::future::Ready<()>;

        fn discard(&self, _: Response<()>) -> Self::Discard {
            panic!("the last response is returned")
        }

        fn annotate(&self, res: &mut Response<()>, history: History) {
            res.extensions_mut().insert(history);
        }
    }

    let peer = Peer::new([Step::Status(500)]);
    let service = layer(plain()).exchange(Once).layer(peer.clone());
    let result = service.oneshot(get()).await;
    assert_eq!(
        (status(&result), gave_up(&result)),
        (500, Some(GaveUp::BodyNotReplayable))
    );
    assert_eq!(peer.calls(), 1);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    use tower_webhook::retry::HintLimit;
    let build = |setting: &str, config: RetryConfigBuilder| {
        assert_eq!(config.build().unwrap_err().setting(), setting);
    };
    let new = RetryConfig::builder;
    build("attempts", new().attempts(0));
    build(
        "hint_limit",
        new().hint_limit(HintLimit::CapTo(Duration::ZERO)),
    );
    build(
        "hint_limit",
        new().hint_limit(HintLimit::GiveUp(Duration::ZERO)),
    );
    build("window", new().window(Duration::ZERO));
    build("window", new().window(Duration::MAX));
    build("min_attempt", new().min_attempt(secs(3_600)));
    build(
        "min_attempt",
        new().window(secs(1)).min_attempt(Duration::MAX),
    );
    assert!(
        new()
            .attempts(u32::MAX)
            .window(secs(366 * 86_400))
            .min_attempt(Duration::ZERO)
            .build()
            .is_ok()
    );
}
