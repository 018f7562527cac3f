//! The rows of the table.

mod breaker;
mod deliver;
mod metrics;
mod retry;

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
use tower_webhook::{BoxError, body::BufferedBody};

/// Name, title, and what makes its variants.
pub type Recipe = (&'static str, &'static str, fn(&mut Row));

pub const ROWS: &[Recipe] = &[
    ("breaker", "closed breaker", breaker::closed),
    ("breaker_open", "open breaker", breaker::open),
    (
        "breaker_100000_keys",
        "closed breaker, 100,000 keys at random",
        breaker::keyed,
    ),
    ("retry", "retry, beyond one copy of the request", |row| {
        retry::first_attempt(row, 0);
    }),
    ("retry_12_headers", "the same with 12 headers", |row| {
        retry::first_attempt(row, 12);
    }),
    ("metrics", "metrics, one host", metrics::one_host),
    (
        "deliver",
        "stack::deliver(), beyond one copy of the request",
        |row| deliver::stack(row, 0, false),
    ),
    (
        "deliver_dead_letters",
        "the same with the dead letter layer",
        |row| deliver::stack(row, 0, true),
    ),
    (
        "deliver_dead_letters_12_headers",
        "and with 12 headers",
        |row| deliver::stack(row, 12, true),
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
