//! What `BufferBodyLayer` promises, against bodies that lie, dawdle, break off and never end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::needless_pass_by_value
)]

#[path = "support/bodies.rs"]
mod bodies;
#[path = "support/services.rs"]
mod services;

use bodies::{Gone, Script, Step, data, header_map, read, trailers};
use bytes::{Buf, Bytes};
use http::{Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{Empty, Full};
use services::Strict;
use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};
use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::mock;
use tower_webhook::{
    BufferBodyLayer,
    body::{BodyBudget, BodyError, BufferBody, BufferedBody, CollectError, ResponseBody, collect},
    observe::{Event, observer_fn},
};

const LIMIT: usize = 16;

fn echo(layer: &BufferBodyLayer) -> BufferBody<Strict> {
    layer.layer(Strict::default())
}

/// Sends a body through the layer; the service behind it echoes.
async fn send<B: Body>(layer: BufferBodyLayer, body: B) -> Response<ResponseBody<BufferedBody>> {
    echo(&layer).oneshot(Request::new(body)).await.unwrap()
}

fn reason<B>(response: &Response<B>) -> BodyError {
    *response
        .extensions()
        .get::<BodyError>()
        .expect("a refusal has its reason in the extensions")
}

// Refusals

#[tokio::test(start_paused = true)]
async fn observers_hear_of_each_refusal_and_of_nothing_else() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let layer = BufferBodyLayer::new(LIMIT).observe({
        let heard = heard.clone();
        observer_fn(move |event| match event {
            Event::Refused { by, reason, detail } => {
                heard
                    .lock()
                    .unwrap()
                    .push((*by, *reason, detail.to_string()));
            }
            other => panic!("{other:?}"),
        })
    });
    assert_eq!(
        send(layer.clone(), Script::chunks(["fine"])).await.status(),
        200
    );
    for body in [
        Script::chunks(["never read"]).declares(17),
        Script::new([Step::Fail]),
        Script::new([Step::Wait(Duration::from_secs(11))]),
    ] {
        let response = send(layer.clone(), body).await;
        let (by, told, detail) = heard.lock().unwrap().pop().unwrap();
        let reason = reason(&response);
        assert_eq!((by, told), ("buffer_body", reason.as_str()));
        assert_eq!(detail, reason.to_string());
    }
    let mut req = Request::new(Full::<Bytes>::from("abc"));
    req.headers_mut().insert(header::CONTENT_LENGTH, 4.into());
    assert_eq!(echo(&layer).oneshot(req).await.unwrap().status(), 400);
    let told = heard.lock().unwrap().pop().unwrap();
    assert_eq!((told.1, heard.lock().unwrap().len()), ("length", 0));
}

// Length

#[tokio::test]
async fn a_declared_length_over_the_limit_is_refused_before_a_byte_is_read() {
    let body = Script::chunks(["never read"]).declares(17);
    let probe = body.probe();
    let response = send(BufferBodyLayer::new(LIMIT), body).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(reason(&response), BodyError::TooLarge { limit: LIMIT });
    assert_eq!(probe.polls(), 0);
    assert!(probe.is_dropped());
}

#[tokio::test]
async fn a_content_length_over_the_limit_is_refused_before_a_byte_is_read() {
    for lengths in [&["17"][..], &["3", "17"], &["18446744073709551615"]] {
        let body = Script::chunks(["never read"]);
        let probe = body.probe();
        let mut req = Request::new(body);
        for length in lengths {
            let length = length.parse().unwrap();
            req.headers_mut().append(header::CONTENT_LENGTH, length);
        }
        let response = echo(&BufferBodyLayer::new(LIMIT)).oneshot(req).await;
        let response = response.unwrap();
        assert_eq!(reason(&response), BodyError::TooLarge { limit: LIMIT });
        assert_eq!(probe.polls(), 0, "{lengths:?}");
    }
}

#[tokio::test]
async fn the_limit_is_exact() {
    for (len, status) in [(LIMIT, 200), (LIMIT + 1, 413)] {
        let whole = Bytes::from(vec![b'x'; len]);
        let halves = [data(whole.slice(..9)), data(whole.slice(9..))];
        let one_by_one = whole.chunks(1).map(|byte| data(byte.to_vec()));

        let answer = send(BufferBodyLayer::new(LIMIT), Full::new(whole.clone())).await;
        assert_eq!(answer.status(), status, "declared");
        for script in [
            Script::new([data(whole.clone())]),
            Script::new(halves),
            Script::new(one_by_one),
        ] {
            let answer = send(BufferBodyLayer::new(LIMIT), script).await;
            assert_eq!(answer.status(), status, "streamed");
        }
    }
}

