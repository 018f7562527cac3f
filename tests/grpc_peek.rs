//! How gRPC calls are judged that end in trailers.
#![cfg(feature = "grpc")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};
use support::{Gone, Script, Step, data, header_map, read, trailers};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt};
use tokio_test::{assert_pending, assert_ready};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_webhook::{
    BoxError,
    grpc::{Call, GrpcBody, GrpcPeek, GrpcPeekLayer},
    outcome::{Classify, GrpcClassifier, LateOutcome, MakeClassifier, Outcome, OutcomeKind},
};

#[path = "support/bodies.rs"]
mod support;

const UNAVAILABLE: &[(&str, &str)] = &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "250")];
const OK: &[(&str, &str)] = &[("grpc-status", "0")];

fn answer<B>(kind: &str, body: B) -> Response<B> {
    let res = Response::builder().header("content-type", kind);
    res.body(body).unwrap()
}

fn call() -> Request<()> {
    Request::post("/a.A/B").body(()).unwrap()
}

async fn send<B: Body + Unpin>(
    layer: &GrpcPeekLayer,
    req: Request<()>,
    res: Response<B>,
) -> Response<GrpcBody<B>> {
    let mut res = Some(res);
    let transport = service_fn(move |_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(res.take().unwrap()))
    });
    match layer.layer(transport).oneshot(req).await {
        Ok(res) => res,
    }
}

async fn answered(layer: &GrpcPeekLayer, script: Script) -> Response<GrpcBody<Script>> {
    send(layer, call(), answer("application/grpc", script)).await
}

/// The verdict at the head, and the one to come.
fn judge<B>(res: &Response<B>) -> (Outcome, Option<LateOutcome>) {
    let classifier = GrpcClassifier::new().assume_repeatable(true);
    let classify = classifier.make_classifier(&call());
    let result = Ok::<_, &BoxError>(res);
    (classify.classify(result), classify.late(result))
}

fn kind_and_code(outcome: Outcome) -> (OutcomeKind, Option<u16>) {
    (outcome.kind(), outcome.code())
}

use OutcomeKind::{Cancelled, Success, Transient};

#[tokio::test]
async fn trailers_that_are_here_are_judged_at_the_head() {
    let layer = GrpcPeekLayer::new();
    for steps in [
        || vec![trailers(UNAVAILABLE)],
        || vec![data("message"), trailers(UNAVAILABLE)],
        || vec![data("mes"), data("sage"), trailers(UNAVAILABLE)],
    ] {
        let res = answered(&layer, Script::new(steps())).await;
        let (outcome, late) = judge(&res);
        assert_eq!(kind_and_code(outcome), (Transient, Some(14)));
        assert_eq!(outcome.retry_after(), Some(Duration::from_millis(250)));
        assert!(outcome.may_retry() && late.is_none());
        assert_eq!(
            read(res.into_body()).await,
            read(Script::new(steps())).await
        );
    }
    let res = answered(&layer, Script::new([data("message"), trailers(OK)])).await;
    let (outcome, late) = judge(&res);
    assert_eq!(outcome.kind(), Success);
    assert!(late.is_none());
    // Nothing to say beyond the head: nothing allocated.
    assert!(res.extensions().is_empty());

    // What trailers ask for is capped as in a head, and may be never.
    for (pushback, wait, again) in [("86400000", Some(6 * 3600), true), ("-1", None, false)] {
        let mut map = header_map(&[("grpc-status", "8")]);
        map.insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
        let res = answered(&layer, Script::new([Step::Trailers(map)])).await;
        let (outcome, _) = judge(&res);
        assert_eq!(outcome.retry_after().map(|wait| wait.as_secs()), wait);
        assert_eq!(outcome.may_retry(), again);
    }
}

#[tokio::test]
async fn an_end_without_a_status_is_unknown_and_a_break_unavailable() {
    for layer in [
        GrpcPeekLayer::new(),
        GrpcPeekLayer::new().assume_unary(true),
    ] {
        for (steps, code) in [
            (vec![], 2),
            (vec![data("message")], 2),
            (vec![trailers(&[("x", "y")])], 2),
            (vec![trailers(&[("grpc-status", "x")])], 2),
            (vec![data("message"), Step::Fail], 14),
        ] {
            let res = answered(&layer, Script::new(steps)).await;
            let (outcome, late) = judge(&res);
            assert_eq!(kind_and_code(outcome), (Transient, Some(code)));
            assert!(late.is_none());
        }
        // The error is passed on.
        let broken = Script::new([data("message"), Step::Fail]);
        let mut body = answered(&layer, broken).await.into_body();
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(body.frame().await.unwrap().unwrap_err(), Gone);
        assert!(body.frame().await.is_none());
    }
}

