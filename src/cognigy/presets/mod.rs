//! Settings of the generic layers with the values of the Cognigy documents.
//!
//! The documents S0 to S3 have their own numbers, limits and metric names. Each function here configures
//! one layer with them; it needs the feature `cognigy` and the feature of the layer. The signature formats
//! are not settings but a scheme, which is next to those of the other vendors:
//! `signature::scheme::Cognigy`.
//!
//! | Preset | Configures | Source |
//! | --- | --- | --- |
//! | `circuit_breaker` | `BreakerConfig` | S3 |
//! | `dead_letter_event`, `dead_letter_exhausted` | `CallbackSink::body` | S4, S0 |
//! | `client_schedule`, `handler_schedule` | `retry::Schedule` | S2, S3 |
//! | `endpoint_schedule` | `retry::Schedule`, with limits | S2 |
//! | `fallback_branch` | `FallbackLayer` | S3 |
//! | `fallback_urls` | `FailoverLayer`, with limits | S2 |
//! | `loop_headers` | `loop_guard::MarkLayer::headers` | S2 |
//! | `metrics_facade` | `FacadeExporter` | S3 |
//! | `WebhookPolicy` | `retry::Schedule`, with limits | S0 |

#[cfg(feature = "dead-letter")]
mod dead_letter;

#[cfg(feature = "dead-letter")]
pub use self::dead_letter::{dead_letter_event, dead_letter_exhausted};

#[cfg(feature = "failover")]
use super::DialogAnswer;
#[cfg(any(feature = "failover", feature = "retry"))]
use crate::InvalidConfig;
#[cfg(feature = "circuit-breaker")]
use crate::circuit_breaker::{BreakerConfig, BreakerConfigBuilder};
#[cfg(feature = "metrics-facade")]
use crate::metrics::{FacadeExporter, FacadeExporterBuilder};
#[cfg(feature = "retry")]
use crate::retry::{Backoff, Jitter, Schedule};
#[cfg(feature = "failover")]
use crate::{
    body::BufferedBody,
    failover::{FailoverLayer, FailoverLayerBuilder},
    fallback::{AnswerHttp, FallbackLayer},
};
use http::{HeaderMap, HeaderValue};
#[cfg(feature = "failover")]
use http::{Response, Uri, header};
#[cfg(any(feature = "circuit-breaker", feature = "retry"))]
use std::time::Duration;

#[cfg(any(feature = "circuit-breaker", feature = "retry"))]
const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A circuit breaker that opens after 3 failures in a row, for 15 s and up to a tenth more, and lets one probe
/// decide (S3: `fail_max` 3, `reset_timeout` 15 s).
///
/// The open time does not grow. It is never under the 15 s of the documents; without the random part, all
/// clients that saw an outage begin would probe at the same moment. The failure rate is not checked. For
/// another time, see [`circuit_breaker_open_for`].
///
/// # Examples
///
/// ```
/// use tower_webhook::{CircuitBreakerLayer, cognigy::presets};
///
/// let layer = CircuitBreakerLayer::new(presets::circuit_breaker().build()?);
/// # let _ = layer;
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[cfg(feature = "circuit-breaker")]
pub const fn circuit_breaker() -> BreakerConfigBuilder {
    circuit_breaker_open_for(secs(15))
}

/// As [`circuit_breaker`], open for `least` and up to a tenth more.
#[cfg(feature = "circuit-breaker")]
pub const fn circuit_breaker_open_for(least: Duration) -> BreakerConfigBuilder {
    let more = match least.checked_div(10) {
        Some(tenth) => tenth,
        None => Duration::ZERO,
    };
    let most = least.saturating_add(more);
    BreakerConfig::builder()
        .consecutive_failures(3)
        .without_failure_rate()
        .open_for(most)
        .max_open_for(most)
        .open_growth(1.0)
        // The jitter of a breaker shortens. 11/10 of it less 9 % is not under `least`, however it is rounded.
        .open_jitter(0.09)
        .probe_lease(secs(15))
}

