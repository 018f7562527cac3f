//! The time that one attempt has.

mod error;
mod future;
mod layer;
mod service;

pub use self::{
    error::AttemptTimeout, future::AttemptTimeoutFuture, layer::AttemptTimeoutLayer,
    service::WithAttemptTimeout,
};
