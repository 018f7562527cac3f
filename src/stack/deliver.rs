use super::{
    DeliverLayer,
    dead_letter::{DeadLetter, DeadLettering},
};
use crate::{
    AttemptTimeoutLayer, CircuitBreakerLayer, DeadLetterLayer, DeadlineLayer, DeliveryMetricsLayer,
    InvalidConfig, RetryWithJitterLayer, SignLayer,
    attempt::AttemptHeaderLayer,
    circuit_breaker::{BreakerConfig, Breakers},
    dead_letter::{DeadLetters, HttpRequests},
    metrics::DeliveryMetrics,
    observe::{Observer, Observers},
    outcome::{GrpcClassifier, HttpClassifier},
    peer::ByHost,
    retry::{HttpExchange, RetryConfig},
    signature::SignScheme,
};
use http::HeaderName;
use std::{sync::Arc, time::Duration};
use tower_layer::{Identity, Stack};

/// The outbound stack in its documented order, with the defaults of every layer.
///
/// See the [module docs](super) for the order, [`Deliver`] for what can be said.
pub fn deliver() -> Deliver {
    Deliver {
        settings: Settings {
            retry: RetryConfig::default(),
            breakers: BreakerChoice::New(BreakerConfig::default()),
            deadline: Duration::from_secs(300),
            attempt_timeout: AttemptTime::Fixed(Duration::from_secs(10)),
            once: false,
        },
        metrics: DeliveryMetrics::new(),
        observers: Observers::none(),
        make: HttpClassifier::new(),
        key: ByHost,
        exchange: HttpExchange::new(),
        failover: Identity::new(),
        each: Identity::new(),
        entries: Identity::new(),
    }
}

/// What a [`DeliverLayer`] is made of. Made by [`deliver`].
///
/// | Type | What it is |
/// | --- | --- |
/// | `M` | what judges the results, in every layer |
/// | `K` | what breakers and metrics are kept by |
/// | `X` | how requests are kept and failed answers put away |
/// | `F` | the failover |
/// | `E` | what is done to each attempt: its number, its signature, what you add |
/// | `B` | what is done with a delivery that has failed: the dead letters |
#[derive(Clone, Debug)]
#[must_use]
pub struct Deliver<
    M = HttpClassifier,
    K = ByHost,
    X = HttpExchange,
    F = Identity,
    E = Identity,
    B = Identity,
> {
    settings: Settings,
    metrics: DeliveryMetrics,
    observers: Observers,
    make: M,
    key: K,
    exchange: X,
    failover: F,
    each: E,
    entries: B,
}

/// What stays as it is when a type is changed.
#[derive(Clone, Debug)]
struct Settings {
    retry: RetryConfig,
    breakers: BreakerChoice,
    deadline: Duration,
    attempt_timeout: AttemptTime,
    once: bool,
}

#[derive(Clone, Debug)]
enum BreakerChoice {
    New(BreakerConfig),
    Shared(Breakers),
}

#[derive(Clone)]
enum AttemptTime {
    Fixed(Duration),
    By(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl std::fmt::Debug for AttemptTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(time) => time.fmt(f),
            Self::By(_) => f.write_str("by attempt"),
        }
    }
}

impl<M, K, X, F, E, B> Deliver<M, K, X, F, E, B> {
    /// When and how often a delivery is tried again. Default: [`RetryConfig::default`].
    pub fn retry(mut self, config: RetryConfig) -> Self {
        self.settings.retry = config;
        self
    }

    /// Makes one attempt, whatever [`retry`](Self::retry) says, and measures attempts alone: for the
    /// worker of a queue, which tries again later and measures deliveries itself.
    pub const fn once(mut self) -> Self {
        self.settings.once = true;
        self
    }

    /// When a peer is left alone. Default: [`BreakerConfig::default`].
    pub fn breaker(mut self, config: BreakerConfig) -> Self {
        self.settings.breakers = BreakerChoice::New(config);
        self
    }

    /// Breakers that others use too. Each stack that shares them records their transitions, for as
    /// long as the breakers live: stacks with one recorder between them count each trip several
    /// times, so build one stack and clone it where that matters.
    pub fn breakers(mut self, breakers: Breakers) -> Self {
        self.settings.breakers = BreakerChoice::Shared(breakers);
        self
    }

