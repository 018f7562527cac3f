//! What takes jobs out of a queue and has them done.

mod builder;
mod entry;
mod event;
mod held;
mod perform;
mod race;
mod run;
mod shared;
mod task;

pub use self::{
    builder::{ByJob, ByRequest, WorkerBuilder},
    event::WorkerEvent,
    perform::{ByResult, NoResult, ResultFn, TakeResult},
    run::{Worker, WorkerHandle},
};
