//! Retry.

mod exchange;
mod http;

pub use self::{
    exchange::{CloneExchange, Exchange, ExchangeResponse},
    http::{Discard, HttpExchange, KeptRequest, ReplayExchange},
};
