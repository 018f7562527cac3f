use std::{fmt, sync::Arc};
use tokio::sync::watch;

/// Ends runs between two entries: what is being sent is waited for, nothing more is begun.
///
/// Clones stop the same runs. A run that is given a handle that has stopped does nothing.
#[derive(Clone)]
pub struct Stop {
    stopped: Arc<watch::Sender<bool>>,
}

impl Stop {
    /// A handle, for one run or several.
    pub fn new() -> Self {
        Self {
            stopped: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Stops the runs, for good.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Whether it has been said.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits until it is said.
    pub(super) async fn stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        // Its sender is `self`, which is here.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_stopped()).finish()
    }
}
