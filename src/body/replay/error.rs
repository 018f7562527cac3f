use std::fmt;

/// Why a [`ReplayBody`](super::ReplayBody) gives no more, where the original body itself has said
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplayError {
    /// The original body failed while an earlier attempt was sending it.
    Lost,
    /// A later attempt sends the body now.
    TakenOver,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "the body failed while it was sent before",
            Self::TakenOver => "the body is sent by a later attempt now",
        })
    }
}

impl std::error::Error for ReplayError {}
