use super::{
    StackLayer,
    attempt::{AttemptBuilder, AttemptOrder, attempt},
};
use crate::{
    DeadLetterLayer, DeadlineLayer, DeliveryMetricsLayer, FailoverLayer, InvalidConfig,
    RetryWithJitterLayer, SignLayer,
    attempt::AttemptHeaderLayer,
    circuit_breaker::{BreakerConfig, Breakers},
    context::JudgedInside,
    dead_letter::{DeadLetters, WithCopy},
    metrics::DeliveryMetrics,
    observe::Observer,
    outcome::{DefaultClassifier, GrpcClassifier},
    peer::ByHost,
    retry::{HttpExchange, ReplayExchange, RetryConfig, WithCopies},
    signature::SignScheme,
    unbuilt::IsBuilt,
};
use http::HeaderName;
use std::time::Duration;
use tower_layer::{Identity, Layer, Stack};

/// Builds the stack of a whole delivery: attempts with waits between them, within a deadline, with the
/// defaults of every layer.
///
/// See the [module docs](super) for the order.
pub fn deliver() -> DeliverBuilder {
    DeliverBuilder {
        attempt: attempt(),
        retry: Ok(RetryConfig::default()),
        deadline: Duration::from_secs(300),
        exchange: HttpExchange::new(),
        entries: Identity::new(),
    }
}

/// Builder of a [`StackLayer`]. Made by [`deliver`].
///
/// Type parameters: `A` is the [`AttemptBuilder`], whose setters this builder has too; `X` the exchange
/// of the retry layer; `B` the dead-letter layer, if there is one.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeliverBuilder<A = AttemptBuilder, X = HttpExchange, B = Identity> {
    attempt: A,
    retry: Result<RetryConfig, InvalidConfig>,
    deadline: Duration,
    exchange: X,
    entries: B,
}

impl<A, X, B> DeliverBuilder<A, X, B> {
    /// Sets when and how often a delivery is retried. Default: [`RetryConfig::default`].
    pub fn retry(mut self, config: RetryConfig) -> Self {
        self.retry = Ok(config);
        self
    }

    /// Sets the largest number of attempts of a delivery, including the first, with the other settings of
    /// [`RetryConfig::default`]. Default: 3. Replaces [`retry`](Self::retry).
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.retry = RetryConfig::builder().attempts(attempts).build();
        self
    }

    /// Sets the time limit of a delivery, including all attempts and waits. Default: 5 minutes.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how requests are kept for further attempts. Default: [`HttpExchange`], which clones them. Use
    /// [`HttpExchange::replaying`] for streamed bodies, and
    /// [`CloneExchange`](crate::retry::CloneExchange) for requests that are not HTTP.
    pub fn exchange<X2>(self, exchange: X2) -> DeliverBuilder<A, X2, B> {
        DeliverBuilder {
            attempt: self.attempt,
            retry: self.retry,
            deadline: self.deadline,
            exchange,
            entries: self.entries,
        }
    }

    /// Sets the sink that gets a dead-letter entry for each HTTP request whose delivery failed for good.
    /// Default: none.
    pub fn dead_letters(self, entries: DeadLetters) -> DeliverBuilder<A, X, DeadLetterLayer> {
        self.dead_letter_layer(DeadLetterLayer::new(entries))
    }

    /// Sets the dead-letter layer, for settings other than its sink. Default: none.
    ///
    /// It has no classifier and no peer key of its own, but those of the stack, and it shares its copy of each request
    /// with the retry layer.
    ///
    /// ```compile_fail,E0308
    /// use tower_webhook::{DeadLetterLayer, dead_letter::DeadLetters, outcome::GrpcClassifier, stack};
    ///
    /// fn build(entries: DeadLetters) {
    ///     let layer = DeadLetterLayer::new(entries).classifier(GrpcClassifier::new());
    ///     let deliver = stack::deliver().dead_letter_layer(layer); // expected `DefaultClassifier`, found `GrpcClassifier`
    /// }
    /// ```
    pub fn dead_letter_layer<D>(
        self,
        layer: DeadLetterLayer<DefaultClassifier, ByHost, D>,
    ) -> DeliverBuilder<A, X, DeadLetterLayer<DefaultClassifier, ByHost, D>> {
        DeliverBuilder {
            attempt: self.attempt,
            retry: self.retry,
            deadline: self.deadline,
            exchange: self.exchange,
            entries: layer,
        }
    }

    /// A builder is no layer: [`build`](Self::build) it first. It is here so that the compiler says so.
    pub fn layer<S>(&self, transport: S) -> <Self as IsBuilt<S>>::Layered
    where
        Self: IsBuilt<S>,
    {
        self.layered(transport)
    }

    fn attempt<A2>(self, change: impl FnOnce(A) -> A2) -> DeliverBuilder<A2, X, B> {
        DeliverBuilder {
            attempt: change(self.attempt),
            retry: self.retry,
            deadline: self.deadline,
            exchange: self.exchange,
            entries: self.entries,
        }
    }
}

