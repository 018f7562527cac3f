//! The documented form: what it is, and what is read and refused.

use crate::support::{body, id};
use bytes::Bytes;
use std::{
    error::Error,
    time::{Duration, SystemTime},
};
use tower_webhook::{
    StoreErrorKind,
    attempt::{AttemptRecord, GaveUp, History},
    dead_letter::{Cause, Direction, Entry, EntryBody, Listing, Reason, Summary, json},
    outcome::Outcome,
};

const GOLDEN: &str = include_str!("../data/dead-letter-v1.json");

/// Something in every member.
fn full() -> Entry {
    let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    let cause = Cause::new(Reason::RetriesExhausted)
        .with_code(Some(503))
        .with_class("throttled")
        .with_message("the peer answered \"busy\"\n");
    let mut entry = Entry::new(
        id(0xabcd),
        "http",
        "peer.test:8443",
        cause,
        at(1_763_726_400_123),
    );
    entry.direction = Direction::Inbound;
    entry.method = Some("POST".to_owned());
    entry.uri = Some("https://peer.test:8443/hooks?a=1".to_owned());
    entry.headers = vec![
        (
            "content-type".to_owned(),
            Bytes::from_static(b"application/json"),
        ),
        ("x-odd".to_owned(), Bytes::from_static(b"\xff\xfe")),
    ];
    entry.body = body("{\"text\":\"größer\"}");
    let second = Duration::from_secs(1);
    let mut history = History::new();
    let throttled = Outcome::throttled(Some(second * 2)).with_code(503);
    history.push(AttemptRecord::new(1, Duration::ZERO, second, throttled).with_wait(second * 2));
    let lost = Outcome::transient().not_repeatable();
    history.push(AttemptRecord::new(2, second * 3, second, lost));
    entry.history = history.with_gave_up(GaveUp::RetriesExhausted);
    entry.first_attempt_at = Some(at(1_763_726_396_123));
    entry.last_attempt_at = Some(at(1_763_726_400_123));
    entry.event_time = Some(at(1_763_726_390_000));
    entry.event_id = Some("evt_1".to_owned());
    entry.idempotency_key = Some("key_1".to_owned());
    entry.replays = 2;
    entry.replay_of = Some("evt_0".to_owned());
    entry.trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
    entry
}

fn kind(record: &str) -> StoreErrorKind {
    json::from_json(record.as_bytes()).unwrap_err().kind()
}