#[tokio::test]
async fn a_limit_of_zero_takes_empty_bodies_alone() {
    let layer = BufferBodyLayer::new(0);
    let empty = send(layer.clone(), Empty::<Bytes>::new()).await;
    assert_eq!(empty.status(), 200);
    let empty = send(layer.clone(), Script::chunks(["", ""])).await;
    assert_eq!(empty.status(), 200);
    let one = send(layer, Script::chunks(["x"])).await;
    assert_eq!(one.status(), 413);
}

#[tokio::test]
async fn reading_stops_at_the_limit() {
    let endless = (0..1_000_000).map(|_| data("0123456789"));
    let body = Script::new(endless);
    let probe = body.probe();
    let response = send(BufferBodyLayer::new(LIMIT), body).await;
    assert_eq!(response.status(), 413);
    assert_eq!(probe.polls(), 2);
}

#[tokio::test]
async fn a_content_length_that_lies_either_way_is_a_bad_request() {
    for (declared, sent) in [("5", "four"), ("3", "four"), ("1", ""), ("0", "x")] {
        let req = Request::builder()
            .header(header::CONTENT_LENGTH, declared)
            .body(Script::chunks([sent]))
            .unwrap();
        let response = echo(&BufferBodyLayer::new(LIMIT)).oneshot(req).await;
        let response = response.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let expected = BodyError::Length {
            declared: declared.parse().unwrap(),
            received: sent.len() as u64,
        };
        assert_eq!(reason(&response), expected);
    }
}

#[tokio::test]
async fn two_content_lengths_that_differ_are_one_too_many() {
    for lengths in [["4", "5"], ["5", "4"]] {
        let req = Request::builder()
            .header(header::CONTENT_LENGTH, lengths[0])
            .header(header::CONTENT_LENGTH, lengths[1])
            .body(Script::chunks(["four"]))
            .unwrap();
        let response = echo(&BufferBodyLayer::new(LIMIT)).oneshot(req).await;
        let expected = BodyError::Length {
            declared: 5,
            received: 4,
        };
        assert_eq!(reason(&response.unwrap()), expected);
    }
}

#[tokio::test]
async fn a_true_content_length_passes() {
    let req = Request::builder()
        .header(header::CONTENT_LENGTH, "4")
        .body(Script::chunks(["fo", "ur"]))
        .unwrap();
    let response = echo(&BufferBodyLayer::new(LIMIT)).oneshot(req).await;
    assert_eq!(response.unwrap().status(), 200);
}

// Bytes and trailers

#[tokio::test]
async fn one_chunk_is_not_copied() {
    let payload = Bytes::from(vec![b'x'; 1024]);
    let at = payload.as_ptr();
    for body in [
        Script::new([data(payload.clone())]),
        Script::new([
            data(""),
            data(payload.clone()),
            data(""),
            trailers(&[("x-end", "1")]),
        ]),
    ] {
        let service = BufferBodyLayer::new(1024).layer(service_fn(
            move |req: Request<BufferedBody>| async move {
                let same = req.body().as_bytes().as_ptr() == at;
                Ok::<_, Infallible>(Response::new(BufferedBody::from(format!("{same}"))))
            },
        ));
        let response = service.oneshot(Request::new(body)).await.unwrap();
        assert_eq!(read(response.into_body()).await.0, "true");
    }
}

#[tokio::test]
async fn many_chunks_come_together_in_order() {
    let numbers: Vec<_> = (0..10_000).map(|n| format!("{n},")).collect();
    let body = Script::new(numbers.iter().cloned().map(data));
    let response = send(BufferBodyLayer::new(1 << 20), body).await;
    let (bytes, _) = read(response.into_body()).await;
    assert!(bytes == numbers.concat());
}

