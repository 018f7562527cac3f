//! The tables, and the operations on their rows.

use super::select::{Select, millis};
use crate::{
    database::{Chore, DatabaseError, DatabaseErrorKind, Leap, Transaction},
    stored::{self, LONGEST},
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};
use std::time::Duration;
use tower_webhook::{
    StoreError, StoreErrorKind,
    clock::WallClock,
    dead_letter::{
        Cursor, Discarded, Entry, EntryClaim, EntryId, Filter, Listing, Page, Summary, json,
    },
    lease::FencingToken,
};

pub(super) const COMPONENT: &str = "tower-webhook/dead-letters";

/// Times are milliseconds since 1970. A row that has `until` has the claim of its token, which another can take
/// over from then on. What a filter reads comes before the record, so that it is read without it.
pub(super) const STEPS: &[&str] = &[
    "
    CREATE TABLE tower_webhook_letters (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
        reason TEXT NOT NULL,
        target TEXT NOT NULL,
        event_id TEXT,
        written_at INTEGER NOT NULL,
        replays INTEGER NOT NULL CHECK (replays >= 0),
        token INTEGER NOT NULL DEFAULT 0,
        since INTEGER,
        until INTEGER CHECK (until >= since),
        record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX tower_webhook_letters_reason ON tower_webhook_letters (reason);
    CREATE INDEX tower_webhook_letters_target ON tower_webhook_letters (target);
    CREATE INDEX tower_webhook_letters_both ON tower_webhook_letters (target, reason);
    CREATE INDEX tower_webhook_letters_event ON tower_webhook_letters (event_id)
        WHERE event_id IS NOT NULL;
    CREATE INDEX tower_webhook_letters_written ON tower_webhook_letters (written_at);
    -- How many there are, and the greatest token of those that left: tokens grow whatever the
    -- clock does.
    CREATE TABLE tower_webhook_letters_state (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        letters INTEGER NOT NULL,
        token INTEGER NOT NULL
    ) STRICT;
    INSERT INTO tower_webhook_letters_state VALUES (1, 0, 0);
    CREATE TRIGGER tower_webhook_letters_came AFTER INSERT ON tower_webhook_letters BEGIN
        UPDATE tower_webhook_letters_state SET letters = letters + 1 WHERE only = 1;
    END;
    CREATE TRIGGER tower_webhook_letters_went AFTER DELETE ON tower_webhook_letters BEGIN
        UPDATE tower_webhook_letters_state
        SET letters = letters - 1, token = max(token, old.token) WHERE only = 1;
    END;
",
    // The ids of those that were removed or discarded, and when: they are not written again.
    "
    CREATE TABLE tower_webhook_letters_gone (
        id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tower_webhook_letters_gone_at ON tower_webhook_letters_gone (at);
",
    // Today's names. Triggers follow; indexes keep their names, because making them anew would take
    // long for many entries.
    "
    ALTER TABLE tower_webhook_letters RENAME TO tower_webhook_dead_letters;
    ALTER TABLE tower_webhook_letters_state RENAME TO tower_webhook_dead_letters_state;
    ALTER TABLE tower_webhook_dead_letters_state RENAME COLUMN letters TO entries;
    ALTER TABLE tower_webhook_letters_gone RENAME TO tower_webhook_dead_letters_gone;
",
    // Who claimed it last.
    "
    ALTER TABLE tower_webhook_dead_letters ADD COLUMN owner INTEGER;
    CREATE INDEX tower_webhook_dead_letters_owner ON tower_webhook_dead_letters (owner)
        WHERE until IS NOT NULL;
",
];

const ENTRIES: &str = "SELECT entries FROM tower_webhook_dead_letters_state WHERE only = 1";
const PLACE: &str = "SELECT place FROM tower_webhook_dead_letters WHERE id = ?1";
const INSERT: &str = "INSERT INTO tower_webhook_dead_letters
    (id, reason, target, event_id, written_at, replays, record)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
/// Replays that were counted since stay counted.
const REPLACE: &str = "UPDATE tower_webhook_dead_letters
    SET reason = ?2, target = ?3, event_id = ?4, written_at = ?5, replays = max(replays, ?6),
    record = ?7 WHERE id = ?1";
const GET: &str = "SELECT replays, record FROM tower_webhook_dead_letters WHERE id = ?1";
const LOOK: &str = "SELECT since, until FROM tower_webhook_dead_letters WHERE id = ?1";
const GRANT_AGAIN: &str =
    "UPDATE tower_webhook_dead_letters SET since = ?2, until = ?3 WHERE id = ?1";
const CLAIM: &str = "UPDATE tower_webhook_dead_letters
    SET replays = replays + 1, since = ?2, until = ?3, owner = ?5, token = max(?4, token + 1,
    (SELECT 1 + token FROM tower_webhook_dead_letters_state WHERE only = 1))
    WHERE id = ?1 RETURNING token";
const RENEW: &str = "UPDATE tower_webhook_dead_letters SET since = ?3, until = ?4, owner = ?5
    WHERE id = ?1 AND token = ?2 AND until IS NOT NULL";
const RELEASE: &str = "UPDATE tower_webhook_dead_letters
    SET reason = ?2, target = ?3, event_id = ?4, written_at = ?5, replays = ?6, record = ?7,
    since = NULL, until = NULL WHERE id = ?1 AND token = ?8 AND until IS NOT NULL";
const REMOVE: &str =
    "DELETE FROM tower_webhook_dead_letters WHERE id = ?1 AND token = ?2 AND until IS NOT NULL";
const DISCARD: &str = "DELETE FROM tower_webhook_dead_letters WHERE id = ?1";
/// Ends the leases of an owner that is gone.
const END_CLAIMS: &str = "UPDATE tower_webhook_dead_letters
    SET since = min(since, ?2), until = ?2
    WHERE owner = ?1 AND until IS NOT NULL AND until > ?2";
/// All of an index that has claimed entries alone.
const GRANT_ALL_AGAIN: &str = "UPDATE tower_webhook_dead_letters
    INDEXED BY tower_webhook_dead_letters_owner
    SET since = ?2, until = ?2 + until - since WHERE until IS NOT NULL AND until > ?1";
/// Whether a lease is over of which that is not written yet.
const LAPSED: &str = "SELECT EXISTS (SELECT 1 FROM tower_webhook_dead_letters
    WHERE owner IS NOT NULL AND until IS NOT NULL AND until <= ?1)";
/// Writes it down: without an owner, nobody who opens the file takes the claim for one that a leap has ended.
const LAPSE: &str = "UPDATE tower_webhook_dead_letters SET owner = NULL WHERE place IN (
    SELECT place FROM tower_webhook_dead_letters
    WHERE owner IS NOT NULL AND until IS NOT NULL AND until <= ?1 LIMIT ?2)";
