//! DeadLetterDesk in a file, a line each: for one process, without a database, readable with `jq`.
//!
//! A line is an entry in its [JSON form](crate::dead_letter::json) with one member more, `place`,
//! by which lists are in order. An entry that is written again, released or moved has a new line,
//! and the last one counts. Two other lines say what became of an entry: `{"schemaVersion":1,
//! "claimed":ID,"replays":N}`, where the last one counts, and `{"schemaVersion":1,"removed":ID}`,
//! after which nothing is written of this entry any more.
//!
//! # What it promises
//!
//! - A write is answered after `fdatasync`. Those that wait at the same time share one.
//! - A write that fails leaves nothing behind that the next one could stick to. On a full disk it
//!   is [`StoreErrorKind::Full`]; where there is room again, it works again. Claims, releases and
//!   removals are lines too, and fail in the same way: an entry that was sent again and accepted
//!   then cannot be removed, and when its claim ends it can be sent once more. Do not send entries
//!   again while the disk is full.
//! - The end of a file that was cut in the middle of a line is moved to `PATH.damaged`, with a
//!   warning, and [counted](JsonlDeadLetters::torn). Lines that are damaged otherwise, or of a newer
//!   schema, stay as they are, and count in [`Listing::unreadable`], on the first page.
//! - What a newer release has written of an entry counts, and what stood there before it does not:
//!   its removals and claims are heeded; an entry that it wrote is
//!   [`NewerSchema`](StoreErrorKind::NewerSchema) for whoever asks for its id. Writing that id is
//!   done and changes nothing; it can be discarded.
//! - An entry that was removed or discarded is not written again. The last 10,000 of them are
//!   remembered, by their lines, as long as these take no more than an eighth of
//!   [`max_bytes`](JsonlDeadLettersBuilder::max_bytes).
//! - Files are for their owner's eyes alone (mode 0600).
//!
//! # Files
//!
//! `PATH` is appended to. At [`max_file_bytes`](JsonlDeadLettersBuilder::max_file_bytes) it becomes
//! `PATH.0000000001` and so on, the greatest number the newest. A file goes when nothing in it
//! counts any more, not even what tells of a removal, and none is older; where more is lost than
//! counts, what still counts in the oldest file moves to the newest. So no entry goes that was not removed: beyond
//! [`max_bytes`](JsonlDeadLettersBuilder::max_bytes) of entries a new one is refused as `Full`, and the
//! files together have about twice that and one file more.
//!
//! `PATH.lock` is locked while the entries are open: a second process, or a second handle, is
//! refused. Leave rotation to this sink. When the file is taken away, replaced or cut while it is
//! open, that is noticed at the next use, and everything is read anew: what was taken away is gone.
//!
//! Claims are kept in memory, because one process has the file, and only their number is written.
//! They live by the system's monotonic clock.
//!
//! # Cancel safety
//!
//! Files are read and written by a thread of their own, so a future that is dropped cannot cut a
//! line, and no runtime thread waits for a disk. What was asked for is done. Only a claim whose
//! future is dropped before it gave the entry away is given back, and does not count; where too
//! many operations wait, it ends with its lease.

mod batch;
mod builder;
mod claiming;
mod error;
mod files;
mod line;
mod op;
mod upkeep;
mod worker;

pub use self::{builder::JsonlDeadLettersBuilder, error::OpenDeadLettersError};

use self::{
    claiming::Claiming,
    op::{Answer, Op},
};
use super::{Discarded, EntryClaim, Filter, LetterStore, Listing, Page, Sink};
use crate::{
    BoxFuture, StoreError, StoreErrorKind,
    dead_letter::{Entry, EntryId},
    lease::{FencingToken, Settled},
    observe::{Event, Id, Observers},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError},
    },
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// DeadLetterDesk in a file, a line each. See the [module docs](self). Clones share it.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::SystemTime};
/// use tower_webhook::dead_letter::{
///     Cause, JsonlDeadLetters, Entry, EntryId, LetterStore, Reason, Sink,
/// };
///
/// # tokio_test::block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("entries.jsonl");
/// let entries = JsonlDeadLetters::open(&path)?;
/// let cause = Cause::new(Reason::Rejected).with_code(Some(410));
/// let entry = Entry::new(EntryId::random(), "http", "peer.test", cause, SystemTime::now());
/// entries.write(&Arc::new(entry.clone())).await?;
/// entries.close().await;
///
/// let again = JsonlDeadLetters::open(&path)?;
/// assert!(again.get(entry.id).await?.is_some());
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct JsonlDeadLetters {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// `None` once it is closed.
    queue: RwLock<Option<SyncSender<Op>>>,
    /// Its sender goes when the thread has ended.
    ended: watch::Receiver<()>,
    torn: Arc<AtomicU64>,
}