#[tokio::test]
async fn a_frame_of_several_slices_is_read_whole() {
    let frame = Bytes::from("one ")
        .chain(Bytes::from("two "))
        .chain(Bytes::from("three"));
    let response = send(BufferBodyLayer::new(LIMIT), Full::new(frame)).await;
    assert_eq!(read(response.into_body()).await.0, "one two three");

    let too_long = Bytes::from("sixteen bytes ").chain(Bytes::from("and more"));
    let response = send(BufferBodyLayer::new(LIMIT), Full::new(too_long)).await;
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn trailers_are_kept_with_every_value() {
    let body = Script::new([
        data("body"),
        trailers(&[("x-sum", "1"), ("x-sum", "2"), ("x-one", "first")]),
        trailers(&[("x-one", "second"), ("x-two", "2")]),
    ]);
    let response = send(BufferBodyLayer::new(LIMIT), body).await;
    let (bytes, kept) = read(response.into_body()).await;
    assert_eq!(bytes, "body");
    let expected = header_map(&[
        ("x-sum", "1"),
        ("x-sum", "2"),
        ("x-one", "first"),
        ("x-one", "second"),
        ("x-two", "2"),
    ]);
    assert_eq!(kept, Some(expected));
}

#[tokio::test]
async fn trailers_without_a_body_are_kept() {
    let body = Script::new([trailers(&[("grpc-status", "0")])]);
    let response = send(BufferBodyLayer::new(LIMIT), body).await;
    let (bytes, kept) = read(response.into_body()).await;
    assert!(bytes.is_empty());
    assert_eq!(kept, Some(header_map(&[("grpc-status", "0")])));
}

#[tokio::test]
async fn trailers_are_bounded_too() {
    // More fields than a header map can hold, which would panic; more bytes than fit, which would
    // fill memory.
    let field = || trailers(&[("x-filler", "0123456789")]);
    let body = Script::new((0..40_000).map(|_| field()));
    let probe = body.probe();
    let response = send(BufferBodyLayer::new(LIMIT), body).await;
    assert_eq!(response.status(), 413);
    assert!(probe.polls() < 1_000, "{} frames were taken", probe.polls());
}

#[tokio::test]
async fn the_head_of_the_request_and_its_extensions_pass() {
    let service =
        BufferBodyLayer::new(LIMIT).layer(service_fn(|req: Request<BufferedBody>| async move {
            assert_eq!(req.extensions().get::<u32>(), Some(&7));
            assert_eq!(req.headers()["x-head"], "kept");
            assert_eq!(req.version(), http::Version::HTTP_2);
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(
                req.uri().path().to_owned(),
            )))
        }));
    let req = Request::put("/path?query")
        .version(http::Version::HTTP_2)
        .header("x-head", "kept")
        .extension(7_u32)
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = service.oneshot(req).await.unwrap();
    assert_eq!(read(response.into_body()).await.0, "/path");
}

#[tokio::test]
async fn a_buffered_body_buffers_again_without_a_copy() {
    let body = BufferedBody::from("twice").with_trailers(header_map(&[("x-end", "1")]));
    let at = body.as_bytes().as_ptr();
    let again = collect(body, LIMIT).await.unwrap();
    assert_eq!(again.as_bytes().as_ptr(), at);
    assert_eq!(again.trailers(), Some(&header_map(&[("x-end", "1")])));
}

#[tokio::test]
async fn an_incoming_body_of_hyper_is_read() {
    let (client, server) = tokio::io::duplex(64);
    let service = hyper::service::service_fn(|req: Request<hyper::body::Incoming>| {
        echo(&BufferBodyLayer::new(1024)).oneshot(req)
    });
    tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(server), service),
    );
    let io = hyper_util::rt::TokioIo::new(client);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);

    // Longer than the pipe, so that it arrives in pieces.
    let payload = Bytes::from(vec![b'x'; 1000]);
    let req = Request::post("/").body(Full::new(payload.clone())).unwrap();
    let response = sender.send_request(req).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(read(response.into_body()).await.0, payload);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn it_stands_in_an_axum_router_whose_error_stays_infallible() {
    use axum::{Router, routing::post};

    let app = Router::new()
        .route("/", post(|body: Bytes| async move { body }))
        .layer(BufferBodyLayer::new(LIMIT));
    for (body, status) in [("fits", 200), ("is longer than sixteen", 413)] {
        let req = Request::post("/")
            .body(axum::body::Body::from(body))
            .unwrap();
        let response: Result<_, Infallible> = app.clone().oneshot(req).await;
        assert_eq!(response.unwrap().status(), status);
    }
}