/// A delivery stack around an attempt with these parts.
type Around<M, K, F, E, X, B> = DeliverBuilder<AttemptBuilder<M, K, F, E>, X, B>;

/// The setters of the attempt.
impl<M, K, F, E, X, B> DeliverBuilder<AttemptBuilder<M, K, F, E>, X, B> {
    /// Sets when the circuit breaker of each [peer](Self::peer) opens and closes. Default: [`BreakerConfig::default`], for each
    /// host.
    pub fn breaker(self, config: BreakerConfig) -> Self {
        self.attempt(|attempt| attempt.breaker(config))
    }

    /// Leaves out the circuit breaker: see [`AttemptBuilder::without_breaker`]. Default: a breaker for each
    /// [peer](Self::peer), which is a host.
    pub fn without_breaker(self) -> Self {
        self.attempt(AttemptBuilder::without_breaker)
    }

    /// Sets existing breakers, which other stacks may share: see [`AttemptBuilder::breakers`]. Default: new
    /// ones.
    pub fn breakers(self, breakers: Breakers) -> Self {
        self.attempt(|attempt| attempt.breakers(breakers))
    }

    /// Sets the time limit of an attempt. Default: 10 s.
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        self.attempt(|attempt| attempt.attempt_timeout(timeout))
    }

    /// Sets the time limit of an attempt as a function of its number, from 1. Default: 10 s for each.
    pub fn attempt_timeout_by(
        self,
        timeout: impl Fn(u32) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.attempt(|attempt| attempt.attempt_timeout_by(timeout))
    }

    /// Adds an observer of the layers of the stack: see [`AttemptBuilder::observe`]. Default: none except
    /// `tracing`.
    pub fn observe(self, observer: impl Observer) -> Self {
        self.attempt(|attempt| attempt.observe(observer))
    }

    /// Sets the metrics that [`StackLayer::metrics`] returns. Default: new ones.
    pub fn metrics(self, metrics: DeliveryMetrics) -> Self {
        self.attempt(|attempt| attempt.metrics(metrics))
    }

    /// Sets the classifier of the stack: see [`AttemptBuilder::classifier`]. Default:
    /// [`HttpClassifier`](crate::outcome::HttpClassifier).
    pub fn classifier<M2>(self, make: M2) -> Around<M2, K, F, E, X, B> {
        self.attempt(|attempt| attempt.classifier(make))
    }

    /// Sets [`GrpcClassifier`] as the classifier, as [`AttemptBuilder::grpc`] does, and keeps up to 64 KiB of each message
    /// for further attempts, because the bodies of tonic's clients cannot be cloned. Default:
    /// [`HttpClassifier`](crate::outcome::HttpClassifier), and the [`exchange`](Self::exchange).
    pub fn grpc(self) -> Around<GrpcClassifier, K, F, E, ReplayExchange, B> {
        self.attempt(AttemptBuilder::grpc)
            .exchange(HttpExchange::new().replaying(64 << 10))
    }

    /// Sets the key by which breakers and metrics tell peers apart. Default:
    /// [`ByHost`].
    pub fn peer<K2>(self, peer: K2) -> Around<M, K2, F, E, X, B> {
        self.attempt(|attempt| attempt.peer(peer))
    }

    /// Sets the failover layer: see [`AttemptBuilder::failover`]. Default: none.
    pub fn failover<T>(
        self,
        failover: FailoverLayer<T, DefaultClassifier>,
    ) -> Around<M, K, FailoverLayer<T, JudgedInside>, E, X, B> {
        self.attempt(|attempt| attempt.failover(failover))
    }

    /// Adds a layer around each call of the transport, inside those that were added before. Default: none.
    pub fn each_attempt<L>(self, layer: L) -> Around<M, K, F, Stack<L, E>, X, B> {
        self.attempt(|attempt| attempt.each_attempt(layer))
    }

    /// Sets the header of each attempt that gets its number. Default: none.
    pub fn attempt_header(
        self,
        name: HeaderName,
    ) -> Around<M, K, F, Stack<AttemptHeaderLayer, E>, X, B> {
        self.each_attempt(AttemptHeaderLayer::named(name))
    }

    /// Sets the scheme that signs each attempt. Default: attempts are not signed. Call it last: changes made
    /// by layers that are added later are not signed.
    pub fn sign<Sc: SignScheme + 'static>(
        self,
        scheme: Sc,
    ) -> Around<M, K, F, Stack<SignLayer, E>, X, B> {
        self.each_attempt(SignLayer::new(scheme))
    }
}

