use super::StackLayer;
use crate::{
    AttemptTimeoutLayer, CircuitBreakerLayer, DeliveryMetricsLayer, FailoverLayer, InvalidConfig,
    SignLayer,
    attempt::AttemptHeaderLayer,
    circuit_breaker::{BreakerConfig, BreakerMode, Breakers},
    context::JudgedInside,
    metrics::DeliveryMetrics,
    observe::{Observer, Observers},
    outcome::{DefaultClassifier, GrpcClassifier, HttpClassifier},
    peer::ByHost,
    signature::SignScheme,
    unbuilt::IsBuilt,
};
use http::HeaderName;
use std::{any::TypeId, fmt, sync::Arc, time::Duration};
use tower_layer::{Identity, Layer, Stack};

/// Builds the stack of one attempt: for the worker of a queue, which tries again later and measures
/// deliveries itself. [`deliver`](super::deliver()) repeats this stack.
///
/// See the [module docs](super) for the order.
pub fn attempt() -> AttemptBuilder {
    AttemptBuilder {
        settings: Settings {
            breakers: BreakerChoice::New(BreakerConfig::default()),
            attempt_timeout: AttemptTime::Fixed(Duration::from_secs(10)),
            metrics: DeliveryMetrics::new(),
            observers: Observers::none(),
        },
        make: HttpClassifier::new(),
        peer: ByHost,
        failover: Identity::new(),
        each: Identity::new(),
    }
}

/// Builder of a [`StackLayer`]. Made by [`attempt`].
///
/// Type parameters: `M` is the classifier, `K` the peer key, `F` the failover layer, `E` the layers
/// around each call of the transport.
#[derive(Clone, Debug)]
#[must_use]
pub struct AttemptBuilder<M = HttpClassifier, K = ByHost, F = Identity, E = Identity> {
    settings: Settings,
    pub(super) make: M,
    pub(super) peer: K,
    failover: F,
    each: E,
}

/// The settings that have no type of their own.
#[derive(Clone, Debug)]
struct Settings {
    breakers: BreakerChoice,
    attempt_timeout: AttemptTime,
    metrics: DeliveryMetrics,
    observers: Observers,
}

#[derive(Clone, Debug)]
enum BreakerChoice {
    Disabled,
    New(BreakerConfig),
    Shared(Breakers),
}

#[derive(Clone)]
enum AttemptTime {
    Fixed(Duration),
    By(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl fmt::Debug for AttemptTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(time) => time.fmt(f),
            Self::By(_) => f.write_str("by attempt"),
        }
    }
}

impl<M, K, F, E> AttemptBuilder<M, K, F, E> {
    /// Sets when the circuit breaker of each [peer](Self::peer) opens and closes. Default: [`BreakerConfig::default`], for each
    /// host.
    pub fn breaker(mut self, config: BreakerConfig) -> Self {
        self.settings.breakers = BreakerChoice::New(config);
        self
    }

    /// Leaves out the circuit breaker: each call is sent, however many fail. Default: a breaker for each
    /// [peer](Self::peer), which is a host.
    ///
    /// [`StackLayer::breakers`] can turn it on: they are [disabled](crate::circuit_breaker::BreakerMode::Disabled).
    pub fn without_breaker(mut self) -> Self {
        self.settings.breakers = BreakerChoice::Disabled;
        self
    }

    /// Sets existing breakers, which other stacks may share. Default: new ones.
    ///
    /// Each stack that shares them adds its metrics and observers to them for as long as the breakers
    /// exist. Stacks that also share metrics count each change several times: build one stack and clone
    /// it instead.
    pub fn breakers(mut self, breakers: Breakers) -> Self {
        self.settings.breakers = BreakerChoice::Shared(breakers);
        self
    }

