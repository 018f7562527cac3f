use super::{
    JsonlDeadLetters, OpenDeadLettersError, Shared,
    files::{Files, beside, private},
    worker::Worker,
};
use crate::{BoxError, InvalidConfig};
use std::{
    fs::{OpenOptions, TryLockError},
    io::{ErrorKind, Read},
    path::Path,
    sync::{Arc, RwLock, atomic::AtomicU64, mpsc},
    thread,
};
use tokio::sync::watch;

/// Settings of [`JsonlDeadLetters`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct JsonlDeadLettersBuilder {
    pub(super) max_bytes: u64,
    pub(super) max_file_bytes: u64,
    pub(super) max_entry_bytes: usize,
    max_waiting: usize,
}

impl JsonlDeadLettersBuilder {
    pub(super) const fn new() -> Self {
        Self {
            max_bytes: 256 << 20,
            max_file_bytes: 16 << 20,
            max_entry_bytes: 4 << 20,
            max_waiting: 1024,
        }
    }

    /// The most bytes of lines of entries that are there: beyond it, new ones are refused as
    /// [`Full`](crate::StoreErrorKind::Full). Default: 256 MiB.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The size at which a new file is begun. Default: 16 MiB.
    pub const fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = bytes;
        self
    }

    /// The longest line: a longer entry is refused as [`TooLarge`](crate::StoreErrorKind::TooLarge). A
    /// body takes up to twice its length, where it is text of quotes and line breaks. Default: 4 MiB,
    /// which is room for every entry that the layer, and a worker whose jobs have 1 MiB, make with
    /// their defaults; the most: [`json::MAX_LENGTH`](crate::dead_letter::json::MAX_LENGTH).
    pub const fn max_entry_bytes(mut self, bytes: usize) -> Self {
        self.max_entry_bytes = bytes;
        self
    }

    /// The most operations that wait for the thread; others are refused as
    /// [`Full`](crate::StoreErrorKind::Full). Default: 1024.
    pub const fn max_waiting(mut self, operations: usize) -> Self {
        self.max_waiting = operations;
        self
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
        if self.max_entry_bytes > crate::dead_letter::json::MAX_LENGTH {
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

    /// Opens the entries at `path`, and makes the file where there is none. Reads everything that
    /// is there: do it once, before the work begins.
    ///
    /// # Errors
    ///
    /// [`OpenDeadLettersError`] says why and what to do.
    pub fn open(self, path: impl AsRef<Path>) -> Result<JsonlDeadLetters, OpenDeadLettersError> {
        self.check().map_err(OpenDeadLettersError::InvalidConfig)?;
        let cannot = |error: BoxError| OpenDeadLettersError::CannotOpen {
            path: path.as_ref().to_owned(),
            source: error,
        };
        // The program may change its folder; the file does not move with it.
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
        let files = Files::new(path.clone(), &self);
        let worker =
            Worker::new(files, self, torn.clone(), lock).map_err(|error| cannot(error.into()))?;
        let (to_worker, queue) = mpsc::sync_channel(self.max_waiting);
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

/// Whether the file is what a slip of the hand may well name, and what writing into would ruin.
fn is_database(path: &Path) -> std::io::Result<bool> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file.take(MAGIC.len() as u64),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut head = Vec::with_capacity(MAGIC.len());
    file.read_to_end(&mut head)?;
    Ok(head == MAGIC)
}
