//! The limits of the platform as its page "Quotas and Limits" lists them (O).
//!
//! Those for shared installations are the defaults of the platform's own software. A dedicated installation may have
//! others.

use std::time::Duration;

/// Requests that one address may send to a shared installation in [`RATE_WINDOW`].
pub const RATE_REQUESTS: u32 = 1_000;
/// The window of [`RATE_REQUESTS`].
pub const RATE_WINDOW: Duration = Duration::from_secs(5 * 60);
/// The longest JSON body of a request to the management API, in bytes: 60 kB.
pub const API_JSON_BODY: usize = 60_000;
/// The longest raw body of a request to the management API, in bytes: 2 MB.
pub const API_RAW_BODY: usize = 2_000_000;
/// Operations in one batch.
pub const BATCH_OPERATIONS: usize = 100;
/// Items on one page of a list.
pub const PAGE_ITEMS: u32 = 100;
/// Items on one page of a list if the request does not say.
pub const PAGE_ITEMS_DEFAULT: u32 = 25;

/// The largest input, context or profile, in bytes: 65 kB.
pub const MEMORY_OBJECT: usize = 65_000;
/// As [`MEMORY_OBJECT`] on the shared `app` installation: 1.5 MB.
pub const MEMORY_OBJECT_APP: usize = 1_500_000;

/// The largest request of an HTTP Request Node, in bytes: 65 kB.
pub const HTTP_NODE_REQUEST: usize = 65_000;
/// The largest response that an HTTP Request Node reads, in bytes: 524 kB.
pub const HTTP_NODE_RESPONSE: usize = 524_000;
/// The time after which an HTTP Request Node gives up on a response.
pub const HTTP_NODE_TIMEOUT: Duration = Duration::from_secs(8);
/// As [`HTTP_NODE_TIMEOUT`] on the shared `app` installation.
pub const HTTP_NODE_TIMEOUT_APP: Duration = Duration::from_secs(15);

/// HTTP requests that a transformer may send.
pub const TRANSFORMER_REQUESTS: u32 = 1;
/// As [`TRANSFORMER_REQUESTS`] on the `trial` installation.
pub const TRANSFORMER_REQUESTS_TRIAL: u32 = 2;
/// The time that a transformer may take.
pub const TRANSFORMER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the state of a session is kept.
pub const SESSION_STATE: Duration = days(7);
/// How long the entries of a project's log are kept.
pub const LOGS: Duration = days(1);
/// How long audit events are kept.
pub const AUDIT_EVENTS: Duration = days(30);
/// How long transcripts of conversations are kept.
pub const TRANSCRIPTS: Duration = days(30);
/// How long an API key of the management interface ("super API key") is valid.
pub const SUPER_API_KEY: Duration = Duration::from_secs(15 * 60);

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 60 * 60)
}
