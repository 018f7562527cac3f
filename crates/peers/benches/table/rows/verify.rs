//! Verifying a signed request of 1 KiB, over the bare MAC of the same bytes by the same code with a key that
//! was set up before.

use crate::measure::{Calls, Row, calls};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, Request};
use sha2::Sha256;
use std::{
    hint::black_box,
    rc::Rc,
    time::{Duration, Instant},
};
use tower_webhook::{
    body::BufferedBody,
    clock::WallClock,
    signature::{
        Backend, Message, MessageId, Outgoing, Scheme, Secrets, SignScheme,
        scheme::{GitHub, StandardWebhooks},
    },
};

/// The size of the body that is signed, in bytes.
const BODY: usize = 1024;
const ID: &str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W";
const KEY: &str = "a secret of more than thirty-two bytes";
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

type Signed = Rc<Request<BufferedBody>>;

/// A request that `scheme` signed, with the headers that a server sees beside the signature. It is signed
/// again, off the clock, before it is stale.
fn requests(scheme: impl SignScheme) -> impl FnMut() -> Signed {
    const FRESH: Duration = Duration::from_secs(60);
    let mut signed = (Instant::now(), Rc::new(sign(&scheme)));
    move || {
        if signed.0.elapsed() > FRESH {
            signed = (Instant::now(), Rc::new(sign(&scheme)));
        }
        Rc::clone(&signed.1)
    }
}

fn sign(scheme: &impl SignScheme) -> Request<BufferedBody> {
    let body = vec![b'x'; BODY];
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "hooks.example.com"),
        ("user-agent", "webhooks/1.0"),
        ("content-type", "application/json"),
        ("content-length", "1024"),
        ("accept", "*/*"),
        ("x-request-id", "5d2f6f8a-6a4e-4b0f-9a53-8f9a7f5b7f0e"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let id = MessageId::new(ID).unwrap();
    let message = Outgoing::new(&body, WallClock::system().unix_seconds()).with_id(&id);
    scheme.sign(&message, &mut headers).unwrap();
    let mut request = Request::new(BufferedBody::from(body));
    *request.headers_mut() = headers;
    request
}

/// What Standard Webhooks signs is the id, the time and the body, with dots between them.
fn pieces(with_id: bool, request: &Request<BufferedBody>) -> Vec<Vec<u8>> {
    let mut pieces = vec![request.body().as_bytes().to_vec()];
    if with_id {
        pieces = [ID.as_bytes(), b".", b"1700000000", b"."]
            .map(<[u8]>::to_vec)
            .into_iter()
            .chain(pieces)
            .collect();
    }
    pieces
}

/// The MAC alone, from a key that was set up before, over as many bytes as the scheme signs.
fn bare_mac(backend: Backend, with_id: bool) -> Calls {
    let mut requests = requests(GitHub::new(KEY).unwrap());
    let pieces = pieces(with_id, &requests());
    if matches!(backend, Backend::AwsLc) {
        use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
        let key = Key::new(HMAC_SHA256, KEY.as_bytes());
        return calls(requests, move |_| {
            let mut mac = Context::with_key(black_box(&key));
            for piece in black_box(&pieces) {
                mac.update(piece);
            }
            mac.sign()
        });
    }
    let key = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    calls(requests, move |_| {
        let mut mac = black_box(&key).clone();
        for piece in black_box(&pieces) {
            mac.update(piece);
        }
        mac.finalize()
    })
}

fn verify<S: Scheme + SignScheme + Clone + 'static>(scheme: S) -> Calls {
    let clock = WallClock::system();
    calls(requests(scheme.clone()), move |request| {
        let verified = scheme.verify(&Message::of(&request, &clock));
        drop(black_box(verified).unwrap());
    })
}

pub fn github(row: &mut Row, backend: Backend) {
    row.bare("bare MAC", bare_mac(backend, false));
    let secrets = || Secrets::from(KEY).backend(backend);
    row.ours(verify(GitHub::new(secrets()).unwrap()));
    if matches!(backend, Backend::RustCrypto) {
        // Sets up the key in each call.
        let secret = webhook_verify::Secret::new(KEY);
        let requests = requests(GitHub::new(KEY).unwrap());
        let call = move |request: Signed| {
            webhook_verify(webhook_verify::Provider::GitHub, &request, &secret);
        };
        row.peer("webhook-verify", calls(requests, call));
    }
}

pub fn standard_webhooks(row: &mut Row, backend: Backend) {
    row.bare("bare MAC", bare_mac(backend, true));
    let secrets = || Secrets::from(WHSEC).backend(backend);
    row.ours(verify(StandardWebhooks::new(secrets()).unwrap()));
    if matches!(backend, Backend::RustCrypto) {
        let requests = || requests(StandardWebhooks::new(WHSEC).unwrap());
        let secret = webhook_verify::Secret::new(WHSEC);
        let call = move |request: Signed| {
            let provider = webhook_verify::Provider::StandardWebhooks;
            webhook_verify(provider, &request, &secret);
        };
        row.peer("webhook-verify", calls(requests(), call));

        // It has a hash of its own, so it has a baseline of its own.
        let mut bare = requests();
        let key = WHSEC.as_bytes();
        let signed = pieces(true, &bare()).concat();
        let mac = move |_| hmac_sha256::HMAC::mac(black_box(&signed), black_box(key));
        row.bare("bare MAC of hmac-sha256", calls(bare, mac));
        let peer = standardwebhooks::Webhook::new(WHSEC).unwrap();
        let call = move |request: Signed| {
            let body = request.body().as_bytes();
            peer.verify(body, request.headers()).unwrap();
        };
        row.peer("standardwebhooks", calls(requests(), call));
    }
}

fn webhook_verify(
    provider: webhook_verify::Provider,
    request: &Request<BufferedBody>,
    secret: &webhook_verify::Secret,
) {
    let (headers, body) = (request.headers(), request.body().as_bytes());
    let options = webhook_verify::VerifyOptions::default();
    let verified = webhook_verify::verify(provider, headers, body, secret, options);
    black_box(verified).unwrap();
}