    /// How long a delivery may take, all attempts and waits together. Default: 5 minutes.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// How long an attempt may take. Default: 10 s.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.settings.attempt_timeout = AttemptTime::Fixed(timeout);
        self
    }

    /// How long an attempt may take, by its number from 1.
    pub fn attempt_timeout_by(
        mut self,
        timeout: impl Fn(u32) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.settings.attempt_timeout = AttemptTime::By(Arc::new(timeout));
        self
    }

    /// Sets the metrics that [`DeliverLayer::metrics`] gives out. Default: of its own.
    pub fn metrics(mut self, metrics: DeliveryMetrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Adds an observer of attempts, deliveries, breakers and dead letters.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// What judges the results, in every layer but the [failover](Self::failover), which brings its
    /// own. Default: [`HttpClassifier`].
    pub fn classifier<M2>(self, make: M2) -> Deliver<M2, K, X, F, E, B> {
        Deliver {
            settings: self.settings,
            metrics: self.metrics,
            observers: self.observers,
            make,
            key: self.key,
            exchange: self.exchange,
            failover: self.failover,
            each: self.each,
            entries: self.entries,
        }
    }

    /// Judges the results as gRPC, by the defaults of [`GrpcClassifier`]: no call is repeated that
    /// may have been done, unless its metadata have a key. For more, give
    /// [`classifier`](Self::classifier) a `GrpcClassifier` of your own.
    ///
    /// What ends in late trailers is seen where a [`GrpcPeekLayer`](crate::grpc::GrpcPeekLayer) is
    /// [inside](Self::each_attempt). The body of a tonic request cannot be cloned: say
    /// `.exchange(HttpExchange::new().replaying(64 << 10))`, and map it for the channel with
    /// `.each_attempt(MapRequestLayer::new(|req: Request<_>| req.map(tonic::body::Body::new)))`;
    /// `examples/outbound_grpc.rs` has it whole. A tonic client's requests name no host until it is
    /// made with `with_origin`; without, all of them have one breaker and one set of figures.
    pub fn grpc(self) -> Deliver<GrpcClassifier, K, X, F, E, B> {
        self.classifier(GrpcClassifier::new())
    }

    /// What breakers and metrics are kept by. Default: [`ByHost`].
    pub fn key<K2>(self, key: K2) -> Deliver<M, K2, X, F, E, B> {
        Deliver {
            settings: self.settings,
            metrics: self.metrics,
            observers: self.observers,
            make: self.make,
            key,
            exchange: self.exchange,
            failover: self.failover,
            each: self.each,
            entries: self.entries,
        }
    }

    /// How requests are kept for another attempt. Default: [`HttpExchange`], which clones them;
    /// [`HttpExchange::replaying`] for bodies that are streamed,
    /// [`CloneExchange`](crate::retry::CloneExchange) for what is not HTTP.
    pub fn exchange<X2>(self, exchange: X2) -> Deliver<M, K, X2, F, E, B> {
        Deliver {
            settings: self.settings,
            metrics: self.metrics,
            observers: self.observers,
            make: self.make,
            key: self.key,
            exchange,
            failover: self.failover,
            each: self.each,
            entries: self.entries,
        }
    }

    /// Where an attempt goes when its target is down: a [`FailoverLayer`](crate::FailoverLayer).
    /// Default: nowhere. It has a classifier of its own: give it
    /// [the same one](crate::failover::FailoverLayerBuilder::classifier).
    pub fn failover<F2>(self, failover: F2) -> Deliver<M, K, X, F2, E, B> {
        Deliver {
            settings: self.settings,
            metrics: self.metrics,
            observers: self.observers,
            make: self.make,
            key: self.key,
            exchange: self.exchange,
            failover,
            each: self.each,
            entries: self.entries,
        }
    }

    /// Where deliveries that have failed go. Default: nowhere; they are answered, and forgotten.
    /// Each entry is told to the [metrics](Self::metrics).
    pub fn dead_letters(
        self,
        entries: DeadLetters,
    ) -> Deliver<M, K, X, F, E, DeadLettering<HttpRequests>> {
        self.dead_letter_layer(DeadLetterLayer::new(entries))
    }

    /// The same with settings of your own: what of a request is kept, and what is not. The
    /// classifier and the key are those of the stack, whatever the layer has, and the copy that it
    /// keeps of each request is [shared](DeadLetterLayer::share_copy) with the retry layer.
    pub fn dead_letter_layer<M2, K2, D>(
        self,
        layer: DeadLetterLayer<M2, K2, D>,
    ) -> Deliver<M, K, X, F, E, DeadLettering<D>> {
        Deliver {
            settings: self.settings,
            metrics: self.metrics,
            observers: self.observers,
            make: self.make,
            key: self.key,
            exchange: self.exchange,
            failover: self.failover,
            each: self.each,
            entries: DeadLettering {
                layer: layer.classifier(()).peer(()).share_copy(true),
            },
        }
    }

    /// A layer around each attempt on the transport, inside those that were added before.
    pub fn each_attempt<L>(self, layer: L) -> Deliver<M, K, X, F, Stack<L, E>, B> {
        Deliver {
            settings: self.settings,
            metrics: self.metrics,
            observers: self.observers,
            make: self.make,
            key: self.key,
            exchange: self.exchange,
            failover: self.failover,
            each: Stack::new(layer, self.each),
            entries: self.entries,
        }
    }

    /// Writes the number of the attempt into this header of each attempt.
    pub fn attempt_header(
        self,
        name: HeaderName,
    ) -> Deliver<M, K, X, F, Stack<AttemptHeaderLayer, E>, B> {
        self.each_attempt(AttemptHeaderLayer::named(name))
    }

    /// Signs each attempt afresh. Say it last: what is added later is not signed.
    pub fn sign<Sc: SignScheme + 'static>(
        self,
        scheme: Sc,
    ) -> Deliver<M, K, X, F, Stack<SignLayer, E>, B> {
        self.each_attempt(SignLayer::new(scheme))
    }

    /// The stack.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `deadline` or `attempt_timeout`.
    #[expect(
        clippy::type_complexity,
        reason = "each is a part that can be replaced"
    )]
    pub fn build(self) -> Result<DeliverLayer<M, K, X, F, E, B::Layer>, InvalidConfig>
    where
        M: Clone,
        K: Clone,
        B: DeadLetter<M, K>,
    {
        let settings = self.settings;
        let deadline = DeadlineLayer::new(settings.deadline)?;
        let attempt_timeout = match settings.attempt_timeout {
            AttemptTime::Fixed(time) => AttemptTimeoutLayer::new(time)
                .map_err(|_| InvalidConfig::new("attempt_timeout", "must be longer than zero"))?,
            AttemptTime::By(time) => AttemptTimeoutLayer::by_attempt(move |n| time(n)),
        };
        let breakers = match settings.breakers {
            BreakerChoice::New(config) => Breakers::new(config),
            BreakerChoice::Shared(breakers) => breakers,
        };
        // Last: an observer of shared breakers stays for good, also where nothing was built.
        let observers = Observers::new(self.metrics.clone()).and(self.observers);
        let breakers = breakers.observe(observers.clone());
        let deliveries = DeliveryMetricsLayer::deliveries();
        let deliveries = if settings.once {
            deliveries
        } else {
            deliveries.observe(observers.clone())
        };
        let retry = if settings.once {
            RetryConfig::once()
        } else {
            settings.retry
        };
        Ok(DeliverLayer {
            deliveries: deliveries
                .classifier(self.make.clone())
                .peer(self.key.clone()),
            entries: self.entries.layer(&self.make, &self.key, &observers),
            deadline,
            retry: RetryWithJitterLayer::new(retry)
                .classifier(self.make.clone())
                .exchange(self.exchange),
            failover: self.failover,
            breaker: CircuitBreakerLayer::sharing(breakers)
                .classifier(self.make.clone())
                .peer(self.key.clone()),
            attempts: DeliveryMetricsLayer::attempts()
                .observe(observers)
                .classifier(self.make.clone())
                .peer(self.key.clone()),
            attempt_timeout,
            each: self.each,
            metrics: self.metrics,
        })
    }
}
