use crate::{
    BufferBodyLayer, SignatureVerifyLayer,
    observe::{Observer, Observers},
    signature::VerifyHeadLayer,
    unbuilt::IsBuilt,
};
#[cfg(feature = "idempotency")]
use crate::{
    IdempotencyLayer,
    idempotency::{KeySource, Store},
};
use tower_layer::{Identity, Layer, Stack};

/// Builds the layers of a receiver of signed webhooks: what is unsigned is not read, a body is read once, verified, and,
/// with `once` (feature `idempotency`), handled once.
///
/// `verify` is a [`Scheme`](crate::signature::Scheme), [`Tenants`](crate::signature::Tenants) whose schemes are looked up, or
/// a [`SignatureVerifyLayer`] with settings of its own.
///
/// The handler gets a `Request<BufferedBody>`, with [`Verified`](crate::signature::Verified) in its extensions. For other
/// settings of a layer, or layers between them, put the layers together with a `ServiceBuilder`: the
/// [module docs](super) have the order.
///
/// # Examples
///
/// ```
/// # #[cfg(all(feature = "axum", feature = "moka"))] {
/// use axum::{Json, Router, routing::post};
/// use serde_json::Value;
/// use tower_webhook::{idempotency::MemoryStore, signature::scheme::StandardWebhooks, stack};
///
/// let scheme = StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
/// let receive = stack::receive(scheme).once(MemoryStore::default()).build();
/// let app: Router = Router::new()
///     .route("/hooks", post(|Json(event): Json<Value>| async move { println!("{event}") }))
///     .layer(receive);
/// # drop(app);
/// # }
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
pub fn receive(verify: impl Into<SignatureVerifyLayer>) -> ReceiveBuilder {
    ReceiveBuilder {
        verify: verify.into(),
        max_body: 1 << 20,
        grpc: false,
        observers: Observers::none(),
        once: Identity::new(),
    }
}

/// The layers of a receiver, from the innermost. Type parameter: the idempotency layer, or `Identity`.
pub type ReceiveLayer<I> =
    Stack<I, Stack<SignatureVerifyLayer, Stack<BufferBodyLayer, VerifyHeadLayer>>>;

/// Builder of a [`ReceiveLayer`]. Made by [`receive`].
#[derive(Debug)]
#[must_use]
pub struct ReceiveBuilder<O = Identity> {
    verify: SignatureVerifyLayer,
    max_body: usize,
    grpc: bool,
    observers: Observers,
    once: O,
}

impl<O> ReceiveBuilder<O> {
    /// Refuses with gRPC statuses: for a tonic server. Default: off; `application/problem+json`, which a gRPC client cannot read.
    /// The layers need a whole message, so leave streaming services outside.
    pub const fn grpc(mut self) -> Self {
        self.grpc = true;
        self
    }

    /// Sets the longest body, in bytes. Default: 1 MiB. A longer one is refused with 413.
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Adds an observer of all layers. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }
}

impl ReceiveBuilder {
    /// Handles each event once, by the id that the scheme verified, as [`IdempotencyLayer::webhook`] does. Default: repeats
    /// are handled again.
    ///
    /// The requests of a scheme that verifies no id (GitHub, Stripe, Shopify) are refused for the want of a key: name it
    /// with [`once_by`](Self::once_by).
    #[cfg(feature = "idempotency")]
    pub fn once<St: Store>(self, store: St) -> ReceiveBuilder<IdempotencyLayer<St>> {
        self.once_by(store, KeySource::verified_id())
    }

    /// Handles each event once, by this key, as [`IdempotencyLayer::webhook`] does. Default: repeats are handled again.
    #[cfg(feature = "idempotency")]
    pub fn once_by<St: Store>(
        self,
        store: St,
        key: KeySource,
    ) -> ReceiveBuilder<IdempotencyLayer<St>> {
        ReceiveBuilder {
            verify: self.verify,
            max_body: self.max_body,
            grpc: self.grpc,
            observers: self.observers,
            once: IdempotencyLayer::webhook(store, key),
        }
    }

    /// Builds the layer, without idempotency.
    pub fn build(self) -> ReceiveLayer<Identity> {
        around(
            self.verify,
            self.max_body,
            self.grpc,
            self.observers,
            self.once,
        )
    }
}

impl<S, O> Layer<S> for ReceiveBuilder<O>
where
    Self: IsBuilt<S>,
{
    type Service = <Self as IsBuilt<S>>::Layered;

    fn layer(&self, inner: S) -> Self::Service {
        self.layered(inner)
    }
}

#[cfg(feature = "idempotency")]
impl<St: Store> ReceiveBuilder<IdempotencyLayer<St>> {
    /// Builds the layer.
    pub fn build(self) -> ReceiveLayer<IdempotencyLayer<St>> {
        let mut once = self.once.observe(self.observers.clone());
        if self.grpc {
            once = once.refuse_with(|_, problem| problem.into_grpc());
        }
        around(self.verify, self.max_body, self.grpc, self.observers, once)
    }
}

fn around<I>(
    verify: SignatureVerifyLayer,
    max_body: usize,
    grpc: bool,
    observers: Observers,
    once: I,
) -> ReceiveLayer<I> {
    let mut verify = verify.observe(observers.clone());
    let mut buffer = BufferBodyLayer::new(max_body).observe(observers);
    if grpc {
        verify = verify.refuse_with(|_, problem| problem.into_grpc());
        buffer = buffer.refuse_with(|_, problem| problem.into_grpc());
    }
    let head = verify.before_body();
    Stack::new(once, Stack::new(verify, Stack::new(buffer, head)))
}
