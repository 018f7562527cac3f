//! The thread that writes.
//!
//! It takes what is waiting and commits it as one. While a commit waits for the disk, arrivals
//! queue and become the next group: the slower the disk, the larger the groups, without a timer. Callers that were
//! answered together come back one by one: for as many as there were, the next group waits for an eighth of the time
//! that the last commit took, so that they do not become two groups.

use super::{
    DatabaseError, DatabaseErrorKind, Transaction,
    bell::Bell,
    file::{File, Settings},
    look::{Leaps, Look},
    operation::{Durability, Operation},
    owners::Owners,
    upkeep::Chores,
};
use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tower_webhook::observe::{Event, Id};

pub(super) type Queued = Box<dyn Operation>;

/// The longest that a group waits for others.
const LONGEST_PATIENCE: Duration = Duration::from_micros(500);
/// After this idle time, the thread runs the chores.
const IDLE: Duration = Duration::from_secs(1);
/// After this many operations, the chores run between two groups.
const TURN: usize = 64;
/// How many rows a chore removes at a time. Well above `TURN`, so that rows are removed faster than
/// they are added.
const TURN_ROWS: usize = 2 * TURN + TURN;

pub(super) struct Writer {
    pub(super) settings: Arc<Settings>,
    /// `None` after it failed or was replaced, until it is opened again.
    pub(super) file: Option<File>,
    pub(super) chores: Chores,
    pub(super) owners: Owners,
    pub(super) bell: Arc<Bell>,
    pub(super) queue: Receiver<Queued>,
    /// Whether commits wait for the disk now.
    pub(super) level: Durability,
    pub(super) leaps: Leaps,
    /// Operations since the last turn of the chores.
    pub(super) since_turn: usize,
    /// Whether the log holds what was deleted for good.
    pub(super) erase: bool,
}