/// The schedule with which S2's client registers endpoints: 5 attempts, exponential from 1 s to 30 s with
/// up to 0.5 s of jitter.
#[cfg(feature = "retry")]
pub fn client_schedule() -> Schedule {
    let jitter = Jitter::Additive(Duration::from_millis(500));
    let backoff = Backoff::exponential(secs(1), secs(30)).jitter(jitter);
    Schedule::new(5, backoff.build_known())
}

/// The schedule with which S3's handler calls its downstream: 3 attempts, exponential from 2 s to 30 s
/// with up to 1 s of jitter.
#[cfg(feature = "retry")]
pub fn handler_schedule() -> Schedule {
    let jitter = Jitter::Additive(secs(1));
    let backoff = Backoff::exponential(secs(2), secs(30)).jitter(jitter);
    Schedule::new(3, backoff.build_known())
}

/// The retry policy of a webhook endpoint (S2): `max_retries` after the first attempt, each after
/// `interval` with up to 0.5 s of jitter. S2's own values are 3 and 5 s.
///
/// # Errors
///
/// [`InvalidConfig`] names `max_retries` above 10, and an `interval` outside 1 s to 30 s.
#[cfg(feature = "retry")]
pub fn endpoint_schedule(max_retries: u32, interval: Duration) -> Result<Schedule, InvalidConfig> {
    if max_retries > 10 {
        return Err(InvalidConfig::new("max_retries", "must be at most 10"));
    }
    if !(secs(1)..=secs(30)).contains(&interval) {
        return Err(InvalidConfig::new("interval", "must be from 1 s to 30 s"));
    }
    let spread = Duration::from_millis(500);
    let backoff = Backoff::constant(interval)
        .cap(interval + spread)
        .jitter(Jitter::Additive(spread));
    Ok(Schedule::new(max_retries + 1, backoff.build_known()))
}

/// The loop-prevention headers of a delivery (S2): `X-Cognigy-Webhook-Source: bot-integration`, `Prevent-Loop: true`, and
/// random UUIDs in `X-Request-Id` and `X-Correlation-Id`.
///
/// `X-Request-Id` is new in each attempt. An `X-Correlation-Id` that the request has is kept, so that it can be that of a
/// whole delivery. S2 registers fixed ids, which are then the same in all deliveries. Its receivers look at none of these
/// headers: what ends a loop is the mark beside them.
///
/// # Examples
///
/// ```
/// use tower_webhook::{LoopGuardLayer, cognigy::presets};
///
/// let mark = LoopGuardLayer::new("orders")?.outgoing().headers(presets::loop_headers);
/// # let _ = mark;
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
pub fn loop_headers(headers: &mut HeaderMap) {
    headers.insert(
        "x-cognigy-webhook-source",
        HeaderValue::from_static("bot-integration"),
    );
    headers.insert("prevent-loop", HeaderValue::from_static("true"));
    if let Some(id) = random_uuid() {
        headers.insert("x-request-id", id);
    }
    if !headers.contains_key("x-correlation-id")
        && let Some(id) = random_uuid()
    {
        headers.insert("x-correlation-id", id);
    }
}

/// A UUID of version 4 (RFC 9562 §5.4). It identifies, and is no secret. Hexadecimal is always a header value.
fn random_uuid() -> Option<HeaderValue> {
    let random = fastrand::u128(..);
    let id = random & !(0xf << 76 | 0b11 << 62) | 4 << 76 | 0b10 << 62;
    let part = |shift: u32, digits: u32| id >> shift & ((1 << (4 * digits)) - 1);
    let text = format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12),
    );
    HeaderValue::try_from(text).ok()
}

/// The fallback branch (S3): answers 200, with which the dialog continues at `default_fallback_branch`,
/// when the attempts are exhausted and when the circuit is open.
///
/// `max_retries` is the value of `maxRetries` in the answer: the allowed attempts, 3 in S3. See
/// [`DialogAnswer::fallback`].
///
/// # Examples
///
/// ```
/// use tower_webhook::cognigy::presets;
///
/// let layer = presets::fallback_branch(3);
/// # let _ = layer;
/// ```
#[cfg(feature = "failover")]
pub fn fallback_branch(max_retries: u32) -> FallbackLayer<AnswerHttp> {
    // Fixed texts and a number: writing them to memory cannot fail.
    let json = DialogAnswer::fallback(max_retries).to_json();
    let body = BufferedBody::new(json.unwrap_or_default());
    FallbackLayer::http(move |_| {
        let mut response = Response::new(body.clone());
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Some(response)
    })
}

