//! The attempts of a delivery: which one is made now, and how the earlier ones went.

mod current;
mod failed;
mod gave_up;
mod header;
mod history;
pub(crate) mod kept;
#[cfg(feature = "dead-letter")]
pub(crate) mod wire;

pub use self::{
    current::Attempt,
    failed::Failed,
    gave_up::GaveUp,
    header::{AttemptHeader, AttemptHeaderLayer},
    history::{AttemptRecord, History},
    kept::Kept,
};
