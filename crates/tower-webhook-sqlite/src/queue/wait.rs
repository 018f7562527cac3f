//! Waiting for something to claim.

use super::{
    claim::{Left, Taken},
    leaps::Leaps,
    schema::{self, state},
    time::Clock,
};
use crate::{
    database::{Database, DatabaseError},
    stored,
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tower_webhook::{clock::WallClock, queue::Terms};

/// How long to wait if the file cannot be read. The next claim reports the error.
const BLIND: Duration = Duration::from_millis(100);

/// How long a look at the table may take, behind a long read of somebody else. The next claim, in the writing thread,
/// then finds what is due. Not shorter: each look that is given up holds a place among the reads until that one ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many times waiters are notified again of the same job.
const RENOTIFICATIONS: u32 = 5;

/// The delay before the next repeated notification: 1, 4, 16, 64 and 256 ms.
///
/// Workers of one process share an engine. One worker may leave a job because its terms allow fewer jobs of
/// that target than the terms of another, which has not begun to wait yet. A few repeated notifications, with
/// growing delays, reach the other worker soon and do not keep the first one busy.
const fn gap(told: u32) -> Option<Duration> {
    if told < RENOTIFICATIONS {
        Some(Duration::from_millis(1 << (2 * told)))
    } else {
        None
    }
}

/// The widest terms so far. A job that they do not allow causes no notification.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Widest {
    /// How many jobs of a target may run. 0 until a claim asks for jobs.
    pub(super) per_target: u32,
    /// Whether a claim has asked for failed jobs.
    pub(super) failed_jobs: bool,
}

impl Widest {
    fn widen(&mut self, terms: &Terms) {
        if terms.jobs > 0 {
            self.per_target = self.per_target.max(terms.per_target);
        }
        self.failed_jobs |= terms.failed_jobs > 0;
    }
}

/// The changes that the claims of this handle have seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<(Looked, Leaps)>>);

#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    /// The number of changes, and the time. `None` if a claim left work that its terms allow.
    at: Option<(i64, i64)>,
    /// Whether work is left that other terms allow.
    left: bool,
    /// How many times waiters were notified of it again.
    told: u32,
    widest: Widest,
}

impl Seen {
    /// Begins a claim with these terms. Returns the widest terms so far, and the time of the claim before.
    pub(super) fn widen(&self, terms: &Terms) -> (Widest, Option<i64>) {
        let looked = &mut self.lock().0;
        looked.widest.widen(terms);
        (looked.widest, looked.at.map(|(_, time)| time))
    }

    /// A claim has ended.
    pub(super) fn looked(&self, taken: &Taken) {
        let looked = &mut self.lock().0;
        let at = taken.all.then_some(taken.seen);
        let changes = |at: Option<(i64, i64)>| at.map(|(changes, _)| changes);
        if changes(looked.at) != changes(at) || taken.left == Left::New {
            looked.told = 0;
        }
        looked.at = at;
        looked.left = taken.left != Left::Nothing;
    }

    /// Counts a repeated notification, if there was no change since the claim that left something.
    fn tell(&self, changes: i64) {
        let looked = &mut self.lock().0;
        if looked.at.is_some_and(|(seen, _)| seen == changes) {
            looked.told = looked.told.saturating_add(1);
        }
    }

    fn get(&self) -> Looked {
        self.lock().0
    }

    /// The leaps of the queue's time, which is `now`.
    pub(super) fn leaps(&self, now: i64) -> Leaps {
        let leaps = &mut self.lock().1;
        leaps.look(now, std::time::Instant::now());
        leaps.clone()
    }

    fn lock(&self) -> MutexGuard<'_, (Looked, Leaps)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Looked {
    /// The delay until the next repeated notification of a waiter that has waited for so long.
    fn renotify(&self, waited: Duration) -> Option<Duration> {
        let gap = gap(self.told).filter(|_| self.left)?;
        Some(gap.saturating_sub(waited))
    }
}