#[test]
fn what_is_not_here_is_not_waited_for() {
    let cx = &mut Context::from_waker(Waker::noop());
    let layer = GrpcPeekLayer::new();
    for steps in [
        vec![Step::Hang],
        vec![data("first"), Step::Hang],
        vec![Step::Spin],
    ] {
        let mut sending = pin!(answered(&layer, Script::new(steps)));
        let res = assert_ready!(sending.as_mut().poll(cx));
        let (outcome, late) = judge(&res);
        assert_eq!(outcome.kind(), Success);
        assert_eq!(late.unwrap().known(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_unary_call_is_waited_for() {
    let slow = || {
        let wait = Duration::from_secs(5);
        Script::new([
            Step::Wait(wait),
            data("message"),
            Step::Wait(wait),
            trailers(UNAVAILABLE),
        ])
    };
    let is_judged = async |layer: GrpcPeekLayer, kind: Option<Call>| {
        let mut req = call();
        if let Some(kind) = kind {
            req.extensions_mut().insert(kind);
        }
        let res = send(&layer, req, answer("application/grpc+proto", slow())).await;
        let (outcome, late) = judge(&res);
        assert_eq!(read(res.into_body()).await, read(slow()).await);
        match late {
            None => assert_eq!(outcome.code(), Some(14)),
            Some(late) => assert_eq!(late.known().unwrap().code(), Some(14)),
        }
        outcome.is_failure()
    };
    let none = GrpcPeekLayer::new();
    let all = GrpcPeekLayer::new().assume_unary(true);
    assert!(!is_judged(none.clone(), None).await);
    assert!(is_judged(all.clone(), None).await);
    assert!(is_judged(none.clone().unary(|path| path == "/a.A/B"), None).await);
    assert!(!is_judged(all.clone().unary(|path| path != "/a.A/B"), None).await);
    assert!(is_judged(none, Some(Call::Unary)).await);
    assert!(!is_judged(all, Some(Call::Streaming)).await);
}

#[tokio::test]
async fn a_unary_answer_beyond_the_limit_passes_as_a_stream() {
    let steps = || {
        [
            data("12345"),
            data("67890"),
            data("1"),
            trailers(UNAVAILABLE),
        ]
    };
    for (limit, late) in [(10, true), (11, true), (12, false)] {
        let layer = GrpcPeekLayer::new().assume_unary(true).max_message(limit);
        let res = answered(&layer, Script::new(steps())).await;
        let (outcome, to_come) = judge(&res);
        assert_eq!(outcome.kind() == Success, late, "{limit}");
        assert_eq!(
            read(res.into_body()).await,
            read(Script::new(steps())).await
        );
        let said = to_come.map(|late| late.known().unwrap());
        assert_eq!(said.is_some(), late);
        assert!(said.is_none_or(|said| said.kind() == Transient));
    }
    let layer = GrpcPeekLayer::new().assume_unary(true).max_message(500);
    let res = answered(&layer, Script::new([Step::Spin])).await;
    assert!(judge(&res).1.is_some());
}

#[tokio::test]
async fn a_stream_is_judged_when_it_ends() {
    let millis = Duration::from_millis(1);
    let layer = GrpcPeekLayer::new();
    for (end, expected) in [
        (vec![trailers(UNAVAILABLE)], (Transient, Some(14))),
        (vec![trailers(OK)], (Success, Some(0))),
        (vec![], (Transient, Some(2))),
        (vec![Step::Fail], (Transient, Some(14))),
    ] {
        let mut steps = vec![data("one"), Step::Wait(millis), data("two")];
        steps.extend(end);
        let res = answered(&layer, Script::new(steps)).await;
        let (outcome, late) = judge(&res);
        let (late, mut body) = (late.unwrap(), res.into_body());
        assert_eq!(outcome.kind(), Success);
        for message in ["one", "two"] {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), message);
            assert_eq!(late.known(), None);
        }
        let _ = body.frame().await;
        assert_eq!(late.known().map(kind_and_code), Some(expected));
        drop(body);
        assert_eq!(late.known().map(kind_and_code), Some(expected));
    }

    let hanging = Script::new([data("one"), Step::Hang]);
    let probe = hanging.probe();
    let res = answered(&layer, hanging).await;
    let late = judge(&res).1.unwrap();
    drop(res);
    assert!(probe.is_dropped());
    assert_eq!(late.known().map(Outcome::kind), Some(Cancelled));
}

#[tokio::test]
async fn a_reader_that_stops_where_the_body_says_it_ends_hears_unknown() {
    /// Says with its last frame that nothing follows.
    struct Ends(Vec<Poll<&'static str>>);
    impl Body for Ends {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            match self.0.pop() {
                None => Poll::Ready(None),
                Some(Poll::Pending) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(Poll::Ready(data)) => {
                    Poll::Ready(Some(Ok(http_body::Frame::data(data.into()))))
                }
            }
        }
        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }
    let layer = GrpcPeekLayer::new();
    let res = send(
        &layer,
        call(),
        answer(
            "application/grpc",
            Ends(vec![Poll::Ready("x"), Poll::Pending]),
        ),
    )
    .await;
    let late = judge(&res).1.unwrap();
    let mut body = res.into_body();
    body.frame().await.unwrap().unwrap();
    assert!(body.is_end_stream());
    drop(body);
    assert_eq!(late.known().unwrap().code(), Some(2));

    let here = answer("application/grpc", Ends(vec![Poll::Ready("x")]));
    let res = send(&layer, call(), here).await;
    assert_eq!(judge(&res).0.code(), Some(2));
}

#[tokio::test]
async fn what_is_no_grpc_or_is_judged_by_its_head_passes_untouched() {
    let layer = GrpcPeekLayer::new().assume_unary(true);
    let mut with_status = answer("application/grpc", ());
    with_status
        .headers_mut()
        .insert("grpc-status", "5".parse().unwrap());
    let mut proxy = answer("application/grpc", ());
    *proxy.status_mut() = http::StatusCode::BAD_GATEWAY;
    for head in [
        with_status,
        proxy,
        answer("text/html", ()),
        answer("application/grpc-web+proto", ()),
        answer("application/grp", ()),
    ] {
        let script = Script::new([data("body"), trailers(UNAVAILABLE)]);
        let probe = script.probe();
        let (before, _) = judge(&head);
        let res = send(&layer, call(), head.map(|()| script)).await;
        let (after, late) = judge(&res);
        assert_eq!((probe.polls(), after), (0, before));
        assert!(late.is_none() && res.extensions().is_empty());
    }
    for kind in ["application/grpc;v=1", "Application/gRPC+json"] {
        let res = send(
            &layer,
            call(),
            answer(kind, Script::new([trailers(UNAVAILABLE)])),
        )
        .await;
        assert_eq!(judge(&res).0.code(), Some(14));
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_drops_the_answer() {
    let layer = GrpcPeekLayer::new().assume_unary(true);
    let script = Script::new([data("message"), Step::Hang]);
    let probe = script.probe();
    let mut sending = Box::pin(answered(&layer, script));
    assert_pending!(
        sending
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    );
    drop(sending);
    assert!(probe.is_dropped());
}

#[cfg(feature = "retry")]
#[tokio::test(start_paused = true)]
async fn a_call_that_fails_in_its_trailers_is_retried() {
    use tower_webhook::{
        RetryWithJitterLayer,
        retry::{HttpExchange, RetryConfig},
    };
    let answers = Arc::new(Mutex::new([UNAVAILABLE, OK].into_iter()));
    let transport = service_fn(move |_: Request<()>| {
        let steps = [data("message"), Step::Wait(Duration::from_secs(1))];
        let end = [trailers(answers.lock().unwrap().next().unwrap())];
        let res = answer(
            "application/grpc",
            Script::new(steps.into_iter().chain(end)),
        );
        std::future::ready(Ok::<_, BoxError>(res))
    });
    let service = RetryWithJitterLayer::new(RetryConfig::default())
        .classifier(GrpcClassifier::new().assume_repeatable(true))
        .exchange(HttpExchange::new())
        .layer(GrpcPeekLayer::new().assume_unary(true).layer(transport));
    let res = service.oneshot(call()).await.unwrap();
    let (message, trailers) = read(res.into_body()).await;
    assert_eq!(message, "message");
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

// Against a tonic server.

type Verdicts = Arc<Mutex<Vec<(Outcome, Option<LateOutcome>)>>>;

/// Stands where retry, breaker and metrics stand.
#[derive(Clone)]
struct Judge {
    inner: GrpcPeek<Channel>,
    verdicts: Verdicts,
}

impl Service<Request<tonic::body::Body>> for Judge {
    type Response = Response<GrpcBody<tonic::body::Body>>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<tonic::body::Body>>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, req: Request<tonic::body::Body>) -> Self::Future {
        let verdicts = Arc::clone(&self.verdicts);
        let calling = self.inner.call(req);
        Box::pin(async move {
            let res = calling.await?;
            verdicts.lock().unwrap().push(judge(&res));
            Ok(res)
        })
    }
}

struct Scripted;

type Items = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Scripted {
    type WatchStream = Items;

    async fn check(
        &self,
        req: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        match req.get_ref().service.as_str() {
            "ok" => Ok(tonic::Response::new(HealthCheckResponse { status: 1 })),
            _ => Err(Status::unavailable("on purpose")),
        }
    }

    async fn watch(
        &self,
        req: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Items>, Status> {
        let item = || Ok(HealthCheckResponse { status: 1 });
        let late = |wait| async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            Err(Status::unavailable("late"))
        };
        let items: Items = match req.get_ref().service.as_str() {
            "fails" => Box::pin(tokio_stream::iter([Err(Status::aborted("at once"))])),
            "one" => Box::pin(tokio_stream::iter([
                item(),
                Err(Status::unavailable("then")),
            ])),
            "two" => Box::pin(tokio_stream::iter([item(), item()])),
            "late" => {
                let (sender, receiver) = tokio::sync::mpsc::channel(1);
                tokio::spawn(async move {
                    sender.send(item()).await.unwrap();
                    sender.send(late(50).await).await.unwrap();
                });
                Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
            }
            _ => Box::pin(tokio_stream::pending()),
        };
        Ok(tonic::Response::new(items))
    }
}

async fn client(layer: GrpcPeekLayer) -> (HealthClient<Judge>, Verdicts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(HealthServer::new(Scripted));
    tokio::spawn(server.serve_with_incoming(incoming));
    let channel = Channel::from_shared(format!("http://{addr}")).unwrap();
    let verdicts = Verdicts::default();
    let judge = Judge {
        inner: layer.layer(channel.connect_lazy()),
        verdicts: Arc::clone(&verdicts),
    };
    (HealthClient::new(judge), verdicts)
}

fn about(service: &str) -> tonic::Request<HealthCheckRequest> {
    tonic::Request::new(HealthCheckRequest {
        service: service.into(),
    })
}

fn last(verdicts: &Verdicts) -> (Outcome, Option<LateOutcome>) {
    verdicts.lock().unwrap().pop().unwrap()
}

#[tokio::test]
async fn unary_calls_of_tonic_are_judged_whole() {
    let (mut client, verdicts) = client(GrpcPeekLayer::new().assume_unary(true)).await;
    let answer = client.check(about("ok")).await.unwrap();
    assert_eq!(answer.get_ref().status, 1);
    let (outcome, late) = last(&verdicts);
    assert_eq!(outcome.kind(), Success);
    assert!(late.is_none());

    let failed = client.check(about("other")).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    assert_eq!(failed.message(), "on purpose");
    assert_eq!(last(&verdicts).0.code(), Some(14));

    // A message, and then the failure: what a unary call of a proxy or a hand-made server may be.
    let mut items = client.watch(about("one")).await.unwrap().into_inner();
    let (outcome, late) = last(&verdicts);
    assert_eq!(kind_and_code(outcome), (Transient, Some(14)));
    assert!(late.is_none());
    assert_eq!(items.next().await.unwrap().unwrap().status, 1);
    let failed = items.next().await.unwrap().unwrap_err();
    assert_eq!(
        (failed.code(), failed.message()),
        (Code::Unavailable, "then")
    );

    let mut req = about("fails");
    req.extensions_mut().insert(Call::Unary);
    let mut items = client.watch(req).await.unwrap().into_inner();
    assert_eq!(last(&verdicts).0.code(), Some(10));
    assert_eq!(
        items.next().await.unwrap().unwrap_err().code(),
        Code::Aborted
    );
}

#[tokio::test]
async fn streams_of_tonic_are_judged_at_their_end() {
    let (mut client, verdicts) = client(GrpcPeekLayer::new()).await;
    let mut items = client.watch(about("late")).await.unwrap().into_inner();
    let (outcome, late) = last(&verdicts);
    let late = late.unwrap();
    assert_eq!((outcome.kind(), late.known()), (Success, None));
    assert_eq!(items.next().await.unwrap().unwrap().status, 1);
    assert_eq!(items.next().await.unwrap().unwrap_err().message(), "late");
    assert_eq!(late.known().unwrap().code(), Some(14));

    // Whether its end is here with its head is the network's choice: it is judged once.
    let mut items = client.watch(about("two")).await.unwrap().into_inner();
    let (outcome, late) = last(&verdicts);
    while items.next().await.is_some_and(|item| item.is_ok()) {}
    let said = late.map_or(outcome, |late| late.known().unwrap());
    assert_eq!(said.kind(), Success);

    // The head of a stream that has nothing to say is not held back.
    let quiet = tokio::time::timeout(Duration::from_secs(20), client.watch(about("quiet")));
    let items = quiet.await.unwrap().unwrap();
    let late = last(&verdicts).1.unwrap();
    drop(items);
    assert_eq!(late.known().map(Outcome::kind), Some(Cancelled));
}
