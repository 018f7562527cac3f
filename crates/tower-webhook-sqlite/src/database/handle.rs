use super::{
    Bell, DatabaseBuilder, DatabaseError, DatabaseErrorKind, OpenError, Reply, Row, Statement,
    Transaction,
    file::{self, File, Settings},
    look::Leaps,
    operation::{Durability, Job, Operation},
    owners::{self, Owners},
    reader::Reader,
    schema,
    upkeep::{Chore, Chores},
    writer::{Queued, Writer},
};
use std::{
    fmt,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread,
    time::Instant,
};
use tokio::sync::{oneshot, watch};
use tower_webhook::{
    clock::WallClock,
    observe::{Event, Id, Observers},
};

/// A handle on one SQLite file. Clones share it.
///
/// See the [module docs](super).
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Arc<Settings>,
    /// The queues: `None` once the database is closed.
    writer: RwLock<Option<SyncSender<Queued>>>,
    reader: RwLock<Option<SyncSender<Queued>>>,
    chores: Chores,
    bell: Arc<Bell>,
    /// Its sender goes when the threads have ended.
    ended: watch::Receiver<()>,
}

impl Database {
    /// Opens the database at `path` with the default settings. Creates the file if it does not exist.
    /// See [`DatabaseBuilder::open`].
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path)
    }

    /// Whether the two are clones of one handle, whose operations can be in one transaction.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> DatabaseBuilder {
        DatabaseBuilder::default()
    }

    pub(super) fn start(with: DatabaseBuilder, path: &Path) -> Result<Self, OpenError> {
        // The program may change its working directory.
        let absolute = std::path::absolute(path).map_err(|error| OpenError::CannotOpen {
            path: path.to_owned(),
            source: error.into(),
        })?;
        let places = with.max_waiting;
        let settings = Arc::new(Settings::new(absolute, with));
        let written = File::open(&settings)?;
        let read = File::open_to_read(&settings)?;
        tell_of_open_files(&settings);

        let (to_reader, queue) = mpsc::sync_channel(places);
        let bell = Arc::new(Bell::default());
        let reader = Reader {
            settings: settings.clone(),
            file: Some(read),
            queue,
            bell: bell.clone(),
            version: None,
            looked: Instant::now(),
        };
        let (to_writer, queue) = mpsc::sync_channel(places);
        let chores = Chores::default();
        let writer = Writer {
            settings: settings.clone(),
            file: Some(written),
            chores: chores.clone(),
            owners: Owners::default(),
            bell: bell.clone(),
            queue,
            level: Durability::Durable,
            leaps: Leaps::default(),
            since_turn: 0,
            erase: false,
        };
        let (ending, ended) = watch::channel(());
        let reading = thread::Builder::new()
            .name("webhook-sqlite-r".to_owned())
            .spawn(move || reader.work())
            .map_err(|error| settings.cannot(error))?;
        thread::Builder::new()
            .name("webhook-sqlite-w".to_owned())
            .spawn(move || writer.work(reading, ending))
            .map_err(|error| settings.cannot(error))?;
        let database = Self {
            shared: Arc::new(Shared {
                settings,
                writer: RwLock::new(Some(to_writer)),
                reader: RwLock::new(Some(to_reader)),
                chores,
                bell,
                ended,
            }),
        };
        database.migrate(owners::COMPONENT, owners::STEPS)?;
        Ok(database)
    }

    /// Runs one statement that returns no rows. Returns how many rows it inserted, changed or deleted, once
    /// the change is on the disk.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`], whose [kind](DatabaseErrorKind) says what to do about it.
    pub fn execute(&self, statement: Statement) -> Reply<usize> {
        self.write(move |transaction| transaction.execute(&statement))
    }

    /// Runs a query and collects its rows. It sees every operation that had returned before the call.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`], whose [kind](DatabaseErrorKind) says what to do about it.
    pub fn query(&self, statement: Statement) -> Reply<Vec<Row>> {
        self.read(move |transaction| transaction.query(&statement))
    }

    /// Runs `work` in the writing thread: all of its statements take effect, or none. Returns once the change
    /// is on the disk.
    ///
    /// Other operations wait meanwhile: keep it short, and never wait for the network in it. If `work`
    /// returns an error or panics, it is undone.
    ///
    /// # Errors
    ///
    /// The error of `work`, or the reason why it could not be run or committed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_webhook_sqlite::database::{Database, DatabaseError, Statement};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_webhook::BoxError> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let database = Database::open(dir.path().join("write.db")).unwrap();
    /// # database.migrate("orders", &["CREATE TABLE orders (id TEXT PRIMARY KEY) STRICT; CREATE TABLE jobs (id INTEGER PRIMARY KEY, order_id TEXT) STRICT"]).unwrap();
    /// // A new order and its job, or neither; a repeat finds that there is nothing to do.
    /// let new = database.write(|transaction| {
    ///     let order = Statement::new("INSERT INTO orders (id) VALUES (?1) ON CONFLICT DO NOTHING");
    ///     let new = transaction.execute(&order.bind("order-1"))? == 1;
    ///     if new {
    ///         let job = Statement::new("INSERT INTO jobs (order_id) VALUES (?1)");
    ///         transaction.execute(&job.bind("order-1"))?;
    ///     }
    ///     Ok(new)
    /// });
    /// assert!(new.await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn write<T, F>(&self, work: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, DatabaseError> + Send + 'static,
    {
        submit(&self.shared.writer, Durability::Durable, work)
    }

    /// Like [`write`](Self::write), for a change that survives the death of the process but may be lost when
    /// the machine loses its power, such as a heartbeat or a lease. Saves the flush to disk, unless it shares
    /// a commit with an operation that needs one.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn write_relaxed<T, F>(&self, work: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, DatabaseError> + Send + 'static,
    {
        submit(&self.shared.writer, Durability::Relaxed, work)
    }

    /// Runs `work` in the reading thread. Its statements see one state of the database and cannot
    /// change it. Other reads wait meanwhile, writes do not; but the write-ahead log grows, because it
    /// cannot be checkpointed.
    ///
    /// # Errors
    ///
    /// The error of `work`, or the reason why it could not be run.
    pub fn read<T, F>(&self, work: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, DatabaseError> + Send + 'static,
    {
        submit(&self.shared.reader, Durability::Relaxed, work)
    }

    /// Migrates the tables of `component`: runs, in one transaction, the `steps` that were not run on this
    /// file yet. Their number is the version of the tables. A step is one SQL statement or several. Never
    /// change a step that was released: add another one.
    ///
    /// Blocks the thread while it runs: migrate at start. The components of this crate have names that
    /// begin with `tower-webhook/`.
    ///
    /// # Errors
    ///
    /// [`OpenError::NewerSchema`] if more steps were run on the file than there are here,
    /// [`OpenError::Locked`] if another process holds it, [`OpenError::Migration`] if a step fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_webhook_sqlite::database::{Database, OpenError};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let database = Database::open(dir.path().join("migrate.db"))?;
    /// database.migrate("orders", &[
    ///     "CREATE TABLE orders (id TEXT NOT NULL PRIMARY KEY) STRICT",
    ///     "ALTER TABLE orders ADD COLUMN paid_at INTEGER", // since the second release
    /// ])?;
    /// # Ok::<(), OpenError>(())
    /// ```
    pub fn migrate(&self, component: &str, steps: &[&str]) -> Result<(), OpenError> {
        let at = Arc::new(AtomicU32::new(0));
        let owned: Vec<String> = steps.iter().map(|&step| step.to_owned()).collect();
        let (name, reached) = (component.to_owned(), at.clone());
        let migrated = self.at_start(component, &at, move |transaction| {
            schema::migrate(transaction, &name, &owned, &reached)
        });
        match migrated? {
            None => Ok(()),
            Some(found) => Err(OpenError::NewerSchema {
                path: self.shared.settings.path.clone(),
                component: component.to_owned(),
                found,
                known: u32::try_from(steps.len()).unwrap_or(u32::MAX),
            }),
        }
    }

    /// Changes the tables of a component, which blocks the thread. An error names the version that `at` has then.
    pub(crate) fn at_start<T: Send + 'static>(
        &self,
        component: &str,
        at: &AtomicU32,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, OpenError> {
        let settings = &self.shared.settings;
        let (sender, receiver) = mpsc::sync_channel(1);
        let job = Job::new(Durability::Durable, work, move |result| {
            let _ = sender.send(result);
        });
        push(&self.shared.writer, Box::new(job));
        // Not a tokio channel: those refuse to block where an async task runs.
        let changed = receiver.recv();
        let changed =
            changed.unwrap_or_else(|_| Err(DatabaseError::new(DatabaseErrorKind::Closed)));
        let path = settings.path.clone();
        changed.map_err(|source| match source.kind() {
            DatabaseErrorKind::Busy => OpenError::Locked {
                path,
                waited: settings.with.busy_timeout,
            },
            _ => OpenError::Migration {
                path,
                component: component.to_owned(),
                version: at.load(Ordering::Relaxed),
                source,
            },
        })
    }

    /// Closes the database for all handles: refuses new operations, does those that wait, and closes
    /// the file.
    ///
    /// Dropping the last handle does the same without waiting for it: if the program ends at that moment,
    /// operations that have not returned may be lost.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the database closes all the same. May be called again.
    pub async fn close(&self) {
        for queue in [&self.shared.writer, &self.shared.reader] {
            *queue.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        let mut ended = self.shared.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.shared.settings.path
    }

    pub(crate) fn clock(&self) -> &WallClock {
        &self.shared.settings.with.clock
    }

    /// The observers of the file, and of everything that is stored in it.
    pub(crate) fn observers(&self) -> &Observers {
        &self.shared.settings.with.observers
    }

    pub(crate) fn add_chore(&self, chore: Arc<dyn Chore>) {
        self.shared.chores.add(chore);
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.shared.bell
    }

    /// Queues an operation for the writing thread, or finishes it with the error.
    pub(crate) fn operate(&self, operation: Box<dyn Operation>) {
        push(&self.shared.writer, operation);
    }
}

/// A new file is its owner's alone. An older one may have been made by something else.
fn tell_of_open_files(settings: &Settings) {
    for open in file::open_to_all(&settings.path) {
        let detail = format!("chmod o-rwx '{}'", open.display());
        settings.with.observers.tell(|| Event::Trouble {
            part: "sqlite",
            what: "every user of this machine can read or write the file; take that away",
            detail: Some(Id::new(&detail)),
        });
    }
}

fn submit<T, F>(
    queue: &RwLock<Option<SyncSender<Queued>>>,
    durability: Durability,
    work: F,
) -> Reply<T>
where
    T: Send + 'static,
    F: FnOnce(&Transaction<'_>) -> Result<T, DatabaseError> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let reply = move |result| {
        // The caller has dropped the future; the operation is done all the same.
        let _ = sender.send(result);
    };
    push(queue, Box::new(Job::new(durability, work, reply)));
    Reply::new(receiver)
}

fn push(queue: &RwLock<Option<SyncSender<Queued>>>, operation: Queued) {
    let refused = match &*queue.read().unwrap_or_else(PoisonError::into_inner) {
        Some(queue) => queue.try_send(operation),
        None => Err(TrySendError::Disconnected(operation)),
    };
    let (operation, kind) = match refused {
        Ok(()) => return,
        Err(TrySendError::Full(operation)) => (operation, DatabaseErrorKind::Full),
        Err(TrySendError::Disconnected(operation)) => (operation, DatabaseErrorKind::Closed),
    };
    operation.finish(Err(DatabaseError::new(kind)));
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.path())
            .field("chores", &self.shared.chores)
            .finish_non_exhaustive()
    }
}
