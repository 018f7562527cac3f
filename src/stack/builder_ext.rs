use crate::{
    AttemptTimeoutLayer, BufferBodyLayer, CircuitBreakerLayer, DeadLetterLayer, DeadlineLayer,
    DeliveryMetricsLayer, InvalidConfig, RetryWithJitterLayer, SignLayer, SignatureVerifyLayer,
    circuit_breaker::BreakerConfig,
    dead_letter::DeadLetters,
    observe::Observer,
    outcome::HttpClassifier,
    retry::{HttpExchange, RetryConfig},
    signature::{MessageIdLayer, Scheme, SignScheme},
};
use std::time::Duration;
use tower::ServiceBuilder;
use tower_layer::Stack;

/// A builder with one more layer inside.
type With<L, Outer> = ServiceBuilder<Stack<L, Outer>>;

/// The layers of this crate as verbs of a [`ServiceBuilder`], with their defaults for HTTP. A layer
/// with settings of its own goes into [`ServiceBuilder::layer`].
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_webhook::{
///     BoxError, body::BufferedBody, circuit_breaker::BreakerConfig, metrics::DeliveryMetrics,
///     retry::RetryConfig, signature::scheme::StandardWebhooks, stack::WebhookServiceBuilderExt,
/// };
///
/// # tokio_test::block_on(async {
/// let metrics = DeliveryMetrics::new();
/// let client = ServiceBuilder::new() // outermost first
///     .measure_deliveries(metrics.clone())
///     .within(Duration::from_secs(60))?
///     .retry_with_jitter(RetryConfig::default())
///     .circuit_breaker(BreakerConfig::default())
///     .measure_attempts(metrics.clone())
///     .attempt_timeout(Duration::from_secs(10))?
///     .sign(StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?)
///     .service(service_fn(|_: Request<BufferedBody>| async {
///         Ok::<_, BoxError>(Response::new(BufferedBody::from("")))
///     }));
///
/// let req = Request::post("https://example.com/hooks")
///     .header("webhook-id", "msg_1")
///     .body(BufferedBody::from("{}"))?;
/// assert_eq!(client.oneshot(req).await?.status(), 200);
/// assert_eq!(metrics.snapshot().attempts().total(), 1);
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
pub trait WebhookServiceBuilderExt<Outer>: Sized {
    /// Reads the body once, up to `limit` bytes: [`BufferBodyLayer`].
    fn buffer_body(self, limit: usize) -> With<BufferBodyLayer, Outer>;

    /// Refuses what is not signed: [`SignatureVerifyLayer`].
    fn verify_signature(self, scheme: impl Scheme + 'static) -> With<SignatureVerifyLayer, Outer>;

    /// Gives each request without one an id: [`MessageIdLayer`].
    fn message_id(self) -> With<MessageIdLayer, Outer>;

    /// Signs each request: [`SignLayer`].
    fn sign(self, scheme: impl SignScheme + 'static) -> With<SignLayer, Outer>;

    /// Writes an entry for each request that fails, its body being in memory: [`DeadLetterLayer`].
    fn dead_letter(self, entries: DeadLetters) -> With<DeadLetterLayer, Outer>;

    /// Bounds the whole of a call: [`DeadlineLayer`].
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] where `deadline` is zero.
    fn within(self, deadline: Duration) -> Result<With<DeadlineLayer, Outer>, InvalidConfig>;

    /// Bounds each attempt: [`AttemptTimeoutLayer`].
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] where `timeout` is zero.
    fn attempt_timeout(
        self,
        timeout: Duration,
    ) -> Result<With<AttemptTimeoutLayer, Outer>, InvalidConfig>;

    /// Repeats what failed and may be repeated, with [`HttpExchange`]: [`RetryWithJitterLayer`].
    fn retry_with_jitter(
        self,
        config: RetryConfig,
    ) -> With<RetryWithJitterLayer<HttpClassifier, HttpExchange>, Outer>;

    /// Leaves hosts alone that fail: [`CircuitBreakerLayer`].
    fn circuit_breaker(self, config: BreakerConfig) -> With<CircuitBreakerLayer, Outer>;

    /// Measures deliveries, and tells `observer`: [`DeliveryMetricsLayer`].
    fn measure_deliveries(self, observer: impl Observer) -> With<DeliveryMetricsLayer, Outer>;

    /// Measures attempts, and tells `observer`: [`DeliveryMetricsLayer`].
    fn measure_attempts(self, observer: impl Observer) -> With<DeliveryMetricsLayer, Outer>;
}

impl<Outer> WebhookServiceBuilderExt<Outer> for ServiceBuilder<Outer> {
    fn buffer_body(self, limit: usize) -> With<BufferBodyLayer, Outer> {
        self.layer(BufferBodyLayer::new(limit))
    }

    fn verify_signature(self, scheme: impl Scheme + 'static) -> With<SignatureVerifyLayer, Outer> {
        self.layer(SignatureVerifyLayer::new(scheme))
    }

    fn message_id(self) -> With<MessageIdLayer, Outer> {
        self.layer(MessageIdLayer::new())
    }

    fn sign(self, scheme: impl SignScheme + 'static) -> With<SignLayer, Outer> {
        self.layer(SignLayer::new(scheme))
    }

    fn dead_letter(self, entries: DeadLetters) -> With<DeadLetterLayer, Outer> {
        self.layer(DeadLetterLayer::new(entries))
    }

    fn within(self, deadline: Duration) -> Result<With<DeadlineLayer, Outer>, InvalidConfig> {
        Ok(self.layer(DeadlineLayer::new(deadline)?))
    }

    fn attempt_timeout(
        self,
        timeout: Duration,
    ) -> Result<With<AttemptTimeoutLayer, Outer>, InvalidConfig> {
        Ok(self.layer(AttemptTimeoutLayer::new(timeout)?))
    }

    fn retry_with_jitter(
        self,
        config: RetryConfig,
    ) -> With<RetryWithJitterLayer<HttpClassifier, HttpExchange>, Outer> {
        self.layer(RetryWithJitterLayer::new(config).exchange(HttpExchange::new()))
    }

    fn circuit_breaker(self, config: BreakerConfig) -> With<CircuitBreakerLayer, Outer> {
        self.layer(CircuitBreakerLayer::new(config))
    }

    fn measure_deliveries(self, observer: impl Observer) -> With<DeliveryMetricsLayer, Outer> {
        self.layer(DeliveryMetricsLayer::deliveries().observe(observer))
    }

    fn measure_attempts(self, observer: impl Observer) -> With<DeliveryMetricsLayer, Outer> {
        self.layer(DeliveryMetricsLayer::attempts().observe(observer))
    }
}
