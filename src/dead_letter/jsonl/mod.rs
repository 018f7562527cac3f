//! A store of entries in a file, one line for each.

mod files;
mod load;
mod op;
mod worker;

use self::{
    files::{Files, beside, private},
    op::{Answer, Op},
    worker::Worker,
};
use super::{
    Discarded, Entry, EntryClaim, EntryId, Filter, LetterStore, Listing, Page, Sink, json,
};
use crate::{
    BoxError, BoxFuture, InvalidConfig, StoreError, StoreErrorKind,
    lease::{FencingToken, Settled},
    observe::{Event, Id, Observer, Observers},
};
use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    future::Future,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// A dead-letter store in a file with one line per entry: for one process, without a database, readable
/// with `jq`. Clones share it.
///
/// A line is an entry in its [JSON form](json) with the additional member `place`, which orders lists. An
/// entry that is written again, released or moved has a new line, and the last line is current. Two other
/// kinds of lines record a claim, `{"schemaVersion":1,"claimed":ID,"replays":N}`, of which the last one is
/// current, and a removal, `{"schemaVersion":1,"removed":ID}`, after which no line of this entry is
/// written any more.
///
/// # Guarantees
///
/// - A write returns after `fdatasync`. Writes that wait at the same time share one.
/// - A write that fails leaves no part of a line behind. On a full disk it fails with
///   [`StoreErrorKind::Full`]; writes succeed again once there is room. Claims, releases and removals are
///   lines too, and fail in the same way: an entry that was sent again and accepted then cannot be removed,
///   and may be sent once more when its claim ends. Do not re-drive entries while the disk is full.
/// - If a file ends in the middle of a line, that part is moved to `PATH.damaged`, reported to
///   [observers](JsonlDeadLettersBuilder::observe), and [counted](Self::torn). Other damaged lines, and lines
///   of a newer schema, are not changed, are reported too, and count in [`Listing::unreadable`] on the first
///   page.
/// - Lines of a newer release apply, and replace earlier lines of the same entry: its removals and claims
///   apply, and reading an entry that it wrote fails with [`NewerSchema`](StoreErrorKind::NewerSchema).
///   Writing that id succeeds and changes nothing; it can be discarded.
/// - An entry that was removed or discarded is not written again. The last 10,000 ids are remembered by
///   their lines, as long as these take no more than an eighth of
///   [`max_bytes`](JsonlDeadLettersBuilder::max_bytes).
/// - Only the owner can read the files (mode 0600).
///
/// # Files
///
/// Lines are appended to `PATH`. At [`max_file_bytes`](JsonlDeadLettersBuilder::max_file_bytes) it is
/// renamed to `PATH.0000000001` and so on; the greatest number is the newest. The oldest file is deleted
/// when none of its lines is current. When less than half of all bytes are current, the current lines of
/// the oldest file are moved to the newest. Only removed entries are deleted: when the entries exceed
/// [`max_bytes`](JsonlDeadLettersBuilder::max_bytes), a new one is refused as `Full`. All files together
/// take about twice that, plus one file.
///
/// What is removed or discarded is not erased at once: its lines stay in their file, for its owner to read, until
/// that file is deleted as above, which may be never in a store with little traffic. Where an entry must be erased,
/// redact what is written (see [`redaction`](super::Redaction)), or keep the files on a disk that is encrypted.
///
/// `PATH.lock` is locked while the store is open: a second process, or a second handle, is refused. Do
/// not rotate the files yourself. If a file is moved, replaced or cut while it is open, the store notices
/// at its next operation and reads everything again; entries that were taken away are lost.
///
/// Claims are held in memory, because only one process has the file open; the file records their number.
/// Leases are measured by the monotonic clock of the system.
///
/// # Cancel safety
///
/// A separate thread reads and writes the files, so that a dropped future cannot cut a line, and no
/// runtime thread waits for a disk. An operation that was begun is completed. The exception is a claim
/// whose future is dropped before it returned the entry: it is released and does not count, or, if too
/// many operations wait, ends with its lease.
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
/// let store = JsonlDeadLetters::open(&path)?;
/// let cause = Cause::new(Reason::Rejected).with_code(Some(410));
/// let entry = Entry::new(EntryId::random(), "http", "peer.test", cause, SystemTime::now());
/// store.write(&Arc::new(entry.clone())).await?;
/// store.close().await;
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
    /// `None` once the store is closed.
    queue: RwLock<Option<SyncSender<Op>>>,
    /// Its sender is dropped when the thread has ended.
    ended: watch::Receiver<()>,
    torn: Arc<AtomicU64>,
}

