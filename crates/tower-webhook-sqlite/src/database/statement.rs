use super::{DatabaseError, DatabaseErrorKind, Value};
use std::{borrow::Cow, fmt};

/// One SQL statement and the values of its parameters.
///
/// Parameters are `?` or `?1`, `?2`, ...; values are bound in their order. A statement that begins
/// or ends a transaction, attaches a database, or sets a pragma is refused as
/// [`DatabaseErrorKind::Invalid`], because the [`Database`](super::Database) commits many operations
/// in one transaction.
///
/// `Debug` shows the SQL, not the values.
///
/// # Examples
///
/// ```
/// use tower_webhook_sqlite::database::Statement;
///
/// let statement = Statement::new("INSERT INTO events (id, body) VALUES (?1, ?2)")
///     .bind("evt_1")
///     .bind(vec![1_u8, 2, 3]);
/// assert_eq!(statement.sql(), "INSERT INTO events (id, body) VALUES (?1, ?2)");
/// ```
#[derive(Clone, PartialEq)]
#[must_use]
pub struct Statement {
    sql: Cow<'static, str>,
    values: Vec<Value>,
}

impl Statement {
    /// A statement of this SQL. Never format values into the text: [`bind`](Self::bind) them.
    pub fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
        }
    }

    /// Sets the value of the next parameter.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The SQL.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    /// Refuses statements that would break the shared transaction.
    pub(super) fn admit(&self) -> Result<(), DatabaseError> {
        const REFUSED: [&str; 10] = [
            "ATTACH",
            "BEGIN",
            "COMMIT",
            "DETACH",
            "END",
            "PRAGMA",
            "RELEASE",
            "ROLLBACK",
            "SAVEPOINT",
            "VACUUM",
        ];
        let word = first_word(&self.sql);
        if REFUSED
            .iter()
            .any(|refused| word.eq_ignore_ascii_case(refused))
        {
            return Err(DatabaseError::caused(
                DatabaseErrorKind::Invalid,
                format!("`{}` is not a statement for here", word.to_uppercase()),
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("sql", &self.sql)
            .field("parameters", &self.values.len())
            .finish()
    }
}

/// The first keyword, past what SQLite skips: white space, comments, empty statements, a mark.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| {
            c.is_ascii_whitespace() || c == ';' || c == '\u{feff}' || c == '\u{b}'
        });
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else {
            break;
        }
    }
    let end = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_found_past_what_sqlite_skips() {
        for sql in [
            "COMMIT",
            " ;\n commit;",
            "-- x\nCommit",
            "/* a */ -- b\n\tCOMMIT TRANSACTION",
            "\u{feff}COMMIT",
        ] {
            assert!(Statement::new(sql).admit().is_err(), "{sql:?}");
        }
        for sql in [
            "",
            "--",
            "/*",
            "INSERT INTO commits VALUES (1)",
            "SELECT 1",
            "-- COMMIT\nSELECT 1",
        ] {
            assert!(Statement::new(sql).admit().is_ok(), "{sql:?}");
        }
    }
}
