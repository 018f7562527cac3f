//! Under a paused clock: when a token is asked for, and what happens when there is none.

use http::{Request, Response, header::AUTHORIZATION};
use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, advance, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_webhook::{
    BoxError, RetryWithJitterLayer,
    body::BufferedBody,
    observe::{Event, observer_fn},
    outcome::{Outcome, OutcomeKind, TransportError, Unreached, Unsendable},
    retry::RetryConfig,
};
use tower_webhook_cognigy::credential::{
    ClientCredentials, Credential, CredentialLayer, OAuthErrorCode, TokenError, TokenErrorKind,
    TokenSource,
};

const URL: &str = "https://api.example.com";

/// Makes the answer of an endpoint.
type Make = Box<dyn Fn() -> Answer + Send + Sync>;
type Answer = Result<Response<BufferedBody>, BoxError>;
type Api = BoxCloneSyncService<Request<BufferedBody>, Response<BufferedBody>, BoxError>;

/// A token endpoint: the function has the number of the request.
#[derive(Clone)]
struct Endpoint {
    asked: Arc<Mutex<Vec<Instant>>>,
    answer: Arc<dyn Fn(usize) -> (Duration, Answer) + Send + Sync>,
}

impl Endpoint {
    /// Answers at once.
    fn new(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::slow(move |number| (Duration::ZERO, answer(number)))
    }