impl JsonlDeadLetters {
    /// Opens the store at `path` with the default settings, and creates the file if there is none. Reads all
    /// lines, and blocks meanwhile: call it once, at the start of the program.
    ///
    /// # Errors
    ///
    /// [`OpenDeadLettersError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenDeadLettersError> {
        Self::builder().open(path)
    }

    /// Returns a builder with the default settings.
    pub const fn builder() -> JsonlDeadLettersBuilder {
        JsonlDeadLettersBuilder::new()
    }

    /// The number of files that ended in the middle of a line, when the store was opened or later: a crash
    /// during a write has this effect.
    pub fn torn(&self) -> u64 {
        self.shared.torn.load(Ordering::Relaxed)
    }

    /// Refuses new operations, and waits until all accepted ones are done and the files are closed. Dropping
    /// every handle does the same without waiting.
    pub async fn close(&self) {
        let queue = self.shared.queue.write();
        drop(queue.unwrap_or_else(PoisonError::into_inner).take());
        let mut ended = self.shared.ended.clone();
        // No value is ever sent: an error means that the sender was dropped.
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

    /// May exceed the limit of bytes by the growth of the entry. If the entry has become longer than a line
    /// may be, the release fails as `TooLarge`, and the claim ends with its lease.
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

/// Builder of a [`JsonlDeadLetters`].
#[derive(Clone, Debug)]
#[must_use]
pub struct JsonlDeadLettersBuilder {
    pub(super) max_bytes: u64,
    pub(super) max_file_bytes: u64,
    pub(super) max_entry_bytes: usize,
    max_waiting: usize,
    observers: Observers,
}

impl JsonlDeadLettersBuilder {
    const fn new() -> Self {
        Self {
            max_bytes: 256 << 20,
            max_file_bytes: 16 << 20,
            max_entry_bytes: 4 << 20,
            max_waiting: 1024,
            observers: Observers::none(),
        }
    }

    /// Sets the limit for the lines of all entries, in bytes. Default: 256 MiB. When it is exceeded, new
    /// entries are refused as [`Full`](StoreErrorKind::Full).
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the size in bytes at which a new file is begun. Default: 16 MiB.
    pub const fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = bytes;
        self
    }

    /// Sets the longest line, in bytes. Default: 4 MiB; at most [`json::MAX_LENGTH`]. A longer entry is
    /// refused as [`TooLarge`](StoreErrorKind::TooLarge). A body takes up to twice its length; the default
    /// is enough for every entry that the layer, and a worker with jobs of 1 MiB, make with their defaults.
    pub const fn max_entry_bytes(mut self, bytes: usize) -> Self {
        self.max_entry_bytes = bytes;
        self
    }

    /// Sets the largest number of operations that wait for the thread. Default: 1024. Further ones are
    /// refused as [`Full`](StoreErrorKind::Full).
    pub const fn max_waiting(mut self, operations: usize) -> Self {
        self.max_waiting = operations;
        self
    }

    /// Adds an observer of [`Event::Trouble`]: a file that ended in the middle of a line, lines that
    /// cannot be read, a failed write, an old file that was not deleted. Default: none except `tracing`.
    ///
    /// It is called on the thread of the store, on which all operations run, and in [`open`](Self::open), so
    /// it must not block. An observer that holds the store keeps it open.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    pub(super) fn trouble(&self, what: &'static str, detail: &dyn fmt::Display) {
        self.observers.tell(|| Event::Trouble {
            part: "dead_letter",
            what,
            detail: Some(Id::new(detail)),
        });
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let invalid = |setting| Err(InvalidConfig::new(setting, "must be at least 1"));
        if self.max_file_bytes == 0 {
            return invalid("max_file_bytes");
        }
        if self.max_entry_bytes == 0 {
            return invalid("max_entry_bytes");
        }
        if self.max_waiting == 0 {
            return invalid("max_waiting");
        }
        if self.max_entry_bytes > json::MAX_LENGTH {
            return Err(InvalidConfig::new(
                "max_entry_bytes",
                "must be no more than is read again",
            ));
        }
        if u64::try_from(self.max_entry_bytes).is_ok_and(|most| most > self.max_bytes) {
            return Err(InvalidConfig::new(
                "max_bytes",
                "must be at least `max_entry_bytes`",
            ));
        }
        Ok(())
    }

    /// Opens the store at `path`, and creates the file if there is none. Reads all lines, and blocks
    /// meanwhile: call it once, at the start of the program.
    ///
    /// # Errors
    ///
    /// [`OpenDeadLettersError`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<JsonlDeadLetters, OpenDeadLettersError> {
        self.check().map_err(OpenDeadLettersError::InvalidConfig)?;
        let cannot = |error: BoxError| OpenDeadLettersError::CannotOpen {
            path: path.as_ref().to_owned(),
            source: error,
        };
        // The program may change its working directory later.
        let path = std::path::absolute(&path).map_err(|error| cannot(error.into()))?;
        if is_database(&path).map_err(|error| cannot(error.into()))? {
            return Err(cannot("it is an SQLite database".into()));
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = private(&mut options)
            .open(beside(&path, ".lock"))
            .map_err(|error| cannot(error.into()))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenDeadLettersError::Locked { path: path.clone() },
            TryLockError::Error(error) => cannot(error.into()),
        })?;

        let torn = Arc::new(AtomicU64::new(0));
        let max_waiting = self.max_waiting;
        let files = Files::new(path.clone(), &self);
        let worker =
            Worker::new(files, self, torn.clone(), lock).map_err(|error| cannot(error.into()))?;
        let (to_worker, queue) = mpsc::sync_channel(max_waiting);
        let (ending, ended) = watch::channel(());
        thread::Builder::new()
            .name("webhook-entries".to_owned())
            .spawn(move || worker.work(&queue, ending))
            .map_err(|error| cannot(error.into()))?;
        Ok(JsonlDeadLetters {
            shared: Arc::new(Shared {
                path,
                queue: RwLock::new(Some(to_worker)),
                ended,
                torn,
            }),
        })
    }
}

