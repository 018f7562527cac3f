//! The verify layer: what a refusal says, what a handler sees, readiness and cancellation.

use crate::support::{NOW, WHSEC, at, covering_schemes, credential_schemes, signed, through};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_webhook::{
    SignatureVerifyLayer,
    body::BufferedBody,
    observe::{Event, observer_fn},
    problem::Problem,
    signature::{
        Message, ReplayCache, Scheme, Secret, SecretLabel, SignatureError, Verified,
        scheme::{AnyOf, BasicAuth, GitHub, SharedToken, Slack, StandardWebhooks},
    },
};

#[tokio::test]
async fn the_handler_sees_who_signed_what_when() {
    let scheme = StandardWebhooks::new(Secret::new(WHSEC).label("2026-11")).unwrap();
    let mut request = signed(&scheme, "body");
    // Somebody else's is replaced.
    request.extensions_mut().insert(Verified::new("forged"));
    let layer = SignatureVerifyLayer::new(scheme).clock(at(NOW));
    let response = through(&layer, request).await;
    let verified = response.extensions().get::<Verified>().unwrap();
    assert_eq!(verified.scheme(), "standard_webhooks");
    assert_eq!(verified.secret_label(), Some("2026-11"));
    assert_eq!(verified.id(), Some("msg_1"));
    assert_eq!(verified.timestamp(), Some(NOW));
    assert!(response.extensions().get::<SecretLabel>().is_none());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "body");
}

#[tokio::test]
async fn answers_carry_the_label_where_it_was_asked_for() {
    let scheme = GitHub::new(Secret::new("secret").label("2026-11")).unwrap();
    let layer = SignatureVerifyLayer::new(scheme.clone()).label_responses(true);
    let response = through(&layer, signed(&scheme, "body")).await;
    let label = response.extensions().get::<SecretLabel>().unwrap();
    assert_eq!(label.as_str(), "2026-11");
}

#[tokio::test]
async fn all_refusals_look_alike() {
    let slack = Slack::new("secret").unwrap();
    let layer = SignatureVerifyLayer::new(slack.clone())
        .clock(at(NOW))
        .reject_replays(ReplayCache::new(10))
        .unwrap();
    let good = signed(&slack, "body");
    let changed = |name: &'static str, value: Option<&'static str>| {
        let mut request = good.clone();
        match value {
            Some(value) => request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value)),
            None => request.headers_mut().remove(name),
        };
        request
    };
    assert_eq!(through(&layer, good.clone()).await.status(), 200);
    let refusals = [
        (changed("x-slack-signature", None), "missing"),
        (changed("x-slack-signature", Some("v0=zz")), "malformed"),
        (changed("x-slack-request-timestamp", Some("1")), "stale"),
        (
            changed("x-slack-request-timestamp", Some("1800000000")),
            "early",
        ),
        (
            changed("x-slack-request-timestamp", Some("1700000001")),
            "mismatch",
        ),
        (good.clone(), "replayed"),
    ];
    for (request, reason) in refusals {
        // One service for each, because a handler that is not reached needs no clone.
        let service = layer.layer(service_fn(|_: Request<BufferedBody>| async {
            panic!("the handler is not reached");
            #[allow(unreachable_code)]
            Ok::<Response<BufferedBody>, Infallible>(Response::default())
        }));
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let typed = response.extensions().get::<SignatureError>().unwrap();
        assert_eq!(typed.as_str(), reason);
        let headers = response.headers().clone();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["content-type"], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            body,
            r#"{"type":"about:blank","title":"Unauthorized","status":401}"#
        );
    }
}

#[tokio::test]
async fn observers_hear_what_was_verified_and_why_something_was_refused() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&told);
    let scheme = GitHub::new(Secret::new("s3cret").label("2026-11")).unwrap();
    let layer =
        SignatureVerifyLayer::new(scheme.clone()).observe(observer_fn(move |event: &Event<'_>| {
            note.lock().unwrap().push(format!("{event:?}"));
        }));
    through(&layer, signed(&scheme, "body")).await;
    let service = layer.layer(service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, Infallible>(Response::new(BufferedBody::default()))
    }));
    let unsigned = Request::new(BufferedBody::from("body"));
    assert_eq!(service.oneshot(unsigned).await.unwrap().status(), 401);
    assert_eq!(
        *told.lock().unwrap(),
        [
            r#"Verified { scheme: "github", label: Some("2026-11") }"#,
            r#"Refused { by: "github", reason: "missing", detail: it lacks the header `x-hub-signature-256`, which this scheme needs }"#,
        ]
    );
}

