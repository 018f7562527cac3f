//! Who is told of transitions. Nobody is, under a lock.

use super::Transition;
use crate::catch_panic::catch_panic;
use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::broadcast;

type Listener = Arc<dyn Fn(&Transition) + Send + Sync>;

/// How many transitions a subscriber may lag behind.
const BACKLOG: usize = 256;

#[derive(Default)]
pub(super) struct Listeners {
    closures: Mutex<Arc<[Listener]>>,
    channel: OnceLock<broadcast::Sender<Transition>>,
    panics: AtomicU64,
}

impl Listeners {
    pub(super) fn add(&self, listener: impl Fn(&Transition) + Send + Sync + 'static) {
        let listener: Listener = Arc::new(listener);
        let mut closures = self.closures.lock().unwrap_or_else(PoisonError::into_inner);
        *closures = closures.iter().cloned().chain([listener]).collect();
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Transition> {
        let channel = self.channel.get_or_init(|| broadcast::Sender::new(BACKLOG));
        channel.subscribe()
    }

    pub(super) fn tell(&self, transition: impl FnOnce() -> Transition) {
        let closures = {
            let closures = self.closures.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&closures)
        };
        let channel = self.channel.get();
        if closures.is_empty() && channel.is_none() {
            return;
        }
        let transition = transition();
        for listener in &*closures {
            self.guard(|| listener(&transition));
        }
        if let Some(channel) = channel {
            // An error says that there is no subscriber at the moment.
            let _ = channel.send(transition);
        }
    }

    /// A listener that panics has no say in what becomes of the call, nor of other listeners.
    fn guard(&self, work: impl FnOnce()) {
        if catch_panic(work).is_none() {
            self.panics.fetch_add(1, Ordering::Relaxed);
            crate::trace::trouble!("circuit_breaker", "a listener panicked");
        }
    }

    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}
