//! A store of entries in memory, with a journal in a file.

mod journal;
mod line;
mod worker;

use self::{
    journal::{Journal, beside, open},
    worker::{Decided, Op, Worker, failed},
};
use super::{
    Discarded, Entry, EntryClaim, EntryId, Filter, LetterStore, Listing, Page, Sink, json,
    state::{self, Change},
};
use crate::{
    BoxError, BoxFuture, InvalidConfig, StoreError, StoreErrorKind,
    lease::{FencingToken, Settled},
    observe::{Event, Id, Observer, Observers},
};
use std::{
    fmt,
    fs::{File, TryLockError},
    io::{self, ErrorKind, Read},
    mem,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// A dead-letter store in memory with a journal in a file, one line for each change: for one process, without a
/// database, readable with `jq`. Clones share it.
///
/// A line is an entry in its [JSON form](json) with the additional member `place`, which orders lists. An
/// entry that is written again or released has a new line, and the last line is current. Two other
/// kinds of lines record a claim, `{"schemaVersion":1,"claimed":ID,"replays":N}`, of which the last one is
/// current, and a removal, `{"schemaVersion":1,"removed":ID}`, after which no line of this entry is
/// written any more.
///
/// # Guarantees
///
/// - An operation returns after `fdatasync` of its line. Operations that wait at the same time share one.
/// - A write that fails leaves no part of a line behind. On a full disk it fails with
///   [`StoreErrorKind::Full`]; writes succeed again once there is room. Claims, releases and removals are
///   lines too, and fail in the same way: an entry that was sent again and accepted then cannot be removed,
///   and may be sent once more when its claim ends. Do not re-drive entries while the disk is full.
/// - If the file ends in the middle of a line, that part is moved to `PATH.damaged`, reported to
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
/// Lines are appended to `PATH`. When more than half of its bytes, and a 64th of
/// [`max_bytes`](JsonlDeadLettersBuilder::max_bytes), are no longer current, the current lines are written to
/// `PATH.snapshot`, which then replaces it. Operations wait meanwhile. Only removed entries are deleted: when the
/// entries exceed `max_bytes`, a new one is refused as `Full`. The file takes up to about twice that, and with the
/// snapshot three times. Files `PATH.0000000001` and so on, which an earlier release made, are added to `PATH` when it
/// is opened.
///
/// What is removed or discarded is not erased at once: its lines stay in the file, for its owner to read, until
/// the file is replaced as above, which may be never in a store with little traffic. Where an entry must be erased,
/// redact what is written (see [`redaction`](super::Redaction)), or keep the files on a disk that is encrypted.
///
/// `PATH.lock` is locked while the store is open: a second process, or a second handle, is refused. Do
/// not rotate the file yourself. If it is moved, replaced or cut while it is open, the store notices
/// at its next operation and reads everything again; entries that were taken away are lost.
///
/// Claims are held in memory, because only one process has the file open; the file records their number.
/// Leases are measured by the monotonic clock of the system.
///
/// # Cancel safety
///
/// A separate thread reads and writes the file, so that a dropped future cannot cut a line, and no
/// runtime thread waits for a disk. An operation that was begun is completed. The exception is a claim
/// whose future is dropped before it returned the entry: it is released and does not count.
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
    abandoned: Abandoned,
}

/// Claims that nobody got.
type Abandoned = Arc<Mutex<Vec<(EntryId, FencingToken)>>>;

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// How many times the file ended in the middle of a line, when the store was opened or later: a crash
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

    /// Has the thread decide on an operation.
    fn ask<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Worker, Duration) -> Decided<T> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.hand_over(Box::new(move |worker| {
            let answer = |result| drop(answer.send(result));
            match worker {
                Ok(worker) => worker.serve(decide, answer),
                Err(error) => answer(Err(failed(error))),
            }
        }));
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
        let entry = Arc::clone(entry);
        self.ask(move |worker, _| {
            let known = worker.is_known(entry.id).is_ok();
            Ok(((), known.then(|| worker.state.write(&entry)).flatten()))
        })
    }
}

