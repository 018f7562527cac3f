use super::MessageId;
use crate::outcome::Repeatable;
use http::Request;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Gives each request a [`MessageId`], unless it has one: stands outside the retry, so that all
/// attempts have the same.
///
/// Its receiver then knows a repetition when it sees one, so the request is made
/// [`Repeatable`], unless it says otherwise itself: retry layers repeat
/// it, a POST too. That holds for schemes that send the id (Standard Webhooks, Svix); with others,
/// leave this layer out and give the request a header that its receiver deduplicates by.
///
/// Without it, and without an id header in the request, [`Sign`](super::Sign) gives each attempt an
/// id of its own, and the receiver cannot tell a repeated delivery from a new one.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_webhook::SignLayer;
/// use tower_webhook::signature::{MessageIdLayer, scheme::StandardWebhooks};
///
/// let stack = ServiceBuilder::new()
///     .layer(MessageIdLayer::new())
///     // the retry layer stands here
///     .layer(SignLayer::new(StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?));
/// # let _ = stack;
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct MessageIdLayer {
    _settings: (),
}

impl MessageIdLayer {
    /// Random ids for those who have none.
    pub const fn new() -> Self {
        Self { _settings: () }
    }
}

impl<S> Layer<S> for MessageIdLayer {
    type Service = SetMessageId<S>;

    fn layer(&self, inner: S) -> SetMessageId<S> {
        SetMessageId { inner }
    }
}

/// Middleware of [`MessageIdLayer`].
#[derive(Clone, Debug)]
pub struct SetMessageId<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for SetMessageId<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> S::Future {
        let extensions = req.extensions_mut();
        extensions.get_or_insert_with(MessageId::generate);
        extensions.get_or_insert(Repeatable::Yes);
        self.inner.call(req)
    }
}
