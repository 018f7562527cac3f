//! Every way in which the ready-made stack can end, and the reason that its entry gives.

use super::*;
use std::{
    future::{Ready, ready},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{Context, Poll},
};
use tokio::time::{Instant, sleep};
use tower::{Service, service_fn};
use tower_webhook::{
    DeadLetterLayer,
    attempt::{Attempt, Failed, History},
    dead_letter::{DeadLettered, DeadLetters, Reason, Redaction, WriteOutcome},
    deadline::{Deadline, DeadlineExceeded},
    metrics::PeerSnapshot,
    outcome::{LocallyRefused, Unsendable},
    retry::{Backoff, Budget, HintLimit, HttpExchange, Jitter, RetryConfig, RetryConfigBuilder},
    stack::{self, AttemptBuilder, DeliverBuilder},
};

type Stack = DeliverBuilder<AttemptBuilder, HttpExchange, DeadLetterLayer>;

fn deliver(sink: &Recording) -> Stack {
    let entries = DeadLetters::new(sink.clone());
    stack::deliver()
        .retry(every_second().build().unwrap())
        .dead_letters(entries)
}

/// Waits of a second exactly.
fn every_second() -> RetryConfigBuilder {
    let backoff = Backoff::constant(SECOND).jitter(Jitter::None);
    RetryConfig::builder().backoff(backoff.build().unwrap())
}

/// What a delivery over this stack and transport comes to, and its entry.
async fn delivered<S>(
    configure: impl FnOnce(Stack) -> Stack,
    transport: S,
    req: Request<BufferedBody>,
) -> (Result<Answer, BoxError>, Arc<Entry>)
where
    S: Service<Request<BufferedBody>, Response = Answer, Error = BoxError> + Clone,
{
    let sink = Recording::default();
    let deliver = configure(deliver(&sink)).build().unwrap();
    let metrics = deliver.metrics().clone();
    let result = deliver.layer(transport).oneshot(req).await;
    let entry = sink.entry();
    let counted = (entry.cause.reason.as_str(), "written", 1);
    assert_eq!(metrics.snapshot().dead_letters_by_reason(), [counted]);
    let by_key = metrics
        .snapshot()
        .peer("a.test")
        .map(PeerSnapshot::dead_letters);
    assert_eq!((metrics.snapshot().dead_letters(), by_key), (1, Some(1)));
    (result, entry)
}

fn answers(
    status: u16,
) -> impl Service<Request<BufferedBody>, Response = Answer, Error = BoxError, Future: Send> + Clone
{
    service_fn(move |_: Request<BufferedBody>| async move { answer(status) })
}

fn fails<E: Into<BoxError> + 'static>(
    error: fn() -> E,
) -> impl Service<Request<BufferedBody>, Response = Answer, Error = BoxError> + Clone {
    service_fn(move |_: Request<BufferedBody>| async move { Err(error().into()) })
}

/// Answers once that it is busy; then it fails to become ready, or never does.
#[derive(Clone)]
struct Once {
    spent: Arc<AtomicBool>,
    fails: bool,
}

impl Once {
    fn that_then(fails: bool) -> Self {
        Self {
            spent: Arc::default(),
            fails,
        }
    }
}

