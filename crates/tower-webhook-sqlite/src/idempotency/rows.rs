//! The table, and the operations on one row of it.

use crate::{
    database::{Chore, DatabaseError, DatabaseErrorKind, Leap, Transaction},
    stored::{self, LONGEST},
};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, types::ValueRef};
use std::time::Duration;
use tower_webhook::{
    clock::WallClock,
    idempotency::{Begin, Fingerprint, IdempotencyKey},
    lease::FencingToken,
};

pub(super) const COMPONENT: &str = "tower-webhook/idempotency";

/// Times are milliseconds since 1970. A row without an answer is a claim, which another can take over when it is
/// over. Until that happens it is its holder's.
///
/// A table with a rowid, and the key in an index: answers of a kibibyte in a tree ordered by key
/// cost three times the writes (pairs of claim and answer, 64 to a commit, November 2026: 3.5 k/s
/// against 10 k/s, and at 64 bytes 10 k/s against 25 k/s).
pub(super) const STEPS: &[&str] = &[
    "
    CREATE TABLE tower_webhook_idempotency (
        scope TEXT NOT NULL,
        id TEXT NOT NULL,
        token INTEGER NOT NULL CHECK (token > 0),
        since INTEGER NOT NULL,
        until INTEGER NOT NULL CHECK (until >= since),
        fingerprint BLOB CHECK (length(fingerprint) = 32),
        answer BLOB,
        UNIQUE (scope, id)
    ) STRICT;
    CREATE INDEX tower_webhook_idempotency_until ON tower_webhook_idempotency (until);
    -- The greatest token of the rows that left: tokens grow whatever the clock does.
    CREATE TABLE tower_webhook_idempotency_floor (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        token INTEGER NOT NULL
    ) STRICT;
    INSERT INTO tower_webhook_idempotency_floor VALUES (1, 0);
",
    // Who claimed it last.
    "ALTER TABLE tower_webhook_idempotency ADD COLUMN owner INTEGER",
    // Set in a claim whose lease was found to be over: the key is free, and until `until` the holder is heard.
    "ALTER TABLE tower_webhook_idempotency ADD COLUMN lapsed INTEGER",
];

const GRANT_AGAIN: &str =
    "UPDATE tower_webhook_idempotency SET since = ?2, until = ?3 WHERE rowid = ?1";
const RENEW: &str = "UPDATE tower_webhook_idempotency SET since = ?4, until = ?5, lapsed = NULL
    WHERE scope = ?1 AND id = ?2 AND token = ?3 AND answer IS NULL";
const COMPLETE: &str = "UPDATE tower_webhook_idempotency
    SET answer = ?6, since = ?4, until = ?5, lapsed = NULL
    WHERE scope = ?1 AND id = ?2 AND token = ?3 AND answer IS NULL";
const RELEASE: &str = "DELETE FROM tower_webhook_idempotency
    WHERE scope = ?1 AND id = ?2 AND token = ?3 AND answer IS NULL";
const RAISE_FLOOR: &str =
    "UPDATE tower_webhook_idempotency_floor SET token = ?1 WHERE only = 1 AND token < ?1";
const FIND: &str = "SELECT rowid, token, since, until, fingerprint, answer, lapsed
    FROM tower_webhook_idempotency WHERE scope = ?1 AND id = ?2";
const INSERT: &str =
    "INSERT INTO tower_webhook_idempotency (scope, id, token, since, until, fingerprint, owner)
    VALUES (?1, ?2, max(?3, (SELECT 1 + token FROM tower_webhook_idempotency_floor WHERE only = 1)),
    ?4, ?5, ?6, ?7)
    RETURNING token";
const TAKE_OVER: &str = "UPDATE tower_webhook_idempotency
    SET token = ?2, since = ?3, until = ?4, fingerprint = ?5, owner = ?6, answer = NULL,
    lapsed = NULL WHERE rowid = ?1";
/// Ends the leases of an owner that is gone. By the index, and so not those of longer leases, among which are
/// the answers.
const END_CLAIMS: &str = "UPDATE tower_webhook_idempotency
    SET since = min(since, ?2), until = ?2
    WHERE until > ?2 AND until <= ?3 AND answer IS NULL AND owner = ?1";
/// By the index: an answer is usually kept for longer than a day, a claim for less.
const GRANT_ALL_AGAIN: &str = "UPDATE tower_webhook_idempotency
    SET until = ?2 + until - since, since = ?2
    WHERE until > ?1 AND until <= ?3 AND answer IS NULL";
const KEEP_CLAIMS: &str = "UPDATE tower_webhook_idempotency
    SET until = ?2 + until - since, since = ?2 WHERE until <= ?2 AND answer IS NULL AND owner = ?1";
