//! Accept now, process later: what was answered with "accepted" is done, or ends where an operator
//! sees it.

pub mod contract;
mod engine;
mod enqueue;
mod handle;
mod http;
mod job;
mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod status;
mod task;
mod worker;

#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use self::sqlite::{SqliteQueue, SqliteQueueBuilder};
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
