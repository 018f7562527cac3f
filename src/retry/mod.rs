//! Retry.

mod exchange;

pub use self::exchange::{CloneExchange, Exchange, ExchangeResponse};