#[tokio::test]
async fn a_refusal_can_be_said_otherwise() {
    let layer = SignatureVerifyLayer::new(GitHub::new("secret").unwrap()).refuse_with(
        |reason: &SignatureError, problem: Problem| {
            assert_eq!(reason.as_str(), "missing");
            problem.title("No").into_grpc()
        },
    );
    let service = layer.layer(service_fn(|_: Request<BufferedBody>| async {
        Ok::<_, Infallible>(Response::new(BufferedBody::default()))
    }));
    let response = service
        .oneshot(Request::new(BufferedBody::default()))
        .await
        .unwrap();
    assert_eq!(response.headers()["grpc-status"], "16");
    assert!(response.extensions().get::<SignatureError>().is_some());
}

#[tokio::test]
async fn basic_and_bearer_refusals_carry_a_challenge() {
    let challenge = async |layer: SignatureVerifyLayer| {
        let service = layer.layer(service_fn(|_: Request<BufferedBody>| async {
            Ok::<_, Infallible>(Response::new(BufferedBody::default()))
        }));
        let request = Request::new(BufferedBody::default());
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let value = response.headers().get("www-authenticate");
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let basic = || BasicAuth::new("user", "password").unwrap();
    let expected = Some(r#"Basic realm="webhook", charset="UTF-8""#.to_owned());
    assert_eq!(
        challenge(SignatureVerifyLayer::new(basic())).await,
        expected
    );
    let any = AnyOf::first(GitHub::new("secret").unwrap()).or(basic());
    assert_eq!(challenge(SignatureVerifyLayer::new(any)).await, expected);
    let mine = SignatureVerifyLayer::new(basic().realm("mine").unwrap());
    assert_eq!(
        challenge(mine).await.as_deref(),
        Some(r#"Basic realm="mine", charset="UTF-8""#)
    );
    let bearer = SignatureVerifyLayer::new(SharedToken::bearer("token").unwrap());
    assert_eq!(
        challenge(bearer).await.as_deref(),
        Some(r#"Bearer realm="webhook""#)
    );
    let github = SignatureVerifyLayer::new(GitHub::new("secret").unwrap());
    assert_eq!(challenge(github).await, None);
}

#[test]
fn errors_and_readiness_of_the_handler_pass_through() {
    let scheme = GitHub::new("secret").unwrap();
    let layer = SignatureVerifyLayer::new(scheme.clone());
    let (mut service, mut handle) =
        tower_test::mock::spawn_layer::<Request<BufferedBody>, Response<BufferedBody>, _>(layer);
    tokio_test::assert_ready_ok!(service.poll_ready());
    let mut call = tokio_test::task::spawn(service.call(signed(&scheme, "body")));
    tokio_test::assert_pending!(call.poll());
    let mut next = tokio_test::task::spawn(handle.next_request());
    let Poll::Ready(Some((_, respond))) = next.poll() else {
        panic!("the handler is called");
    };
    respond.send_error("boom");
    assert!(call.is_woken());
    let error = tokio_test::assert_ready_err!(call.poll());
    assert_eq!(error.to_string(), "boom");
}

/// A refusal leaves the readiness of the handler unused, and the service goes on.
#[tokio::test]
async fn a_refusal_is_answered_at_once() {
    let scheme = GitHub::new("secret").unwrap();
    let mut service =
        SignatureVerifyLayer::new(scheme).layer(service_fn(|_: Request<BufferedBody>| {
            std::future::pending::<Result<Response<BufferedBody>, Infallible>>()
        }));
    let mut call = tokio_test::task::spawn(service.call(Request::new(BufferedBody::default())));
    let response = tokio_test::assert_ready_ok!(call.poll());
    assert_eq!(response.status(), 401);
}

#[test]
fn dropping_the_future_drops_the_handler() {
    let alive = Arc::new(());
    let held = alive.clone();
    let scheme = GitHub::new("secret").unwrap();
    let mut service = SignatureVerifyLayer::new(scheme.clone()).layer(service_fn(
        move |_: Request<BufferedBody>| {
            let held = held.clone();
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok::<_, Infallible>(Response::new(BufferedBody::default()))
            }
        },
    ));
    let mut call = tokio_test::task::spawn(service.call(signed(&scheme, "body")));
    tokio_test::assert_pending!(call.poll());
    assert_eq!(Arc::strong_count(&alive), 3);
    drop(call);
    assert_eq!(Arc::strong_count(&alive), 2);
}

/// T3: verification itself allocates nothing, whatever the scheme.
#[test]
fn verification_does_not_allocate() {
    let mut schemes = covering_schemes();
    schemes.extend(credential_schemes());
    let clock = at(NOW);
    for scheme in schemes {
        let request = signed(&scheme, "x".repeat(1024));
        let mut result = None;
        let counted = allocation_counter::measure(|| {
            result = Some(scheme.verify(&Message::of(&request, &clock)));
        });
        result.unwrap().unwrap();
        assert_eq!(counted.count_total, 0, "{}", scheme.name());
    }
}

/// The layer adds the box of the request extension, and nothing else.
#[test]
fn the_layer_allocates_the_extension_alone() {
    let scheme = StandardWebhooks::new(WHSEC).unwrap();
    let mut service = SignatureVerifyLayer::new(scheme.clone())
        .clock(at(NOW))
        .layer(service_fn(|request: Request<BufferedBody>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(request.into_body())))
        }));
    let mut request = signed(&scheme, "x".repeat(1024));
    // As every server that routes has it: the map of extensions is there.
    request.extensions_mut().insert(1_u8);
    request.extensions_mut().insert(2_u16);
    // As hyper gives it: its bytes are counted, which the first copy of others makes them.
    drop(request.body().clone());
    let mut request = Some(request);
    let counted = allocation_counter::measure(|| {
        let mut future = std::pin::pin!(service.call(request.take().unwrap()));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_ready());
    });
    assert_eq!(counted.count_total, 1);
}