const DUE: &str = "SELECT EXISTS (SELECT 1 FROM tower_webhook_idempotency WHERE until <= ?1)";
/// Keeps claims whose leases are over, for holders that are late.
const LAPSE: &str = "UPDATE tower_webhook_idempotency SET lapsed = 1, until = ?3 WHERE rowid IN (
    SELECT rowid FROM tower_webhook_idempotency WHERE until <= ?1 ORDER BY until LIMIT ?2
    ) AND answer IS NULL AND lapsed IS NULL";
const SWEEP: &str = "DELETE FROM tower_webhook_idempotency WHERE rowid IN (
    SELECT rowid FROM tower_webhook_idempotency WHERE until <= ?1 ORDER BY until LIMIT ?2
    ) RETURNING token";

const HOUR_MS: i64 = 60 * 60 * 1000;
/// Also how long a claim is kept after its lease, for a holder that is late: a machine may sleep overnight.
const DAY_MS: i64 = 24 * HOUR_MS;

struct Record {
    rowid: i64,
    token: i64,
    since: i64,
    until: i64,
    fingerprint: Option<[u8; 32]>,
    /// `None` while the work runs.
    answer: Option<Bytes>,
    /// The lease was found to be over.
    lapsed: bool,
}

impl Record {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let answer = match row.get_ref(5)? {
            ValueRef::Null => None,
            answer => Some(Bytes::copy_from_slice(answer.as_blob()?)),
        };
        Ok(Self {
            rowid: row.get(0)?,
            token: row.get(1)?,
            since: row.get(2)?,
            until: row.get(3)?,
            fingerprint: row.get(4)?,
            answer,
            lapsed: row.get::<_, Option<i64>>(6)?.is_some(),
        })
    }
}

pub(super) fn begin(
    transaction: &Transaction<'_>,
    key: &IdempotencyKey,
    fingerprint: Option<&Fingerprint>,
    lease: Duration,
) -> Result<Begin, DatabaseError> {
    let connection = transaction.connection();
    let now = transaction.now();
    let Some(record) = find(connection, key).map_err(DatabaseError::from_driver)? else {
        let token = insert(transaction, key, fingerprint, now, lease);
        return acquired(token.map_err(DatabaseError::from_driver)?);
    };
    let length = record
        .until
        .checked_sub(record.since)
        .filter(|length| record.token > 0 && (0..=LONGEST).contains(length))
        .ok_or_else(corrupt)?;
    if record.lapsed || record.until <= now {
        let token = take_over(transaction, &record, fingerprint, now, lease);
        return acquired(token.map_err(DatabaseError::from_driver)?);
    }
    if let (Some(kept), Some(asked)) = (&record.fingerprint, fingerprint)
        && kept != asked.as_bytes()
    {
        return Ok(Begin::Mismatch);
    }
    let mut left = record.until - now;
    if left > length {
        // The clock went back. What was granted is granted from now on, and is written down, or it would be
        // granted anew at each `begin`.
        left = length;
        change(
            connection,
            GRANT_AGAIN,
            params![record.rowid, now, now + left],
        )?;
    }
    Ok(match record.answer {
        Some(answer) => Begin::Completed(answer),
        None => Begin::InProgress {
            lease_left: Duration::from_millis(left.unsigned_abs()),
        },
    })
}

pub(super) fn renew(
    transaction: &Transaction<'_>,
    key: &IdempotencyKey,
    token: FencingToken,
    lease: Duration,
) -> Result<bool, DatabaseError> {
    let now = transaction.now();
    change(
        transaction.connection(),
        RENEW,
        params![
            key.scope(),
            key.id(),
            stored::token(token),
            now,
            stored::until(now, lease)
        ],
    )
}

pub(super) fn complete(
    transaction: &Transaction<'_>,
    key: &IdempotencyKey,
    token: FencingToken,
    answer: &[u8],
    ttl: Duration,
) -> Result<bool, DatabaseError> {
    let now = transaction.now();
    change(
        transaction.connection(),
        COMPLETE,
        params![
            key.scope(),
            key.id(),
            stored::token(token),
            now,
            stored::until(now, ttl),
            answer
        ],
    )
}

pub(super) fn release(
    transaction: &Transaction<'_>,
    key: &IdempotencyKey,
    token: FencingToken,
) -> Result<bool, DatabaseError> {
    let connection = transaction.connection();
    let released = change(
        connection,
        RELEASE,
        params![key.scope(), key.id(), stored::token(token)],
    )?;
    if released && let Some(token) = stored::token(token) {
        raise_floor(connection, token).map_err(DatabaseError::from_driver)?;
    }
    Ok(released)
}

/// Remembers the token of a removed row.
fn raise_floor(connection: &Connection, token: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(RAISE_FLOOR)?
        .execute([token])
        .map(drop)
}

fn find(connection: &Connection, key: &IdempotencyKey) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached(FIND)?
        .query_row([key.scope(), key.id()], Record::read)
        .optional()
}

