//! The deadline of a whole call.

mod allow;
mod future;
mod layer;
mod service;

pub use self::{
    allow::{AllowFn, AllowTime, Fixed, FromHeader},
    future::DeadlineFuture,
    layer::DeadlineLayer,
    service::WithDeadline,
};