/// Whether the file is an SQLite database, which appending lines would damage.
fn is_database(path: &Path) -> io::Result<bool> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut file = match File::open(path) {
        Ok(file) => file.take(MAGIC.len() as u64),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut head = Vec::with_capacity(MAGIC.len());
    file.read_to_end(&mut head)?;
    Ok(head == MAGIC)
}

/// The future of a claim. If it is dropped before it returned the entry, the claim is released.
struct Claiming {
    entries: JsonlDeadLetters,
    id: EntryId,
    answered: oneshot::Receiver<Result<EntryClaim, StoreError>>,
}

impl Future for Claiming {
    type Output = Result<EntryClaim, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let closed = |_| Err(StoreError::new(StoreErrorKind::Closed));
        let answer = ready!(Pin::new(&mut self.answered).poll(cx));
        Poll::Ready(answer.unwrap_or_else(closed))
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        // The thread notices this when it answers later, and releases the entry.
        self.answered.close();
        if let Ok(Ok(EntryClaim::Claimed { token, .. })) = self.answered.try_recv() {
            // If the queue is full, the claim ends with its lease.
            let _ = self.entries.hand_over(Op::Unclaim(self.id, token));
        }
    }
}

/// A [`JsonlDeadLetters`] could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenDeadLettersError {
    /// A file cannot be created, read or repaired: its folder must exist and be writable.
    CannotOpen {
        /// The path.
        path: PathBuf,
        /// The error.
        source: BoxError,
    },
    /// A setting is invalid.
    InvalidConfig(InvalidConfig),
    /// The file is open in another process, or by another handle of this one.
    Locked {
        /// The path.
        path: PathBuf,
    },
}

impl fmt::Display for OpenDeadLettersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotOpen { path, source } => {
                write!(f, "cannot open the entries at {}: {source}", path.display())
            }
            Self::InvalidConfig(error) => error.fmt(f),
            Self::Locked { path } => write!(
                f,
                "the entries at {} are open already, in another process or by another handle",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenDeadLettersError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::CannotOpen { source, .. } => Some(&**source),
            Self::InvalidConfig(error) => Some(error),
            Self::Locked { .. } => None,
        }
    }
}
