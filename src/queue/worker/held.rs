//! The claims that a worker holds. One task renews all of them in one call.

use super::Shared;
use crate::{
    StoreErrorKind,
    lease::{Schedule, Settled},
    queue::Claim,
    race::{Race, race},
};
use std::{
    collections::HashMap,
    future::{Future, pending},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, oneshot},
    time::{sleep_until, timeout},
};

/// A signal to the task that holds a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The claim may pass to another worker before it is renewed.
    Lost,
    /// The engine says that the claim has ended: another worker has the job, or it was cancelled.
    Over,
    /// The worker stops, and its grace period has ended.
    Stop,
}

/// What a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// To write the dead-letter entry of a job.
    Bury,
    /// To do a job.
    Do,
    /// To settle the claim of a job that was done.
    Settle,
}

#[derive(Debug, Default)]
pub(super) struct Held {
    claims: Mutex<HashMap<Claim, Entry>>,
    to_do: AtomicUsize,
    to_bury: AtomicUsize,
    to_settle: AtomicUsize,
    /// Notified when a claim is dropped, or its job is done.
    freed: Notify,
}

#[derive(Debug)]
struct Entry {
    schedule: Schedule,
    signal: Option<oneshot::Sender<Signal>>,
    /// Set when the claim is lost. It is not renewed any more.
    is_lost: bool,
}

/// Keeps a claim renewed until it is dropped.
#[derive(Debug)]
pub(super) struct Holding {
    held: Arc<Held>,
    work: Work,
    claim: Claim,
}

/// Receives the [`Signal`] of one claim.
#[derive(Debug)]
pub(super) struct Signals(Option<oneshot::Receiver<Signal>>);

impl Signals {
    /// Waits for the next signal. Never returns if there is none.
    pub(super) async fn next(&mut self) -> Signal {
        if let Some(receiver) = &mut self.0 {
            let signal = receiver.await;
            self.0 = None;
            if let Ok(signal) = signal {
                return signal;
            }
        }
        pending().await
    }

    /// Waits until the claim is lost.
    pub(super) async fn lost(&mut self) {
        while self.next().await == Signal::Stop {}
    }

    /// The output of what ends the claim. A claim that is ended can no longer be renewed, and looks lost until the
    /// answer arrives: `None` if there is none after this `patience`.
    pub(super) async fn unless_lost<F: Future>(
        &mut self,
        ending: F,
        patience: Duration,
    ) -> Option<F::Output> {
        let mut ending = pin!(ending);
        match race(&mut ending, self.lost()).await {
            Race::First(ended) => Some(ended),
            Race::Second(()) => timeout(patience, ending).await.ok(),
        }
    }
}

impl Held {
    pub(super) fn hold(
        self: &Arc<Self>,
        work: Work,
        claim: Claim,
        schedule: Schedule,
    ) -> (Holding, Signals) {
        let (sender, receiver) = oneshot::channel();
        let entry = Entry {
            schedule,
            signal: Some(sender),
            is_lost: false,
        };
        self.lock().insert(claim, entry);
        self.counter(work).fetch_add(1, Ordering::Relaxed);
        let held = Arc::clone(self);
        (Holding { held, work, claim }, Signals(Some(receiver)))
    }

    pub(super) fn count(&self, work: Work) -> usize {
        self.counter(work).load(Ordering::Relaxed)
    }

    /// How many jobs may be claimed, of so many that may run. One that was done leaves its place to the next before it
    /// is settled; as many may wait for that as there are places.
    pub(super) fn room(&self, places: usize) -> usize {
        let (running, done) = (self.count(Work::Do), self.count(Work::Settle));
        let all = places.saturating_mul(2).saturating_sub(running + done);
        places.saturating_sub(running).min(all)
    }

    /// Waits until so many jobs may be claimed, of those that may run.
    pub(super) async fn has_room(&self, places: usize, jobs: usize) {
        while self.room(places) < jobs {
            self.freed().await;
        }
    }

