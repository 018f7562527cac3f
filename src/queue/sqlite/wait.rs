//! Waiting for something to claim.

use super::{
    schema::{self, state},
    time::{self, Clock},
};
use crate::{
    clock::WallClock,
    sqlite::{Database, DatabaseError},
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long to wait where the file cannot be read: whoever waits asks soon enough what is wrong.
const BLIND: Duration = Duration::from_millis(100);

/// What the claims of this handle have seen: the number of changes, and the time. `None` when there
/// was more than they took.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Option<(i64, i64)>>>);

impl Seen {
    pub(super) fn set(&self, seen: Option<(i64, i64)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    fn get(&self) -> Option<(i64, i64)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn wait(database: Database, seen: Seen, at_most: Duration) {
    let listener = database.bell().listen();
    let began = Instant::now();
    loop {
        // Before the look: what happens after it is heard.
        let rung = listener.rung();
        let stirred = listener.stirred();
        let left = at_most.saturating_sub(began.elapsed());
        let nap = match (look(&database, &seen).await, seen.get()) {
            (Ok(look), Some(seen)) if look.changes == seen.0 => match look.next {
                Some(next) => next.min(left),
                None => left,
            },
            (Ok(_), _) => return,
            (Err(_), _) => {
                sleep(left.min(BLIND)).await;
                return;
            }
        };
        if nap.is_zero() {
            return;
        }
        let (mut rung, mut stirred, mut slept) = (pin!(rung), pin!(stirred), pin!(sleep(nap)));
        let again = poll_fn(|cx| {
            if rung.as_mut().poll(cx).is_ready() || slept.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            stirred.as_mut().poll(cx).map(|()| true)
        });
        if !again.await {
            return;
        }
    }
}

/// A number of changes that no claim has seen.
const STEPPED: i64 = -1;

struct Look {
    changes: i64,
    /// How long it is until something that nobody has seen can be claimed.
    next: Option<Duration>,
}

async fn look(database: &Database, seen: &Seen) -> Result<Look, DatabaseError> {
    let (clock, seen) = (database.clock().clone(), seen.get());
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
    for state in [state::RUNNING, state::BURYING, state::CARRIED] {
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

/// How many changes there were, and the time now. `None` when the clock was set: whoever claims next
/// writes it down.
pub(super) fn changes(
    connection: &Connection,
    clock: &WallClock,
) -> rusqlite::Result<(Option<i64>, i64)> {
    let (changes, stored) = connection
        .prepare_cached(schema::CHANGES)?
        .query_row([], |row| {
            let stored = Clock {
                ahead: row.get(1)?,
                last: row.get(2)?,
            };
            Ok((row.get(0)?, stored))
        })?;
    let (now, next) = stored.read(time::wall(clock));
    Ok(((next.ahead == stored.ahead).then_some(changes), now))
}