pub(super) async fn wait(database: Database, seen: Seen, at_most: Duration) {
    let listener = database.bell().listen();
    let began = Instant::now();
    loop {
        // Registered before the state is read, so that no change after it is missed.
        let (mut rung, mut stirred) = (pin!(listener.rung()), pin!(listener.stirred()));
        let left = at_most.saturating_sub(began.elapsed());
        let mut look = pin!(look(&database, &seen));
        let looking = poll_fn(|cx| match rung.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => look.as_mut().poll(cx).map(Some),
        });
        let Ok(Some(look)) = timeout(left.min(PATIENCE), looking).await else {
            return;
        };
        let looked = seen.get();
        let (changes, nap) = match (look, looked.at) {
            (Ok(look), Some((changes, _))) if look.changes == changes => {
                (changes, look.next.map_or(left, |next| next.min(left)))
            }
            (Ok(_), _) => return,
            (Err(_), _) => {
                sleep(left.min(BLIND)).await;
                return;
            }
        };
        let renotify = looked.renotify(began.elapsed()).filter(|gap| *gap < nap);
        let nap = renotify.unwrap_or(nap);
        let over = || {
            if renotify.is_some() {
                seen.tell(changes);
            }
        };
        if nap.is_zero() {
            return over();
        }
        let mut slept = pin!(sleep(nap));
        let again = poll_fn(|cx| {
            if rung.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            if slept.as_mut().poll(cx).is_ready() {
                over();
                return Poll::Ready(false);
            }
            stirred.as_mut().poll(cx).map(|()| true)
        });
        if !again.await {
            return;
        }
    }
}

/// Stands for a number of changes that no claim has seen.
const STEPPED: i64 = -1;

struct Look {
    changes: i64,
    /// The time until something becomes due that no claim has seen.
    next: Option<Duration>,
}

async fn look(database: &Database, seen: &Seen) -> Result<Look, DatabaseError> {
    let (clock, seen) = (database.clock().clone(), seen.get().at);
    let look = database.read(move |transaction| {
        next(transaction.connection(), &clock, seen).map_err(DatabaseError::from_driver)
    });
    look.await
}

fn next(
    connection: &Connection,
    clock: &WallClock,
    seen: Option<(i64, i64)>,
) -> rusqlite::Result<Look> {
    let (changes, now) = changes(connection, clock)?;
    let since = seen.map_or(now, |(_, time)| time);
    let mut lanes = connection.prepare_cached(schema::NEXT_LANE)?;
    let lane: Option<i64> = lanes.query_row([since], |row| row.get(0)).optional()?;
    let mut ends = connection.prepare_cached(schema::NEXT_END)?;
    let mut next = lane;
    for state in [
        state::RUNNING,
        state::DEAD_LETTERING_DUE,
        state::DEAD_LETTERING_CLAIMED,
    ] {
        let end: Option<i64> = ends
            .query_row(params![state, since], |row| row.get(0))
            .optional()?;
        next = [next, end].into_iter().flatten().min();
    }
    let wait = |at: i64| Duration::from_millis(u64::try_from(at - now).unwrap_or(0));
    Ok(Look {
        changes: changes.unwrap_or(STEPPED),
        next: next.map(wait),
    })
}

/// The number of changes, and the time now. `None` if the clock was set back: the next claim stores
/// that.
pub(super) fn changes(
    connection: &Connection,
    clock: &WallClock,
) -> rusqlite::Result<(Option<i64>, i64)> {
    let (changes, kept) = connection
        .prepare_cached(schema::CHANGES)?
        .query_row([], |row| {
            let kept = Clock {
                ahead: row.get(1)?,
                last: row.get(2)?,
            };
            Ok((row.get(0)?, kept))
        })?;
    let (now, next) = kept.read(stored::now(clock));
    Ok(((next.ahead == kept.ahead).then_some(changes), now))
}
