//! Accept now, process later: what was answered with "accepted" is done, or ends where an operator
//! sees it.

mod engine;
mod enqueue;
mod http;
mod job;
mod queue;
mod status;
mod memory;
mod task;

pub use self::{
    engine::{Claims, Depth, Engine, QueueError, QueueErrorKind, Terms, Verdict},
    enqueue::{EnqueueError, EnqueueFuture, EnqueueService},
    http::NotARequest,
    job::{About, Burial, Enqueued, Job, NewJob},
    queue::{Accept, AcceptFn, Queue, accept_fn},
    status::{TaskStatusFuture, TaskStatusService},
    memory::{MemoryQueue, MemoryQueueBuilder},
    task::{Status, Task, TaskId},
};