impl LetterStore for JsonlDeadLetters {
    fn list(&self, filter: &Filter, page: &Page) -> BoxFuture<Result<Listing, StoreError>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.ask(move |worker, now| Ok((worker.list(&filter, &page, now), None)))
    }

    fn get(&self, id: EntryId) -> BoxFuture<Result<Option<Entry>, StoreError>> {
        self.ask(move |worker, _| {
            worker.is_known(id)?;
            Ok((worker.state.get(id), None))
        })
    }

    fn claim(
        &self,
        id: EntryId,
        lease: Duration,
        max_replays: u32,
    ) -> BoxFuture<Result<EntryClaim, StoreError>> {
        let entries = self.clone();
        let asked = self.ask(move |worker, now| {
            worker.is_known(id)?;
            let (claim, change) = worker.state.claim(id, lease, max_replays, now);
            Ok((Lent { entries, claim }, change))
        });
        Box::pin(async move { Ok(asked.await?.kept()) })
    }

    fn renew(
        &self,
        id: EntryId,
        token: FencingToken,
        lease: Duration,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        self.ask(move |worker, now| Ok((worker.state.renew(id, token, lease, now), None)))
    }

    /// May exceed the limit of bytes by the growth of the entry. If the entry has become longer than a line
    /// may be, the release fails as `TooLarge`, and the claim ends with its lease.
    fn release(
        &self,
        token: FencingToken,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        let entry = Arc::clone(entry);
        self.ask(move |worker, _| Ok(worker.state.release(token, entry)))
    }

    fn remove(&self, id: EntryId, token: FencingToken) -> BoxFuture<Result<Settled, StoreError>> {
        self.ask(move |worker, _| Ok(worker.state.remove(id, token)))
    }

    fn discard(&self, id: EntryId) -> BoxFuture<Result<Discarded, StoreError>> {
        self.ask(move |worker, now| {
            Ok(match worker.is_known(id) {
                Err(_) => (Discarded::Done, Some(Change::Remove(id))),
                Ok(()) => worker.state.discard(id, now),
            })
        })
    }

    fn count(&self, filter: &Filter) -> BoxFuture<Result<u64, StoreError>> {
        let filter = filter.clone();
        self.ask(move |worker, now| {
            let glance = |before| worker.state.glance(before, now);
            Ok((state::count(&filter, glance), None))
        })
    }
}

/// The answer to a claim. If nobody takes it, the entry is released.
struct Lent {
    entries: JsonlDeadLetters,
    claim: EntryClaim,
}

impl Lent {
    fn kept(mut self) -> EntryClaim {
        mem::replace(&mut self.claim, EntryClaim::Missing)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let EntryClaim::Claimed { token, entry } = &self.claim {
            let shared = &self.entries.shared;
            lock(&shared.abandoned).push((entry.id, *token));
            // Wakes the thread. If too many operations wait, it is awake.
            let _ = self.entries.hand_over(Box::new(|_| ()));
        }
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
    max_bytes: u64,
    max_entry_bytes: usize,
    max_waiting: usize,
    observers: Observers,
}

impl JsonlDeadLettersBuilder {
    const fn new() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_entry_bytes: 4 << 20,
            max_waiting: 1024,
            observers: Observers::none(),
        }
    }

    /// Sets the limit for the lines of all entries, in bytes. Default: 64 MiB. When it is exceeded, new
    /// entries are refused as [`Full`](StoreErrorKind::Full). The entries are also in memory, where they take about as
    /// much, and a snapshot of all of them makes operations wait: up to a second for 100 MiB.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
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
    /// cannot be read, a failed write, a file that could not be replaced by a shorter one. Default: none except `tracing`.
    ///
    /// It is called on the thread of the store, on which all operations run, and in [`open`](Self::open), so
    /// it must not block. An observer that holds the store keeps it open.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    fn trouble(&self, what: &'static str, detail: &dyn fmt::Display) {
        self.observers.tell(|| Event::Trouble {
            part: "dead_letter",
            what,
            detail: Some(Id::new(detail)),
        });
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let invalid = |setting| Err(InvalidConfig::new(setting, "must be at least 1"));
        if self.max_entry_bytes == 0 {
            return invalid("max_entry_bytes");
        }
        if self.max_waiting == 0 {
            return invalid("max_waiting");
        }
        if self.max_entry_bytes > json::MAX_LENGTH {
            return Err(InvalidConfig::new(
                "max_entry_bytes",
                format!("must be at most {}", json::MAX_LENGTH),
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
        let lock = open(&beside(&path, ".lock")).map_err(|error| cannot(error.into()))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenDeadLettersError::Locked { path: path.clone() },
            TryLockError::Error(error) => cannot(error.into()),
        })?;

        let (torn, abandoned) = (Arc::default(), Abandoned::default());
        let max_waiting = self.max_waiting;
        let journal = Journal::new(path.clone(), lock);
        let worker = Worker::new(journal, self, Arc::clone(&torn), Arc::clone(&abandoned));
        let worker = worker.map_err(|error| cannot(error.into()))?;
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
                abandoned,
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
                write!(
                    f,
                    "cannot open the dead letters at {}: {source}",
                    path.display()
                )?;
                let folder = path.parent().unwrap_or(path).display();
                match source.downcast_ref().map(io::Error::kind) {
                    Some(ErrorKind::NotFound) => write!(f, ": make its folder {folder} first"),
                    Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => write!(
                        f,
                        ": give this user the right to write the file and its folder {folder}"
                    ),
                    _ => Ok(()),
                }
            }
            Self::InvalidConfig(error) => error.fmt(f),
            Self::Locked { path } => write!(
                f,
                "the dead letters at {} are open already, in another process or by another handle: end it, or choose another file",
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
