//! What a routed payload costs beside the bare template engine with the same template and event (1 KiB, S4's form), and what it
//! costs to find the definitions that match an event among 1,000, beside a look at each.
//!
//! Run: `cargo bench -p tower-webhook-benches --bench routing`

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench")]

use criterion::{BenchmarkId, Criterion, Throughput};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::Value;
use std::{hint::black_box, sync::Arc};
use tower_webhook::CognigyEvent;
use tower_webhook_cognigy::routing::{
    Definition, Input, Routes, Signals, TriggerCondition, TriggerType,
};

/// A user's turn, 1 KiB: ids, a sentence, recognised slots, a profile.
const BODY: &str = include_str!("support/event.json");

/// Six values of the event, in S3's manner.
const TEMPLATE: &str = r#"{"conversationId": {{ eventId }}, "externalId": {{ userId }}, "text": {{ payload.input.text }},
    "intent": {{ payload.input.intent }}, "slots": {{ payload.input.slots }}, "profile": {{ payload.profile }}}"#;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    render(&mut criterion);
    matching(&mut criterion);
    criterion.final_summary();
}

fn render(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routing/render");
    group.throughput(Throughput::Elements(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();

    let mut bare = Environment::new();
    bare.set_undefined_behavior(UndefinedBehavior::Strict);
    bare.set_auto_escape_callback(|_| AutoEscape::Json);
    bare.add_template("payload", TEMPLATE).unwrap();
    let parsed: Value = serde_json::from_str(BODY).unwrap();
    let context = minijinja::Value::from(minijinja::value::Serde(&parsed));

    let definition = Definition::builder("bench", "https://target.example/").template(TEMPLATE);
    let routes = Routes::builder()
        .build([definition.build().unwrap()])
        .unwrap();
    let definition = routes.get("bench").unwrap();
    let event = CognigyEvent::from_bytes(BODY).unwrap();
    let input = Input::try_from(&event).unwrap();
    let rendered = runtime
        .block_on(routes.render(&definition, &input))
        .unwrap();
    let ours: Value = serde_json::from_slice(rendered.body().as_bytes()).unwrap();
    let theirs = bare
        .get_template("payload")
        .unwrap()
        .render(context.clone())
        .unwrap();
    assert_eq!(ours, serde_json::from_str::<Value>(&theirs).unwrap());

    // Both from the event as it is held, and both from its bytes.
    group.bench_function("minijinja, event read before", |bench| {
        bench.iter(|| {
            bare.get_template("payload")
                .unwrap()
                .render(black_box(context.clone()))
                .unwrap()
        });
    });
    group.bench_function("routes, event read before", |bench| {
        bench.iter(|| {
            runtime
                .block_on(routes.render(&definition, black_box(&input)))
                .unwrap()
        });
    });
    group.bench_function("minijinja, from bytes", |bench| {
        bench.iter(|| {
            let parsed: Value = serde_json::from_str(black_box(BODY)).unwrap();
            let context = minijinja::Value::from(minijinja::value::Serde(&parsed));
            bare.get_template("payload")
                .unwrap()
                .render(context)
                .unwrap()
        });
    });
    group.bench_function("routes, from bytes", |bench| {
        bench.iter(|| {
            let input = Input::try_from(black_box(&event)).unwrap();
            runtime
                .block_on(routes.render(&definition, &input))
                .unwrap()
        });
    });
    group.finish();
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routing/match");
    group.throughput(Throughput::Elements(1));
    let signals = Signals::new()
        .with("USER_INPUT_RECEIVED".into(), 1.0)
        .with(TriggerType::Intent, 0.9)
        .with("T-7".into(), 1.0);
    let input = Input::trigger("{}").unwrap().with_signals(signals);
    for count in [10, 1000] {
        // Two conditions each: half of the types are asked for by ten definitions each, and one type by all.
        let definitions: Vec<Definition> = (0..count)
            .map(|number| {
                let own = format!("T-{}", number / 10);
                let own = TriggerCondition::new(own.as_str().into(), 0.5).unwrap();
                let intent = TriggerCondition::new(TriggerType::Intent, 0.5).unwrap();
                let name = format!("definition-{number}");
                Definition::builder(name, "https://target.example/")
                    .when(intent)
                    .when(own)
                    .build()
                    .unwrap()
            })
            .collect();
        let all: Vec<Arc<Definition>> = definitions.iter().cloned().map(Arc::new).collect();
        let routes = Routes::builder().build(definitions).unwrap();
        let scan = |input: &Input| -> Vec<Arc<Definition>> {
            all.iter()
                .filter(|definition| definition.matches(input))
                .cloned()
                .collect()
        };
        let found = routes.matching(&input).len();
        assert_eq!(found, scan(&input).len());
        assert_eq!(found, if count == 10 { 0 } else { 10 });
        group.bench_function(BenchmarkId::new("scan", count), |bench| {
            bench.iter(|| scan(black_box(&input)));
        });
        group.bench_function(BenchmarkId::new("index", count), |bench| {
            bench.iter(|| routes.matching(black_box(&input)));
        });
    }
    group.finish();
}