const KEEP_CLAIMS: &str = "UPDATE tower_webhook_dead_letters
    SET since = ?2, until = ?2 + until - since
    WHERE owner = ?1 AND until IS NOT NULL AND until <= ?2";
/// Releases an entry as if it had not been claimed.
const UNCLAIM: &str = "UPDATE tower_webhook_dead_letters
    SET replays = max(replays - 1, 0), since = NULL, until = NULL
    WHERE id = ?1 AND token = ?2 AND until IS NOT NULL";
const IS_GONE: &str = "SELECT EXISTS (SELECT 1 FROM tower_webhook_dead_letters_gone WHERE id = ?1)";
const GONE: &str =
    "INSERT OR REPLACE INTO tower_webhook_dead_letters_gone (id, at) VALUES (?1, ?2)";
const OVER: &str = "SELECT EXISTS (SELECT 1 FROM tower_webhook_dead_letters_gone WHERE at < ?1)";
const SWEEP: &str = "DELETE FROM tower_webhook_dead_letters_gone WHERE id IN
    (SELECT id FROM tower_webhook_dead_letters_gone WHERE at < ?1 ORDER BY at LIMIT ?2)";

/// The largest number of bytes of records that a page reads, without the last record.
const MOST_READ: usize = 8 << 20;

/// Whether there was room for the entry. An entry that was removed before needs none.
pub(super) fn write(
    transaction: &Transaction<'_>,
    entry: &Entry,
    record: &str,
    most: u64,
) -> Result<bool, DatabaseError> {
    let connection = transaction.connection();
    let written = || {
        let known: Option<i64> = connection
            .prepare_cached(PLACE)?
            .query_row([entry.id.as_bytes()], |row| row.get(0))
            .optional()?;
        if known.is_none() {
            let mut is_gone = connection.prepare_cached(IS_GONE)?;
            if is_gone.query_row([entry.id.as_bytes()], |row| row.get(0))? {
                return Ok(true);
            }
            if entries(connection)? >= most {
                return Ok(false);
            }
        }
        let sql = if known.is_some() { REPLACE } else { INSERT };
        connection.prepare_cached(sql)?.execute(params![
            entry.id.as_bytes(),
            entry.cause.reason.as_str(),
            entry.target,
            entry.event_id,
            millis(entry.written_at, false),
            entry.replays,
            record,
        ])?;
        Ok(true)
    };
    written().map_err(DatabaseError::from_driver)
}

