//! Retry.

mod backoff;
mod budget;
mod config;
mod course;
mod exchange;
mod future;
mod hooks;
mod http;
mod layer;
mod policy;
mod schedule;
mod service;

pub use self::{
    backoff::{Backoff, BackoffBuilder, Jitter},
    budget::{Budget, BudgetBuilder, Permit},
    config::{HintLimit, Refusals, RetryConfig, RetryConfigBuilder},
    exchange::{CloneExchange, Exchange, ExchangeResponse},
    future::ResponseFuture,
    hooks::Retrying,
    http::{Discard, HttpExchange, KeptRequest, ReplayExchange},
    layer::RetryWithJitterLayer,
    policy::{RetryPolicy, RetryWait},
    schedule::{CognigyPolicy, Schedule},
    service::RetryWithJitter,
};