impl JsonlDeadLetters {
    /// Opens the entries at `path` with the default settings, and makes the file where there is
    /// none. Reads everything that is there: do it once, before the work begins.
    ///
    /// # Errors
    ///
    /// [`OpenDeadLettersError`] says why and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenDeadLettersError> {
        Self::builder().open(path)
    }

    /// Settings, all with defaults.
    pub const fn builder() -> JsonlDeadLettersBuilder {
        JsonlDeadLettersBuilder::new()
    }

    /// How many files have ended in the middle of a line since this was opened, and when it was:
    /// what a crash in the middle of a write leaves.
    pub fn torn(&self) -> u64 {
        self.shared.torn.load(Ordering::Relaxed)
    }

    /// Refuses what comes from now on, and waits until everything accepted is done and the files
    /// are free. Dropping every handle does the same without a wait.
    pub async fn close(&self) {
        let queue = self.shared.queue.write();
        drop(queue.unwrap_or_else(PoisonError::into_inner).take());
        let mut ended = self.shared.ended.clone();
        // Never a value: it waits for the end.
        while ended.changed().await.is_ok() {}
    }

    fn ask<T: Send + 'static>(
        &self,
        op: impl FnOnce(Answer<T>) -> Op,
    ) -> BoxFuture<Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.hand_over(op(answer));
        Box::pin(async move {
            sent.map_err(StoreError::new)?;
            let closed = |_| StoreError::new(StoreErrorKind::Closed);
            answered.await.map_err(closed)?
        })
    }

    fn hand_over(&self, op: Op) -> Result<(), StoreErrorKind> {
        let queue = self.shared.queue.read();
        match &*queue.unwrap_or_else(PoisonError::into_inner) {
            None => Err(StoreErrorKind::Closed),
            Some(queue) => queue.try_send(op).map_err(|error| match error {
                TrySendError::Full(_) => StoreErrorKind::Full,
                TrySendError::Disconnected(_) => StoreErrorKind::Closed,
            }),
        }
    }
}

/// Tells what an operator should see. The thread that finds it has no observers of its own.
fn trouble(what: &'static str, detail: &dyn fmt::Display) {
    Observers::none().tell(|| Event::Trouble {
        part: "dead_letter",
        what,
        detail: Some(Id::new(detail)),
    });
}

impl Sink for JsonlDeadLetters {
    fn write(&self, entry: &Arc<Entry>) -> BoxFuture<Result<(), StoreError>> {
        self.ask(|answer| Op::Write(entry.clone(), answer))
    }
}

impl LetterStore for JsonlDeadLetters {
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, StoreError>> {
        self.ask(|answer| Op::List(filter.clone(), page.clone(), answer))
    }

    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>> {
        self.ask(|answer| Op::Get(id, answer))
    }

    fn claim(
        &self,
        id: EntryId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<EntryClaim, StoreError>> {
        let (answer, answered) = oneshot::channel();
        match self.hand_over(Op::Claim(id, lease, max_replays, answer)) {
            Ok(()) => Box::pin(Claiming {
                entries: self.clone(),
                id,
                answered,
            }),
            Err(kind) => Box::pin(async move { Err(StoreError::new(kind)) }),
        }
    }

    fn renew(
        &self,
        id: EntryId,
        token: FencingToken,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        self.ask(|answer| Op::Renew(id, token, lease, answer))
    }

    /// It may take the bytes over their bound, by what the entry has grown. One that has become
    /// longer than a line may be is `TooLarge`, and its claim ends with its lease.
    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        self.ask(|answer| Op::Release(token, entry.clone(), answer))
    }

    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>> {
        self.ask(|answer| Op::Remove(id, token, answer))
    }

    fn discard(&self, id: EntryId) -> BoxFuture<Result<Discarded, StoreError>> {
        self.ask(|answer| Op::Discard(id, answer))
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>> {
        self.ask(|answer| Op::Count(filter.clone(), answer))
    }
}

impl fmt::Debug for JsonlDeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonlDeadLetters")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}
