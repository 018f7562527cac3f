//! The layer that refuses what is not signed.

mod future;
mod layer;
mod service;

pub use self::{future::ResponseFuture, layer::SignatureVerifyLayer, service::SignatureVerify};
