//! The attempts of a delivery: which one is made now, and how the earlier ones went.

mod current;
mod failed;
mod gave_up;
mod history;

pub use self::{
    current::Attempt,
    failed::Failed,
    gave_up::GaveUp,
    history::{AttemptRecord, History},
};