/// Which member a record is refused for.
fn damaged(record: &str) -> String {
    let error = json::from_json(record.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{record}");
    let source = error.source().unwrap().to_string();
    source.split('`').nth(1).unwrap().to_owned()
}

#[test]
fn the_form_does_not_change_unnoticed() {
    assert_eq!(json::to_json(&full()), GOLDEN.trim_end());
    assert_eq!(json::from_json(GOLDEN.as_bytes()).unwrap(), full());
}

#[test]
fn what_is_cut_or_not_text_is_in_base64() {
    let mut entry = full();
    entry.body = EntryBody::new(&Bytes::from_static(b"\xff\x00whole"), 3);
    let record = json::to_json(&entry);
    assert!(
        record.contains(r#""body":{"base64":"/wB3","length":7,"truncated":true,"#),
        "{record}"
    );
    assert_eq!(json::from_json(record.as_bytes()).unwrap(), entry);
}

#[test]
fn what_would_blow_up_as_text_is_in_base64_and_json_stays_readable() {
    let mut entry = full();
    let base = entry.headers[..1].to_vec();
    let texts: [(&[u8], bool); 6] = [
        (b"", true),
        (br#"{"a":"b","c":["d"]}"#, true),
        (b"\"\"\"\"\\\\\r\n\t\n", true),
        (b"one \x1b[1mline\x1b[0m of a terminal", true),
        (&[1; 1000], false),
        (b"\x00\x00a", false),
    ];
    for (bytes, readable) in texts {
        entry.headers = base.clone();
        entry
            .headers
            .push(("x-odd".to_owned(), Bytes::from_static(b"\x01\x02")));
        entry.body = body(bytes);
        let record = json::to_json(&entry);
        assert_eq!(record.contains(r#""body":{"text":"#), readable, "{record}");
        assert!(
            record.contains(r#"{"name":"x-odd","base64":"AQI="}"#),
            "{record}"
        );
        assert_eq!(json::from_json(record.as_bytes()).unwrap(), entry);
    }
    entry.body = body("");
    let least = json::to_json(&entry).len();
    for worst in ["\u{1}", "\u{1}aaaa", "\u{1}aaa", "\"", "\n", "\u{7f}"] {
        entry.body = body(worst.repeat(100_000 / worst.len()));
        let more = json::to_json(&entry).len() - least;
        assert!(more <= 200_010, "{worst:?} takes {more}");
    }
}

#[test]
fn members_of_others_are_ignored_and_null_is_nothing() {
    let record = GOLDEN
        .replacen('{', r#"{"place":7,"deep":[[{"id":1}]],"#, 1)
        .replace(r#""body":{"#, r#""body":{"also":[],"#)
        .replace(r#""replayOf":"evt_0""#, r#""replayOf":null"#);
    let mut expected = full();
    expected.replay_of = None;
    assert_eq!(json::from_json(record.as_bytes()).unwrap(), expected);
}

#[test]
fn a_newer_schema_is_told_before_anything_else() {
    for newer in [
        r#"{"schemaVersion":2,"id":7,"body":null}"#,
        r#"{"url":"http://peer.test/","payload":1,"schemaVersion":2}"#,
    ] {
        let expected = StoreErrorKind::NewerSchema { found: 2, known: 1 };
        assert_eq!(kind(newer), expected, "{newer}");
    }
    let far = GOLDEN.replace("\"schemaVersion\":1", "\"schemaVersion\":99999999999");
    let expected = StoreErrorKind::NewerSchema {
        found: u32::MAX,
        known: 1,
    };
    assert_eq!(kind(&far), expected);
}

#[test]
fn a_damaged_record_names_its_member_and_never_its_value() {
    let cases = [
        (
            "\"schemaVersion\":1",
            "\"schemaVersion\":\"1\"",
            "schemaVersion",
        ),
        ("\"schemaVersion\":1,", "", "schemaVersion"),
        (
            "\"schemaVersion\":1",
            "\"schemaVersion\":-1",
            "schemaVersion",
        ),
        ("0000abcd\"", "0000ABCD\"", "id"),
        ("\"inbound\"", "\"sideways\"", "direction"),
        (
            "\"target\":\"peer.test:8443\"",
            "\"target\":[\"sk_live_secret\"]",
            "target",
        ),
        (
            "\"name\":\"x-odd\",\"base64\":\"//4=\"",
            "\"name\":\"x-odd\"",
            "headers",
        ),
        ("\"base64\":\"//4=\"", "\"base64\":\"//4\"", "headers"),
        ("größer", "viel kleiner", "body.length"),
        ("größer", "kleiner", "body.truncated"),
        ("größer", "grösser", "body.sha256"),
        (
            "\"truncated\":false",
            "\"truncated\":true",
            "body.truncated",
        ),
        (
            "\"truncated\":false,",
            "\"truncated\":false,\"base64\":\"\",",
            "body",
        ),
        ("\"sha256\":\"", "\"sha256\":\"00", "body.sha256"),
        ("\"length\":19,", "", "body.length"),
        (
            "retries_exhausted\",\"lastStatus\":503",
            "bored\",\"lastStatus\":503",
            "reason",
        ),
        ("\"lastStatus\":503", "\"lastStatus\":70000", "lastStatus"),
        (
            "\"outcome\":\"transient\"",
            "\"outcome\":\"odd\"",
            "history",
        ),
        ("\"writtenAt\":\"2025-", "\"writtenAt\":\"25-", "writtenAt"),
        ("\"writtenAt\":", "\"wroteAt\":", "writtenAt"),
        ("\"replays\":2", "\"replays\":-2", "replays"),
        ("\"traceId\":", "\"id\":", "(record)"),
    ];
    for (from, to, member) in cases {
        assert!(GOLDEN.contains(from), "{from}");
        let record = GOLDEN.replacen(from, to, 1);
        assert_eq!(damaged(&record), member, "{from} -> {to}");
        let error = json::from_json(record.as_bytes()).unwrap_err();
        let told = format!("{error:?} {error} {}", error.source().unwrap());
        assert!(
            !told.contains("sk_live") && !told.contains("kleiner"),
            "{told}"
        );
    }
    for record in [
        "",
        "null",
        "[]",
        "[1]",
        "7",
        "{}}",
        "{\"schemaVersion\":1",
        "\u{feff}{}",
    ] {
        assert_eq!(damaged(record), "(record)", "{record}");
    }
    let not_text = json::from_json(b"{\"a\":\"\xff\"}").unwrap_err();
    assert_eq!(not_text.kind(), StoreErrorKind::Corrupt);
}

#[test]
fn neither_depth_nor_length_hurts() {
    let deep = "[".repeat(1 << 20);
    for record in [
        deep.clone(),
        format!("{{\"schemaVersion\":{deep}"),
        format!(
            "{{\"schemaVersion\":1,\"deep\":{deep}{}}}",
            "]".repeat(1 << 20)
        ),
        GOLDEN.replacen(
            "\"history\":{",
            &format!("\"history\":{{\"deep\":{deep},"),
            1,
        ),
        GOLDEN.replacen("\"headers\":[", &format!("\"headers\":[{deep}"), 1),
    ] {
        assert_eq!(kind(&record), StoreErrorKind::Corrupt);
    }
    let long = " ".repeat(json::MAX_LENGTH) + "{}";
    assert_eq!(kind(&long), StoreErrorKind::TooLarge);
}

/// A record without a number, and one of a number that was never given out.
#[test]
fn a_record_without_a_schema_is_damaged() {
    for record in [
        r#"{"url":"http://h/","payload":1,"attempts":4}"#,
        r#"{"payload":1}"#,
        r#"{"schemaVersion":0}"#,
        "{}",
    ] {
        assert_eq!(damaged(record), "schemaVersion", "{record}");
    }
}

#[test]
fn a_list_says_what_an_operator_sees() {
    let summary = Summary::of(&full(), true);
    let expected = concat!(
        r#"{"id":"0000000000000000000000000000abcd","kind":"http","target":"peer.test:8443","#,
        r#""method":"POST","uri":"https://peer.test:8443/hooks?a=1","#,
        r#""reason":"retries_exhausted","lastStatus":503,"errorClass":"throttled","errorMessage":"the peer answered \"busy\"\n","#,
        r#""attempts":2,"bodyLength":19,"firstAttemptAt":"2025-11-21T11:59:56.123Z","#,
        r#""lastAttemptAt":"2025-11-21T12:00:00.123Z","writtenAt":"2025-11-21T12:00:00.123Z","#,
        r#""eventId":"evt_1","replays":2,"inProgress":true}"#,
    );
    assert_eq!(json::summary_json(&summary), expected);
    assert_eq!(
        json::listing_json(&Listing::default()),
        r#"{"items":[],"nextCursor":null,"unreadable":0}"#
    );
}
