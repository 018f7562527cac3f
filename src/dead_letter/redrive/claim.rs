//! An entry that is ours for a while.

use crate::{
    StoreErrorKind,
    dead_letter::{Entry, EntryId, LetterStore},
    lease::{FencingToken, Settled},
};
use std::{
    future::poll_fn,
    mem,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, sleep_until, timeout_at},
};

/// How often the store is asked to take an entry that failed again: over 1.5 s.
const TRIES: u32 = 5;

/// For how many leases the removal of an entry is tried that was accepted, while the store renews
/// the claim and does not remove the entry.
const MOST_LEASES: u32 = 5;

/// The longest wait between two tries.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// Settled when it is dropped, as far as there is a runtime: given back, or removed where the
/// entry was accepted. Where not, it ends with its lease.
pub(super) struct Claim {
    store: Arc<dyn LetterStore>,
    token: FencingToken,
    /// As it is to be left.
    entry: Arc<Entry>,
    end: End,
}

enum End {
    Leave,
    /// The claim is held meanwhile.
    Remove(Hold),
    Settled,
}

impl Claim {
    /// Of an entry whose replay is counted already. Nothing is sent yet: it would be given back as
    /// it was.
    pub(super) fn new(store: Arc<dyn LetterStore>, token: FencingToken, entry: &Entry) -> Self {
        let mut unsent = entry.clone();
        unsent.replays = unsent.replays.saturating_sub(1);
        Self {
            store,
            token,
            entry: Arc::new(unsent),
            end: End::Leave,
        }
    }

    /// What becomes of the entry is in this from now on.
    pub(super) fn leave(&mut self, entry: Entry) {
        self.entry = Arc::new(entry);
    }

    /// Gives the claim back. Whether the store took the entry as it now is.
    pub(super) async fn release(mut self) -> bool {
        for tried in 1..=TRIES {
            let released = self.store.release(self.token, &self.entry).await;
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

    /// Removes the entry, which was accepted. Tries for as long as the claim can be held: until it
    /// is removed, the entry may be sent again.
    pub(super) async fn remove(mut self, hold: Hold) -> Result<(), Option<StoreErrorKind>> {
        // In its place, so that whoever goes on in the background knows how long it is held.
        self.end = End::Remove(hold);
        let removed = match &mut self.end {
            End::Remove(hold) => hold.remove().await,
            End::Leave | End::Settled => return Err(None),
        };
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
        match mem::replace(&mut self.end, End::Settled) {
            End::Settled => {}
            End::Leave => {
                runtime.spawn(self.store.release(self.token, &self.entry));
            }
            End::Remove(mut hold) => {
                runtime.spawn(async move { hold.remove().await });
            }
        }
    }
}

/// How long a claim is known to be ours.
pub(super) struct Hold {
    store: Arc<dyn LetterStore>,
    id: EntryId,
    token: FencingToken,
    lease: Duration,
    until: Instant,
    /// When it is renewed.
    next: Instant,
}

impl Hold {
    /// Of a claim that began at `since` or later.
    pub(super) fn new(
        store: Arc<dyn LetterStore>,
        id: EntryId,
        token: FencingToken,
        since: Instant,
        lease: Duration,
    ) -> Self {
        Self {
            store,
            id,
            token,
            lease,
            until: since + lease,
            next: since + lease / 3,
        }
    }

    /// Renews the claim for as long as it is polled, also after it was dropped before. Ends when the
    /// claim is lost, or could not be renewed in time.
    pub(super) async fn keep(&mut self) {
        let lease = self.lease;
        loop {
            sleep_until(self.next.min(self.until)).await;
            let asked = Instant::now();
            let renewed = self.store.renew(self.id, self.token, lease);
            match timeout_at(self.until, renewed).await {
                Ok(Ok(Settled::Done)) => {
                    self.until = asked + lease;
                    self.next = asked + lease / 3;
                }
                Ok(Ok(Settled::Lost)) | Err(_) => return,
                Ok(Err(_)) if Instant::now() >= self.until => return,
                Ok(Err(_)) => self.next = asked + shortest(lease),
            }
        }
    }

    async fn remove(&mut self) -> Result<(), Option<StoreErrorKind>> {
        // What the store said last; until it says something it has not answered.
        let said = Mutex::new(StoreErrorKind::Timeout);
        let (store, id, token, lease) = (Arc::clone(&self.store), self.id, self.token, self.lease);
        let end = Instant::now() + lease.saturating_mul(MOST_LEASES);
        let mut removal = pin!(removed(&*store, id, token, lease, &said));
        let mut kept = pin!(timeout_at(end, self.keep()));
        let removed = poll_fn(|cx| match removal.as_mut().poll(cx) {
            Poll::Ready(removed) => Poll::Ready(Some(removed)),
            Poll::Pending => kept.as_mut().poll(cx).map(|_| None),
        });
        match removed.await {
            Some(true) => Ok(()),
            Some(false) => Err(None),
            None => Err(Some(*said.lock().unwrap_or_else(PoisonError::into_inner))),
        }
    }
}

/// Whether the entry was removed; not so where the claim had ended.
async fn removed(
    store: &dyn LetterStore,
    id: EntryId,
    token: FencingToken,
    lease: Duration,
    said: &Mutex<StoreErrorKind>,
) -> bool {
    let mut tried = 0;
    // An earlier try that got no answer may have removed it.
    let mut unanswered = false;
    loop {
        let error = match store.remove(id, token).await {
            Ok(Settled::Done) => return true,
            Ok(Settled::Lost) if !unanswered => return false,
            Ok(Settled::Lost) => match store.get(id).await {
                Ok(entry) => return entry.is_none(),
                Err(error) => error,
            },
            Err(error) => error,
        };
        *said.lock().unwrap_or_else(PoisonError::into_inner) = error.kind();
        unanswered = true;
        tried += 1;
        sleep(wait(tried).min(shortest(lease))).await;
    }
}

/// 100, 200, 400, 800 ms and so on.
fn wait(tried: u32) -> Duration {
    let factor = 1_u32.checked_shl(tried).unwrap_or(u32::MAX);
    let wait = Duration::from_millis(50).saturating_mul(factor);
    wait.min(MOST_WAIT)
}

/// Often enough that a lease is not over before the store was asked a few times.
fn shortest(lease: Duration) -> Duration {
    (lease / 12).max(Duration::from_millis(1))
}