    /// Sets the time limit of an attempt. Default: 10 s.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.settings.attempt_timeout = AttemptTime::Fixed(timeout);
        self
    }

    /// Sets the time limit of an attempt as a function of its number, from 1. Default: 10 s for each.
    pub fn attempt_timeout_by(
        mut self,
        timeout: impl Fn(u32) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.settings.attempt_timeout = AttemptTime::By(Arc::new(timeout));
        self
    }

    /// Adds an observer of the layers of the stack. A [failover](Self::failover) layer and layers for
    /// [each attempt](Self::each_attempt) need observers of their own. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.settings.observers = self.settings.observers.and(observer);
        self
    }

    /// Sets the metrics that [`StackLayer::metrics`] returns. Default: new ones.
    pub fn metrics(mut self, metrics: DeliveryMetrics) -> Self {
        self.settings.metrics = metrics;
        self
    }

    /// Sets the classifier of the stack. Default: [`HttpClassifier`]. The result of each attempt is judged once, by it,
    /// and all layers take its outcome. What the stack itself decides has the outcome of its error: a circuit that is open
    /// is refused, a deadline that ends a delivery is transient and not to be repeated.
    pub fn classifier<M2>(self, make: M2) -> AttemptBuilder<M2, K, F, E> {
        AttemptBuilder {
            settings: self.settings,
            make,
            peer: self.peer,
            failover: self.failover,
            each: self.each,
        }
    }

    /// Sets [`GrpcClassifier`] with its default settings as the classifier. Default: [`HttpClassifier`].
    ///
    /// It allows a call that may have taken effect to be repeated only if its metadata have an idempotency
    /// key. For other settings, pass a `GrpcClassifier` to [`classifier`](Self::classifier).
    ///
    /// Put `transport::tonic(channel)` below it, which reads the status in trailers and takes any body. Requests of a tonic
    /// client have no host unless the client is made with `with_origin`; without a host, all calls share one breaker and
    /// one set of metrics.
    pub fn grpc(self) -> AttemptBuilder<GrpcClassifier, K, F, E> {
        self.classifier(GrpcClassifier::new())
    }

    /// Sets the key by which breakers and metrics tell peers apart. Default: [`ByHost`].
    pub fn peer<K2>(self, peer: K2) -> AttemptBuilder<M, K2, F, E> {
        AttemptBuilder {
            settings: self.settings,
            make: self.make,
            peer,
            failover: self.failover,
            each: self.each,
        }
    }

    /// Sets a [`FailoverLayer`], which tries other targets when one fails. Default: none.
    ///
    /// It has no classifier of its own: that of the stack judges for it too.
    ///
    /// ```compile_fail,E0308
    /// use tower_webhook::{FailoverLayer, outcome::GrpcClassifier, stack};
    ///
    /// let failover = FailoverLayer::fallbacks(["https://backup.example.com/hooks"])
    ///     .classifier(GrpcClassifier::new())
    ///     .build()?;
    /// let attempt = stack::attempt().failover(failover); // expected `DefaultClassifier`, found `GrpcClassifier`
    /// # Ok::<_, tower_webhook::InvalidConfig>(())
    /// ```
    pub fn failover<T>(
        self,
        failover: FailoverLayer<T, DefaultClassifier>,
    ) -> AttemptBuilder<M, K, FailoverLayer<T, JudgedInside>, E> {
        AttemptBuilder {
            settings: self.settings,
            make: self.make,
            peer: self.peer,
            failover: failover.judged_by(JudgedInside),
            each: self.each,
        }
    }

    /// Adds a layer around each call of the transport, inside those that were added before. Default: none.
    pub fn each_attempt<L>(self, layer: L) -> AttemptBuilder<M, K, F, Stack<L, E>> {
        AttemptBuilder {
            settings: self.settings,
            make: self.make,
            peer: self.peer,
            failover: self.failover,
            each: Stack::new(layer, self.each),
        }
    }

    /// Sets the header that gets the number of the attempt. Default: none.
    pub fn attempt_header(
        self,
        name: HeaderName,
    ) -> AttemptBuilder<M, K, F, Stack<AttemptHeaderLayer, E>> {
        self.each_attempt(AttemptHeaderLayer::named(name))
    }

    /// Sets the scheme that signs each attempt. Default: attempts are not signed. Call it last: changes made
    /// by layers that are added later are not signed.
    pub fn sign<Sc: SignScheme + 'static>(
        self,
        scheme: Sc,
    ) -> AttemptBuilder<M, K, F, Stack<SignLayer, E>> {
        self.each_attempt(SignLayer::new(scheme))
    }
}

