//! The deadline on its way to the peer.

mod future;
mod layer;
mod service;

pub use self::{future::TellDeadlineFuture, layer::TellDeadlineLayer, service::TellDeadline};
