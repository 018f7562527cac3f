//! Accept now, process later: what was answered with "accepted" is done, or ends where an operator
//! sees it.

mod engine;
mod enqueue;
mod handle;
mod http;
mod job;
mod memory;
mod status;
mod task;
mod worker;

pub use self::{
    engine::{Claims, Depth, Engine, QueueError, QueueErrorKind, Terms, Verdict},
    enqueue::{EnqueueError, EnqueueFuture, EnqueueService},
    handle::{Accept, AcceptFn, Queue, accept_fn},
    http::NotARequest,
    job::{About, Burial, Enqueued, Job, NewJob},
    memory::{MemoryQueue, MemoryQueueBuilder},
    status::{TaskStatusFuture, TaskStatusService},
    task::{Status, Task, TaskId},
    worker::{
        ByJob, ByRequest, ByResult, NoResult, ResultFn, TakeResult, Worker, WorkerBuilder,
        WorkerEvent, WorkerHandle,
    },
};