impl<M, K, F, E> AttemptBuilder<M, K, F, E> {
    /// A builder is no layer: [`build`](Self::build) it first. It is here so that the compiler says so.
    pub fn layer<S>(&self, transport: S) -> <Self as IsBuilt<S>>::Layered
    where
        Self: IsBuilt<S>,
    {
        self.layered(transport)
    }
}

impl<M: Clone, K: Clone, F, E> AttemptBuilder<M, K, F, E> {
    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `attempt_timeout`, or `classifier` for a [`JudgedInside`], which judges
    /// nothing itself.
    pub fn build(self) -> Result<StackLayer<AttemptOrder<M, K, F, E>>, InvalidConfig>
    where
        M: 'static,
    {
        if TypeId::of::<M>() == TypeId::of::<JudgedInside>() {
            let problem = "must judge results: there is no layer inside that does";
            return Err(InvalidConfig::new("classifier", problem));
        }
        let observers = self.observers();
        let settings = self.settings;
        let attempt_timeout = match settings.attempt_timeout {
            AttemptTime::Fixed(time) => AttemptTimeoutLayer::new(time)
                .map_err(|_| InvalidConfig::new("attempt_timeout", "must be longer than zero"))?,
            AttemptTime::By(time) => AttemptTimeoutLayer::by_attempt(move |n| time(n)),
        };
        let breakers = match settings.breakers {
            BreakerChoice::Disabled => {
                let breakers = Breakers::new(BreakerConfig::default());
                breakers.set_mode_of_all(BreakerMode::Disabled);
                breakers
            }
            BreakerChoice::New(config) => Breakers::new(config),
            BreakerChoice::Shared(breakers) => breakers,
        };
        // Last: an observer stays on shared breakers for good, even if the build fails.
        let breakers = breakers.observe(observers.clone());
        let breaker = CircuitBreakerLayer::sharing(breakers.clone())
            .classifier(JudgedInside)
            .peer(self.peer.clone());
        let metrics = DeliveryMetricsLayer::attempts()
            .sharing_instants()
            .observe(observers.clone())
            .classifier(self.make)
            .peer(self.peer);
        let order = Stack::new(breaker, self.failover);
        let order = Stack::new(
            attempt_timeout.observe(observers),
            Stack::new(metrics, order),
        );
        Ok(StackLayer {
            layer: Stack::new(self.each, order),
            breakers,
            metrics: settings.metrics,
        })
    }

    /// The observers of the stack. The metrics come first.
    pub(super) fn observers(&self) -> Observers {
        Observers::new(self.settings.metrics.clone()).and(self.settings.observers.clone())
    }
}

impl<S, M, K, F, E> Layer<S> for AttemptBuilder<M, K, F, E>
where
    Self: IsBuilt<S>,
{
    type Service = <Self as IsBuilt<S>>::Layered;

    fn layer(&self, inner: S) -> Self::Service {
        self.layered(inner)
    }
}

/// The layers of an attempt, from the innermost: each attempt, timeout, metrics, breaker, failover.
pub(super) type AttemptOrder<M, K, F, E> = Stack<
    E,
    Stack<
        AttemptTimeoutLayer,
        Stack<DeliveryMetricsLayer<M, K>, Stack<CircuitBreakerLayer<JudgedInside, K>, F>>,
    >,
>;
