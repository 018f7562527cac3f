//! The thread that reads: a long query holds up other queries, and no write.

use super::{
    DatabaseError, Transaction,
    file::{File, Settings},
    writer::{Queued, apart, lost, roll_back},
};
use std::sync::{Arc, mpsc::Receiver};

pub(super) struct Reader {
    pub(super) settings: Arc<Settings>,
    pub(super) file: Option<File>,
    pub(super) queue: Receiver<Queued>,
}

impl Reader {
    pub(super) fn work(mut self) {
        while let Ok(mut operation) = self.queue.recv() {
            let result = self.run(&mut operation);
            if result.as_ref().is_err_and(|error| lost(error.kind())) {
                self.file = None;
            }
            operation.finish(result);
        }
    }

    /// One transaction, so that several statements see the same state.
    fn run(&mut self, operation: &mut Queued) -> Result<(), DatabaseError> {
        if let Some(file) = &self.file
            && !file.in_place(&self.settings.path)
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
        let transaction = Transaction::new(&file.connection, self.settings.with.max_rows);
        let result = apart(&transaction, &mut **operation);
        roll_back(file);
        result
    }
}