/// Failover to the request's own URI, and then at most 5 others (S2: `fallbackUrls`). See
/// [`FailoverLayer::fallbacks`].
///
/// # Errors
///
/// [`InvalidConfig`] names `fallbacks` if there are more than 5.
#[cfg(feature = "failover")]
pub fn fallback_urls<U: TryInto<Uri>>(
    uris: impl IntoIterator<Item = U>,
) -> Result<FailoverLayerBuilder, InvalidConfig> {
    const MOST: usize = 5;
    // One more than allowed is enough for the check.
    let uris: Vec<U> = uris.into_iter().take(MOST + 1).collect();
    if uris.len() > MOST {
        return Err(InvalidConfig::new("fallbacks", "must be at most 5 URIs"));
    }
    Ok(FailoverLayer::fallbacks(uris))
}

/// Metrics with S3's names for two counters: `cognigy_webhook_retries` (label `status_code`) and
/// `cognigy_circuit_breaker_trips`.
#[cfg(feature = "metrics-facade")]
pub fn metrics_facade() -> FacadeExporterBuilder {
    FacadeExporter::builder()
        .retries_name("cognigy_webhook_retries")
        .trips_name("cognigy_circuit_breaker_trips")
}

/// The retry policy of a bot webhook (S0): attempts, strategy, delays and window, with S0's limits. Each
/// delay is up to a tenth longer.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::cognigy::presets::WebhookPolicy;
///
/// let policy = WebhookPolicy::new()
///     .max_attempts(5)
///     .max_delay(Duration::from_secs(15))
///     .window(Duration::from_secs(300));
/// assert_eq!(policy.build()?.attempts(), 5);
///
/// let eleven = WebhookPolicy::new().max_attempts(11).build();
/// assert_eq!(eleven.unwrap_err().setting(), "max_attempts");
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[cfg(feature = "retry")]
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct WebhookPolicy {
    max_attempts: u32,
    linear: bool,
    base_delay: Duration,
    max_delay: Duration,
    window: Duration,
}

#[cfg(feature = "retry")]
impl Default for WebhookPolicy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "retry")]
impl WebhookPolicy {
    /// Makes a policy with the defaults.
    pub const fn new() -> Self {
        Self {
            max_attempts: 3,
            linear: false,
            base_delay: secs(1),
            max_delay: secs(30),
            window: secs(3600),
        }
    }

    /// Sets the number of attempts, including the first: from 1 to 10. Default: 3.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the delays to grow linearly: `base * n`. Default: exponential, `base * 2^(n - 1)`.
    pub const fn linear(mut self) -> Self {
        self.linear = true;
        self
    }

    /// Sets the first delay. Default: 1 s.
    pub const fn base_delay(mut self, delay: Duration) -> Self {
        self.base_delay = delay;
        self
    }

    /// Sets the longest delay. Default: 30 s.
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Sets the time after the start of the first attempt in which another one may begin: from 1 s to a day.
    /// Default: an hour.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Builds the schedule.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first setting outside its limits: `max_attempts`, `window`,
    /// `base_delay` or `max_delay`.
    pub fn build(self) -> Result<Schedule, InvalidConfig> {
        if !(1..=10).contains(&self.max_attempts) {
            return Err(InvalidConfig::new("max_attempts", "must be from 1 to 10"));
        }
        if !(secs(1)..=secs(86_400)).contains(&self.window) {
            return Err(InvalidConfig::new("window", "must be from 1 s to 86400 s"));
        }
        if self.base_delay.is_zero() {
            return Err(InvalidConfig::new("base_delay", "must be longer than zero"));
        }
        if self.max_delay < self.base_delay {
            let problem = "must not be shorter than the base delay";
            return Err(InvalidConfig::new("max_delay", problem));
        }
        let backoff = if self.linear {
            Backoff::linear(self.base_delay, self.max_delay)
        } else {
            Backoff::exponential(self.base_delay, self.max_delay)
        };
        let backoff = backoff.jitter(Jitter::Plus10Percent).build()?;
        Ok(Schedule::new(self.max_attempts, backoff).with_window(self.window))
    }
}

