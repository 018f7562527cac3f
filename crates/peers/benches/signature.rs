//! Verifying a signed request of 1 KiB: ours, `webhook-verify` and `standardwebhooks`. They use `sha2`
//! or a hash of their own, so ours does too.
//!
//! Run: `cargo bench -p peers --bench signature`. The last table is the one that counts: on a shared
//! machine only variants that take turns in one run can be compared.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../benches/support/signature.rs"]
mod signature;

use http::Request;
use signature::{Add, signed, verify};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};
use tower_webhook::{
    body::BufferedBody,
    signature::{
        Backend, Secrets,
        scheme::{GitHub, StandardWebhooks},
    },
};

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const KEY: &str = "a secret of more than thirty-two bytes";

fn main() {
    signature::run(peers);
}

/// Each in its own words.
fn peers(add: Add<'_>) {
    let group = "peers";
    add(
        group,
        "ours github (rustcrypto)",
        verify(GitHub::new(Secrets::from(KEY).backend(Backend::RustCrypto)).unwrap()),
    );
    let request = signed(&GitHub::new(KEY).unwrap());
    let secret = webhook_verify::Secret::new(KEY);
    add(
        group,
        "webhook-verify github",
        Box::new(move || {
            webhook_verify(webhook_verify::Provider::GitHub, &request, &secret);
        }),
    );
    add(
        group,
        "ours standard webhooks (rustcrypto)",
        verify(StandardWebhooks::new(Secrets::from(WHSEC).backend(Backend::RustCrypto)).unwrap()),
    );
    let request = signed(&StandardWebhooks::new(WHSEC).unwrap());
    let peer = standardwebhooks::Webhook::new(WHSEC).unwrap();
    let fresh = Resigned::new(request);
    add(
        group,
        "standardwebhooks",
        Box::new(move || {
            fresh.with(|request| {
                let body = request.body().as_bytes();
                peer.verify(body, black_box(request.headers())).unwrap();
            });
        }),
    );
    let request = signed(&StandardWebhooks::new(WHSEC).unwrap());
    let secret = webhook_verify::Secret::new(WHSEC);
    let fresh = Resigned::new(request);
    add(
        group,
        "webhook-verify standard webhooks",
        Box::new(move || {
            fresh.with(|request| {
                webhook_verify(webhook_verify::Provider::StandardWebhooks, request, &secret);
            });
        }),
    );
}

fn webhook_verify(
    provider: webhook_verify::Provider,
    request: &Request<BufferedBody>,
    secret: &webhook_verify::Secret,
) {
    let (headers, body) = (black_box(request.headers()), request.body().as_bytes());
    let options = webhook_verify::VerifyOptions::default();
    webhook_verify::verify(provider, headers, body, secret, options).unwrap();
}

/// A request whose signature is renewed before it is stale: the peers read the system's clock.
struct Resigned {
    request: std::cell::RefCell<(Instant, Request<BufferedBody>)>,
}

impl Resigned {
    fn new(request: Request<BufferedBody>) -> Self {
        Self {
            request: std::cell::RefCell::new((Instant::now(), request)),
        }
    }

    fn with(&self, run: impl FnOnce(&Request<BufferedBody>)) {
        let mut state = self.request.borrow_mut();
        if state.0.elapsed() > Duration::from_secs(120) {
            *state = (
                Instant::now(),
                signed(&StandardWebhooks::new(WHSEC).unwrap()),
            );
        }
        run(&state.1);
    }
}
