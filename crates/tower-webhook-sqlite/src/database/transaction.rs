use super::{
    DatabaseError, DatabaseErrorKind, Row, Statement,
    look::{Leaps, Look},
    value::{Bound, Value},
};
use rusqlite::{CachedStatement, Connection};
use std::{cell::Cell, fmt, sync::Arc, time::Duration};
use tower_webhook::clock::WallClock;

/// Access to the database within an operation, which shares its transaction with others.
///
/// If an operation returns an error or panics, it alone is undone.
pub struct Transaction<'a> {
    connection: &'a Connection,
    max_rows: usize,
    clock: &'a WallClock,
    begun: Look,
    leaps: &'a Leaps,
    owner: Cell<Option<i64>>,
    tally: Cell<Option<Tally>>,
    rings: Cell<bool>,
    erases: Cell<bool>,
}

/// Numbers that are read once in a transaction, change in memory with each of its operations, and are written once,
/// before the commit.
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    written: Numbers,
    now: Numbers,
    write: Write,
}

pub(crate) type Numbers = [i64; 9];
type Write = fn(&Connection, &Numbers) -> rusqlite::Result<()>;

impl<'a> Transaction<'a> {
    pub(super) const fn new(
        connection: &'a Connection,
        max_rows: usize,
        clock: &'a WallClock,
        begun: Look,
        leaps: &'a Leaps,
        owner: Option<i64>,
    ) -> Self {
        Self {
            connection,
            max_rows,
            clock,
            begun,
            leaps,
            owner: Cell::new(owner),
            tally: Cell::new(None),
            rings: Cell::new(false),
            erases: Cell::new(false),
        }
    }

    /// Runs a statement that returns no rows. Returns how many rows it inserted, changed or deleted.
    ///
    /// # Errors
    ///
    /// [`DatabaseErrorKind::Invalid`] if the SQL is invalid or returns rows,
    /// [`Constraint`](DatabaseErrorKind::Constraint) if a constraint is violated, and the errors of
    /// the file.
    pub fn execute(&self, statement: &Statement) -> Result<usize, DatabaseError> {
        self.prepare(statement)?
            .raw_execute()
            .map_err(DatabaseError::from_driver)
    }

    /// Runs a `SELECT`, or a statement with `RETURNING`, and collects its rows.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), and [`DatabaseErrorKind::TooManyRows`].
    pub fn query(&self, statement: &Statement) -> Result<Vec<Row>, DatabaseError> {
        let mut prepared = self.prepare(statement)?;
        // A list in the oldest release of the driver that will do, an iterator in the newest.
        #[allow(clippy::useless_conversion)]
        let columns: Arc<[Box<str>]> = prepared.column_names().into_iter().map(Box::from).collect();
        let mut cursor = prepared.raw_query();
        let mut rows = Vec::new();
        while let Some(row) = cursor.next().map_err(DatabaseError::from_driver)? {
            if rows.len() == self.max_rows {
                return Err(DatabaseError::new(DatabaseErrorKind::TooManyRows));
            }
            let values: rusqlite::Result<Box<[Value]>> = (0..columns.len())
                .map(|at| row.get_ref(at).and_then(Value::read))
                .collect();
            let values = values.map_err(DatabaseError::from_driver)?;
            rows.push(Row::new(columns.clone(), values));
        }
        Ok(rows)
    }

    /// Runs a query and returns its first row, if any.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn query_one(&self, statement: &Statement) -> Result<Option<Row>, DatabaseError> {
        Ok(self.query(statement)?.into_iter().next())
    }

    pub(crate) const fn connection(&self) -> &'a Connection {
        self.connection
    }

    pub(crate) const fn clock(&self) -> &'a WallClock {
        self.clock
    }

    /// The time, in milliseconds since 1970. It does not leap within a transaction.
    pub(crate) fn now(&self) -> i64 {
        self.begun.later(self.clock)
    }

    /// The time since `then`, without what the clock leapt meanwhile as far as this handle has seen it.
    pub(crate) fn age(&self, then: i64) -> Duration {
        let leapt = self.leaps.since(then, self.begun);
        let age = self.now().saturating_sub(then).saturating_sub(leapt);
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    }

    /// The owner of the claims that are made here: to be stored with them. `None` if others cannot tell when this
    /// process is gone; then a claim lasts as long as its lease.
    pub(crate) const fn owner(&self) -> Option<i64> {
        self.owner.get()
    }

    pub(super) fn claim_as(&self, owner: Option<i64>) {
        self.owner.set(owner);
    }

    /// The numbers, if they were read in this transaction.
    pub(crate) fn numbers(&self) -> Option<Numbers> {
        self.tally.get().map(|tally| tally.now)
    }

    /// Takes the numbers as they are in the file, and how to write them.
    pub(crate) fn read_numbers(&self, written: Numbers, write: Write) {
        self.tally.set(Some(Tally {
            written,
            now: written,
            write,
        }));
    }

    /// Changes numbers that were read.
    pub(crate) fn set_numbers(&self, now: Numbers) {
        if let Some(tally) = self.tally.get() {
            self.tally.set(Some(Tally { now, ..tally }));
        }
    }

    /// The state of the numbers, to be put back where an operation is undone.
    pub(super) const fn tally(&self) -> Option<Tally> {
        self.tally.get()
    }

    pub(super) fn put_back(&self, tally: Option<Tally>) {
        self.tally.set(tally);
    }

    /// Writes the numbers if they have changed. The last that is done before the commit.
    pub(super) fn write_numbers(&self) -> rusqlite::Result<()> {
        match self.tally.get() {
            Some(tally) if tally.now != tally.written => (tally.write)(self.connection, &tally.now),
            _ => Ok(()),
        }
    }

    /// Wakes those who wait for the database once this is committed.
    pub(crate) fn ring(&self) {
        self.rings.set(true);
    }

    pub(super) const fn rings(&self) -> bool {
        self.rings.get()
    }

    /// Has the log emptied soon after this is committed: it still holds what is deleted here.
    pub(crate) fn erase(&self) {
        self.erases.set(true);
    }

    pub(super) const fn erases(&self) -> bool {
        self.erases.get()
    }

    fn prepare(&self, statement: &Statement) -> Result<CachedStatement<'a>, DatabaseError> {
        statement.admit()?;
        let mut prepared = self
            .connection
            .prepare_cached(statement.sql())
            .map_err(DatabaseError::from_driver)?;
        let (expected, given) = (prepared.parameter_count(), statement.values().len());
        if expected != given {
            return Err(DatabaseError::caused(
                DatabaseErrorKind::Invalid,
                format!("the statement has {expected} parameters, and {given} values are bound"),
            ));
        }
        for (at, value) in statement.values().iter().enumerate() {
            prepared
                .raw_bind_parameter(at + 1, Bound(value))
                .map_err(DatabaseError::from_driver)?;
        }
        Ok(prepared)
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}