/// A scheme of the user's own, behind a pointer, among others.
#[tokio::test]
async fn a_scheme_can_be_yours() {
    #[derive(Debug)]
    struct Length;
    const HEADER: HeaderName = HeaderName::from_static("x-length");
    impl Scheme for Length {
        fn name(&self) -> &'static str {
            "length"
        }
        fn recognizes(&self, headers: &HeaderMap) -> bool {
            headers.contains_key(&HEADER)
        }
        fn verify(&self, message: &Message<'_>) -> Result<Verified, SignatureError> {
            assert_eq!(message.method(), "POST");
            assert_eq!(message.uri(), "/hook");
            if message.unix_time().as_secs() < NOW {
                return Err(SignatureError::Custom { reason: "too soon" });
            }
            if message.header(&HEADER)? != message.body().len().to_string().as_str() {
                return Err(SignatureError::Mismatch);
            }
            Ok(Verified::new("length").with_secret_label(SecretLabel::new("mine").unwrap()))
        }
        fn replay_window(&self) -> Option<Duration> {
            Some(Duration::from_secs(1))
        }
    }
    let request = |length: &str| {
        Request::post("/hook")
            .header(HEADER, length)
            .body(BufferedBody::from("four"))
            .unwrap()
    };
    let shared: Arc<dyn Scheme> = Arc::new(Length);
    let boxed: Box<dyn Scheme> = Box::new(AnyOf::first(shared));
    assert_eq!(boxed.replay_window(), Some(Duration::from_secs(1)));
    let layer = SignatureVerifyLayer::new(boxed).clock(at(NOW));
    let response = through(&layer, request("4")).await;
    let verified = response.extensions().get::<Verified>().unwrap();
    assert_eq!(
        (verified.scheme(), verified.secret_label()),
        ("length", Some("mine"))
    );
    let response = layer
        .clock(at(0))
        .layer(service_fn(|_: Request<BufferedBody>| async {
            Ok::<_, Infallible>(Response::new(BufferedBody::default()))
        }))
        .oneshot(request("4"))
        .await
        .unwrap();
    assert_eq!(
        response.extensions().get(),
        Some(&SignatureError::Custom { reason: "too soon" })
    );
}

