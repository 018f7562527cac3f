//! The deadline on its way to the peer.

mod future;
mod layer;
mod service;

pub use self::{
    future::PropagateDeadlineFuture, layer::PropagateDeadlineLayer, service::PropagateDeadline,
};