    fn slow(answer: impl Fn(usize) -> (Duration, Answer) + Send + Sync + 'static) -> Self {
        Self {
            asked: Arc::default(),
            answer: Arc::new(answer),
        }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn source(&self) -> TokenSource {
        let this = self.clone();
        let service = service_fn(move |_: Request<BufferedBody>| {
            let mut asked = this.asked.lock().unwrap();
            asked.push(Instant::now());
            let (wait, answer) = (this.answer)(asked.len());
            async move {
                sleep(wait).await;
                answer
            }
        });
        let grant = ClientCredentials::form("client", "s3cret");
        TokenSource::builder(grant, URL).build(service).unwrap()
    }

    /// An API that answers with the token that it was called with.
    fn api(&self) -> Api {
        self.api_with(|token| (200, token.to_owned()))
    }

    fn api_with(
        &self,
        judge: impl Fn(&str) -> (u16, String) + Clone + Send + Sync + 'static,
    ) -> Api {
        let service = service_fn(move |req: Request<BufferedBody>| {
            let token = req.headers()[AUTHORIZATION].to_str().unwrap();
            let (status, body) = judge(token.strip_prefix("Bearer ").unwrap());
            async move {
                let answer = Response::builder().status(status);
                Ok::<_, Infallible>(answer.body(BufferedBody::from(body)).unwrap())
            }
        });
        let layer = CredentialLayer::new(Credential::token(self.source()), URL).unwrap();
        Api::new(layer.layer(service))
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a service answers")]
fn granted(number: usize, expires_in: impl std::fmt::Display) -> Answer {
    let body = format!(r#"{{"access_token":"t-{number}","expires_in":{expires_in}}}"#);
    Ok(Response::new(body.into()))
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a service answers")]
fn refused(status: u16, body: &'static str) -> Answer {
    Ok(Response::builder()
        .status(status)
        .body(body.into())
        .unwrap())
}

fn get() -> Request<BufferedBody> {
    Request::get(format!("{URL}/api"))
        .body(BufferedBody::default())
        .unwrap()
}

async fn call(api: &Api) -> Result<String, BoxError> {
    let body = api.clone().oneshot(get()).await?.into_body();
    Ok(String::from_utf8(body.into_bytes().into())?)
}

/// The error of a call, and what a layer outside makes of it.
async fn failure(api: &Api) -> (TokenError, Outcome) {
    let error = call(api).await.unwrap_err();
    let outcome = Outcome::of_error(&*error);
    (*error.downcast().unwrap(), outcome)
}

/// Lets the tasks run that can, without time passing.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn a0_a_token_is_kept_and_refreshed_a_minute_before_its_end() {
    let endpoint = Endpoint::new(|number| granted(number, 3600));
    let api = endpoint.api();
    for (pass, token, asked) in [
        (0, "t-1", 1),
        (3539, "t-1", 1),
        (1, "t-1", 2),
        (0, "t-2", 2),
    ] {
        advance(seconds(pass)).await;
        assert_eq!(call(&api).await.unwrap(), token);
        settle().await;
        assert_eq!(endpoint.asked(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn a7_5_another_host_gets_no_copy_of_a_former_token_however_its_scheme_is_spelled() {
    let endpoint = Endpoint::new(|number| granted(number, 3600));
    let service = service_fn(|req: Request<BufferedBody>| async move {
        let sent = req.headers().get(AUTHORIZATION);
        let sent = sent.map_or("none", |value| value.to_str().unwrap());
        Ok::<_, Infallible>(Response::new(BufferedBody::from(sent.to_owned())))
    });
    let token = CredentialLayer::new(Credential::token(endpoint.source()), URL).unwrap();
    let token = Api::new(token.layer(service));
    let fixed = CredentialLayer::new(Credential::bearer("t-3").unwrap(), URL).unwrap();
    let fixed = Api::new(fixed.layer(service));
    for number in 1..=10 {
        assert_eq!(call(&token).await.unwrap(), format!("Bearer t-{number}"));
        advance(seconds(3600)).await;
    }
    let at_other = async |api: &Api, value: &str| {
        let req = Request::get("https://other.example.com/").header(AUTHORIZATION, value);
        let req = req.body(BufferedBody::default()).unwrap();
        let body = api.clone().oneshot(req).await.unwrap().into_body();
        String::from_utf8(body.into_bytes().into()).unwrap()
    };
    for copy in ["Bearer t-3", "bearer t-3", "BEARER   t-3", "Token t-3"] {
        assert_eq!(at_other(&token, copy).await, "none", "{copy}");
        assert_eq!(at_other(&fixed, copy).await, "none", "{copy}");
    }
    assert_eq!(at_other(&token, "Bearer t-10").await, "none");
    // Eight are known; and the caller's own stays.
    assert_eq!(at_other(&token, "Bearer t-2").await, "Bearer t-2");
    assert_eq!(at_other(&token, "Bearer t").await, "Bearer t");
    assert_eq!(at_other(&fixed, "Basic dTpw").await, "Basic dTpw");
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_that_is_not_told_is_an_hour_and_a_huge_one_a_day() {
    for (told, lifetime) in [("null", 3600), ("1e300", 24 * 3600), ("\"7200\"", 7200)] {
        let endpoint = Endpoint::new(move |number| granted(number, told));
        let api = endpoint.api();
        for (pass, token) in [(0, "t-1"), (lifetime - 61, "t-1"), (61, "t-2")] {
            advance(seconds(pass)).await;
            assert_eq!(call(&api).await.unwrap(), token, "{told}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a7_14_a_thousand_callers_at_expiry_make_one_token_request() {
    let endpoint = Endpoint::slow(|number| (seconds(2), granted(number, 3600)));
    let api = endpoint.api();
    call(&api).await.unwrap();
    advance(seconds(3600)).await;
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { call(&api).await.unwrap() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), "t-2");
    }
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_of_an_endpoint_that_fails_make_one_token_request() {
    let endpoint = Endpoint::slow(|_| (seconds(2), refused(500, "")));
    let api = endpoint.api();
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { failure(&api).await.0 })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().status().unwrap(), 500);
    }
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_does_no_harm_before_the_token_is_over() {
    let endpoint = Endpoint::new(|number| match number {
        1 => granted(number, 3600),
        _ => refused(503, ""),
    });
    let api = endpoint.api();
    for pass in [0, 3540, 30, 29] {
        advance(seconds(pass)).await;
        assert_eq!(call(&api).await.unwrap(), "t-1");
        settle().await;
    }
    assert!(endpoint.asked() > 2);
    advance(seconds(1)).await;
    assert_eq!(failure(&api).await.0.kind(), TokenErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn failures_are_backed_off_and_calls_until_then_fail_without_a_request() {
    let endpoint = Endpoint::new(|_| refused(500, ""));
    let api = endpoint.api();
    for failures in 0..10 {
        let (error, outcome) = failure(&api).await;
        let wait = error.retry_after().unwrap();
        let most = seconds(60.min(1 << failures));
        assert!(most / 2 <= wait && wait <= most, "{failures}: {wait:?}");
        assert_eq!(outcome.retry_after(), Some(wait));
        assert_eq!(endpoint.asked(), failures + 1);

        advance(wait / 2).await;
        let (error, outcome) = failure(&api).await;
        let left = wait.saturating_sub(wait / 2);
        let early = Duration::from_millis(2);
        assert!(
            left <= error.retry_after().unwrap() + early && error.retry_after().unwrap() <= left
        );
        assert_eq!(outcome.kind(), OutcomeKind::Refused);
        assert_eq!(endpoint.asked(), failures + 1);
        advance(left).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a7_10_the_wait_that_the_endpoint_asks_for_is_kept_up_to_five_minutes() {
    for (told, expected) in [("30", 30), ("86400", 300), ("99999999999999999999", 300)] {
        let endpoint = Endpoint::new(move |number| match number {
            1 => {
                let answer = Response::builder().status(429).header("retry-after", told);
                Ok(answer.body(BufferedBody::default()).unwrap())
            }
            _ => granted(number, 3600),
        });
        let api = endpoint.api();
        let (error, outcome) = failure(&api).await;
        assert_eq!(error.retry_after(), Some(seconds(expected)));
        assert_eq!(
            (outcome.kind(), outcome.retry_after()),
            (OutcomeKind::Unreached, Some(seconds(expected)))
        );
        advance(seconds(expected).saturating_sub(Duration::from_millis(2))).await;
        assert!(call(&api).await.is_err());
        assert_eq!(endpoint.asked(), 1);
        advance(Duration::from_millis(2)).await;
        assert_eq!(call(&api).await.unwrap(), "t-2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_is_not_to_be_repeated_and_is_asked_for_again_later() {
    for status in [400, 401] {
        let endpoint = Endpoint::new(move |number| match number {
            1 => refused(
                status,
                r#"{"error":"invalid_client","error_description":"no client has s3cret"}"#,
            ),
            _ => granted(number, 3600),
        });
        let api = endpoint.api();
        for _ in 0..3 {
            let (error, outcome) = failure(&api).await;
            assert_eq!(outcome.kind(), OutcomeKind::Unsendable);
            assert_eq!(
                (error.kind(), error.retry_after()),
                (TokenErrorKind::Rejected, None)
            );
            assert_eq!(error.code(), Some(&OAuthErrorCode::InvalidClient));
            assert_eq!(error.description(), Some("no client has [redacted]"));
            let text = format!(
                "the token endpoint refused the client: status {status}, invalid_client, no client has [redacted]"
            );
            assert_eq!(error.to_string(), text);
            assert!(!format!("{error:?}").contains("s3cret"));
        }
        assert_eq!(endpoint.asked(), 1);
        // Somebody corrected it at the server.
        advance(seconds(1)).await;
        assert_eq!(call(&api).await.unwrap(), "t-2");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_says_what_the_layers_outside_need() {
    use TokenErrorKind::{InvalidAnswer, Rejected, Transport, Unavailable};
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(64 << 10));
    let cases: [(Make, TokenErrorKind, OutcomeKind); 9] = [
        (
            Box::new(|| refused(500, "")),
            Unavailable,
            OutcomeKind::Unreached,
        ),
        (
            Box::new(|| refused(404, "")),
            Rejected,
            OutcomeKind::Unsendable,
        ),
        (
            Box::new(|| refused(200, "<html>")),
            InvalidAnswer,
            OutcomeKind::Unreached,
        ),
        (
            Box::new(|| granted(1, -1)),
            InvalidAnswer,
            OutcomeKind::Unreached,
        ),
        (
            Box::new(|| granted(1, 0)),
            InvalidAnswer,
            OutcomeKind::Unreached,
        ),
        (
            Box::new(move || Ok(Response::new(long.clone().into()))),
            InvalidAnswer,
            OutcomeKind::Unreached,
        ),
        (
            Box::new(|| Err("reset".into())),
            Transport,
            OutcomeKind::Unreached,
        ),
        (
            Box::new(|| Err(Unreached::new().into())),
            Transport,
            OutcomeKind::Unreached,
        ),
        (
            Box::new(|| Err(Unsendable::new().into())),
            Transport,
            OutcomeKind::Unsendable,
        ),
    ];
    for (answer, kind, expected) in cases {
        let api = Endpoint::new(move |_| answer()).api();
        let (error, outcome) = failure(&api).await;
        assert_eq!((error.kind(), outcome.kind()), (kind, expected), "{error}");
        // The API was not called: this says nothing about it.
        assert_eq!(outcome.peer_is_healthy(), None);
        assert_eq!(error.is_temporary(), expected == OutcomeKind::Unreached);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hangs_is_given_up_after_ten_seconds() {
    let api = Endpoint::slow(|number| (seconds(1_000_000), granted(number, 3600))).api();
    let begun = Instant::now();
    let (error, outcome) = failure(&api).await;
    assert!(begun.elapsed() < seconds(11) && begun.elapsed() >= seconds(10));
    assert_eq!(
        (error.kind(), outcome.kind()),
        (TokenErrorKind::Timeout, OutcomeKind::Unreached)
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_over_when_it_arrives_is_none() {
    let endpoint = Endpoint::slow(|number| (seconds(5), granted(number, 5)));
    let api = endpoint.api();
    let (error, _) = failure(&api).await;
    assert_eq!(error.kind(), TokenErrorKind::InvalidAnswer);
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_end_the_refresh_for_others() {
    let endpoint = Endpoint::slow(|number| (seconds(5), granted(number, 3600)));
    let api = endpoint.api();
    let first = timeout(seconds(1), call(&api)).await;
    assert!(first.is_err(), "still waiting");
    assert_eq!(call(&api).await.unwrap(), "t-1");
    assert_eq!(endpoint.asked(), 1);

    // Nobody waits, and the token is there when it is needed.
    let endpoint = Endpoint::slow(|number| (seconds(5), granted(number, 3600)));
    let api = endpoint.api();
    assert!(timeout(seconds(1), call(&api)).await.is_err());
    sleep(seconds(5)).await;
    let (begun, token) = (Instant::now(), call(&api).await.unwrap());
    assert_eq!(
        (token.as_str(), begun.elapsed(), endpoint.asked()),
        ("t-1", Duration::ZERO, 1)
    );
}

/// A source whose service tells when its future is dropped.
fn told_when_dropped() -> (TokenSource, mpsc::UnboundedReceiver<()>) {
    struct Guard(mpsc::UnboundedSender<()>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (tell, told) = mpsc::unbounded_channel();
    let service = service_fn(move |_: Request<BufferedBody>| {
        let guard = Guard(tell.clone());
        async move {
            let _guard = guard;
            pending::<Answer>().await
        }
    });
    let grant = ClientCredentials::form("client", "secret");
    let source = TokenSource::builder(grant, URL)
        .timeout(Duration::MAX)
        .build(service);
    (source.unwrap(), told)
}

#[tokio::test(start_paused = true)]
async fn the_refresh_ends_with_the_last_clone_and_the_last_call_that_waits() {
    let (source, mut told) = told_when_dropped();
    let layer = CredentialLayer::new(Credential::token(source), URL).unwrap();
    let api = layer.layer(service_fn(|_| async {
        Ok::<_, Infallible>(Response::new(()))
    }));
    drop(layer);
    let mut waiting = Box::pin(api.oneshot(get()));
    assert!(timeout(seconds(60), waiting.as_mut()).await.is_err());
    assert!(told.try_recv().is_err(), "the call holds the source");
    drop(waiting);
    told.recv().await.unwrap();
}

#[test]
fn the_end_of_the_runtime_of_a_refresh_is_a_failure_and_not_a_hang() {
    let (source, mut told) = told_when_dropped();
    let api = CredentialLayer::new(Credential::token(source), URL).unwrap();
    let mut api = api.layer(service_fn(|_| async {
        Ok::<_, Infallible>(Response::new(()))
    }));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut waiting = pin!(api.call(get()));
    let mut cx = Context::from_waker(Waker::noop());
    // Without a runtime nothing can be asked.
    let Poll::Ready(Err(error)) = waiting.as_mut().poll(&mut cx) else {
        panic!("waits without a runtime");
    };
    assert!(error.is::<TokenError>(), "{error}");

    std::thread::sleep(
        error
            .downcast_ref::<TokenError>()
            .unwrap()
            .retry_after()
            .unwrap(),
    );
    let mut waiting = Box::pin(async { api.call(get()).await });
    runtime.block_on(async {
        assert!(
            timeout(Duration::from_millis(1), waiting.as_mut())
                .await
                .is_err()
        );
    });
    drop(runtime);
    told.try_recv().unwrap();
    let Poll::Ready(Err(error)) = waiting.as_mut().poll(&mut cx) else {
        panic!("waits for a refresh that is gone");
    };
    assert!(error.is::<TokenError>(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_is_a_failure() {
    let service = service_fn(|_: Request<BufferedBody>| async {
        assert!(Instant::now().elapsed() > seconds(1), "it panics");
        refused(500, "")
    });
    let grant = ClientCredentials::form("client", "secret");
    let source = TokenSource::builder(grant, URL).build(service).unwrap();
    let layer = CredentialLayer::new(Credential::token(source), URL).unwrap();
    let api = Api::new(layer.layer(service_fn(|_| async {
        Ok::<_, Infallible>(Response::new(BufferedBody::default()))
    })));
    assert_eq!(failure(&api).await.0.kind(), TokenErrorKind::Transport);
}

#[tokio::test(start_paused = true)]
async fn a_post_without_a_key_is_repeated_since_it_was_never_sent() {
    let endpoint = Endpoint::new(|number| match number {
        1 => Err(TransportError::new(Outcome::throttled(None), "busy").into()),
        _ => granted(number, 3600),
    });
    let api = RetryWithJitterLayer::new(RetryConfig::default()).layer(endpoint.api());
    let request = Request::post(format!("{URL}/api"))
        .body(BufferedBody::from("{}"))
        .unwrap();
    let answer = api.oneshot(request).await.unwrap();
    assert_eq!(answer.into_body().as_bytes(), "t-2");
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_always_answers_401_costs_few_tokens() {
    let endpoint = Endpoint::new(|number| granted(number, 3600));
    let api = endpoint.api_with(|_| (401, String::new()));
    for _ in 0..100 {
        assert_eq!(call(&api).await.unwrap(), "");
    }
    // The first one, and five that were forced.
    assert_eq!(endpoint.asked(), 6);
    advance(seconds(30)).await;
    for _ in 0..100 {
        call(&api).await.unwrap();
    }
    assert_eq!(endpoint.asked(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_that_cannot_be_replaced_fails_the_call() {
    let endpoint = Endpoint::new(|number| match number {
        1 => granted(number, 3600),
        _ => refused(503, ""),
    });
    let api = endpoint.api_with(|_| (401, String::new()));
    for expected in [
        OutcomeKind::Unreached,
        OutcomeKind::Refused,
        OutcomeKind::Refused,
    ] {
        let (error, outcome) = failure(&api).await;
        assert_eq!(error.kind(), TokenErrorKind::Unavailable);
        assert_eq!(outcome.kind(), expected);
    }
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_is_told_to_observers_without_a_secret() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let observer = observer_fn(move |event: &Event<'_>| {
        if let Event::Trouble { part, what, detail } = event {
            let detail = detail.map(|detail| detail.to_string());
            heard.lock().unwrap().push((*part, *what, detail.unwrap()));
        }
    });
    let service = service_fn(|_: Request<BufferedBody>| async {
        refused(
            400,
            r#"{"error":"invalid_client","error_description":"not s3cret"}"#,
        )
    });
    let grant = ClientCredentials::form("client", "s3cret");
    let source = TokenSource::builder(grant, URL).observe(observer);
    let source = source.build(service).unwrap();
    let layer = CredentialLayer::new(Credential::token(source), URL).unwrap();
    let api = Api::new(layer.layer(service_fn(|_| async {
        Ok::<_, Infallible>(Response::new(BufferedBody::default()))
    })));
    assert!(call(&api).await.is_err());
    let told = told.lock().unwrap();
    let [(part, what, detail)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((*part, *what), ("credential", "there is no new token"));
    assert_eq!(
        detail,
        "api.example.com: the token endpoint refused the client: status 400, invalid_client, not [redacted]"
    );
}