pub(super) fn list(
    transaction: &Transaction<'_>,
    filter: &Filter,
    page: &Page,
    now: i64,
) -> Result<Listing, DatabaseError> {
    let limit = page.limit.clamp(1, Page::MAX);
    let before = page.after.as_ref().map_or(i64::MAX, |cursor| {
        i64::try_from(cursor.place()).unwrap_or(i64::MAX)
    });
    let select = Select::page(filter, before, limit + 1);
    let listed = || {
        let mut listing = Listing::default();
        let (mut seen, mut read, mut last) = (0, 0, 0);
        let mut query = transaction.connection().prepare_cached(&select.sql)?;
        let mut rows = query.query(params_from_iter(&select.values))?;
        while let Some(row) = rows.next()? {
            if seen == limit || read >= MOST_READ {
                listing.next = Some(Cursor::new(last));
                break;
            }
            seen += 1;
            last = row.get::<_, i64>(0)?.unsigned_abs();
            let until: Option<i64> = row.get(3)?;
            read += row.get_ref(4)?.as_bytes()?.len();
            let id = EntryId::from_bytes(row.get(1)?);
            match parse(id, row, 2, 4)? {
                Ok(entry) => {
                    let in_progress = until.is_some_and(|until| until > now);
                    listing.entries.push(Summary::of(&entry, in_progress));
                }
                Err(_) => listing.unreadable += 1,
            }
        }
        Ok(listing)
    };
    listed().map_err(DatabaseError::from_driver)
}

pub(super) fn get(
    transaction: &Transaction<'_>,
    id: EntryId,
) -> Result<Option<Result<Entry, StoreError>>, DatabaseError> {
    read(transaction.connection(), id).map_err(DatabaseError::from_driver)
}

pub(super) fn claim(
    transaction: &Transaction<'_>,
    id: EntryId,
    clock: &WallClock,
    lease: Duration,
    max_replays: u32,
) -> Result<Result<EntryClaim, StoreError>, DatabaseError> {
    let connection = transaction.connection();
    let now = transaction.now();
    match look(connection, id, now)? {
        Look::Missing => return Ok(Ok(EntryClaim::Missing)),
        Look::Claimed(lease_left) => return Ok(Ok(EntryClaim::InProgress { lease_left })),
        Look::Free => {}
    }
    let claimed = || {
        let mut entry = match read(connection, id)? {
            None => return Ok(Ok(EntryClaim::Missing)),
            Some(Err(error)) => return Ok(Err(error)),
            Some(Ok(entry)) => Box::new(entry),
        };
        let replays = entry.replays;
        if replays >= max_replays {
            return Ok(Ok(EntryClaim::Spent { replays }));
        }
        entry.replays += 1;
        let values = params![
            id.as_bytes(),
            now,
            stored::until(now, lease),
            stored::nanos(clock),
            transaction.owner()
        ];
        let token: i64 = connection
            .prepare_cached(CLAIM)?
            .query_row(values, |row| row.get(0))?;
        let token = FencingToken::new(token.unsigned_abs());
        Ok(Ok(EntryClaim::Claimed { token, entry }))
    };
    claimed().map_err(DatabaseError::from_driver)
}

pub(super) fn renew(
    transaction: &Transaction<'_>,
    id: EntryId,
    token: FencingToken,
    now: i64,
    lease: Duration,
) -> Result<bool, DatabaseError> {
    let values = params![
        id.as_bytes(),
        stored::token(token),
        now,
        stored::until(now, lease),
        transaction.owner()
    ];
    change(transaction.connection(), RENEW, values)
}

pub(super) fn release(
    transaction: &Transaction<'_>,
    token: FencingToken,
    entry: &Entry,
    record: &str,
) -> Result<bool, DatabaseError> {
    let values = params![
        entry.id.as_bytes(),
        entry.cause.reason.as_str(),
        entry.target,
        entry.event_id,
        millis(entry.written_at, false),
        entry.replays,
        record,
        stored::token(token),
    ];
    change(transaction.connection(), RELEASE, values)
}

