//! The stored form of a history: in dead letters, and with jobs that are tried again later.

use super::{AttemptRecord, GaveUp, History};
use crate::outcome::{Outcome, OutcomeKind};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Times are whole milliseconds, from the beginning of the delivery.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryWire {
    attempts: Vec<RecordWire>,
    #[serde(default)]
    left_out: u32,
    attempts_made: u32,
    #[serde(default)]
    refusals: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gave_up: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordWire {
    number: u32,
    started_ms: u64,
    took_ms: u64,
    outcome: String,
    #[serde(default)]
    may_retry: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait_ms: Option<u64>,
}

/// A stored history that this release does not know, or that is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAHistory;

impl From<&History> for HistoryWire {
    fn from(history: &History) -> Self {
        Self {
            attempts: history.records.iter().map(RecordWire::from).collect(),
            left_out: history.left_out,
            attempts_made: history.attempts,
            refusals: history.refusals,
            gave_up: history.gave_up.map(|reason| reason.as_str().to_owned()),
        }
    }
}

impl From<&AttemptRecord> for RecordWire {
    fn from(record: &AttemptRecord) -> Self {
        let outcome = record.outcome();
        Self {
            number: record.number(),
            started_ms: millis(record.started()),
            took_ms: millis(record.took()),
            outcome: outcome.kind().as_str().to_owned(),
            may_retry: outcome.may_retry(),
            code: outcome.code(),
            retry_after_ms: outcome.retry_after().map(millis),
            wait_ms: record.wait.map(millis),
        }
    }
}

impl TryFrom<HistoryWire> for History {
    type Error = NotAHistory;

    fn try_from(wire: HistoryWire) -> Result<Self, NotAHistory> {
        if wire.attempts.len() > Self::MAX_RECORDS {
            return Err(NotAHistory);
        }
        let gave_up = match &wire.gave_up {
            None => None,
            Some(name) => Some(gave_up(name).ok_or(NotAHistory)?),
        };
        Ok(Self {
            records: wire
                .attempts
                .into_iter()
                .map(AttemptRecord::try_from)
                .collect::<Result<_, _>>()?,
            left_out: wire.left_out,
            attempts: wire.attempts_made,
            refusals: wire.refusals,
            gave_up,
        })
    }
}

impl TryFrom<RecordWire> for AttemptRecord {
    type Error = NotAHistory;

    fn try_from(wire: RecordWire) -> Result<Self, NotAHistory> {
        let mut kinds = OutcomeKind::ALL.iter();
        let kind = kinds.find(|kind| kind.as_str() == wire.outcome);
        let outcome = Outcome::recorded(
            *kind.ok_or(NotAHistory)?,
            wire.may_retry,
            wire.retry_after_ms.map(Duration::from_millis),
            wire.code,
        );
        let (started, took) = (wire.started_ms, wire.took_ms);
        let [started, took] = [started, took].map(Duration::from_millis);
        let mut record = Self::new(wire.number, started, took, outcome);
        record.wait = wire.wait_ms.map(Duration::from_millis);
        Ok(record)
    }
}

fn gave_up(name: &str) -> Option<GaveUp> {
    let mut all = GaveUp::ALL.iter().copied();
    all.find(|reason| reason.as_str() == name)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_comes_back_as_it_was_stored() {
        let second = Duration::from_secs(1);
        let mut history = History::new();
        let throttled = Outcome::throttled(Some(second)).with_code(429);
        history.push(AttemptRecord::new(1, Duration::ZERO, second, throttled).with_wait(second));
        let refused = Outcome::refused(None);
        history.push(AttemptRecord::new(2, second * 2, Duration::ZERO, refused));
        let last = Outcome::transient().not_repeatable();
        history.push(AttemptRecord::new(2, second * 3, second, last));
        let history = history.with_gave_up(GaveUp::NotRetryable);

        let stored = serde_json::to_string(&HistoryWire::from(&history)).unwrap();
        let read: HistoryWire = serde_json::from_str(&stored).unwrap();
        assert_eq!(History::try_from(read), Ok(history));
    }

    #[test]
    fn what_no_history_says_is_refused() {
        for stored in [
            r#"{"attempts":[{"number":1,"startedMs":0,"tookMs":0,"outcome":"odd"}],"attemptsMade":1}"#,
            r#"{"attempts":[],"attemptsMade":0,"gaveUp":"bored"}"#,
        ] {
            let read: HistoryWire = serde_json::from_str(stored).unwrap();
            assert_eq!(History::try_from(read), Err(NotAHistory), "{stored}");
        }
    }
}
