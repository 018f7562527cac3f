//! What the documents' programs write to an audit log or a monitoring service.

use crate::{
    ApiError,
    connection::{Connection, request_json},
    https::HttpsClient,
};
use http::{Method, StatusCode, Uri};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use tower_webhook::{InvalidConfig, body::BufferedBody, target::TargetRules};

/// The time limit of a post (S2).
const POST: Duration = Duration::from_secs(10);

fn rfc3339(at: SystemTime) -> String {
    Timestamp::try_from(at)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

fn millis(latency: Duration) -> f64 {
    (latency.as_secs_f64() * 1e5).round() / 100.0
}

/// A registration that was made (S2's `WebhookAuditLog`).
#[derive(Clone, PartialEq, Serialize)]
pub struct RegistrationRecord {
    webhook_id: String,
    action: &'static str,
    timestamp: String,
    latency_ms: f64,
    success_rate: f64,
    tls_version: String,
    status_code: u16,
    endpoint_url: String,
}

/// Leaves out the URL, whose query may have a secret.
impl fmt::Debug for RegistrationRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationRecord")
            .field("webhook_id", &self.webhook_id)
            .field("timestamp", &self.timestamp)
            .field("status_code", &self.status_code)
            .finish_non_exhaustive()
    }
}

impl RegistrationRecord {
    /// Records the registration of a webhook at this time. `success` is the part of the registrations of this run that
    /// succeeded, from 0 to 1; it is written as a percentage, as S2 does.
    pub fn new(
        webhook_id: impl Into<String>,
        endpoint: &Uri,
        at: SystemTime,
        latency: Duration,
        success: f64,
    ) -> Self {
        Self {
            webhook_id: webhook_id.into(),
            action: "REGISTER",
            timestamp: rfc3339(at),
            latency_ms: millis(latency),
            success_rate: success.clamp(0.0, 1.0) * 100.0,
            tls_version: "unknown".to_owned(),
            status_code: 0,
            endpoint_url: endpoint.to_string(),
        }
    }

    /// Sets what a [probe](crate::probe) found: the version of TLS and the status. Default: `unknown` and 0.
    #[must_use]
    pub fn probed(mut self, tls_version: impl Into<String>, status: u16) -> Self {
        self.tls_version = tls_version.into();
        self.status_code = status;
        self
    }
}

/// A delivery that succeeded (S0's audit entry).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RetrySuccess {
    action: &'static str,
    webhook_id: String,
    attempt: u32,
    latency_ms: f64,
    timestamp: String,
}

impl RetrySuccess {
    /// Records a delivery that succeeded at this attempt, from 1.
    pub fn new(
        webhook_id: impl Into<String>,
        attempt: u32,
        latency: Duration,
        at: SystemTime,
    ) -> Self {
        Self {
            action: "retry_success",
            webhook_id: webhook_id.into(),
            attempt,
            latency_ms: millis(latency),
            timestamp: rfc3339(at),
        }
    }
}

/// A delivery whose attempts are used up (S0's alert). The rate is a percentage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RetryExhausted {
    event: &'static str,
    webhook_id: String,
    timestamp: String,
    error_details: ExhaustedDetails,
    success_rate: f64,
    avg_latency_ms: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ExhaustedDetails {
    webhook_id: String,
    max_attempts_reached: u32,
    final_error: String,
}

impl RetryExhausted {
    /// Records a delivery that failed for good. `success` is a fraction, from 0 to 1; `final_error` must not hold a
    /// secret.
    pub fn new(
        webhook_id: impl Into<String>,
        attempts: u32,
        final_error: impl Into<String>,
        at: SystemTime,
        success: f64,
        mean_latency: Duration,
    ) -> Self {
        let webhook_id = webhook_id.into();
        Self {
            event: "webhook_retry_exhausted",
            webhook_id: webhook_id.clone(),
            timestamp: rfc3339(at),
            error_details: ExhaustedDetails {
                webhook_id,
                max_attempts_reached: attempts,
                final_error: final_error.into(),
            },
            success_rate: success * 100.0,
            avg_latency_ms: millis(mean_latency),
        }
    }
}

/// A monitoring service that records are posted to (S2). It has a connection of its own: the API's credential never
/// goes there.
#[derive(Clone, Debug)]
pub struct Monitor {
    connection: Connection,
    path: String,
}

impl Monitor {
    /// A service at this URL.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names `base` if that is no `https` URL of a public address.
    pub fn new(url: &str) -> Result<Self, InvalidConfig> {
        Self::with(url, TargetRules::new(), HttpsClient::new())
    }

    /// A service at this URL, under these rules, through this client, which may add a credential of that service.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with<S>(url: &str, rules: TargetRules, client: S) -> Result<Self, InvalidConfig>
    where
        S: crate::connection::Transport,
    {
        let wrong = || InvalidConfig::new("base", "must be the URL of a monitoring service");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (scheme, authority) = (uri.scheme_str(), uri.authority());
        let (scheme, authority) = scheme.zip(authority).ok_or_else(wrong)?;
        let connection = Connection::builder(format!("{scheme}://{authority}"))
            .attempt_timeout(POST)
            .rules(rules)
            .transport(client)
            .build()?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    /// Posts a record. 200, 201 and 204 are success (S2).
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub async fn post<T: Serialize + ?Sized>(&self, record: &T) -> Result<(), ApiError> {
        const OPERATION: &str = "post the record";
        let req = request_json(Method::POST, &self.path, record);
        let res = self.connection.call(OPERATION, req).await?;
        match res.status() {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            status => {
                let body: &BufferedBody = res.body();
                Err(ApiError::unexpected(
                    OPERATION,
                    status,
                    body,
                    "the record was not stored",
                ))
            }
        }
    }
}
