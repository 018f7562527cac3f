//! What is stored as JSON: who a job is from, how its attempts went, why it failed.

use crate::{
    attempt::{History, wire::HistoryWire},
    dead_letter::{Cause, Reason},
    queue::About,
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct AboutWire {
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    /// Seconds since 1970 or, negative, before; then nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<(i64, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_of: Option<String>,
    replays: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct CauseWire {
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// `None` where there is nothing to tell.
pub(super) fn about(about: About) -> Option<String> {
    if about == About::default() {
        return None;
    }
    let About {
        event_id,
        event_time,
        idempotency_key,
        replay_of,
        replays,
        trace_id,
    } = about;
    json(&AboutWire {
        event_id,
        event_time: event_time.map(since_epoch),
        idempotency_key,
        replay_of,
        replays,
        trace_id,
    })
}

/// What cannot be read is left out: the payload is what matters.
pub(super) fn read_about(text: Option<&str>) -> About {
    let wire: AboutWire = text.and_then(read).unwrap_or_default();
    About {
        event_id: wire.event_id,
        event_time: wire.event_time.and_then(from_epoch),
        idempotency_key: wire.idempotency_key,
        replay_of: wire.replay_of,
        replays: wire.replays,
        trace_id: wire.trace_id,
    }
}

/// `None` where nothing was tried.
pub(super) fn history(history: &History) -> Option<String> {
    if *history == History::new() {
        return None;
    }
    json(&HistoryWire::from(history))
}

/// What cannot be read is left out: the payload is what matters.
pub(super) fn read_history(text: Option<&str>) -> History {
    let wire: Option<HistoryWire> = text.and_then(read);
    wire.and_then(|wire| wire.try_into().ok())
        .unwrap_or_default()
}

pub(super) fn cause(cause: &Cause) -> Option<String> {
    json(&CauseWire {
        reason: cause.reason.as_str().to_owned(),
        code: cause.code,
        class: cause.class.clone(),
        message: cause.message.clone(),
    })
}

/// A job that is dead-lettered for a reason that cannot be read was not done, and is not tried again.
pub(super) fn read_cause(text: Option<&str>) -> Cause {
    let Some(wire) = text.and_then(read::<CauseWire>) else {
        return Cause::new(Reason::NotRetryable);
    };
    let reason = Reason::from_name(&wire.reason).unwrap_or(Reason::NotRetryable);
    let mut cause = Cause::new(reason).with_code(wire.code);
    cause.class = wire.class;
    cause.message = wire.message;
    cause
}

fn json<T: Serialize>(wire: &T) -> Option<String> {
    serde_json::to_string(wire).ok()
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn since_epoch(time: SystemTime) -> (i64, u32) {
    let seconds = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (seconds(since), since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            match before.subsec_nanos() {
                0 => (-seconds(before), 0),
                nanos => (-seconds(before) - 1, 1_000_000_000 - nanos),
            }
        }
    }
}

fn from_epoch((seconds, nanos): (i64, u32)) -> Option<SystemTime> {
    let length = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(length)
    } else {
        UNIX_EPOCH.checked_add(length)
    };
    time?.checked_add(Duration::from_nanos(nanos.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_is_about_comes_back_as_it_was_stored() {
        let text = || Some("ä \"1\"".to_owned());
        for event_time in [
            None,
            Some(UNIX_EPOCH),
            Some(UNIX_EPOCH + Duration::new(1_700_000_000, 1)),
            Some(UNIX_EPOCH - Duration::new(1, 1)),
            Some(UNIX_EPOCH - Duration::new(7, 0)),
        ] {
            let told = About {
                event_id: text(),
                event_time,
                idempotency_key: text(),
                replay_of: text(),
                replays: 3,
                trace_id: text(),
            };
            assert_eq!(read_about(about(told.clone()).as_deref()), told);
        }
        assert_eq!(about(About::default()), None);
        assert_eq!(read_about(Some("{")), About::default());
    }

    #[test]
    fn a_cause_comes_back_as_it_was_stored() {
        for reason in Reason::ALL {
            let told = Cause::new(*reason)
                .with_code(Some(503))
                .with_class("transient")
                .with_message("no");
            assert_eq!(read_cause(cause(&told).as_deref()), told);
        }
        assert_eq!(read_cause(None).reason, Reason::NotRetryable);
    }
}
