//! Turns a filter into conditions on rows, so that they are found by an index and in their order.

use rusqlite::types::Value;
use std::time::{SystemTime, UNIX_EPOCH};
use tower_webhook::dead_letter::Filter;

/// Conditions, and the values for them.
pub(super) struct Select {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

impl Select {
    /// A page: columns 0 to 4 are place, id, replays, until and record.
    pub(super) fn page(filter: &Filter, before: i64, rows: usize) -> Self {
        // A filter by time alone has no index in the order of the places: all places are read, newest first.
        let mut select = Self::new(
            "SELECT place, id, replays, until, record FROM tower_webhook_dead_letters WHERE place < ?",
            filter,
            vec![before.into()],
            "+written_at",
        );
        select.sql.push_str(" ORDER BY place DESC LIMIT ?");
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        select.values.push(rows.into());
        select
    }

    /// Counts rows, by an index alone or a few rows. `None` selects all.
    pub(super) fn count(filter: &Filter) -> Option<Self> {
        if *filter == Filter::all() {
            return None;
        }
        let by_column =
            filter.reason.is_some() || filter.target.is_some() || filter.event_id.is_some();
        Some(Self::new(
            "SELECT count(*) FROM tower_webhook_dead_letters WHERE true",
            filter,
            Vec::new(),
            if by_column {
                "+written_at"
            } else {
                "written_at"
            },
        ))
    }

    fn new(head: &str, filter: &Filter, values: Vec<Value>, time: &str) -> Self {
        let mut select = Self {
            sql: head.to_owned(),
            values,
        };
        // One index is used: a plus before a column excludes it from SQLite's choice.
        let by_event = filter.event_id.is_some();
        let plus = if by_event { "+" } else { "" };
        if let Some(event_id) = &filter.event_id {
            select.add("event_id = ?", event_id.clone().into());
        }
        if let Some(target) = &filter.target {
            select.add(&format!("{plus}target = ?"), target.clone().into());
        }
        if let Some(reason) = filter.reason {
            let reason = reason.as_str().to_owned();
            select.add(&format!("{plus}reason = ?"), reason.into());
        }
        if let Some(from) = filter.written_from {
            select.add(&format!("{time} >= ?"), millis(from, true).into());
        }
        if let Some(before) = filter.written_before {
            select.add(&format!("{time} < ?"), millis(before, true).into());
        }
        select
    }

    fn add(&mut self, condition: &str, value: Value) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.push(value);
    }
}

/// Milliseconds since 1970. Times are stored in whole milliseconds, so a bound is rounded up: it then
/// separates entries as their exact times would.
pub(super) fn millis(time: SystemTime, up: bool) -> i64 {
    const FAR: i64 = i64::MAX / 4;
    let rounded = |nanos: u128, up: bool| {
        let millis = if up {
            nanos.div_ceil(1_000_000)
        } else {
            nanos / 1_000_000
        };
        i64::try_from(millis).map_or(FAR, |millis| millis.min(FAR))
    };
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => rounded(since.as_nanos(), up),
        Err(before) => -rounded(before.duration().as_nanos(), !up),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rows, *};
    use rusqlite::{Connection, params_from_iter};
    use std::time::Duration;
    use tower_webhook::dead_letter::Reason;

    fn filters() -> impl Iterator<Item = Filter> {
        (0..32).map(|bits: u32| {
            let is = |bit: u32| bits & (1 << bit) != 0;
            let mut filter = Filter::all();
            filter.reason = is(0).then_some(Reason::Rejected);
            filter.target = is(1).then(|| "a".to_owned());
            filter.event_id = is(2).then(|| "b".to_owned());
            filter.written_from = is(3).then_some(UNIX_EPOCH);
            filter.written_before = is(4).then_some(UNIX_EPOCH);
            filter
        })
    }

    fn plan(connection: &Connection, select: &Select) -> String {
        let mut plan = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {}", select.sql))
            .unwrap();
        let steps = plan.query_map(params_from_iter(&select.values), |row| row.get("detail"));
        let steps: Result<Vec<String>, _> = steps.unwrap().collect();
        steps.unwrap().join("; ")
    }

    #[test]
    fn every_filter_finds_its_rows_by_an_index_and_in_their_order() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(&rows::STEPS.concat()).unwrap();
        for filter in filters() {
            let page = plan(&connection, &Select::page(&filter, i64::MAX, 10));
            assert!(page.contains("SEARCH"), "{filter:?}: {page}");
            assert!(!page.contains("TEMP B-TREE"), "{filter:?}: {page}");
            let by = match (&filter.event_id, &filter.target, filter.reason) {
                (Some(_), _, _) => "tower_webhook_letters_event (event_id=? AND rowid<?)",
                (_, Some(_), Some(_)) => {
                    "tower_webhook_letters_both (target=? AND reason=? AND rowid<?)"
                }
                (_, Some(_), None) => "tower_webhook_letters_target (target=? AND rowid<?)",
                (_, None, Some(_)) => "tower_webhook_letters_reason (reason=? AND rowid<?)",
                _ => "PRIMARY KEY (rowid<?)",
            };
            assert!(page.contains(by), "{filter:?}: {page}");
            if let Some(select) = Select::count(&filter) {
                let count = plan(&connection, &select);
                assert!(count.contains("SEARCH"), "{filter:?}: {count}");
            }
        }
    }

    #[test]
    fn a_bound_between_two_milliseconds_parts_the_entries_around_it() {
        let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
        assert_eq!(millis(at(5_000_000), true), 5);
        assert_eq!(millis(at(5_000_001), true), 6);
        assert_eq!(millis(at(5_999_999), false), 5);
        assert_eq!(millis(UNIX_EPOCH - Duration::from_nanos(1), false), -1);
        assert_eq!(millis(UNIX_EPOCH - Duration::from_nanos(1), true), 0);
    }
}
