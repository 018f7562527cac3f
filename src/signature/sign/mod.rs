//! The layer that signs what is sent.

mod error;
mod future;
mod id;
mod id_layer;
mod layer;
mod scheme;
mod service;

pub use self::{
    error::SignError,
    future::ResponseFuture,
    id::MessageId,
    id_layer::{MessageIdLayer, SetMessageId},
    layer::SignLayer,
    scheme::{Outgoing, SignScheme},
    service::Sign,
};