// Time

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_past_the_deadline_times_out() {
    let deadline = Duration::from_secs(3);
    let trickle = (0..100).flat_map(|_| [Step::Wait(Duration::from_secs(1)), data("x")]);
    let body = Script::new(trickle);
    let probe = body.probe();
    let started = Instant::now();
    let response = send(BufferBodyLayer::new(1024).deadline(deadline), body).await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(reason(&response), BodyError::Deadline { deadline });
    // A frame that comes with the deadline may still be read.
    assert!(started.elapsed() < deadline + Duration::from_millis(10));
    assert!(probe.is_dropped());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_waits_within_the_deadline_passes() {
    let body = Script::new([data("one"), Step::Wait(Duration::from_secs(9)), data("two")]);
    let response = send(BufferBodyLayer::new(LIMIT), body).await;
    assert_eq!(read(response.into_body()).await.0, "onetwo");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_zero_takes_only_what_is_here() {
    let layer = BufferBodyLayer::new(1024).deadline(Duration::ZERO);
    let here = send(layer.clone(), Script::chunks(["all", " here"])).await;
    assert_eq!(here.status(), 200);
    let late = Script::new([data("x"), Step::Wait(Duration::from_secs(1)), data("y")]);
    assert_eq!(send(layer.clone(), late).await.status(), 408);
    let never = Script::new([Step::Hang]);
    assert_eq!(send(layer, never).await.status(), 408);
}

#[tokio::test(start_paused = true)]
async fn the_longest_deadline_is_no_panic() {
    let layer = BufferBodyLayer::new(LIMIT).deadline(Duration::MAX);
    let body = Script::new([Step::Wait(Duration::from_secs(1 << 20)), data("late")]);
    assert_eq!(send(layer, body).await.status(), 200);
}

#[tokio::test]
async fn a_body_that_is_here_starts_no_timer() {
    // Outside a runtime a timer would panic.
    let response = std::thread::spawn(|| {
        let future = pin!(
            echo(&BufferBodyLayer::new(LIMIT))
                .oneshot(Request::new(Script::chunks(["all", "here"])))
        );
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(response) => response.unwrap().status(),
            std::task::Poll::Pending => panic!("there is nothing to wait for"),
        }
    });
    assert_eq!(response.join().unwrap(), 200);
}

/// The body of tower-github-webhook's verifier that spun at 100 % CPU, and worse: it always has
/// one more frame.
#[tokio::test]
async fn an_endless_stream_of_empty_frames_leaves_the_thread_to_others_and_ends() {
    let deadline = Duration::from_millis(50);
    let body = Script::new([Step::Spin]);
    let probe = body.probe();
    // One thread: the ticker runs only when the body gives way.
    let ticks = Arc::new(AtomicUsize::new(0));
    let ticker = tokio::spawn({
        let (ticks, probe) = (Arc::clone(&ticks), probe.clone());
        async move {
            while !probe.is_dropped() {
                ticks.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    });
    let response = send(BufferBodyLayer::new(LIMIT).deadline(deadline), body).await;
    assert_eq!(reason(&response), BodyError::Deadline { deadline });
    ticker.await.unwrap();
    let (ticks, polls) = (ticks.load(Ordering::SeqCst), probe.polls());
    assert!(ticks > 1, "{ticks} ticks beside {polls} frames");
    assert!(polls / ticks <= 256, "{ticks} ticks beside {polls} frames");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_says_it_ended_ends_with_its_last_frame() {
    let body = Script::chunks(["whole"]);
    let probe = body.probe();
    assert!(!body.is_end_stream());
    let response = send(BufferBodyLayer::new(LIMIT), body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(probe.polls(), 2);
}

// Failure

#[tokio::test]
async fn a_body_that_breaks_off_is_a_bad_request() {
    let body = Script::new([data("half"), Step::Fail]);
    let response = send(BufferBodyLayer::new(LIMIT), body).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(reason(&response), BodyError::Unreadable);
}

#[tokio::test]
async fn collect_tells_the_cause() {
    let body = Script::new([data("half"), Step::Fail]);
    let error = collect(body, LIMIT).await.unwrap_err();
    assert_eq!(error, CollectError::Read(Gone));
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.is::<Gone>());
}

#[tokio::test]
async fn a_refusal_is_a_problem_to_the_byte() {
    for (body, json) in [
        (
            Script::chunks([]).declares(17),
            r#"{"type":"about:blank","title":"Payload Too Large","status":413,"detail":"the body is longer than 16 bytes"}"#,
        ),
        (
            Script::new([Step::Fail]),
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"the body could not be read to its end"}"#,
        ),
    ] {
        let response = send(BufferBodyLayer::new(LIMIT), body).await;
        let kind = &response.headers()[header::CONTENT_TYPE];
        assert_eq!(kind, "application/problem+json");
        assert_eq!(read(response.into_body()).await.0, json);
    }
}

#[tokio::test]
async fn a_closure_replaces_the_answer_and_the_reason_stays() {
    let layer = BufferBodyLayer::new(LIMIT).refuse_with(|reason, problem| {
        assert_eq!(problem.status(), 413);
        let mut response = Response::new(BufferedBody::from(reason.to_string()));
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        response
    });
    let response = send(layer, Script::chunks(["more than sixteen bytes"])).await;
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(reason(&response), BodyError::TooLarge { limit: LIMIT });
    let (text, _) = read(response.into_body()).await;
    assert_eq!(text, "the body is longer than 16 bytes");
}

#[tokio::test]
async fn an_error_of_the_service_behind_passes() {
    let service = BufferBodyLayer::new(LIMIT).layer(service_fn(|_: Request<BufferedBody>| async {
        Err::<Response<BufferedBody>, _>(Gone)
    }));
    let result = service.oneshot(Request::new(Empty::<Bytes>::new())).await;
    assert_eq!(result.unwrap_err(), Gone);
}

// Readiness and cancellation

#[tokio::test]
async fn the_instance_that_was_polled_ready_is_called() {
    let mut service = echo(&BufferBodyLayer::new(LIMIT));
    for _ in 0..3 {
        let ready = ServiceExt::<Request<Script>>::ready(&mut service).await;
        let call = ready
            .unwrap()
            .call(Request::new(Script::chunks(["a", "b"])));
        let answer = call.await;
        assert_eq!(answer.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn readiness_is_the_inner_services() {
    let (mut service, mut handle) =
        mock::spawn_layer::<Request<BufferedBody>, Response<BufferedBody>, _>(
            BufferBodyLayer::new(LIMIT),
        );
    handle.allow(0);
    assert_pending!(service.poll_ready::<Request<Script>>());
    handle.allow(1);
    assert_ready_ok!(service.poll_ready::<Request<Script>>());

    let mut call = task::spawn(service.call(Request::new(Script::chunks(["x"]))));
    assert_pending!(call.poll());
    let (req, respond) = assert_ready!(task::spawn(handle.next_request()).poll()).unwrap();
    assert_eq!(req.body().as_bytes(), "x");
    respond.send_response(Response::new(BufferedBody::from("y")));
    let response = assert_ready!(call.poll()).unwrap();
    assert_eq!(read(response.into_body()).await.0, "y");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_drops_the_body_and_calls_nothing() {
    let (mut service, mut handle) =
        mock::spawn_layer::<Request<BufferedBody>, Response<BufferedBody>, _>(
            BufferBodyLayer::new(LIMIT),
        );
    handle.allow(2);
    // Not polled yet, and in the middle of the body.
    for polls in [0, 1] {
        assert_ready_ok!(service.poll_ready::<Request<Script>>());
        let body = Script::new([data("half"), Step::Hang]);
        let probe = body.probe();
        let mut call = task::spawn(service.call(Request::new(body)));
        for _ in 0..polls {
            assert_pending!(call.poll());
        }
        drop(call);
        assert!(probe.is_dropped());
    }
    assert_pending!(task::spawn(handle.next_request()).poll());
}

#[tokio::test]
async fn a_future_that_is_dropped_in_the_call_drops_the_call() {
    let dropped = bodies::Script::new([]);
    let probe = dropped.probe();
    let guard = Arc::new(std::sync::Mutex::new(Some(dropped)));
    let service = BufferBodyLayer::new(LIMIT).layer(service_fn(move |_: Request<BufferedBody>| {
        let held = guard.lock().unwrap().take();
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok::<_, Infallible>(Response::new(BufferedBody::default()))
        }
    }));
    let mut call = task::spawn(service.oneshot(Request::new(Empty::<Bytes>::new())));
    assert_pending!(call.poll());
    assert!(!probe.is_dropped());
    drop(call);
    assert!(probe.is_dropped());
}

// Budget: of 64 bytes, 16 are for bodies that declare their length, which is small here, and 48 for the others.

fn budgeted(budget: &BodyBudget) -> BufferBodyLayer {
    BufferBodyLayer::new(40).budget(budget.clone()).unwrap()
}

fn left(budget: &BodyBudget) -> String {
    format!("{budget:?}")
}

fn filled(bytes: usize) -> Step {
    data(vec![b'x'; bytes])
}

/// Sends a body from a task of its own: the status, and how long it took.
fn spawned(
    budget: &BodyBudget,
    body: impl IntoIterator<Item = Step>,
) -> tokio::task::JoinHandle<(u16, Duration)> {
    let sent = send(budgeted(budget), Script::new(body));
    let began = Instant::now();
    tokio::spawn(async move { (sent.await.status().as_u16(), began.elapsed()) })
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_budget_smaller_than_one_body_is_no_setting() {
    let layer = |bytes| BufferBodyLayer::new(40).budget(BodyBudget::new(bytes));
    let error = layer(52).unwrap_err();
    assert_eq!(error.setting(), "budget");
    assert!(error.to_string().contains("at least 53 bytes"), "{error}");
    assert!(layer(53).is_ok());
    assert!(layer(usize::MAX).is_ok());
    // The default holds a body as long as the limit, whatever the limit.
    let _ = BufferBodyLayer::new(usize::MAX);
}

#[tokio::test]
async fn a_budget_that_holds_one_body_takes_it_whatever_it_declares() {
    for (limit, bytes) in [(100, 134), (6144, 8192), (16_384, 21_846), (16_384, 65_535)] {
        let layer = BufferBodyLayer::new(limit);
        let layer = layer.budget(BodyBudget::new(bytes)).unwrap();
        for length in [1, limit / 4, limit / 2, limit] {
            let sent = send(layer.clone(), Full::<Bytes>::from(vec![b'x'; length])).await;
            assert_eq!(sent.status(), 200, "{length} of {limit} in {bytes}");
        }
    }
}

#[test]
fn a_layer_has_a_budget_of_its_own() {
    let shown = format!("{:?}", BufferBodyLayer::new(1 << 20));
    assert!(shown.contains("left: 67108864"), "{shown}");
    let shown = format!("{:?}", BufferBodyLayer::new(100 << 20));
    assert!(shown.contains("left: 209715200"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_length_that_is_only_declared_takes_nothing() {
    let budget = BodyBudget::new(64);
    let idle: Vec<_> = (0..600)
        .map(|_| {
            let body = Script::new([Step::Hang]).declares(40);
            tokio::spawn(send(budgeted(&budget), body))
        })
        .collect();
    settle().await;
    assert_eq!(left(&budget), "BodyBudget { left: 64, .. }");
    assert_eq!(spawned(&budget, [filled(40)]).await.unwrap().0, 200);
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn bodies_wait_in_their_order_and_a_later_one_that_fits_does_not_pass() {
    let budget = BodyBudget::new(64);
    let second = Duration::from_secs(1);
    let first = spawned(&budget, [filled(40), Step::Wait(second / 2)]);
    settle().await;
    let wide = spawned(&budget, [filled(20), Step::Wait(second / 4)]);
    settle().await;
    // Eight bytes are free, and the one before it wants twenty.
    let narrow = spawned(&budget, [filled(8)]);
    settle().await;
    assert!(!narrow.is_finished());
    assert_eq!(first.await.unwrap(), (200, second / 2));
    settle().await;
    assert!(narrow.is_finished() && !wide.is_finished());
    assert_eq!(narrow.await.unwrap().0, 200);
    assert_eq!(wide.await.unwrap(), (200, second * 3 / 4));
    assert_eq!(left(&budget), "BodyBudget { left: 64, .. }");
}

#[tokio::test(start_paused = true)]
async fn a_body_without_room_is_refused_after_a_second() {
    let budget = BodyBudget::new(64);
    let told = Arc::new(Mutex::new(Vec::new()));
    let layer = budgeted(&budget).observe({
        let told = told.clone();
        observer_fn(move |event| {
            if let Event::Refused { by, reason, .. } = event {
                told.lock().unwrap().push((*by, *reason));
            }
        })
    });
    let first = spawned(&budget, [filled(40), Step::Wait(Duration::from_secs(5))]);
    settle().await;
    let began = Instant::now();
    let refused = send(layer, Script::new([filled(9)])).await;
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    assert_eq!(
        refused.headers()[header::CONTENT_TYPE],
        "application/problem+json"
    );
    assert_eq!(reason(&refused).as_str(), "busy");
    assert_eq!(*told.lock().unwrap(), [("buffer_body", "busy")]);
    assert_eq!(first.await.unwrap().0, 200);
}

#[tokio::test(start_paused = true)]
async fn bodies_that_all_hold_a_part_do_not_wait_for_each_other_for_ever() {
    let budget = BodyBudget::new(64);
    let half = Duration::from_millis(500);
    let bodies = [half / 2, half * 3 / 4]
        .map(|later| spawned(&budget, [filled(20), Step::Wait(later), filled(20)]));
    let [first, second] = bodies;
    assert_eq!(first.await.unwrap(), (503, half / 2 + half * 2));
    assert_eq!(
        second.await.unwrap(),
        (200, half / 2 + half * 2),
        "it got what the first gave back"
    );
    assert_eq!(left(&budget), "BodyBudget { left: 64, .. }");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_body_holds_while_it_waits_for_room() {
    let budget = BodyBudget::new(64);
    let _first = spawned(&budget, [filled(40), Step::Hang]);
    settle().await;
    let (began, deadline) = (Instant::now(), Duration::from_millis(300));
    let layer = budgeted(&budget).deadline(deadline);
    let refused = send(layer, Script::new([filled(9)])).await;
    assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(began.elapsed(), deadline);
}

#[tokio::test(start_paused = true)]
async fn small_bodies_do_not_wait_for_large_ones() {
    let budget = BodyBudget::new(64);
    let large: Vec<_> = (0..600)
        .map(|_| spawned(&budget, [filled(10), Step::Hang]))
        .collect();
    settle().await;
    let began = Instant::now();
    for _ in 0..20 {
        let small = send(budgeted(&budget), Script::new([filled(12)]).declares(12)).await;
        assert_eq!(small.status(), 200);
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    for one in large {
        assert!(matches!(one.await.unwrap().0, 408 | 503));
    }
    assert_eq!(left(&budget), "BodyBudget { left: 64, .. }");
}

#[tokio::test(start_paused = true)]
async fn a_request_keeps_its_bytes_until_it_is_answered() {
    let budget = BodyBudget::new(64);
    let service = budgeted(&budget).layer(service_fn(|_: Request<BufferedBody>| async {
        std::future::pending::<Result<Response<BufferedBody>, Infallible>>().await
    }));
    let mut call = task::spawn(service.oneshot(Request::new(Script::new([filled(40)]))));
    assert_pending!(call.poll());
    assert_eq!(left(&budget), "BodyBudget { left: 24, .. }");
    drop(call);
    assert_eq!(left(&budget), "BodyBudget { left: 64, .. }");
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_anywhere_gives_its_bytes_back() {
    let budget = BodyBudget::new(64);
    let keeper = spawned(&budget, [filled(30), Step::Wait(Duration::from_secs(9))]);
    settle().await;
    for polls in 0..8 {
        let pause = || Step::Wait(Duration::from_millis(1));
        let body = [filled(6), pause(), filled(6), pause(), filled(20), pause()];
        let mut call = task::spawn(send(budgeted(&budget), Script::new(body)));
        for _ in 0..polls {
            let _ = call.poll();
            tokio::time::advance(Duration::from_millis(2)).await;
        }
        drop(call);
        assert_eq!(left(&budget), "BodyBudget { left: 34, .. }", "{polls}");
    }
    keeper.abort();
    let _ = keeper.await;
    assert_eq!(left(&budget), "BodyBudget { left: 64, .. }");
}

// Shares: of 640 bytes, 60 for the large bodies of one peer, and 40, one body, for the small ones.

fn shared() -> BodyBudget {
    BodyBudget::new(640).share_by(|head| head.extensions.get::<u32>().copied())
}

async fn send_by(
    peer: u32,
    layer: BufferBodyLayer,
    body: Script,
) -> Response<ResponseBody<BufferedBody>> {
    let mut req = Request::new(body);
    req.extensions_mut().insert(peer);
    echo(&layer).oneshot(req).await.unwrap()
}

/// Like `spawned`, by a peer.
fn spawned_by(
    peer: u32,
    budget: &BodyBudget,
    body: Script,
) -> tokio::task::JoinHandle<(u16, Duration)> {
    let sent = send_by(peer, budgeted(budget), body);
    let began = Instant::now();
    tokio::spawn(async move { (sent.await.status().as_u16(), began.elapsed()) })
}

#[tokio::test(start_paused = true)]
async fn a_peer_beyond_its_share_waits_for_itself_and_no_other_peer_does() {
    let (now, second) = (Duration::ZERO, Duration::from_secs(1));
    for (held, declared) in [(60, None), (40, Some(20))] {
        let budget = shared();
        let script = |body: [Step; 2]| match declared {
            Some(length) => Script::new(body).declares(length),
            None => Script::new(body),
        };
        let hold = |_| spawned_by(1, &budget, script([filled(20), Step::Hang]));
        let holders: Vec<_> = (0..600).map(hold).collect();
        settle().await;
        assert_eq!(
            left(&budget),
            format!("BodyBudget {{ left: {}, .. }}", 640 - held)
        );
        for other in 2..50 {
            let body = script([filled(10), filled(10)]);
            let passed = spawned_by(other, &budget, body).await.unwrap();
            assert_eq!(passed, (200, now), "{other}");
        }
        let nobody = send(budgeted(&budget), script([filled(10), filled(10)])).await;
        assert_eq!(nobody.status(), 200);

        let mut answers = Vec::new();
        for holder in holders {
            answers.push(holder.await.unwrap());
        }
        let refused = answers.iter().filter(|answer| **answer == (503, second));
        assert_eq!(refused.count(), 600 - held / 20);
        assert_eq!(left(&budget), "BodyBudget { left: 640, .. }");
        let again = spawned_by(1, &budget, script([filled(10), filled(10)]));
        assert_eq!(again.await.unwrap(), (200, now));
    }
}

#[tokio::test(start_paused = true)]
async fn the_bodies_of_a_peer_wait_in_their_order_for_a_second_in_all() {
    let budget = shared();
    let after = |millis| Step::Wait(Duration::from_millis(millis));
    let _first = spawned_by(1, &budget, Script::new([filled(40), after(600)]));
    settle().await;
    let wide = spawned_by(1, &budget, Script::new([filled(30), after(100)]));
    settle().await;
    // It would fit beside the first.
    let narrow = spawned_by(1, &budget, Script::new([filled(20)]));
    let (wide, narrow) = (wide.await.unwrap(), narrow.await.unwrap());
    assert_eq!((wide.0, narrow.0), (200, 200));
    assert_eq!(narrow.1.as_millis() / 100, 6);

    // Others have the whole part: what waits for its peer first has the rest of the second for the part.
    let all = [40; 12].map(|bytes| spawned(&budget, [filled(bytes), Step::Hang]));
    settle().await;
    assert_eq!(left(&budget), "BodyBudget { left: 160, .. }");
    let held = [40, 20].map(|bytes| spawned_by(1, &budget, Script::new([filled(bytes)])));
    settle().await;
    tokio::time::advance(Duration::from_millis(500)).await;
    let late = spawned_by(1, &budget, Script::new([filled(20)]));
    for held in held {
        assert_eq!(held.await.unwrap(), (503, Duration::from_secs(1)));
    }
    assert_eq!(late.await.unwrap(), (503, Duration::from_secs(1)));
    for one in all {
        one.abort();
        let _ = one.await;
    }
    for bytes in [40, 20].repeat(3) {
        let passed = spawned_by(1, &budget, Script::new([filled(bytes)]));
        assert_eq!(passed.await.unwrap(), (200, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_anywhere_gives_its_peer_the_share_back() {
    // While there is room; while the share is full; while the part is full of others.
    for (by, bytes) in [(1, 0), (1, 40), (2, 480)] {
        let budget = shared();
        let keepers: Vec<_> = (0..bytes / 40)
            .map(|number| spawned_by(by + number, &budget, Script::new([filled(40), Step::Hang])))
            .collect();
        settle().await;
        let before = left(&budget);
        for polls in 0..8 {
            let pause = || Step::Wait(Duration::from_millis(1));
            let body = [
                filled(10),
                pause(),
                filled(10),
                pause(),
                filled(20),
                pause(),
            ];
            let mut call = task::spawn(send_by(1, budgeted(&budget), Script::new(body)));
            for _ in 0..polls {
                if call.poll().is_ready() {
                    break;
                }
                tokio::time::advance(Duration::from_millis(2)).await;
            }
            drop(call);
            assert_eq!(left(&budget), before, "{polls}");
        }
        for keeper in keepers {
            keeper.abort();
            let _ = keeper.await;
        }
        // All of the share is there, and no more.
        let all =
            [40, 20].map(|bytes| spawned_by(1, &budget, Script::new([filled(bytes), Step::Hang])));
        settle().await;
        assert_eq!(left(&budget), "BodyBudget { left: 580, .. }");
        let more = spawned_by(1, &budget, Script::new([filled(1)]));
        assert_eq!(more.await.unwrap().0, 503);
        all.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_is_of_the_peer_over_all_layers_and_holds_one_body_of_the_longest() {
    let budget = shared();
    let long = || BufferBodyLayer::new(200).budget(budget.clone()).unwrap();
    // Before a layer with this limit there was a share of 60 bytes.
    assert_eq!(
        spawned_by(1, &budget, Script::new([filled(40)]))
            .await
            .unwrap()
            .0,
        200
    );
    for _ in 0..3 {
        let whole = send_by(1, long(), Script::new([filled(200)])).await;
        assert_eq!(whole.status(), 200);
    }
    let began = Instant::now();
    let held = tokio::spawn(send_by(1, long(), Script::new([filled(190), Step::Hang])));
    settle().await;
    assert_eq!(
        spawned_by(1, &budget, Script::new([filled(20)]))
            .await
            .unwrap()
            .0,
        503
    );
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    held.abort();
}

#[tokio::test]
async fn debug_shows_no_body() {
    let body = BufferedBody::from("secret").with_trailers(header_map(&[("x-end", "secret")]));
    let response = send(BufferBodyLayer::new(LIMIT), body.clone()).await;
    let collecting = collect(Script::new([data("secret"), Step::Hang]), LIMIT);
    let mut collecting = task::spawn(collecting);
    assert_pending!(collecting.poll());
    for text in [
        format!("{body:?}"),
        format!("{:?}", Request::new(body.clone())),
        format!("{response:?}"),
        format!("{:?}", ResponseBody::<BufferedBody>::buffered(body)),
        format!("{collecting:?}"),
    ] {
        assert!(!text.contains("secret"), "{text}");
    }
}
