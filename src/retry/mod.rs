//! Retry.

mod exchange;

pub use self::exchange::Exchange;