impl Service<Request<BufferedBody>> for Once {
    type Response = Answer;
    type Error = BoxError;
    type Future = Ready<Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match (self.spent.load(Relaxed), self.fails) {
            (false, _) => Poll::Ready(Ok(())),
            (true, true) => Poll::Ready(Err("closed".into())),
            (true, false) => Poll::Pending,
        }
    }

    fn call(&mut self, _: Request<BufferedBody>) -> Self::Future {
        self.spent.store(true, Relaxed);
        ready(answer(503))
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempts_left() {
    let (result, entry) = delivered(|it| it, answers(503), request()).await;
    assert_eq!(entry.cause.reason, Reason::RetriesExhausted);
    assert_eq!(entry.cause.code, Some(503));
    assert_eq!(entry.history.attempts(), 3);
    let (first, last) = (
        entry.first_attempt_at.unwrap(),
        entry.last_attempt_at.unwrap(),
    );
    // The system's clock does not stand still as the paused one does.
    let apart = last.duration_since(first).unwrap();
    assert!(apart >= 2 * SECOND && apart < 3 * SECOND, "{apart:?}");
    let res = result.unwrap();
    let extensions = res.extensions();
    assert_eq!(extensions.get::<DeadLettered>().unwrap().id(), entry.id);
    assert_eq!(extensions.get::<History>().unwrap(), &entry.history);
}

#[tokio::test(start_paused = true)]
async fn not_safe_to_repeat() {
    let mut req = request();
    req.headers_mut().clear();
    let (_, entry) = delivered(|it| it, answers(500), req).await;
    assert_eq!(entry.cause.reason, Reason::NotRetryable);
    assert_eq!(entry.history.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn rejected_by_the_peer() {
    for status in [301, 400, 410] {
        let (_, entry) = delivered(|it| it, answers(status), request()).await;
        assert_eq!(entry.cause.reason, Reason::Rejected, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn cut_by_the_deadline() {
    let hangs = service_fn(|_: Request<BufferedBody>| pending());
    let short = |it: Stack| it.deadline(5 * SECOND);
    let (_, entry) = delivered(short, hangs, request()).await;
    assert_eq!(entry.cause.reason, Reason::Deadline);
    assert_eq!(entry.history.attempts(), 1);

    // While the retry layer waits for the client, nobody but the deadline ends it.
    let (result, entry) = delivered(short, Once::that_then(false), request()).await;
    assert!(result.unwrap_err().is::<DeadlineExceeded>());
    assert_eq!(entry.cause.reason, Reason::Deadline);
    assert_eq!(entry.history.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_time_for_another_attempt() {
    let short = |it: Stack| it.deadline(SECOND / 2);
    let (_, entry) = delivered(short, answers(503), request()).await;
    assert_eq!(entry.cause.reason, Reason::Deadline);
    assert_eq!(entry.cause.code, Some(503));
}

#[tokio::test(start_paused = true)]
async fn no_time_for_a_first_attempt() {
    let sink = Recording::default();
    let service = deliver(&sink).build().unwrap().layer(answers(200));
    let mut service = service;
    let call = Deadline::at(Instant::now()).scope(|| service.call(request()));
    assert!(call.await.is_err());
    let entry = sink.entry();
    assert_eq!(entry.cause.reason, Reason::Deadline);
    assert_eq!(
        (entry.history.attempts(), entry.first_attempt_at),
        (0, None)
    );
}

#[tokio::test(start_paused = true)]
async fn no_budget_left() {
    let budget = Budget::builder().share(0.2).floor(0).build();
    let config = every_second().budget(budget.unwrap()).build().unwrap();
    let (_, entry) = delivered(|it| it.retry(config), answers(503), request()).await;
    assert_eq!(entry.cause.reason, Reason::Budget);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit() {
    let sink = Recording::default();
    let deliver = deliver(&sink).build().unwrap();
    deliver.breakers().of("a.test").unwrap().force_open();
    let result = deliver.layer(answers(200)).oneshot(request()).await;
    assert!(result.unwrap_err().is::<Failed>());
    let entry = sink.entry();
    assert_eq!(entry.cause.reason, Reason::CircuitOpen);
    assert_eq!(
        (entry.history.refusals(), entry.first_attempt_at),
        (1, None)
    );
    assert_eq!(entry.cause.class.as_deref(), Some("refused"));
}

#[tokio::test(start_paused = true)]
async fn refused_on_our_side() {
    let full = || LocallyRefused::after(SECOND);
    let (_, entry) = delivered(|it| it, fails(full), request()).await;
    assert_eq!(entry.cause.reason, Reason::Refused);
}

#[tokio::test(start_paused = true)]
async fn asked_to_wait_too_long() {
    let busy = service_fn(|_: Request<BufferedBody>| async {
        let busy = Response::builder()
            .status(503)
            .header("retry-after", "3600");
        Ok::<_, BoxError>(busy.body(BufferedBody::default())?)
    });
    let limit = HintLimit::GiveUp(60 * SECOND);
    let config = every_second().hint_limit(limit).build().unwrap();
    let (_, entry) = delivered(|it| it.retry(config), busy, request()).await;
    assert_eq!(entry.cause.reason, Reason::HintTooLong);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_sent_again() {
    let sink = Recording::default();
    let deliver = deliver(&sink).exchange(HttpExchange::new().replaying(1));
    let unwell = service_fn(|_| async { answer(503) });
    let service = deliver.build().unwrap().layer(unwell);
    service.oneshot(request()).await.unwrap();
    let entry = sink.entry();
    assert_eq!(entry.cause.reason, Reason::BodyNotReplayable);
    assert_eq!(entry.body.bytes(), "{}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_more_calls() {
    let (_, entry) = delivered(|it| it, Once::that_then(true), request()).await;
    assert_eq!(entry.cause.reason, Reason::NotReady);
    let message = entry.cause.message.as_deref().unwrap();
    assert!(message.ends_with("closed"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_sent() {
    let (_, entry) = delivered(|it| it, fails(Unsendable::new), request()).await;
    assert_eq!(entry.cause.reason, Reason::Unsendable);
    assert_eq!(entry.first_attempt_at, None);
}

#[tokio::test(start_paused = true)]
async fn the_window_of_the_retries() {
    let config = every_second().window(SECOND / 2).build().unwrap();
    let (_, entry) = delivered(|it| it.retry(config), answers(503), request()).await;
    assert_eq!(entry.cause.reason, Reason::Window);
}

#[tokio::test(start_paused = true)]
async fn what_goes_well_at_last_leaves_no_entry() {
    let sink = Recording::default();
    let at_last = service_fn(|_: Request<BufferedBody>| async {
        let number = Attempt::current().map(Attempt::number);
        sleep(SECOND).await;
        answer(if number == Some(3) { 200 } else { 503 })
    });
    let service = deliver(&sink).build().unwrap().layer(at_last);
    assert_eq!(service.oneshot(request()).await.unwrap().status(), 200);
    assert!(sink.entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_layer_with_settings_of_ones_own_and_a_sink_that_fails_are_counted() {
    let sink = Recording::that(Does::Fails(StoreErrorKind::Full));
    let layer = DeadLetterLayer::new(DeadLetters::new(sink))
        .redaction(Redaction::new().deny("webhook-id"))
        .body_limit(0);
    let deliver = stack::deliver().dead_letter_layer(layer).build().unwrap();
    let metrics = deliver.metrics().clone();
    let res = deliver
        .layer(answers(400))
        .oneshot(request())
        .await
        .unwrap();
    assert_eq!(
        res.extensions().get::<DeadLettered>().unwrap().end(),
        WriteOutcome::NotWritten
    );
    let counted = ("rejected", "not_written", 1);
    assert_eq!(metrics.snapshot().dead_letters_by_reason(), [counted]);
}