#[test]
fn everything_can_cross_threads() {
    fn sent<T: Send + 'static>() {}
    type Inner =
        tower::util::BoxCloneService<Request<BufferedBody>, Response<BufferedBody>, Infallible>;
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<SignatureVerifyLayer>();
    check::<tower_webhook::SignLayer>();
    check::<tower_webhook::signature::SignatureVerify<()>>();
    check::<Verified>();
    check::<SignatureError>();
    check::<tower_webhook::signature::SigningKeys>();
    check::<ReplayCache>();
    check::<StandardWebhooks>();
    check::<tower_webhook::signature::Tenants>();
    check::<tower_webhook::signature::LookupFailure>();
    sent::<tower_webhook::signature::ResponseFuture<Inner, BufferedBody, BufferedBody>>();
    sent::<tower_webhook::signature::TenantsBuilder>();
}

/// A body that must not be read.
struct Untouched;

impl http_body::Body for Untouched {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
        panic!("the body was read")
    }
}

#[tokio::test]
async fn what_the_head_shows_is_refused_before_the_body_with_the_same_answer() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let token = SharedToken::bearer("a token").unwrap();
    let keys = token.signing_keys();
    let layer = SignatureVerifyLayer::new(AnyOf::first(Slack::new("secret").unwrap()).or(token))
        .clock(at(NOW))
        .observe({
            let told = told.clone();
            observer_fn(move |event| {
                told.lock().unwrap().push(match event {
                    Event::Refused { by, reason, .. } => (*by, *reason),
                    other => (other.name(), ""),
                });
            })
        });
    let stack = || {
        let stack = tower::ServiceBuilder::new()
            .layer(layer.before_body())
            .layer(tower_webhook::BufferBodyLayer::new(100))
            .layer(layer.clone());
        stack.service(service_fn(|_: Request<BufferedBody>| async {
            Ok::<_, Infallible>(Response::new(BufferedBody::default()))
        }))
    };
    let head = |headers: &[(&'static str, &'static str)]| {
        let mut request = Request::new(Untouched);
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            request.headers_mut().append(*name, value);
        }
        request
    };
    let good = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    let (signature, time) = ("x-slack-signature", "x-slack-request-timestamp");
    for (headers, reason) in [
        (&[][..], "missing"),
        (&[(signature, good)], "missing"),
        (
            &[(signature, good), (signature, good), (time, "1700000000")],
            "malformed",
        ),
        (&[(signature, "v0=zz"), (time, "1700000000")], "malformed"),
        (&[(signature, good), (time, "soon")], "malformed"),
        (&[(signature, good), (time, "1699999000")], "stale"),
        (&[("authorization", "Bearer another")], "mismatch"),
        (&[("authorization", "Basic YTpi")], "malformed"),
    ] {
        let early = stack().oneshot(head(headers)).await.unwrap();
        assert_eq!(
            told.lock().unwrap().drain(..).collect::<Vec<_>>(),
            [("any_of", reason)]
        );
        let late = through(&layer, head(headers).map(|_| BufferedBody::from("body"))).await;
        assert_eq!(
            told.lock().unwrap().drain(..).collect::<Vec<_>>(),
            [("any_of", reason)]
        );
        assert_eq!(early.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(early.headers(), late.headers());
        assert_eq!(
            early.extensions().get::<SignatureError>(),
            late.extensions().get::<SignatureError>()
        );
        let [early, late] = [
            early.into_body().collect().await,
            late.into_body().collect().await,
        ]
        .map(|body| body.unwrap().to_bytes());
        assert_eq!(early, late);
    }

    // What passes is verified once, and counted once.
    let right = head(&[("authorization", "Bearer a token")]);
    let right = right.map(|_| BufferedBody::from("body"));
    let passed = stack().oneshot(right).await.unwrap();
    assert_eq!(passed.status(), StatusCode::OK);
    assert_eq!(*told.lock().unwrap(), [("verified", "")]);
    assert_eq!(keys.usage()[0].1, 1);

    // A signature that is well formed and wrong is refused when the body is there.
    let forged = head(&[(signature, good), (time, "1700000000")]);
    let forged = forged.map(|_| BufferedBody::from("body"));
    let refused = stack().oneshot(forged).await.unwrap();
    assert_eq!(refused.extensions().get(), Some(&SignatureError::Mismatch));
}
