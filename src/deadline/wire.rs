//! How the time left is written on a request, and read from one.

use super::GrpcTimeout;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The header and its format.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    GrpcTimeout,
    Millis(HeaderName),
}

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

impl Wire {
    pub(super) fn name(&self) -> &HeaderName {
        match self {
            Self::GrpcTimeout => &GRPC_TIMEOUT,
            Self::Millis(name) => name,
        }
    }

    /// The time that the headers give; `None` where they give none, two, or anything but a time.
    pub(super) fn read(&self, headers: &HeaderMap) -> Option<Duration> {
        let mut values = headers.get_all(self.name()).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let text = value.to_str().ok()?;
        match self {
            Self::GrpcTimeout => GrpcTimeout::parse(text).ok().map(GrpcTimeout::duration),
            // `parse` alone would take a sign.
            Self::Millis(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().map(Duration::from_millis)
            }
            Self::Millis(_) => None,
        }
    }

    /// The value for this time, rounded down; `None` where that leaves nothing.
    pub(super) fn write(&self, left: Duration) -> Option<HeaderValue> {
        match self {
            Self::GrpcTimeout if left.is_zero() => None,
            Self::GrpcTimeout => HeaderValue::try_from(GrpcTimeout::new(left).to_string()).ok(),
            Self::Millis(_) => match u64::try_from(left.as_millis()).unwrap_or(u64::MAX) {
                0 => None,
                millis => Some(HeaderValue::from(millis)),
            },
        }
    }
}