fn insert(
    transaction: &Transaction<'_>,
    key: &IdempotencyKey,
    fingerprint: Option<&Fingerprint>,
    now: i64,
    lease: Duration,
) -> rusqlite::Result<i64> {
    let mut insert = transaction.connection().prepare_cached(INSERT)?;
    insert.query_row(
        params![
            key.scope(),
            key.id(),
            stored::nanos(transaction.clock()),
            now,
            stored::until(now, lease),
            fingerprint.map(Fingerprint::as_bytes),
            transaction.owner(),
        ],
        |row| row.get(0),
    )
}

/// The row is over: it becomes a claim again.
fn take_over(
    transaction: &Transaction<'_>,
    over: &Record,
    fingerprint: Option<&Fingerprint>,
    now: i64,
    lease: Duration,
) -> rusqlite::Result<i64> {
    let token = stored::nanos(transaction.clock()).max(over.token.saturating_add(1));
    transaction
        .connection()
        .prepare_cached(TAKE_OVER)?
        .execute(params![
            over.rowid,
            token,
            now,
            stored::until(now, lease),
            fingerprint.map(Fingerprint::as_bytes),
            transaction.owner(),
        ])
        .map(|_| token)
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

fn acquired(token: i64) -> Result<Begin, DatabaseError> {
    u64::try_from(token)
        .map(|token| Begin::Acquired(FencingToken::new(token)))
        .map_err(|_| corrupt())
}

fn corrupt() -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::Mistyped)
}

/// Removes rows whose time is over: answers at once, claims a day after their lease.
pub(super) struct Retention {
    clock: WallClock,
}

impl Retention {
    pub(super) const fn new(clock: WallClock) -> Self {
        Self { clock }
    }
}

impl Chore for Retention {
    fn name(&self) -> &'static str {
        COMPONENT
    }

    fn due(&self, connection: &Connection) -> rusqlite::Result<bool> {
        connection
            .prepare_cached(DUE)?
            .query_row([stored::now(&self.clock)], |row| row.get(0))
    }

    /// A lease that is renewed every third of its time would end at once, and a repeat would run beside the work that
    /// holds the key. So every claim, also those of other processes, is granted again from the new time on: what a
    /// holder that died had claimed is held for one lease longer.
    fn leapt(&self, connection: &Connection, leap: Leap) -> rusqlite::Result<()> {
        connection
            .prepare_cached(GRANT_ALL_AGAIN)?
            .execute([leap.from, leap.to, leap.to.saturating_add(DAY_MS)])
            .map(drop)
    }

    fn keep_claims(&self, transaction: &Transaction<'_>, owner: i64) -> rusqlite::Result<()> {
        let mut keep = transaction.connection().prepare_cached(KEEP_CLAIMS)?;
        keep.execute([owner, transaction.now()]).map(drop)
    }

    fn end_claims(&self, transaction: &Transaction<'_>, owner: i64) -> rusqlite::Result<()> {
        let now = transaction.now();
        let mut end = transaction.connection().prepare_cached(END_CLAIMS)?;
        end.execute([owner, now, now.saturating_add(HOUR_MS)])
            .map(drop)
    }

    fn sweep(&self, transaction: &Transaction<'_>, limit: usize) -> rusqlite::Result<usize> {
        let connection = transaction.connection();
        let (limit, now) = (stored::count(limit), transaction.now());
        let kept =
            connection
                .prepare_cached(LAPSE)?
                .execute([now, limit, now.saturating_add(DAY_MS)])?;
        let mut left = kept;
        let mut greatest = 0;
        {
            let mut delete = connection.prepare_cached(SWEEP)?;
            let mut tokens = delete.query([now, limit - stored::count(kept)])?;
            while let Some(row) = tokens.next()? {
                left += 1;
                greatest = greatest.max(row.get::<_, i64>(0)?);
            }
        }
        raise_floor(connection, greatest)?;
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No statement looks at more rows than it is about, whatever the table holds and whether or
    /// not SQLite has statistics.
    #[test]
    fn every_statement_finds_its_rows_by_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&STEPS.join(";")).unwrap();
        let statements = [
            GRANT_AGAIN,
            GRANT_ALL_AGAIN,
            KEEP_CLAIMS,
            END_CLAIMS,
            RENEW,
            COMPLETE,
            RELEASE,
            RAISE_FLOOR,
            FIND,
            INSERT,
            TAKE_OVER,
            DUE,
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
                assert!(!detail.contains("SCAN tower"), "{sql}: {detail}");
                assert!(!detail.contains("TEMP B-TREE"), "{sql}: {detail}");
                if sql.contains("scope = ?1") {
                    assert!(detail.contains("(scope=? AND id=?)"), "{sql}: {detail}");
                }
            }
        }
    }
}
