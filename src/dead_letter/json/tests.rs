use super::{from_json, parse_time, print_time, to_json};
use crate::{
    StoreErrorKind,
    attempt::{AttemptRecord, GaveUp, History},
    dead_letter::{Cause, Direction, Entry, EntryBody, EntryId, Reason},
    outcome::Outcome,
};
use bytes::Bytes;
use proptest::{option, prelude::*};
use std::time::{Duration, SystemTime};

fn moment() -> impl Strategy<Value = SystemTime> {
    (-62_167_219_200_000_i64..=253_402_207_200_000).prop_map(|millis| {
        let distance = Duration::from_millis(millis.unsigned_abs());
        if millis < 0 {
            SystemTime::UNIX_EPOCH - distance
        } else {
            SystemTime::UNIX_EPOCH + distance
        }
    })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        "\\PC{0,40}".prop_map(Bytes::from),
        "[\\x00-\\x7f]{0,40}".prop_map(Bytes::from),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,20}", "[\\x00-\\x7f]{0,20}"]
}

fn record() -> impl Strategy<Value = AttemptRecord> {
    let outcome = prop_oneof![
        Just(Outcome::success()),
        Just(Outcome::transient().not_repeatable()),
        Just(Outcome::refused(Some(Duration::from_millis(1)))),
        any::<u16>().prop_map(|code| Outcome::permanent().with_code(code)),
        any::<u64>()
            .prop_map(|wait| Outcome::throttled(Some(Duration::from_millis(wait))).with_code(429)),
    ];
    (
        any::<u32>(),
        any::<u64>(),
        any::<u64>(),
        outcome,
        option::of(any::<u64>()),
    )
        .prop_map(|(number, started, took, outcome, wait)| {
            let [started, took] = [started, took].map(Duration::from_millis);
            let record = AttemptRecord::new(number, started, took, outcome);
            match wait {
                Some(wait) => record.with_wait(Duration::from_millis(wait)),
                None => record,
            }
        })
}

fn history() -> impl Strategy<Value = History> {
    let gave_up = option::of(proptest::sample::select(GaveUp::ALL));
    (proptest::collection::vec(record(), 0..40), gave_up).prop_map(|(records, gave_up)| {
        let mut history = History::new();
        for record in records {
            history.push(record);
        }
        match gave_up {
            Some(reason) => history.with_gave_up(reason),
            None => history,
        }
    })
}

fn cause() -> impl Strategy<Value = Cause> {
    let reason = proptest::sample::select(Reason::ALL);
    (
        reason,
        option::of(any::<u16>()),
        option::of(text()),
        option::of(text()),
    )
        .prop_map(|(reason, code, class, message)| {
            let mut cause = Cause::new(reason).with_code(code);
            cause.class = class;
            cause.message = message;
            cause
        })
}

prop_compose! {
    fn entry()(
        id in any::<[u8; 16]>(),
        inbound in any::<bool>(),
        (kind, target, method, uri) in (text(), text(), option::of(text()), option::of(text())),
        headers in proptest::collection::vec((text(), bytes()), 0..4),
        (body, most) in (bytes(), 0_usize..80),
        cause in cause(),
        history in history(),
        times in proptest::array::uniform4(moment()),
        there in any::<[bool; 3]>(),
        (event_id, key, of, trace) in
            (option::of(text()), option::of(text()), option::of(text()), option::of(text())),
        (replays, left_out) in (any::<u32>(), 0_u32..3),
    ) -> Entry {
        let mut entry = Entry::new(EntryId::from_bytes(id), &kind, &target, cause, times[0]);
        if inbound {
            entry.direction = Direction::Inbound;
        }
        (entry.method, entry.uri) = (method, uri);
        entry.headers = headers;
        entry.headers_left_out = left_out;
        entry.body = EntryBody::new(&body, most);
        entry.history = history;
        entry.first_attempt_at = there[0].then_some(times[1]);
        entry.last_attempt_at = there[1].then_some(times[2]);
        entry.event_time = there[2].then_some(times[3]);
        (entry.event_id, entry.idempotency_key) = (event_id, key);
        (entry.replay_of, entry.trace_id) = (of, trace);
        entry.replays = replays;
        entry
    }
}

proptest! {
    #[test]
    fn any_entry_comes_back_as_it_was(entry in entry()) {
        let record = to_json(&entry);
        prop_assert!(!record.contains('\n'));
        prop_assert_eq!(from_json(record.as_bytes()).unwrap(), entry);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_json(&bytes);
    }

    #[test]
    fn a_record_that_lost_a_part_is_corrupt(entry in entry(), cut in any::<proptest::sample::Index>()) {
        let record = to_json(&entry);
        let cut = cut.index(record.len());
        let error = from_json(&record.as_bytes()[..cut]).unwrap_err();
        prop_assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    }
}

#[test]
fn times_are_utc_to_the_millisecond() {
    let at = |millis: i64, finer: u32| {
        let distance = Duration::from_millis(millis.unsigned_abs());
        let time = if millis < 0 {
            SystemTime::UNIX_EPOCH - distance
        } else {
            SystemTime::UNIX_EPOCH + distance
        };
        print_time(time + Duration::from_nanos(finer.into()))
    };
    assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
    assert_eq!(at(1_705_312_800_123, 999_999), "2024-01-15T10:00:00.123Z");
    assert_eq!(at(-1, 1), "1969-12-31T23:59:59.999Z");
    // Beyond the year 9999.
    assert_eq!(at(1 << 52, 0), "9999-12-30T22:00:00.000Z");
    for odd in [
        "2024-01-15",
        "2024-01-15T10:00:00",
        "2024-01-15T10:00:00+00:00",
        "2024-01-15T10:00:00.Z",
        "2024-01-15T10:00:00Z[UTC]",
        "2024-02-30T10:00:00Z",
        "2024-01-15 10:00:00Z",
        "é024-01-15T10:00:00Z",
        "",
    ] {
        assert_eq!(parse_time(odd), None, "{odd}");
    }
}
