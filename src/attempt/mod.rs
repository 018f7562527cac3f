//! The attempts of a delivery: which one is made now, and how the earlier ones went.

mod current;
mod header;

pub use self::{
    current::Attempt,
    header::{AttemptHeader, AttemptHeaderLayer},
};
