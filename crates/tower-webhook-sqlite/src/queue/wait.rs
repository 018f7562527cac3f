//! Waiting for something to claim.

use super::{
    claim,
    ledger::Counts,
    schema::{self, state},
};
use crate::{
    database::{Database, DatabaseError},
    stored,
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tower_webhook::{
    clock::WallClock,
    queue::{Kinds, Mark},
};

/// How long to wait if the file cannot be read. The next claim reports the error.
const BLIND: Duration = Duration::from_millis(100);

/// How long a look at the table may take, behind a long read of somebody else. The next claim, in the writing thread,
/// then finds what is due. Not shorter: each look that is given up holds a place among the reads until that one ends.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn wait(database: Database, seen: Mark, at_most: Duration) {
    if seen == Mark::default() {
        return;
    }
    let listener = database.bell().listen();
    let began = Instant::now();
    loop {
        // Registered before the state is read, so that no change after it is missed.
        let (mut rung, mut stirred) = (pin!(listener.rung()), pin!(listener.stirred()));
        let left = at_most.saturating_sub(began.elapsed());
        let mut look = pin!(look(&database, seen));
        let looking = poll_fn(|cx| match rung.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => look.as_mut().poll(cx).map(Some),
        });
        let Ok(Some(look)) = timeout(left.min(PATIENCE), looking).await else {
            return;
        };
        let nap = match look {
            Ok(look) if look.changes == seen.changes().cast_signed() => {
                look.next.map_or(left, |next| next.min(left))
            }
            Ok(_) => return,
            Err(_) => return sleep(left.min(BLIND)).await,
        };
        if nap.is_zero() {
            return;
        }
        let mut slept = pin!(sleep(nap.min(PATIENCE)));
        let again = poll_fn(|cx| {
            if rung.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            if slept.as_mut().poll(cx).is_ready() {
                // Behind a long read, nobody is told what another process wrote. Look, or give that up and claim.
                return Poll::Ready(nap > PATIENCE);
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

async fn look(database: &Database, seen: Mark) -> Result<Look, DatabaseError> {
    let clock = database.clock().clone();
    let look = database.read(move |transaction| {
        let since = seen.time().cast_signed();
        next(transaction.connection(), &clock, since).map_err(DatabaseError::from_driver)
    });
    look.await
}

fn next(connection: &Connection, clock: &WallClock, since: i64) -> rusqlite::Result<Look> {
    let counts = Counts::read(connection)?;
    let (changes, now) = changes_of(counts, clock);
    let mut next: Option<i64> = None;
    let (kind, due) = if counts.lanes {
        (schema::NEXT_KIND_OF_LANES, schema::NEXT_DUE_OF_LANES)
    } else {
        (schema::NEXT_KIND, schema::NEXT_DUE)
    };
    let mut dues = connection.prepare_cached(due)?;
    for kind in claim::kinds(connection, &Kinds::All, kind)? {
        let due: Option<i64> = dues
            .query_row(params![&*kind, since], |row| row.get(0))
            .optional()?;
        next = [next, due].into_iter().flatten().min();
    }
    let mut ends = connection.prepare_cached(schema::NEXT_END)?;
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
    Ok(changes_of(Counts::read(connection)?, clock))
}

/// The same of counts that were read.
pub(super) fn changes_of(counts: Counts, clock: &WallClock) -> (Option<i64>, i64) {
    let kept = counts.clock;
    let (now, next) = kept.read(stored::now(clock));
    ((next.ahead == kept.ahead).then_some(counts.changes), now)
}
