//! Reading a body: all of a request's, or the beginning of a response's.

use super::requests;
use crate::{
    bare::Bare,
    measure::{Row, calls, service},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};
use tower_webhook::{
    BoxError, BufferBodyLayer,
    body::{BufferedBody, peek::PeekBodyLayer},
    grpc::GrpcPeekLayer,
};

const LIMIT: usize = 64 << 10;

pub fn buffer(row: &mut Row) {
    let payload = Bytes::from(vec![b'x'; 1024]);
    let request = move || Request::new(Full::new(payload.clone()));
    row.bare("bare call", service(Bare, request.clone()));
    let ours = BufferBodyLayer::new(LIMIT).layer(Bare);
    row.ours(service(ours, request.clone()));
    row.peer("by hand", service(ByHand { inner: Bare }, request));
}

/// A boxed future that collects the body under a limit.
struct ByHand<S> {
    inner: S,
}

impl<S> Service<Request<Full<Bytes>>> for ByHand<S>
where
    S: Service<Request<BufferedBody>, Error = BoxError, Response: 'static> + Clone + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<Full<Bytes>>) -> Self::Future {
        let mut inner = self.inner.clone();
        Box::pin(async move {
            let (head, body) = req.into_parts();
            let body = Limited::new(body, LIMIT).collect().await?.to_bytes();
            inner
                .call(Request::from_parts(head, BufferedBody::from(body)))
                .await
        })
    }
}

/// A response that went well, whose body nobody need look at.
pub fn peek(row: &mut Row) {
    row.bare("bare call", service(Bare, requests(0)));
    let ours = PeekBodyLayer::new(LIMIT).layer(Bare);
    row.ours(service(ours, requests(0)));
}

/// A unary call whose message and trailers arrived with its head. The body is read to its end.
pub fn grpc_peek(row: &mut Row) {
    fn read<B>(mut body: B)
    where
        B: http_body::Body<Error: std::fmt::Debug> + Unpin,
    {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            drop(frame.unwrap());
        }
    }
    let mut bare = Grpc;
    row.bare(
        "bare call, body read",
        calls(requests(0), move |req| {
            read(crate::bare::now(bare.call(req)).unwrap().into_body());
        }),
    );
    let mut ours = GrpcPeekLayer::new().assume_unary(true).layer(Grpc);
    row.ours(calls(requests(0), move |req| {
        read(crate::bare::now(ours.call(req)).unwrap().into_body());
    }));
}

#[derive(Clone, Copy)]
struct Grpc;

impl Service<Request<BufferedBody>> for Grpc {
    type Response = Response<BufferedBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<BufferedBody>) -> Self::Future {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        let body = BufferedBody::from("a message").with_trailers(trailers);
        let mut res = Response::new(body);
        let kind = http::HeaderValue::from_static("application/grpc");
        res.headers_mut().insert("content-type", kind);
        ready(Ok(res))
    }
}
