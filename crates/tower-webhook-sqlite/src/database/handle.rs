use super::{
    Bell, DatabaseBuilder, DatabaseError, DatabaseErrorKind, OpenError, Reply, Row, Statement,
    Transaction,
    file::{File, Settings},
    operation::{Durability, Job, Operation},
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
use tower_webhook::clock::WallClock;

/// A handle on one SQLite file. Clones share it.
///
/// See the [module docs](super) for how it works and what it promises.
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
    /// Opens the database at `path` with the default settings, and makes it when the file does not
    /// exist. See [`DatabaseBuilder::open`].
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(path)
    }

    /// Settings, all with defaults.
    pub fn builder() -> DatabaseBuilder {
        DatabaseBuilder::default()
    }

    pub(super) fn start(with: DatabaseBuilder, path: &Path) -> Result<Self, OpenError> {
        // The program may change its folder; the file does not move with it.
        let absolute = std::path::absolute(path).map_err(|error| OpenError::CannotOpen {
            path: path.to_owned(),
            source: error.into(),
        })?;
        let places = with.max_waiting;
        let settings = Arc::new(Settings::new(absolute, with));
        let written = File::open(&settings)?;
        let read = File::open_to_read(&settings)?;

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
            bell: bell.clone(),
            queue,
            level: Durability::Durable,
            since_turn: 0,
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
        Ok(Self {
            shared: Arc::new(Shared {
                settings,
                writer: RwLock::new(Some(to_writer)),
                reader: RwLock::new(Some(to_reader)),
                chores,
                bell,
                ended,
            }),
        })
    }

    /// Runs one statement that gives no rows, and returns how many rows it inserted, changed or
    /// deleted. On the disk when it is answered.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`], whose [kind](DatabaseErrorKind) says what to do about it.
    pub fn execute(&self, statement: Statement) -> Reply<usize> {
        self.write(move |transaction| transaction.execute(&statement))
    }

    /// Runs a query and collects its rows. It sees everything that was answered before it was
    /// called.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`], whose [kind](DatabaseErrorKind) says what to do about it.
    pub fn query(&self, statement: Statement) -> Reply<Vec<Row>> {
        self.read(move |transaction| transaction.query(&statement))
    }

    /// Runs `work` in the writing thread: several statements that are done together or not at
    /// all. On the disk when it is answered.
    ///
    /// Other operations wait meanwhile: keep it short, and away from the network. When `work`
    /// returns an error or panics, what it did is undone.
    ///
    /// # Errors
    ///
    /// The error of `work`, and [`DatabaseError`] when it could not be run or committed.
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

    /// [`write`](Self::write) for what may be lost when the machine loses its power, though not
    /// when the process dies: a heartbeat, a lease. Spares the flush to disk, unless it shares a
    /// commit with an operation that needs one.
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

    /// Runs `work` in the reading thread. Its statements see one state of the database, and
    /// cannot change it. It holds up other reads, and no write; but while it runs the log cannot
    /// be folded into the file, and grows.
    ///
    /// # Errors
    ///
    /// The error of `work`, and [`DatabaseError`] when it could not be run.
    pub fn read<T, F>(&self, work: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, DatabaseError> + Send + 'static,
    {
        submit(&self.shared.reader, Durability::Relaxed, work)
    }

    /// Brings the tables of `component` to their newest version, which is the number of `steps`:
    /// runs, in one transaction, those that the file has not seen. A step is SQL, one statement or
    /// many; once released it is never changed, only followed by another.
    ///
    /// Blocks the thread while it runs: migrate at start. Components of this crate have names that
    /// begin with `tower-webhook/`.
    ///
    /// # Errors
    ///
    /// [`OpenError::NewerSchema`] when the file has seen more steps than there are,
    /// [`OpenError::Locked`] when another process holds it, [`OpenError::Migration`] when a step
    /// fails.
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
        let settings = &self.shared.settings;
        let at = Arc::new(AtomicU32::new(0));
        let (sender, receiver) = mpsc::sync_channel(1);
        let owned: Vec<String> = steps.iter().map(|&step| step.to_owned()).collect();
        let (name, reached) = (component.to_owned(), at.clone());
        let job = Job::new(
            Durability::Durable,
            move |transaction: &Transaction<'_>| {
                schema::migrate(transaction, &name, &owned, &reached)
            },
            move |result| {
                let _ = sender.send(result);
            },
        );
        push(&self.shared.writer, Box::new(job));
        // Not a tokio channel: those refuse to block where an async task runs.
        let migrated = receiver.recv();
        let migrated =
            migrated.unwrap_or_else(|_| Err(DatabaseError::new(DatabaseErrorKind::Closed)));
        let path = settings.path.clone();
        match migrated {
            Ok(None) => Ok(()),
            Ok(Some(found)) => Err(OpenError::NewerSchema {
                path,
                component: component.to_owned(),
                found,
                known: u32::try_from(steps.len()).unwrap_or(u32::MAX),
            }),
            Err(error) if error.kind() == DatabaseErrorKind::Busy => Err(OpenError::Locked {
                path,
                waited: settings.with.busy_timeout,
            }),
            Err(source) => Err(OpenError::Migration {
                path,
                component: component.to_owned(),
                version: at.load(Ordering::Relaxed),
                source,
            }),
        }
    }

    /// Accepts nothing more, from this handle or its clones, and waits until everything accepted
    /// is done and the file is closed.
    ///
    /// Dropping the last handle does the same, and waits for nothing: a program that ends right
    /// after it may cut off operations whose answer nobody saw.
    ///
    /// # Cancel safety
    ///
    /// The database closes, whether or not somebody waits for it. May be called again.
    pub async fn close(&self) {
        for queue in [&self.shared.writer, &self.shared.reader] {
            *queue.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        let mut ended = self.shared.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.settings.path
    }

    pub(crate) fn clock(&self) -> &WallClock {
        &self.shared.settings.with.clock
    }

    pub(crate) fn add_chore(&self, chore: Arc<dyn Chore>) {
        self.shared.chores.add(chore);
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.shared.bell
    }

    /// Hands an operation to the writing thread, or finishes it with what is in the way.
    pub(crate) fn operate(&self, operation: Box<dyn Operation>) {
        push(&self.shared.writer, operation);
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
        // Nobody listens: the operation is done all the same.
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
