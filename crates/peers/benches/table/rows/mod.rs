//! The rows of the table.

mod body;
mod breaker;
mod dead_letter;
mod deliver;
mod idempotency;
mod metrics;
mod other_answers;
mod queue;
mod retry;
mod time_limit;
mod verify;

use crate::{
    bare::{Bare, request},
    measure::Row,
};
use http::Request;
use std::{
    future::Ready,
    hint::black_box,
    task::{Context, Poll},
};
use tower::Service;
use tower_webhook::{BoxError, body::BufferedBody, signature::Backend};

/// Name, title, and what makes its variants.
pub type Recipe = (&'static str, &'static str, fn(&mut Row));

pub const ROWS: &[Recipe] = &[
    ("breaker", "closed breaker", breaker::closed),
    (
        "breaker_100000_keys",
        "closed breaker, 100,000 keys at random",
        breaker::keyed,
    ),
    ("breaker_open", "open breaker", breaker::open),
    ("retry", "retry, over one copy of the request", |row| {
        retry::first_attempt(row, 0);
    }),
    ("retry_12_headers", "retry, 12 headers", |row| {
        retry::first_attempt(row, 12);
    }),
    ("metrics", "metrics, one host", metrics::one_host),
    (
        "deliver",
        "stack::deliver(), over one copy of the request",
        |row| deliver::stack(row, 0, false),
    ),
    (
        "deliver_dead_letters",
        "stack::deliver() with dead letters, over one copy",
        |row| deliver::stack(row, 0, true),
    ),
    (
        "deliver_dead_letters_12_headers",
        "stack::deliver() with dead letters, 12 headers",
        |row| deliver::stack(row, 12, true),
    ),
    (
        "verify_github",
        "verify GitHub, over the MAC by RustCrypto",
        |row| verify::github(row, Backend::RustCrypto),
    ),
    (
        "verify_github_aws_lc",
        "verify GitHub, over the MAC by aws-lc",
        |row| verify::github(row, Backend::AwsLc),
    ),
    (
        "verify_standard_webhooks",
        "verify Standard Webhooks, over the MAC by RustCrypto",
        |row| verify::standard_webhooks(row, Backend::RustCrypto),
    ),
    (
        "verify_standard_webhooks_aws_lc",
        "verify Standard Webhooks, over the MAC by aws-lc",
        |row| verify::standard_webhooks(row, Backend::AwsLc),
    ),
    (
        "idempotency",
        "idempotency, a fresh key with 100,000 kept",
        idempotency::fresh_key,
    ),
    (
        "idempotency_repeat",
        "idempotency, a repeat with 100,000 kept",
        idempotency::repeat,
    ),
    ("deadline", "deadline", time_limit::deadline),
    (
        "attempt_timeout",
        "attempt timeout",
        time_limit::attempt_timeout,
    ),
    (
        "failover",
        "failover, over one copy of the request",
        other_answers::failover,
    ),
    ("fallback", "fallback", other_answers::fallback),
    ("peek_body", "body peek, response not peeked at", body::peek),
    (
        "peek_grpc",
        "gRPC peek, message and trailers",
        body::grpc_peek,
    ),
    ("buffer_body", "buffer body, 1 KiB", body::buffer),
    (
        "queue",
        "memory queue: enqueue, claim and settle",
        queue::memory,
    ),
    (
        "dead_letter",
        "dead letter layer, call that goes well",
        dead_letter::well,
    ),
    (
        "dead_letter_failed",
        "dead letter layer, entry written",
        dead_letter::failed,
    ),
];

/// A request with this many headers, again and again.
pub fn requests(headers: usize) -> impl Fn() -> Request<BufferedBody> {
    let req = request(headers);
    move || req.clone()
}

/// The bare service behind one copy of the request: what nobody can do without who may have to send it again.
#[derive(Clone, Copy)]
pub struct Copying;

impl Service<Request<BufferedBody>> for Copying {
    type Response = http::Response<BufferedBody>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        black_box(req.clone());
        Bare.call(req)
    }
}
