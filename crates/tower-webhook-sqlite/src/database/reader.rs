//! The thread that reads: a long query delays other queries, and no write.

use super::{
    DatabaseError, Transaction,
    bell::Bell,
    file::{File, Settings},
    look::{Leaps, Look},
    writer::{Queued, apart, caught, clock_panicked, finish, lost, roll_back},
};
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// How often the file is checked for writes of other processes while a task waits for them. A check takes a
/// few microseconds.
const LOOK: Duration = Duration::from_millis(20);

pub(super) struct Reader {
    pub(super) settings: Arc<Settings>,
    pub(super) file: Option<File>,
    pub(super) queue: Receiver<Queued>,
    pub(super) bell: Arc<Bell>,
    /// SQLite's `data_version` at the last look: it changes when another connection has written.
    pub(super) version: Option<i64>,
    pub(super) looked: Instant,
}

impl Reader {
    pub(super) fn work(mut self) {
        loop {
            let next = if self.bell.is_heard() {
                if self.looked.elapsed() >= LOOK {
                    self.look();
                }
                self.queue
                    .recv_timeout(LOOK.saturating_sub(self.looked.elapsed()))
            } else {
                // A task that begins to listen also queues a read, which ends this wait.
                self.queue
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected)
            };
            let mut operation = match next {
                Ok(operation) => operation,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let result = self.run(&mut operation);
            if result.as_ref().is_err_and(|error| lost(error.kind())) {
                self.file = None;
            }
            finish(operation, result);
        }
    }

    /// Whether the file was written to since the last check.
    fn look(&mut self) {
        self.looked = Instant::now();
        let Some(file) = &self.file else { return };
        let version = file
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut pragma| pragma.query_row([], |row| row.get(0)));
        // An error of the file is reported to those who read it.
        let version = version.ok();
        if version != self.version {
            self.version = version;
            self.bell.stir();
        }
    }

    /// One transaction, so that several statements see the same state.
    fn run(&mut self, operation: &mut Queued) -> Result<(), DatabaseError> {
        if let Some(file) = &self.file
            && file.in_place(&self.settings).is_err()
        {
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open_to_read_again(&self.settings)?),
        };
        file.connection
            .execute_batch("BEGIN")
            .map_err(DatabaseError::from_driver)?;
        let clock = &self.settings.with.clock;
        let result = caught(|| Look::new(clock)).map_or_else(
            || Err(clock_panicked()),
            |look| {
                let max_rows = self.settings.with.max_rows;
                let leaps = Leaps::default();
                let transaction =
                    Transaction::new(&file.connection, max_rows, clock, look, &leaps, None);
                apart(&transaction, &mut **operation)
            },
        );
        roll_back(file);
        result
    }
}
