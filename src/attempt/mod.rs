//! The attempts of a delivery: which one is made now, and how the earlier ones went.

mod current;

pub use self::current::Attempt;