impl<S, A, X, B> Layer<S> for DeliverBuilder<A, X, B>
where
    Self: IsBuilt<S>,
{
    type Service = <Self as IsBuilt<S>>::Layered;

    fn layer(&self, inner: S) -> Self::Service {
        self.layered(inner)
    }
}

/// The layers of a delivery, from the innermost: attempt, retry, deadline, dead letters, metrics.
type DeliverOrder<A, K, X, B> = Stack<
    A,
    Stack<
        RetryWithJitterLayer<JudgedInside, X>,
        Stack<DeadlineLayer, Stack<B, DeliveryMetricsLayer<JudgedInside, K>>>,
    >,
>;

/// The dead-letter layer of a stack.
type Entries<K, D> = DeadLetterLayer<JudgedInside, K, D, WithCopy>;

/// What [`DeliverBuilder::build`] returns.
type Built<M, K, F, E, X, B> =
    Result<StackLayer<DeliverOrder<AttemptOrder<M, K, F, E>, K, X, B>>, InvalidConfig>;

impl<M, K, F, E, X> DeliverBuilder<AttemptBuilder<M, K, F, E>, X>
where
    M: Clone + 'static,
    K: Clone,
{
    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `attempts`, `deadline`, or one of those of [`AttemptBuilder::build`].
    pub fn build(self) -> Built<M, K, F, E, X, Identity> {
        self.build_with(|_, none| none, |exchange| exchange)
    }
}

impl<M, K, F, E, X, D>
    DeliverBuilder<AttemptBuilder<M, K, F, E>, X, DeadLetterLayer<DefaultClassifier, ByHost, D>>
where
    M: Clone + 'static,
    K: Clone,
{
    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `attempts`, `deadline`, or one of those of [`AttemptBuilder::build`].
    pub fn build(self) -> Built<M, K, F, E, WithCopies<X>, Entries<K, D>> {
        let entries = |attempt: &AttemptBuilder<M, K, F, E>, layer: DeadLetterLayer<_, _, D>| {
            layer
                .map_dead_letters(|entries| entries.observe(attempt.observers()))
                .classifier(JudgedInside)
                .peer(attempt.peer.clone())
                .with_copies()
        };
        self.build_with(entries, WithCopies)
    }
}

impl<M, K, F, E, X, B> DeliverBuilder<AttemptBuilder<M, K, F, E>, X, B>
where
    M: Clone + 'static,
    K: Clone,
{
    fn build_with<B2, X2>(
        self,
        entries: impl FnOnce(&AttemptBuilder<M, K, F, E>, B) -> B2,
        exchange: impl FnOnce(X) -> X2,
    ) -> Built<M, K, F, E, X2, B2> {
        let attempt = self.attempt;
        let entries = entries(&attempt, self.entries);
        let observers = attempt.observers();
        let deadline = DeadlineLayer::new(self.deadline)?.observe(observers.clone());
        let metrics = DeliveryMetricsLayer::deliveries()
            .sharing_instants()
            .observe(observers.clone())
            .classifier(JudgedInside)
            .peer(attempt.peer.clone());
        let retry = RetryWithJitterLayer::new(self.retry?)
            .observe(observers)
            .classifier(JudgedInside)
            .exchange(exchange(self.exchange));
        // Last: an observer stays on shared breakers for good, even if the build fails.
        let attempt = attempt.build()?;
        let (breakers, shown) = (attempt.breakers().clone(), attempt.metrics().clone());
        let order = Stack::new(deadline, Stack::new(entries, metrics));
        Ok(StackLayer {
            layer: Stack::new(attempt.layer, Stack::new(retry, order)),
            breakers,
            metrics: shown,
        })
    }
}