pub(super) fn remove(
    transaction: &Transaction<'_>,
    id: EntryId,
    token: FencingToken,
    now: i64,
) -> Result<bool, DatabaseError> {
    let connection = transaction.connection();
    let removed = change(
        connection,
        REMOVE,
        params![id.as_bytes(), stored::token(token)],
    )?;
    if removed {
        change(connection, GONE, params![id.as_bytes(), now])?;
    }
    Ok(removed)
}

pub(super) fn unclaim(
    transaction: &Transaction<'_>,
    id: EntryId,
    token: FencingToken,
) -> Result<bool, DatabaseError> {
    let values = params![id.as_bytes(), stored::token(token)];
    change(transaction.connection(), UNCLAIM, values)
}

pub(super) fn discard(
    transaction: &Transaction<'_>,
    id: EntryId,
    now: i64,
) -> Result<Discarded, DatabaseError> {
    let connection = transaction.connection();
    Ok(match look(connection, id, now)? {
        Look::Missing => Discarded::Missing,
        Look::Claimed(_) => Discarded::InProgress,
        Look::Free => {
            change(connection, DISCARD, &[id.as_bytes()])?;
            change(connection, GONE, params![id.as_bytes(), now])?;
            Discarded::Done
        }
    })
}

pub(super) fn count(transaction: &Transaction<'_>, filter: &Filter) -> Result<u64, DatabaseError> {
    let connection = transaction.connection();
    let counted = match Select::count(filter) {
        None => entries(connection),
        Some(select) => connection
            .prepare_cached(&select.sql)
            .and_then(|mut query| {
                query.query_row(params_from_iter(&select.values), |row| row.get(0))
            })
            .map(i64::unsigned_abs),
    };
    counted.map_err(DatabaseError::from_driver)
}

enum Look {
    /// The time until the lease ends.
    Claimed(Duration),
    Free,
    Missing,
}

/// Whether an entry is claimed.
fn look(connection: &Connection, id: EntryId, now: i64) -> Result<Look, DatabaseError> {
    let found = connection
        .prepare_cached(LOOK)
        .and_then(|mut query| {
            let times = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            query.query_row([id.as_bytes()], times).optional()
        })
        .map_err(DatabaseError::from_driver)?;
    let (since, until): (i64, i64) = match found {
        None => return Ok(Look::Missing),
        Some((Some(since), Some(until))) if until > now => (since, until),
        Some(_) => return Ok(Look::Free),
    };
    let length = until
        .checked_sub(since)
        .filter(|length| (0..=LONGEST).contains(length))
        .ok_or_else(|| DatabaseError::new(DatabaseErrorKind::Mistyped))?;
    let mut left = until.saturating_sub(now);
    if left > length {
        // The clock went back. What was granted is granted from now on, and is written down, or it would be
        // granted anew at each read.
        left = length;
        change(
            connection,
            GRANT_AGAIN,
            params![id.as_bytes(), now, now + left],
        )?;
    }
    Ok(Look::Claimed(Duration::from_millis(left.unsigned_abs())))
}

fn entries(connection: &Connection) -> rusqlite::Result<u64> {
    let mut query = connection.prepare_cached(ENTRIES)?;
    let entries: i64 = query.query_row([], |row| row.get(0))?;
    Ok(entries.max(0).unsigned_abs())
}

fn read(
    connection: &Connection,
    id: EntryId,
) -> rusqlite::Result<Option<Result<Entry, StoreError>>> {
    connection
        .prepare_cached(GET)?
        .query_row([id.as_bytes()], |row| parse(id, row, 0, 1))
        .optional()
}

/// The entry in these columns of a row. The inner error is that of the record.
fn parse(
    id: EntryId,
    row: &Row<'_>,
    replays: usize,
    record: usize,
) -> rusqlite::Result<Result<Entry, StoreError>> {
    let replays: i64 = row.get(replays)?;
    let entry = json::from_json(row.get_ref(record)?.as_bytes()?);
    Ok(entry.and_then(|mut entry| {
        if entry.id != id {
            let other = "the record is that of another entry";
            return Err(StoreError::new(StoreErrorKind::Corrupt).caused_by(other));
        }
        entry.replays = u32::try_from(replays).unwrap_or(u32::MAX);
        Ok(entry)
    }))
}

fn change(
    connection: &Connection,
    sql: &str,
    params: &[&dyn ToSql],
) -> Result<bool, DatabaseError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params))
        .map(|rows| rows > 0)
        .map_err(DatabaseError::from_driver)
}

/// Seven days, in milliseconds: longer than any writer repeats a write that got no answer.
const KEPT: i64 = 7 * 86_400_000;

