//! Services that hold their callers to the rules of tower.

#![allow(dead_code, reason = "each test file uses some of these")]

use http::{Request, Response};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};
use tower::Service;
use tower_webhook::body::BufferedBody;

/// Answers with the request's body. Panics when it is called without having been polled ready,
/// as a service with a permit to hand out may; a clone has to be polled anew.
#[derive(Debug, Default)]
pub(crate) struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<BufferedBody>> for Strict {
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without having been polled ready"
        );
        ready(Ok(Response::new(req.into_body())))
    }
}
