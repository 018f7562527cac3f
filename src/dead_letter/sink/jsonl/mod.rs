//! Letters in a file, a line each: for one process, without a database, readable with `jq`.
//!
//! A line is a letter in its [JSON form](crate::dead_letter::json) with one member more, `place`,
//! by which lists are in order. A letter that is written again, released or moved has a new line,
//! and the last one counts. Two other lines say what became of a letter: `{"schemaVersion":1,
//! "claimed":ID,"replays":N}`, where the last one counts, and `{"schemaVersion":1,"removed":ID}`,
//! after which nothing is written of this letter any more.
//!
//! # What it promises
//!
//! - A write is answered after `fdatasync`. Those that wait at the same time share one.
//! - A write that fails leaves nothing behind that the next one could stick to. On a full disk it
//!   is [`SinkErrorKind::Full`]; where there is room again, it works again. Claims, releases and
//!   removals are lines too, and fail in the same way: a letter that was sent again and accepted
//!   then cannot be removed, and when its claim ends it can be sent once more. Do not send letters
//!   again while the disk is full.
//! - The end of a file that was cut in the middle of a line is moved to `PATH.damaged`, with a
//!   warning, and [counted](JsonlLetters::torn). Lines that are damaged otherwise, or of a newer
//!   schema, stay as they are, and count in [`Listing::unreadable`], on the first page.
//! - What a newer release has written of a letter counts, and what stood there before it does not:
//!   its removals and claims are heeded; a letter that it wrote is
//!   [`NewerSchema`](SinkErrorKind::NewerSchema) for whoever asks for its id. Writing that id is
//!   done and changes nothing; it can be discarded.
//! - A letter that was removed or discarded is not written again. The last 10,000 of them are
//!   remembered, by their lines, as long as these take no more than an eighth of
//!   [`max_bytes`](JsonlLettersBuilder::max_bytes).
//! - Files are for their owner's eyes alone (mode 0600).
//!
//! # Files
//!
//! `PATH` is appended to. At [`max_file_bytes`](JsonlLettersBuilder::max_file_bytes) it becomes
//! `PATH.0000000001` and so on, the greatest number the newest. A file goes when nothing in it
//! counts any more, not even what tells of a removal, and none is older; where more is lost than
//! counts, what still counts in the oldest file moves to the newest. So no letter goes that was not removed: beyond
//! [`max_bytes`](JsonlLettersBuilder::max_bytes) of letters a new one is refused as `Full`, and the
//! files together have about twice that and one file more.
//!
//! `PATH.lock` is locked while the letters are open: a second process, or a second handle, is
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
//! future is dropped before it gave the letter away is given back, and does not count; where too
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

pub use self::{builder::JsonlLettersBuilder, error::OpenLettersError};

use self::{
    claiming::Claiming,
    op::{Answer, Op},
};
use super::{
    Discarded, Filter, LetterClaim, LetterStore, Listing, Page, Sink, SinkError, SinkErrorKind,
};
use crate::{
    BoxFuture,
    dead_letter::{Letter, LetterId},
    fence::{Settled, Token},
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

/// Letters in a file, a line each. See the [module docs](self). Clones share it.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::SystemTime};
/// use tower_webhook::dead_letter::{
///     Cause, JsonlLetters, Letter, LetterId, LetterStore, Reason, Sink,
/// };
///
/// # tokio_test::block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("letters.jsonl");
/// let letters = JsonlLetters::open(&path)?;
/// let cause = Cause::new(Reason::Rejected).with_code(Some(410));
/// let letter = Letter::new(LetterId::random(), "http", "peer.test", cause, SystemTime::now());
/// letters.write(&Arc::new(letter.clone())).await?;
/// letters.close().await;
///
/// let again = JsonlLetters::open(&path)?;
/// assert!(again.get(letter.id).await?.is_some());
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct JsonlLetters {
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

impl JsonlLetters {
    /// Opens the letters at `path` with the default settings, and makes the file where there is
    /// none. Reads everything that is there: do it once, before the work begins.
    ///
    /// # Errors
    ///
    /// [`OpenLettersError`] says why and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenLettersError> {
        Self::builder().open(path)
    }

    /// Settings, all with defaults.
    pub const fn builder() -> JsonlLettersBuilder {
        JsonlLettersBuilder::new()
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
    ) -> BoxFuture<Result<T, SinkError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.hand_over(op(answer));
        Box::pin(async move {
            sent.map_err(SinkError::new)?;
            let closed = |_| SinkError::new(SinkErrorKind::Closed);
            answered.await.map_err(closed)?
        })
    }

    fn hand_over(&self, op: Op) -> Result<(), SinkErrorKind> {
        let queue = self.shared.queue.read();
        match &*queue.unwrap_or_else(PoisonError::into_inner) {
            None => Err(SinkErrorKind::Closed),
            Some(queue) => queue.try_send(op).map_err(|error| match error {
                TrySendError::Full(_) => SinkErrorKind::Full,
                TrySendError::Disconnected(_) => SinkErrorKind::Closed,
            }),
        }
    }
}

impl Sink for JsonlLetters {
    fn write(&self, letter: &Arc<Letter>) -> BoxFuture<Result<(), SinkError>> {
        self.ask(|answer| Op::Write(letter.clone(), answer))
    }
}

impl LetterStore for JsonlLetters {
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, SinkError>> {
        self.ask(|answer| Op::List(filter.clone(), page.clone(), answer))
    }

    fn get(&self, id: LetterId) -> BoxFuture<Result<Option<Letter>, SinkError>> {
        self.ask(|answer| Op::Get(id, answer))
    }

    fn claim(
        &self,
        id: LetterId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<LetterClaim, SinkError>> {
        let (answer, answered) = oneshot::channel();
        match self.hand_over(Op::Claim(id, lease, max_replays, answer)) {
            Ok(()) => Box::pin(Claiming {
                letters: self.clone(),
                id,
                answered,
            }),
            Err(kind) => Box::pin(async move { Err(SinkError::new(kind)) }),
        }
    }

    fn renew(
        &self,
        id: LetterId,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, SinkError>> {
        self.ask(|answer| Op::Renew(id, token, lease, answer))
    }

    /// It may take the bytes over their bound, by what the letter has grown. One that has become
    /// longer than a line may be is `TooLarge`, and its claim ends with its lease.
    fn release(&self, token: Token, letter: &Arc<Letter>) -> BoxFuture<Result<Settled, SinkError>> {
        self.ask(|answer| Op::Release(token, letter.clone(), answer))
    }

    fn remove(&self, id: LetterId, token: Token) -> BoxFuture<Result<Settled, SinkError>> {
        self.ask(|answer| Op::Remove(id, token, answer))
    }

    fn discard(&self, id: LetterId) -> BoxFuture<Result<Discarded, SinkError>> {
        self.ask(|answer| Op::Discard(id, answer))
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, SinkError>> {
        self.ask(|answer| Op::Count(filter.clone(), answer))
    }
}

impl fmt::Debug for JsonlLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonlLetters")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}
