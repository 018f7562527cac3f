use super::{ResponseFuture, TransportError, judge};
use crate::{
    BoxError, IntoBoxError,
    grpc::{self, GrpcBody, GrpcPeek, GrpcPeekLayer},
};
use ::tonic::body::Body as TonicBody;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// A gRPC channel as a service of requests with any body. Made by [`tonic()`].
#[derive(Clone, Debug)]
pub struct Tonic<S> {
    channel: GrpcPeek<ToTonic<S>>,
}

/// Makes a service of a `tonic::transport::Channel`, to stand below the layers and inside a generated client.
///
/// The status in the trailers of a call is judged like one in the head: a [`GrpcPeekLayer`] is built in. Say with
/// [`peek`](Tonic::peek) which calls are unary, so that a unary call that fails in its trailers can be retried.
///
/// # Examples
///
/// ```
/// use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
/// use tower::Layer;
/// use tower_webhook::{BoxError, grpc::GrpcPeekLayer, stack, transport};
///
/// # tokio_test::block_on(async {
/// let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
/// let channel = transport::tonic(channel).peek(GrpcPeekLayer::new().assume_unary(true));
/// let deliver = stack::deliver().grpc().attempts(1).build()?.layer(channel);
/// let mut client = HealthClient::with_origin(deliver, "http://127.0.0.1:1".parse()?);
///
/// let status = client.check(HealthCheckRequest::default()).await.unwrap_err(); // nobody listens there
/// assert_eq!(status.code(), tonic::Code::Unavailable);
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
pub fn tonic<S>(channel: S) -> Tonic<S> {
    Tonic {
        channel: GrpcPeekLayer::new().layer(ToTonic { channel }),
    }
}

impl<S> Tonic<S> {
    /// Sets how the status in trailers is read. Default: [`GrpcPeekLayer::new`], which never waits for it.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "as every layer is given")]
    pub fn peek(self, layer: GrpcPeekLayer) -> Self {
        Self {
            channel: layer.layer(self.channel.into_inner()),
        }
    }
}

/// The channel inside [`Tonic`], which takes requests with any body.
#[derive(Clone, Debug)]
struct ToTonic<S> {
    channel: S,
}

impl<S, B> Service<Request<B>> for ToTonic<S>
where
    S: Service<Request<TonicBody>>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> S::Future {
        self.channel.call(req.map(TonicBody::new))
    }
}

impl<S, B, ResB> Service<Request<B>> for Tonic<S>
where
    S: Service<Request<TonicBody>, Response = Response<ResB>, Error: IntoBoxError>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    ResB: Body + Unpin,
{
    type Response = Response<GrpcBody<ResB>>;
    type Error = TransportError;
    type Future = ResponseFuture<grpc::ResponseFuture<S::Future, ResB>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let ready = Service::<Request<B>>::poll_ready(&mut self.channel, cx);
        ready.map_err(|error| TransportError::judged(error.into(), judge::tonic))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        ResponseFuture::new(self.channel.call(req), judge::tonic)
    }
}
