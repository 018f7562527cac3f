use crate::problem::{Problem, Refusal};
use http::StatusCode;
use std::{fmt, time::Duration};

/// Why [`BufferBody`](super::BufferBody) refused a request. Found in the extensions of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyError {
    /// The body did not arrive in time: 408.
    Deadline {
        /// The time that a whole body has.
        deadline: Duration,
    },
    /// The body has another length than its `Content-Length` says: 400.
    Length {
        /// What the header says, in bytes.
        declared: u64,
        /// What arrived, in bytes.
        received: u64,
    },
    /// Longer than the limit: 413.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body could not be read to its end: 400.
    Unreadable,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline { deadline } => {
                write!(f, "the body did not arrive within {deadline:?}")
            }
            Self::Length { declared, received } => write!(
                f,
                "the body has {received} bytes and its `content-length` says {declared}"
            ),
            Self::TooLarge { limit } => write!(f, "the body is longer than {limit} bytes"),
            Self::Unreadable => f.write_str("the body could not be read to its end"),
        }
    }
}

impl std::error::Error for BodyError {}

impl Refusal for BodyError {
    fn problem(&self) -> Problem {
        let status = match self {
            Self::Deadline { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Length { .. } | Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Problem::new(status).detail(self.to_string())
    }
}
