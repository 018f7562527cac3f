//! What a typed event costs beside the bare check that the same bytes are JSON (1 KiB, S4's form).
//!
//! Run: `cargo bench -p tower-webhook-benches --bench cognigy`

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench")]

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, hint::black_box};
use tower_webhook::CognigyEvent;

/// A user's turn, 1 KiB: ids, a sentence, recognised slots, a profile.
const BODY: &str = include_str!("support/event.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "read by serde")]
struct Payload<'a> {
    #[serde(borrow)]
    input: Input<'a>,
    #[serde(borrow)]
    session: Session<'a>,
    #[serde(borrow)]
    profile: Profile<'a>,
    #[serde(borrow)]
    context: Context<'a>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "read by serde")]
struct Input<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    language: &'a str,
    intent: &'a str,
    confidence: f64,
    #[serde(borrow)]
    slots: Vec<Slot<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "read by serde")]
struct Slot<'a> {
    name: &'a str,
    #[serde(borrow)]
    value: Cow<'a, str>,
    confidence: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "read by serde")]
struct Session<'a> {
    id: &'a str,
    channel: &'a str,
    locale: &'a str,
    turn: u32,
    started_at: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "read by serde")]
struct Profile<'a> {
    #[serde(borrow)]
    first_name: Cow<'a, str>,
    #[serde(borrow)]
    last_name: Cow<'a, str>,
    email: &'a str,
    tier: &'a str,
    #[serde(borrow)]
    tags: Vec<&'a str>,
    consent: bool,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "read by serde")]
struct Context<'a> {
    #[serde(borrow)]
    flow: Cow<'a, str>,
    node: &'a str,
    #[serde(borrow)]
    variables: Variables<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "read by serde")]
struct Variables<'a> {
    order_id: &'a str,
    attempts: u32,
    items: u32,
    total: f64,
    currency: &'a str,
    express: bool,
    coupon: Option<&'a str>,
}

/// The nearest thing written by hand: fields borrowed, the payload deferred, no rule checked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "read by serde")]
struct ByHand<'a> {
    event_id: &'a str,
    timestamp: &'a str,
    r#type: &'a str,
    external_id: Option<&'a str>,
    user_id: Option<&'a str>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let body = Bytes::from_static(BODY.as_bytes());

    let mut group = criterion.benchmark_group("event_1KiB");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("baseline_validate", |b| {
        b.iter(|| serde_json::from_slice::<IgnoredAny>(black_box(&body)).unwrap());
    });
    group.bench_function("baseline_raw_value", |b| {
        b.iter(|| serde_json::from_slice::<&RawValue>(black_box(&body)).unwrap());
    });
    group.bench_function("deferred", |b| {
        b.iter(|| CognigyEvent::from_bytes(black_box(&body).clone()).unwrap());
    });
    group.bench_function("typed", |b| {
        b.iter(|| {
            let event = CognigyEvent::from_bytes(black_box(&body).clone()).unwrap();
            black_box(event.payload_as::<Payload<'_>>().unwrap());
            event
        });
    });
    group.bench_function("serde_borrowed_raw_value", |b| {
        b.iter(|| serde_json::from_slice::<ByHand<'_>>(black_box(&body)).unwrap());
    });
    group.bench_function("serde_json_value", |b| {
        b.iter(|| serde_json::from_slice::<Value>(black_box(&body)).unwrap());
    });
    group.finish();

    criterion.final_summary();
}