impl Writer {
    /// Works until the last handle is gone and every queued operation is done. Dropping `ended` wakes
    /// those who wait for that.
    pub(super) fn work(mut self, reader: JoinHandle<()>, ended: watch::Sender<()>) {
        let mut group = VecDeque::new();
        let (mut before, mut patience) = (0, Duration::ZERO);
        loop {
            match self.queue.recv_timeout(IDLE) {
                Ok(first) => group.push_back(first),
                Err(RecvTimeoutError::Timeout) => match self.tidy() {
                    Some(first) => group.push_back(first),
                    None => continue,
                },
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let began = Instant::now();
            while group.len() < self.settings.with.max_per_commit {
                match self.queue.try_recv() {
                    Ok(next) => group.push_back(next),
                    Err(TryRecvError::Empty)
                        if group.len() < before && began.elapsed() < patience =>
                    {
                        std::thread::yield_now();
                    }
                    Err(_) => break,
                }
            }
            before = group.len();
            self.since_turn += before;
            let began = Instant::now();
            // First, so that a claim finds what it ends.
            if let Some(change) = self.look_at_owners() {
                group.push_front(change);
            }
            while !group.is_empty() {
                self.commit(&mut group);
            }
            patience = (began.elapsed() / 8).min(LONGEST_PATIENCE);
            if self.since_turn >= TURN {
                self.since_turn = 0;
                self.sweep();
                self.empty_log();
            }
        }
        // The last connection to close checkpoints the log, which a read-only one cannot.
        let _ = reader.join();
        self.file = None;
        // Before somebody is told that it is closed.
        drop((self.owners, ended));
    }

    fn look_at_owners(&mut self) -> Option<Queued> {
        let connection = &self.file.as_ref()?.connection;
        self.owners.look(&self.settings, connection, &self.chores)
    }

    /// Runs one transaction. Takes operations from the front of `group` until it is empty or one of
    /// them has ended the transaction, and answers those that it took.
    fn commit(&mut self, group: &mut VecDeque<Queued>) {
        let mut done = Vec::with_capacity(group.len());
        let committed = self.run(group, &mut done);
        if let Err(error) = &committed {
            self.tell("a commit failed", error);
            let stuck = |file: &File| !file.connection.is_autocommit();
            if lost(error.kind()) || self.file.as_ref().is_some_and(stuck) {
                self.file = None;
            }
        }
        for (operation, result) in done {
            finish(
                operation,
                match &committed {
                    Ok(()) => result,
                    Err(error) => result.and(Err(error.clone())),
                },
            );
        }
    }

    fn run(
        &mut self,
        group: &mut VecDeque<Queued>,
        done: &mut Vec<(Queued, Result<(), DatabaseError>)>,
    ) -> Result<(), DatabaseError> {
        let durable = group
            .iter()
            .any(|operation| operation.durability() == Durability::Durable);
        let level = if durable {
            Durability::Durable
        } else {
            Durability::Relaxed
        };
        let begun = self.begin(level, self.settings.with.busy_timeout);
        let (look, file) = match (begun, &self.file) {
            (Ok(look), Some(file)) => (look, file),
            (begun, _) => {
                done.extend(group.drain(..).map(|operation| (operation, Ok(()))));
                return begun.and(Err(DatabaseError::new(DatabaseErrorKind::Unavailable)));
            }
        };
        let transaction = transaction(file, &self.settings, look, &self.leaps, self.owners.own());
        while let Some(mut operation) = group.pop_front() {
            let result = apart(&transaction, &mut *operation);
            let kind = result.as_ref().err().map(DatabaseError::kind);
            done.push((operation, result));
            if file.connection.is_autocommit() {
                // Some errors (a full disk, `ON CONFLICT ROLLBACK`) end the whole transaction. The operations
                // that have not run yet get a new one.
                let kind = kind.unwrap_or(DatabaseErrorKind::Aborted);
                return Err(DatabaseError::caused(
                    kind,
                    "the transaction was rolled back",
                ));
            }
        }
        let committed = transaction
            .write_numbers()
            .and_then(|()| file.connection.prepare_cached("COMMIT"))
            .and_then(|mut commit| commit.execute([]));
        if let Err(error) = committed {
            roll_back(file);
            return Err(DatabaseError::from_driver(error));
        }
        self.erase |= transaction.erases();
        let rings = transaction.rings();
        if let Err(error) = file.in_place(&self.settings) {
            self.file = None;
            return Err(error);
        }
        self.leaps.committed(look);
        if rings {
            self.bell.ring();
        }
        Ok(())
    }

    /// Empties the log if it holds what was deleted for good. If somebody reads, later.
    fn empty_log(&mut self) {
        if let Some(file) = &self.file
            && self.erase
        {
            // An error of the file is told by the next commit.
            self.erase = !file.empty_log(&self.settings).unwrap_or(false);
        }
    }

    /// Begins a transaction, and opens the file again where it must be. Returns the time of the transaction, to be
    /// kept once it is committed.
    fn begin(&mut self, level: Durability, patience: Duration) -> Result<Look, DatabaseError> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = none.insert(File::open_again(&self.settings)?);
                self.owners.forget();
                self.level = Durability::Durable;
                file
            }
        };
        let begun = if level == self.level {
            Ok(())
        } else if level == Durability::Durable {
            file.flush_on_commit()
        } else {
            file.flush_later()
        };
        begun
            .and_then(|()| {
                self.level = level;
                file.begin(&self.settings, patience)
            })
            .map_err(DatabaseError::from_driver)?;
        let looked = caught(|| self.look());
        looked.unwrap_or_else(|| {
            if let Some(file) = &self.file {
                roll_back(file);
            }
            Err(clock_panicked())
        })
    }

    /// Looks at the clock, and has the chores follow if it leapt. Where they fail, this transaction goes by the time
    /// that has passed, and the next one tries again.
    fn look(&self) -> Result<Look, DatabaseError> {
        let look = Look::new(&self.settings.with.clock);
        let (Some(leap), Some(file)) = (self.leaps.leap(look), &self.file) else {
            return Ok(look);
        };
        for chore in self.chores.list() {
            if let Err(error) = chore.leapt(&file.connection, leap) {
                let error = DatabaseError::from_driver(error);
                // Some errors end the whole transaction.
                if file.connection.is_autocommit() {
                    return Err(error);
                }
                self.tell("a chore failed", &error);
                return Ok(look.without(leap));
            }
        }
        Ok(look)
    }

    /// Runs the chores of an idle database, until they are done or an operation arrives.
    fn tidy(&mut self) -> Option<Queued> {
        // First, so that no chore finds a lease over that is to be granted again.
        let change = self.look_at_owners();
        if change.is_some() {
            return change;
        }
        while self.sweep() {
            if let Ok(operation) = self.queue.try_recv() {
                return Some(operation);
            }
        }
        self.empty_log();
        None
    }

    /// Runs each chore once. `true` if there is more to do.
    fn sweep(&mut self) -> bool {
        let mut more = false;
        for chore in self.chores.list() {
            let due = match &self.file {
                Some(file) => {
                    let due = caught(|| chore.due(&file.connection));
                    matches!(due, Some(Ok(true)))
                }
                None => false,
            };
            // A sweep that is lost with the power is repeated. It does not wait for another process
            // that holds the file.
            if !due {
                continue;
            }
            let Ok(look) = self.begin(Durability::Relaxed, Duration::ZERO) else {
                continue;
            };
            let Some(file) = &self.file else { continue };
            let transaction =
                transaction(file, &self.settings, look, &self.leaps, self.owners.own());
            let swept = caught(|| chore.sweep(&transaction, TURN_ROWS)).map_or_else(
                || Err(clock_panicked()),
                |swept| {
                    swept
                        .and_then(|rows| {
                            transaction.write_numbers()?;
                            file.connection.execute_batch("COMMIT").map(|()| rows)
                        })
                        .map_err(DatabaseError::from_driver)
                },
            );
            match swept {
                Ok(rows) => {
                    self.leaps.committed(look);
                    more |= rows == TURN_ROWS;
                }
                Err(error) => {
                    self.tell("a chore failed", &error);
                    roll_back(file);
                    if lost(error.kind()) {
                        self.file = None;
                    }
                }
            }
        }
        more
    }

    /// The driver's error names tables and columns, never a value.
    fn tell(&self, what: &'static str, error: &DatabaseError) {
        let error = WithSource(error);
        self.settings.with.observers.tell(|| Event::Trouble {
            part: "sqlite",
            what,
            detail: Some(Id::new(&error)),
        });
    }
}

