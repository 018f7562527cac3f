//! What went wrong elsewhere (the defects that the crate's survey of its peers found) does not here.

use crate::support::{WHSEC, at, refused, request, signed, through, verify};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_webhook::{
    BufferBodyLayer, SignatureVerifyLayer,
    body::BufferedBody,
    signature::{
        Secret,
        scheme::{GitHub, StandardWebhooks},
    },
};

/// D22, D27: a body over the limit is 413, before anything is verified; nothing panics.
#[tokio::test]
async fn bodies_are_bounded_before_authentication() {
    let service = ServiceBuilder::new()
        .layer(BufferBodyLayer::new(1024))
        .layer(SignatureVerifyLayer::new(GitHub::new("secret").unwrap()))
        .service_fn(|request: Request<BufferedBody>| async {
            Ok::<_, Infallible>(Response::new(request.into_body()))
        });
    let large = Request::new(Full::<bytes::Bytes>::from(vec![0; 3 << 20]));
    let response = service.oneshot(large).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

/// D23: no timestamp overflows, and none is looked at with signs.
#[test]
fn extreme_timestamps_are_refused() {
    let scheme = StandardWebhooks::new(WHSEC).unwrap();
    for text in [
        i64::MIN.to_string(),
        i64::MAX.to_string(),
        u64::MAX.to_string(),
        "9".repeat(30),
    ] {
        let mut message = signed(&scheme, "body");
        message
            .headers_mut()
            .insert("webhook-timestamp", text.parse().unwrap());
        assert_eq!(refused(&scheme, &message), "malformed");
    }
}

/// D24: no empty key.
#[test]
fn an_empty_secret_is_refused() {
    for text in ["", "whsec_"] {
        StandardWebhooks::new(text).unwrap_err();
    }
}

/// D25: bytes are bytes.
#[test]
fn a_body_need_not_be_text() {
    let scheme = StandardWebhooks::new(WHSEC).unwrap();
    let body = b"\xff\xfe\x00\x80".to_vec();
    verify(&scheme, &signed(&scheme, body)).unwrap();
    verify(&scheme, &signed(&scheme, "")).unwrap();
}

/// D26: a body whose `is_end_stream` stays false until its end ends all the same, in several
/// frames, and a failing one is not taken for a short one.
#[tokio::test]
async fn a_body_is_read_to_its_end_and_no_further() {
    struct Frames(Vec<Result<&'static [u8], &'static str>>);
    impl http_body::Body for Frames {
        type Data = bytes::Bytes;
        type Error = &'static str;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, &'static str>>> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            let next = self.0.remove(0);
            Poll::Ready(Some(next.map(|data| http_body::Frame::data(data.into()))))
        }
    }
    let service = ServiceBuilder::new()
        .layer(BufferBodyLayer::new(1024))
        .layer(SignatureVerifyLayer::new(
            GitHub::new("It's a Secret to Everybody").unwrap(),
        ))
        .service_fn(|request: Request<BufferedBody>| async {
            Ok::<_, Infallible>(Response::new(request.into_body()))
        });
    let request = |frames| {
        Request::builder()
            .header(
                "x-hub-signature-256",
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            )
            .body(Frames(frames))
            .unwrap()
    };
    let whole = request(vec![Ok(b"Hello, "), Ok(b""), Ok(b"World!")]);
    assert_eq!(service.clone().oneshot(whole).await.unwrap().status(), 200);
    let broken = request(vec![Ok(b"Hello, World!"), Err("reset")]);
    assert_eq!(service.clone().oneshot(broken).await.unwrap().status(), 400);
    let empty = request(vec![]);
    assert_eq!(service.oneshot(empty).await.unwrap().status(), 401);
}

/// D28: the instance that was polled ready is the one that is called. The mock panics otherwise.
#[tokio::test]
async fn the_instance_that_was_polled_is_called() {
    let layer = SignatureVerifyLayer::new(GitHub::new("secret").unwrap());
    let (mut service, mut handle) =
        tower_test::mock::spawn_layer::<Request<BufferedBody>, Response<BufferedBody>, _>(layer);
    handle.allow(0);
    tokio_test::assert_pending!(service.poll_ready());
    handle.allow(1);
    tokio_test::assert_ready_ok!(service.poll_ready());
    let call = service.call(signed(&GitHub::new("secret").unwrap(), "body"));
    let (_, respond) = handle.next_request().await.unwrap();
    respond.send_response(Response::default());
    assert_eq!(call.await.unwrap().status(), 200);
}

/// D29: the prefix names the algorithm, and it is read.
#[test]
fn the_prefix_is_not_decoration() {
    let scheme = GitHub::new("secret").unwrap();
    let good = signed(&scheme, "body");
    let text = good.headers()["x-hub-signature-256"].to_str().unwrap();
    for prefix in ["x=", "sha1=", "sha512=", "SHA256=", "=", ""] {
        let text = text.replace("sha256=", prefix);
        let message = request(&[("x-hub-signature-256", text)], "body");
        assert_eq!(refused(&scheme, &message), "malformed", "{prefix}");
    }
}

/// D30: rotation is in the layer.
#[tokio::test]
async fn the_layer_takes_several_secrets() {
    let layer = SignatureVerifyLayer::new(
        GitHub::new([
            Secret::new("new").label("new"),
            Secret::new("old").label("old"),
        ])
        .unwrap(),
    )
    .clock(at(0));
    for key in ["new", "old"] {
        let response = through(&layer, signed(&GitHub::new(key).unwrap(), "body")).await;
        let verified = response
            .extensions()
            .get::<tower_webhook::signature::Verified>();
        assert_eq!(verified.unwrap().secret_label(), Some(key));
    }
}
