//! A letter that is ours for a while.

use crate::{
    dead_letter::{Letter, LetterId, LetterStore, SinkErrorKind},
    fence::{Settled, Token},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until, timeout_at},
};

/// How often the store is asked to remove a letter that was accepted: over 1.5 s.
const TRIES: u32 = 5;

/// Settled when it is dropped, as far as there is a runtime: given back, or removed where the
/// letter was accepted. Where not, it ends with its lease.
pub(super) struct Claim {
    pub(super) store: Arc<dyn LetterStore>,
    pub(super) token: Token,
    /// As it is to be left.
    letter: Arc<Letter>,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Leave,
    Remove,
    Settled,
}

impl Claim {
    /// Of a letter whose replay is counted already. Nothing is sent yet: it would be given back as
    /// it was.
    pub(super) fn new(store: Arc<dyn LetterStore>, token: Token, letter: &Letter) -> Self {
        let mut unsent = letter.clone();
        unsent.replays = unsent.replays.saturating_sub(1);
        Self {
            store,
            token,
            letter: Arc::new(unsent),
            end: End::Leave,
        }
    }

    /// What becomes of the letter is in this from now on.
    pub(super) fn leave(&mut self, letter: Letter) {
        self.letter = Arc::new(letter);
    }

    /// Gives the claim back. Whether the store took the letter as it now is.
    pub(super) async fn release(mut self) -> bool {
        for tried in 1..=TRIES {
            let released = self.store.release(self.token, &self.letter).await;
            match released {
                Ok(settled) => {
                    self.end = End::Settled;
                    return settled == Settled::Done;
                }
                Err(_) if tried < TRIES => sleep(wait(tried)).await,
                Err(_) => {}
            }
        }
        // It ends with its lease.
        self.end = End::Settled;
        false
    }

    /// Removes the letter, which was accepted.
    pub(super) async fn remove(mut self) -> Result<(), Option<SinkErrorKind>> {
        self.end = End::Remove;
        let removed = remove(&*self.store, self.letter.id, self.token).await;
        self.end = End::Settled;
        removed
    }

    /// Nothing is ours any more.
    pub(super) fn forget(mut self) {
        self.end = End::Settled;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (store, token) = (Arc::clone(&self.store), self.token);
        match self.end {
            End::Settled => {}
            End::Leave => {
                let released = store.release(token, &self.letter);
                runtime.spawn(released);
            }
            End::Remove => {
                let id = self.letter.id;
                runtime.spawn(async move { remove(&*store, id, token).await });
            }
        }
    }
}

async fn remove(
    store: &dyn LetterStore,
    id: LetterId,
    token: Token,
) -> Result<(), Option<SinkErrorKind>> {
    let mut tried = 1;
    loop {
        match store.remove(id, token).await {
            Ok(Settled::Done) => return Ok(()),
            // Where an earlier try got no answer, that one may have removed it.
            Ok(Settled::Lost) if tried > 1 && gone(store, id).await => return Ok(()),
            Ok(Settled::Lost) => return Err(None),
            Err(error) if tried == TRIES => return Err(Some(error.kind())),
            Err(_) => sleep(wait(tried)).await,
        }
        tried += 1;
    }
}

async fn gone(store: &dyn LetterStore, id: LetterId) -> bool {
    matches!(store.get(id).await, Ok(None))
}

/// 100, 200, 400, 800 ms.
const fn wait(tried: u32) -> Duration {
    Duration::from_millis(50).saturating_mul(1 << tried)
}

/// Renews a claim, which began at `since` or later, for as long as it is polled. Ends when the
/// claim is lost, or could not be renewed in time.
pub(super) async fn keep(
    store: Arc<dyn LetterStore>,
    id: LetterId,
    token: Token,
    since: Instant,
    lease: Duration,
) {
    let mut until = since + lease;
    let mut next = since + lease / 3;
    loop {
        sleep_until(next.min(until)).await;
        let asked = Instant::now();
        match timeout_at(until, store.renew(id, token, lease)).await {
            Ok(Ok(Settled::Done)) => {
                until = asked + lease;
                next = asked + lease / 3;
            }
            Ok(Ok(Settled::Lost)) | Err(_) => return,
            Ok(Err(_)) if Instant::now() >= until => return,
            Ok(Err(_)) => next = asked + (lease / 12).max(Duration::from_millis(1)),
        }
    }
}