/// Removes the ids of entries that were removed or discarded more than seven days ago, and writes down which leases
/// are over.
pub(super) struct Retention {
    clock: WallClock,
}

impl Retention {
    pub(super) const fn new(clock: WallClock) -> Self {
        Self { clock }
    }

    fn before(&self) -> i64 {
        stored::now(&self.clock).saturating_sub(KEPT)
    }

    fn remove(&self, connection: &Connection, limit: usize) -> rusqlite::Result<usize> {
        let most = stored::count(limit);
        let mut sweep = connection.prepare_cached(SWEEP)?;
        sweep.execute(params![self.before(), most])
    }
}

impl Chore for Retention {
    fn name(&self) -> &'static str {
        COMPONENT
    }

    fn due(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let is_so = |sql, time| {
            let mut query = connection.prepare_cached(sql)?;
            query.query_row([time], |row| row.get(0))
        };
        Ok(is_so(OVER, self.before())? || is_so(LAPSED, stored::now(&self.clock))?)
    }

    fn end_claims(&self, transaction: &Transaction<'_>, owner: i64) -> rusqlite::Result<()> {
        let mut end = transaction.connection().prepare_cached(END_CLAIMS)?;
        end.execute([owner, transaction.now()]).map(drop)
    }

    fn leapt(&self, connection: &Connection, leap: Leap) -> rusqlite::Result<()> {
        let mut again = connection.prepare_cached(GRANT_ALL_AGAIN)?;
        again.execute([leap.from, leap.to]).map(drop)
    }

    fn keep_claims(&self, transaction: &Transaction<'_>, owner: i64) -> rusqlite::Result<()> {
        let mut keep = transaction.connection().prepare_cached(KEEP_CLAIMS)?;
        keep.execute([owner, transaction.now()]).map(drop)
    }

    fn sweep(&self, transaction: &Transaction<'_>, limit: usize) -> rusqlite::Result<usize> {
        let connection = transaction.connection();
        let lapsed = connection
            .prepare_cached(LAPSE)?
            .execute(params![transaction.now(), stored::count(limit)])?;
        let removed = self.remove(connection, limit.saturating_sub(lapsed))?;
        Ok(lapsed + removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    /// No statement looks at more rows than it is about.
    #[test]
    fn every_statement_finds_its_rows_by_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&STEPS.concat()).unwrap();
        let statements = [
            ENTRIES,
            PLACE,
            INSERT,
            REPLACE,
            GET,
            LOOK,
            GRANT_AGAIN,
            CLAIM,
            RENEW,
            END_CLAIMS,
            GRANT_ALL_AGAIN,
            KEEP_CLAIMS,
            RELEASE,
            REMOVE,
            DISCARD,
            UNCLAIM,
            IS_GONE,
            GONE,
            OVER,
            LAPSED,
            LAPSE,
            SWEEP,
        ];
        for sql in statements {
            let mut plan = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap();
            let mut steps = plan.raw_query();
            while let Some(step) = steps.next().unwrap() {
                let detail: String = step.get("detail").unwrap();
                let claimed = detail.ends_with("INDEX tower_webhook_dead_letters_owner");
                let scans = detail.contains("SCAN tower");
                assert!(!scans || claimed, "{sql}: {detail}");
                assert!(!detail.contains("TEMP B-TREE"), "{sql}: {detail}");
            }
        }
    }

    #[test]
    fn ids_leave_after_a_week_and_some_at_a_time() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&STEPS.concat()).unwrap();
        let day = 86_400_000;
        for number in 1..=5_u8 {
            let values = params![[number; 16], i64::from(number) * day];
            connection.execute(GONE, values).unwrap();
        }
        let at = |days: u64| {
            let now = UNIX_EPOCH + Duration::from_secs(days * 86_400 + 1);
            Retention::new(WallClock::fixed(now))
        };
        assert!(!at(7).due(&connection).unwrap());
        assert_eq!(at(7).remove(&connection, 10).unwrap(), 0);
        assert!(at(10).due(&connection).unwrap());
        assert_eq!(at(10).remove(&connection, 2).unwrap(), 2);
        assert_eq!(at(10).remove(&connection, 2).unwrap(), 1);
        assert!(!at(10).due(&connection).unwrap());
        let is_gone = |number: u8| -> bool {
            let mut query = connection.prepare(IS_GONE).unwrap();
            query.query_row([[number; 16]], |row| row.get(0)).unwrap()
        };
        assert_eq!([3, 4].map(is_gone), [false, true]);
    }
}