const fn transaction<'a>(
    file: &'a File,
    settings: &'a Settings,
    look: Look,
    leaps: &'a Leaps,
    owner: Option<i64>,
) -> Transaction<'a> {
    Transaction::new(
        &file.connection,
        settings.with.max_rows,
        &settings.with.clock,
        look,
        leaps,
        owner,
    )
}

/// Runs an operation so that its error or panic undoes what it did, and nothing else.
pub(super) fn apart(
    transaction: &Transaction<'_>,
    operation: &mut dyn Operation,
) -> Result<(), DatabaseError> {
    let connection = transaction.connection();
    let step = |sql| {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map(drop)
            .map_err(DatabaseError::from_driver)
    };
    step("SAVEPOINT operation")?;
    let tally = transaction.tally();
    let result = caught(|| operation.run(transaction))
        .unwrap_or_else(|| Err(DatabaseError::new(DatabaseErrorKind::Panicked)));
    if connection.is_autocommit() {
        return result;
    }
    if result.is_err() {
        step("ROLLBACK TO operation")?;
        transaction.put_back(tally);
    }
    step("RELEASE operation")?;
    result
}

/// Answers an operation. What it drops (a result that nobody waits for, a closure that has not run) is foreign code,
/// whose panic harms no other operation.
pub(super) fn finish(operation: Queued, outcome: Result<(), DatabaseError>) {
    let _ = caught(|| operation.finish(outcome));
}

/// Runs code that calls foreign code. `None` if that panics: the thread goes on.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Unwind safety: what `work` changed in the file is rolled back, and in memory it changes nothing before it
    // calls foreign code.
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|thrown| {
            // Its `Drop` may panic too.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(thrown)));
        })
        .ok()
}

/// Nothing else that is foreign runs outside of an operation.
pub(super) fn clock_panicked() -> DatabaseError {
    DatabaseError::caused(DatabaseErrorKind::Panicked, "the clock panicked")
}

pub(super) fn roll_back(file: &File) {
    if !file.connection.is_autocommit() {
        // It fails only if the transaction has ended already.
        let _ = file.connection.execute_batch("ROLLBACK");
    }
}

/// Whether opening the file again may help.
pub(super) const fn lost(kind: DatabaseErrorKind) -> bool {
    matches!(
        kind,
        DatabaseErrorKind::Corrupt | DatabaseErrorKind::ReadOnly | DatabaseErrorKind::Unavailable
    )
}

struct WithSource<'a>(&'a DatabaseError);

impl fmt::Display for WithSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match std::error::Error::source(self.0) {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}
