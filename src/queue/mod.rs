//! Accept now, process later: what was answered with "accepted" is done, or ends where an operator
//! sees it.

mod engine;
mod job;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod task;

#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use self::sqlite::{SqliteQueue, SqliteQueueBuilder};
pub use self::{
    engine::{Claims, Depth, Engine, QueueError, QueueErrorKind, Terms, Verdict},
    job::{About, Burial, Enqueued, Job, NewJob},
    task::{Status, Task, TaskId},
};