#[cfg(all(test, feature = "retry"))]
mod tests {
    use super::*;

    fn shortest(schedule: &Schedule) -> Vec<u64> {
        let delay = |retry| schedule.backoff().delay(retry, Duration::ZERO, 0).as_secs();
        (1..schedule.attempts()).map(delay).collect()
    }

    fn longest(schedule: &Schedule) -> Vec<u128> {
        let delay = |retry| {
            schedule
                .backoff()
                .delay(retry, Duration::ZERO, u64::MAX)
                .as_millis()
        };
        (1..schedule.attempts()).map(delay).collect()
    }

    #[test]
    fn the_documents_delays_lie_in_their_ranges() {
        let policy = WebhookPolicy::new().max_attempts(7).build().unwrap();
        assert_eq!(shortest(&policy)[..5], [1, 2, 4, 8, 16]);
        assert_eq!(
            longest(&policy),
            [1_100, 2_200, 4_400, 8_800, 17_600, 30_000]
        );

        let linear = WebhookPolicy::new().linear().build().unwrap();
        assert_eq!(shortest(&linear), [1, 2]);

        let endpoint = endpoint_schedule(3, secs(5)).unwrap();
        assert_eq!(
            (shortest(&endpoint), longest(&endpoint)),
            (vec![5; 3], vec![5_500; 3])
        );

        let client = client_schedule();
        assert_eq!(
            (client.attempts(), shortest(&client)),
            (5, vec![1, 2, 4, 8])
        );

        let handler = handler_schedule();
        assert_eq!(
            (shortest(&handler), longest(&handler)),
            (vec![2, 4], vec![3_000, 5_000])
        );
    }

    /// S1's engine and S4's CRM call have no preset: theirs is a schedule like any other.
    #[test]
    fn s1_and_s4_wait_two_four_and_eight_seconds() {
        let backoff = Backoff::exponential(secs(2), secs(8)).jitter(Jitter::None);
        let four = Schedule::new(4, backoff.build().unwrap());
        assert_eq!(shortest(&four), [2, 4, 8]);
        assert_eq!(longest(&four), [2_000, 4_000, 8_000]);
    }

    #[test]
    fn every_schedule_has_room_for_its_longest_waits() {
        let all = [
            client_schedule(),
            handler_schedule(),
            endpoint_schedule(10, secs(30)).unwrap(),
        ];
        for schedule in all {
            let waits: u128 = longest(&schedule).iter().sum();
            assert!(waits < schedule.window().as_millis(), "{schedule:?}");
        }
    }

    #[test]
    fn the_documents_limits_are_kept() {
        let policy = WebhookPolicy::new;
        let table = [
            (policy().max_attempts(0), "max_attempts"),
            (policy().max_attempts(11), "max_attempts"),
            (policy().window(Duration::ZERO), "window"),
            (policy().window(secs(86_401)), "window"),
            (policy().base_delay(Duration::ZERO), "base_delay"),
            (policy().base_delay(secs(31)), "max_delay"),
        ];
        for (policy, setting) in table {
            assert_eq!(policy.build().unwrap_err().setting(), setting, "{policy:?}");
        }
        let endpoint = |retries, ms| endpoint_schedule(retries, Duration::from_millis(ms));
        assert_eq!(endpoint(11, 5_000).unwrap_err().setting(), "max_retries");
        assert_eq!(endpoint(3, 999).unwrap_err().setting(), "interval");
        assert_eq!(endpoint(3, 30_001).unwrap_err().setting(), "interval");
        assert!(endpoint(0, 1_000).is_ok() && endpoint(10, 30_000).is_ok());
    }
}