    /// Waits until a claim is dropped or its job is done. Returns at once if that was so since the last wait.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    const fn counter(&self, work: Work) -> &AtomicUsize {
        match work {
            Work::Bury => &self.to_bury,
            Work::Do => &self.to_do,
            Work::Settle => &self.to_settle,
        }
    }

    /// Signals all claims to stop.
    pub(super) fn stop(&self) {
        for entry in self.lock().values_mut() {
            entry.tell(Signal::Stop);
        }
    }

    fn lose(&self, claim: &Claim) {
        if let Some(entry) = self.lock().get_mut(claim) {
            entry.tell(Signal::Over);
        }
    }

    /// Signals the loss of each claim that counts as lost. Returns when to renew the others, or to ask again, and the
    /// time limit for renewing them.
    fn expire(&self, now: Instant, lease: Duration) -> (Instant, Duration) {
        let (mut wake, mut limit) = (now + lease / 3, lease);
        for entry in self.lock().values_mut().filter(|entry| !entry.is_lost) {
            match entry.schedule.limit(now) {
                None => entry.tell(Signal::Lost),
                Some(left) => {
                    limit = limit.min(left);
                    wake = wake.min(entry.schedule.wake());
                }
            }
        }
        (wake, limit)
    }

    fn claims(&self) -> Vec<Claim> {
        let claims = self.lock();
        let ours = claims.iter().filter(|(_, entry)| !entry.is_lost);
        ours.map(|(claim, _)| *claim).collect()
    }

    fn renewed(&self, claim: &Claim, asked: Instant) {
        if let Some(entry) = self.lock().get_mut(claim) {
            entry.schedule.renewed(asked);
        }
    }

    fn failed(&self, claims: &[Claim], now: Instant) {
        let mut held = self.lock();
        for claim in claims {
            if let Some(entry) = held.get_mut(claim) {
                entry.schedule.failed(now);
            }
        }
    }

    /// Ignores poisoning: nothing that can panic runs while the lock is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<Claim, Entry>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn tell(&mut self, signal: Signal) {
        self.is_lost |= signal != Signal::Stop;
        if let Some(sender) = self.signal.take() {
            let _ = sender.send(signal);
        }
    }
}

impl Holding {
    /// The job is done, and its claim is to be settled.
    pub(super) fn is_done(&mut self) {
        if self.work == Work::Do {
            self.held
                .counter(Work::Settle)
                .fetch_add(1, Ordering::Relaxed);
            self.held.counter(Work::Do).fetch_sub(1, Ordering::Relaxed);
            self.work = Work::Settle;
            self.held.freed.notify_one();
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.lock().remove(&self.claim);
        let counter = self.held.counter(self.work);
        counter.fetch_sub(1, Ordering::Relaxed);
        self.held.freed.notify_one();
    }
}

/// The runtime's time, which tests pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Renews all claims when one of them is due, without end. A claim that counts as lost is told to, so that its work is
/// dropped before another worker can claim the job.
pub(super) async fn renew(shared: Arc<Shared>) {
    let lease = shared.lease;
    loop {
        let now = now();
        let (wake, limit) = shared.held.expire(now, lease);
        if now < wake {
            // A claim that is made meanwhile is renewed in time by the next round.
            sleep_until(wake.into()).await;
            continue;
        }
        let claims = shared.held.claims();
        let asked = shared.engine.renew(claims.clone(), lease);
        let kind = match timeout(limit, asked).await {
            Ok(Ok(renewed)) => {
                for (claim, settled) in claims.iter().zip(renewed) {
                    match settled {
                        Settled::Done => shared.held.renewed(claim, now),
                        Settled::Lost => shared.held.lose(claim),
                    }
                }
                continue;
            }
            Ok(Err(error)) => error.kind(),
            Err(_) => StoreErrorKind::Timeout,
        };
        shared.engine_failed("claims could not be renewed", kind);
        shared.held.failed(&claims, self::now());
    }
}
