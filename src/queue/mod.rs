//! Accept now, process later: what was answered with "accepted" is done, or ends where an operator
//! sees it.

pub mod contract;
mod engine;
mod job;
mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod task;

#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use self::sqlite::{SqliteQueue, SqliteQueueBuilder};
pub use self::{
    engine::{Claims, Depth, Engine, QueueError, QueueErrorKind, Terms, Verdict},
    job::{About, Burial, Enqueued, Job, NewJob},
    memory::{MemoryQueue, MemoryQueueBuilder},
    task::{Status, Task, TaskId},
};
