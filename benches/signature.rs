//! Verification over the bare MAC.
//!
//! `cargo bench -p tower-webhook-benches --bench signature`. The last table is the one that counts: on a
//! shared machine only variants that take turns in one run can be compared.

#![allow(clippy::unwrap_used, reason = "a bench")]

#[path = "support/signature.rs"]
mod signature;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Request, Response};
use sha2::Sha256;
use signature::{Add, BODY, signed, verify};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tower::{Layer, Service, service_fn};
use tower_webhook::{
    SignatureVerifyLayer,
    body::BufferedBody,
    clock::WallClock,
    signature::{
        Backend, Message, ReplayCache, Secret, Secrets,
        scheme::{BasicAuth, Cognigy, CognigyFormat, GitHub, Slack, StandardWebhooks, Stripe},
    },
};

const KEY: &str = "a secret of more than thirty-two bytes";

fn backends() -> Vec<(&'static str, Backend)> {
    vec![
        ("rustcrypto", Backend::RustCrypto),
        ("aws-lc", Backend::AwsLc),
    ]
}

/// The MAC alone, from a key that was set up before, over as many bytes as the scheme signs.
fn bare_mac(backend: Backend, pieces: Vec<Vec<u8>>) -> Box<dyn Fn()> {
    if matches!(backend, Backend::AwsLc) {
        use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
        let key = Key::new(HMAC_SHA256, KEY.as_bytes());
        return Box::new(move || {
            let mut mac = Context::with_key(black_box(&key));
            for piece in black_box(&pieces) {
                mac.update(piece);
            }
            black_box(mac.sign());
        });
    }
    let key = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    Box::new(move || {
        let mut mac = black_box(&key).clone();
        for piece in black_box(&pieces) {
            mac.update(piece);
        }
        black_box(mac.finalize());
    })
}

fn no_op(request: Request<BufferedBody>) -> Ready<Result<Response<BufferedBody>, Infallible>> {
    black_box(request);
    ready(Ok(Response::new(BufferedBody::default())))
}

fn call<S, ResB>(service: S, request: Request<BufferedBody>) -> Box<dyn Fn()>
where
    S: Service<Request<BufferedBody>, Response = Response<ResB>, Error = Infallible>
        + Clone
        + 'static,
{
    Box::new(move || {
        // Cloned by every variant alike: a request can be sent once.
        let mut service = service.clone();
        let mut cx = Context::from_waker(Waker::noop());
        let mut future = pin!(service.call(request.clone()));
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(Ok(response)) => assert!(black_box(response).status().is_success()),
            _ => unreachable!("a no-op answers at once"),
        }
    })
}

fn main() {
    signature::run(|add| {
        schemes(add);
        parts(add);
        layers(add);
    });
}

/// Each scheme over the bare MAC of the same bytes by the same code.
fn schemes(add: Add<'_>) {
    for (label, backend) in backends() {
        let secrets = || Secrets::from(Secret::new(KEY)).backend(backend);
        let base64 = || {
            let text = data_encoding::BASE64.encode(KEY.as_bytes());
            Secrets::from(Secret::new(text)).backend(backend)
        };
        let body = || vec![b'x'; BODY];
        let dot = || b".".to_vec();
        let id = || b"msg_2KWPBgLlAfxdpx2AI54pPJ85f4W".to_vec();
        let time = || b"1700000000".to_vec();

        let group = if label == "aws-lc" {
            "body/aws-lc"
        } else {
            "body/rustcrypto"
        };
        let hex = [CognigyFormat::Hex];
        let cognigy = || Cognigy::new(secrets(), hex).unwrap();
        add(group, "bare MAC", bare_mac(backend, vec![body()]));
        add(group, "github", verify(GitHub::new(secrets()).unwrap()));
        add(
            group,
            "cognigy hex",
            verify(cognigy().sign_as(CognigyFormat::Hex)),
        );
        let scheme = Cognigy::new(secrets(), [CognigyFormat::Base64]).unwrap();
        add(
            group,
            "cognigy base64",
            verify(scheme.sign_as(CognigyFormat::Base64)),
        );

        let group = if label == "aws-lc" {
            "ts.body/aws-lc"
        } else {
            "ts.body/rustcrypto"
        };
        add(
            group,
            "bare MAC",
            bare_mac(backend, vec![time(), dot(), body()]),
        );
        add(group, "stripe", verify(Stripe::new(secrets()).unwrap()));
        add(group, "slack", verify(Slack::new(secrets()).unwrap()));
        let scheme = Cognigy::new(secrets(), [CognigyFormat::SignedTimestamp]).unwrap();
        add(group, "cognigy t=,v1=", verify(scheme));

        let group = if label == "aws-lc" {
            "id.ts.body/aws-lc"
        } else {
            "id.ts.body/rustcrypto"
        };
        let pieces = vec![id(), dot(), time(), dot(), body()];
        add(group, "bare MAC", bare_mac(backend, pieces));
        let scheme = || StandardWebhooks::new(base64()).unwrap();
        add(group, "standard webhooks", verify(scheme()));
    }
}

/// What a verification costs beside its MAC, taken apart.
fn parts(add: Add<'_>) {
    let clock = WallClock::system();
    add("parts", "nothing", Box::new(|| {}));
    add(
        "parts",
        "clock",
        Box::new(move || {
            black_box(clock.unix_seconds());
        }),
    );
    let request = signed(&GitHub::new(KEY).unwrap());
    let clock = WallClock::system();
    let name = http::HeaderName::from_static("x-hub-signature-256");
    add(
        "parts",
        "one header",
        Box::new(move || {
            let message = Message::of(black_box(&request), &clock);
            black_box(message.header(&name)).unwrap();
        }),
    );
}

/// The whole layer over a service that does nothing. Credentials have no MAC.
fn layers(add: Add<'_>) {
    let group = "layer";
    let request = signed(&GitHub::new(KEY).unwrap());
    let bare = service_fn(no_op);
    add(group, "bare service", call(bare, request.clone()));
    let layer = SignatureVerifyLayer::new(GitHub::new(KEY).unwrap());
    add(group, "github", call(layer.layer(bare), request));
    let basic = BasicAuth::new("user", KEY).unwrap();
    let request = signed(&basic);
    add(
        group,
        "basic",
        call(SignatureVerifyLayer::new(basic).layer(bare), request),
    );
    let slack = Slack::new(KEY)
        .unwrap()
        .tolerance(Duration::from_secs(40_000));
    let request = signed(&slack);
    let layer = SignatureVerifyLayer::new(slack);
    add(
        group,
        "slack",
        call(layer.clone().layer(bare), request.clone()),
    );
    // Remembers nothing, because the handler fails: the price of a claim and of giving it back.
    let failing = service_fn(|request: Request<BufferedBody>| {
        black_box(request);
        let mut response = Response::new(BufferedBody::default());
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        ready(Ok::<_, Infallible>(response))
    });
    let layer = layer.reject_replays(ReplayCache::new(1000)).unwrap();
    let replays = layer.layer(failing);
    add(
        group,
        "slack, replays refused",
        Box::new(move || {
            let mut service = replays.clone();
            let mut cx = Context::from_waker(Waker::noop());
            let mut future = pin!(service.call(request.clone()));
            assert!(black_box(future.as_mut().poll(&mut cx)).is_ready());
        }),
    );
}
