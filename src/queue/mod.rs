//! Accept now, process later: what was answered with "accepted" is done, or ends where an operator
//! sees it.

pub mod contract;
mod engine;
mod job;
mod memory;
mod task;

pub use self::{
    engine::{Claims, Depth, Engine, QueueError, QueueErrorKind, Terms, Verdict},
    job::{About, Burial, Enqueued, Job, NewJob},
    memory::{MemoryQueue, MemoryQueueBuilder},
    task::{Status, Task, TaskId},
};
