//! Routing: definitions, triggers, templates, lookups and the router.

#![cfg(feature = "routing")]

use http::{Method, Request, Response, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_webhook::{
    BoxError, InvalidConfig,
    body::BufferedBody,
    cognigy::{CognigyEvent, WebhookDelivery},
    outcome::{Outcome, OutcomeKind},
    target::TargetRules,
};
use tower_webhook_cognigy::{
    credential::{Credential, CredentialLayer, CredentialName, Credentials},
    routing::{
        Definition, DefinitionBuilder, Input, LookupRule, PayloadFormat, RouteError,
        RouteErrorKind, RouterLayer, Routes, RoutesBuilder, Signals, TriggerCondition, TriggerType,
        lookup_fn,
    },
};

const TARGET: &str = "https://target.example/hook";

fn definition(name: &str) -> DefinitionBuilder {
    Definition::builder(name, TARGET)
}

/// One credential, of this name, for this origin.
fn credentials(name: &str, origin: &str) -> Credentials {
    let token = Credential::bearer("t-1").unwrap();
    let layer = CredentialLayer::new(token, origin).unwrap();
    Credentials::new().with(CredentialName::new(name).unwrap(), layer)
}

fn condition(event_type: &str, threshold: f64) -> TriggerCondition {
    TriggerCondition::new(event_type.into(), threshold).unwrap()
}

fn trigger(json: &Value) -> Input {
    Input::trigger(json.to_string()).unwrap()
}

/// The minimal definition of S1, with these fields instead of or beside its own; null takes one away.
fn wire(fields: &Value) -> String {
    let mut wire = json!({
        "name": "crm",
        "target_url": TARGET,
        "trigger_conditions": [],
        "payload_template": "{}",
    });
    for (name, value) in fields.as_object().unwrap() {
        if value.is_null() {
            wire.as_object_mut().unwrap().remove(name);
        } else {
            wire[name] = value.clone();
        }
    }
    wire.to_string()
}

async fn render(
    builder: DefinitionBuilder,
    event: &Input,
) -> Result<Request<BufferedBody>, RouteError> {
    render_in(Routes::builder(), builder, event).await
}

async fn render_in(
    routes: RoutesBuilder,
    builder: DefinitionBuilder,
    event: &Input,
) -> Result<Request<BufferedBody>, RouteError> {
    let routes = routes.build([builder.build().unwrap()]).unwrap();
    routes.render(&routes.definitions()[0], event).await
}

fn text(req: &Request<BufferedBody>) -> String {
    String::from_utf8(req.body().as_bytes().to_vec()).unwrap()
}

fn body(req: &Request<BufferedBody>) -> Value {
    serde_json::from_slice(req.body().as_bytes()).unwrap()
}

mod definitions {
    use super::*;

    /// Row `WebhookDefinition` of S1.
    #[test]
    fn a_definition_of_s1_is_read_with_its_defaults() {
        let read = Definition::from_json(
            br#"{
                "name": "order-intent",
                "target_url": "https://hooks.example.com/orders",
                "trigger_conditions": [
                    {"event_type": "intent", "threshold": 0.8},
                    {"event_type": "flow_end", "threshold": 0.0, "negate": true}
                ],
                "payload_template": "{\"user\": {{ user_id }}}"
            }"#,
        )
        .unwrap();
        assert_eq!(read.name(), "order-intent");
        assert_eq!(read.target_url(), "https://hooks.example.com/orders");
        let conditions = [
            condition("intent", 0.8),
            condition("flow_end", 0.0).negate(),
        ];
        assert_eq!(read.trigger_conditions(), conditions);
        assert_eq!(read.timeout(), Duration::from_secs(15));
        assert_eq!(read.max_payload(), 256 * 1024);
        assert_eq!(read.method(), Method::POST);
        assert_eq!(read.payload_format(), PayloadFormat::Json);
        assert_eq!(read.credential(), None);
        assert!(read.metadata().is_empty());
    }

    /// The definition with these fields is refused, and the error names the field.
    fn refuses(fields: &Value, field: &str) {
        let refused = Definition::from_json(wire(fields).as_bytes()).unwrap_err();
        let said = refused.to_string();
        let at = refused.field().unwrap_or_default();
        assert!(
            at == field || said.contains(&format!("`{field}`")),
            "{fields}: {said}"
        );
    }

    #[test]
    fn a_definition_has_the_limits_of_s1() {
        for (fields, field) in [
            (json!({"name": "ab"}), "name"),
            (json!({"name": "n".repeat(129)}), "name"),
            (json!({"name": "a\nb"}), "name"),
            (json!({"name": null}), "name"),
            (json!({"target_url": "ftp://example.com/"}), "target_url"),
            (json!({"target_url": "/hook"}), "target_url"),
            (json!({"target_url": "https:///hook"}), "target_url"),
            (json!({"target_url": "no url"}), "target_url"),
            (json!({"trigger_conditions": null}), "trigger_conditions"),
            (
                json!({"trigger_conditions": [{"event_type": "intent"}]}),
                "trigger_conditions[0]",
            ),
            (
                json!({"trigger_conditions": [{"event_type": "intent", "threshold": 1.1}]}),
                "trigger_conditions[0]",
            ),
            (
                json!({"trigger_conditions": [{"event_type": "flow_strat", "threshold": 1}]}),
                "trigger_conditions[0]",
            ),
            (
                json!({"trigger_conditions": [{"event_type": "intent", "threshold": 1, "negat": true}]}),
                "trigger_conditions[0].negat",
            ),
            (json!({"payload_template": "{{ x"}), "payload_template"),
            (json!({"payload_template": 7}), "payload_template"),
            (
                json!({"payload_template": "{{ x }}", "payload_template_file": "x"}),
                "payload_template_file",
            ),
            (json!({"timeout_seconds": 0}), "timeout_seconds"),
            (json!({"timeout_seconds": -5}), "timeout_seconds"),
            (json!({"timeout_seconds": 31}), "timeout_seconds"),
            (json!({"max_payload_size_kb": 0}), "max_payload_size_kb"),
            (json!({"max_payload_size_kb": 16385}), "max_payload_size_kb"),
            (json!({"method": "DELETE"}), "method"),
            (json!({"payload_format": "YAML"}), "payload_format"),
            (
                json!({"payload_format": "XML", "payload_template": null}),
                "payload_template",
            ),
            (json!({"credential": "Bearer abc"}), "credential"),
            (json!({"retries": 3}), "retries"),
        ] {
            refuses(&fields, field);
        }
        for fields in [
            json!({"name": "abc"}),
            json!({"name": "ü".repeat(128)}),
            json!({"target_url": "http://example.com"}),
            json!({"timeout_seconds": 1}),
            json!({"timeout_seconds": 30}),
            json!({"payload_template": null}),
            json!({"method": "PUT"}),
            json!({"metadata": {"owner": "crm team", "tags": [1]}}),
        ] {
            let read = Definition::from_json(wire(&fields).as_bytes());
            assert!(read.is_ok(), "{fields}: {}", read.unwrap_err());
        }
    }

    #[test]
    fn a_lookup_is_a_variable_with_a_source_a_key_and_limits() {
        for (fields, field) in [
            (
                json!({"lookups": {"event": {"source": "crm", "key": "/a"}}}),
                "lookups",
            ),
            (
                json!({"lookups": {"a b": {"source": "crm", "key": "/a"}}}),
                "lookups",
            ),
            (
                json!({"lookups": {"crm": {"source": "crm", "key": "a"}}}),
                "lookups",
            ),
            (
                json!({"lookups": {"crm": {"source": "crm", "key": []}}}),
                "lookups",
            ),
            (
                json!({"lookups": {"crm": {"source": "crm"}}}),
                "lookups.crm",
            ),
            (json!({"lookups": {"crm": {"key": "/a"}}}), "lookups"),
            (
                json!({"lookups": {"crm": {"url": "https://crm.example/", "key": "/a"}}}),
                "lookups",
            ),
            (
                json!({"lookups": {"crm": {"url": "https://crm.example/x#{key}", "key": "/a"}}}),
                "lookups",
            ),
            (
                json!({"lookups": {"crm": {"url": "https://crm.example/{key}#x", "key": "/a"}}}),
                "lookups",
            ),
            (
                json!({"lookups": {"crm": {"url": "https://{key}.example/", "key": "/a"}}}),
                "lookups",
            ),
            (
                json!({"lookups": {"crm": {"source": "crm", "key": "/a", "timeout_ms": 0}}}),
                "lookups",
            ),
            (
                json!({"lookups": {"crm": {"source": "crm", "key": "/a", "timeout_ms": 30001}}}),
                "lookups",
            ),
        ] {
            refuses(&fields, field);
        }
    }

    #[test]
    fn s1_the_metadata_of_a_definition_is_kept_as_it_is() {
        let metadata = json!({"owner": "crm team", "tags": [1, null]});
        let wire = wire(&json!({"metadata": metadata}));
        let read = Definition::from_json(wire.as_bytes()).unwrap();
        assert_eq!(json!(read.metadata()), metadata);
    }

    /// S1's renderer replaces the template before with each that it registers.
    #[tokio::test]
    async fn s1_each_definition_keeps_a_template_of_its_own() {
        let template = |name, template: &str| definition(name).template(template).build().unwrap();
        let both = [
            template("one", "[{{ n }}]"),
            template("two", "{\"n\": {{ n }}}"),
        ];
        let routes = Routes::builder().build(both).unwrap();
        let event = trigger(&json!({"n": 7}));
        for (name, expected) in [("one", json!([7])), ("two", json!({"n": 7}))] {
            let definition = routes.get(name).unwrap();
            let req = routes.render(&definition, &event).await.unwrap();
            assert_eq!(body(&req), expected);
        }
    }

    /// Weakness 9 of the documents: secrets in webhook headers. S2's static headers held the loop headers too.
    #[test]
    fn static_headers_hold_no_credentials_and_nothing_that_the_delivery_sets() {
        for name in [
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "X-API-Key",
            "X-Webhook-Key",
            "X-Auth-Token",
            "X-Cognigy-Signature",
            "Host",
            "Content-Length",
            "Content-Type",
            "Transfer-Encoding",
            "Connection",
            "X-Request-Id",
            "X-Correlation-Id",
            "Prevent-Loop",
            "X-Cognigy-Webhook-Source",
            "X-Webhook-Source",
            "Webhook-Loop",
            "Idempotency-Key",
            "no header",
        ] {
            let refused = definition("crm")
                .header(name, "s3cret")
                .build()
                .unwrap_err();
            assert_eq!(refused.setting(), "headers", "{name}");
            let said = refused.to_string();
            assert!(said.contains(name) && !said.contains("s3cret"), "{said}");
        }
        assert!(definition("crm").header("X-Team", "a\nb").build().is_err());
        let twice = definition("crm")
            .header("X-Team", "a")
            .header("x-team", "b");
        assert!(twice.build().is_err());
        assert!(definition("crm").header("X-Team", "crm").build().is_ok());
    }

    #[test]
    fn quotes_around_a_value_are_refused_with_a_reason_because_the_value_brings_its_own() {
        let refused = definition("crm")
            .template("{\n \"user\": \"{{ user_id }}\"\n}")
            .build()
            .unwrap_err();
        assert_eq!(refused.setting(), "payload_template");
        assert!(
            refused.to_string().contains("line 2: leave them out"),
            "{refused}"
        );
        let xml = definition("crm").payload_format(PayloadFormat::Xml);
        assert!(xml.template("<a b=\"{{ c }}\"/>").build().is_ok());
    }

    #[tokio::test]
    async fn a_request_has_method_headers_content_type_and_the_source_of_s1() {
        let put = definition("crm")
            .method(&Method::PUT)
            .header("X-Team", "crm")
            .credential("crm-token");
        let routes = Routes::builder().credentials(credentials("crm-token", TARGET));
        let event = trigger(&json!({"id": "evt_1", "n": 1}));
        let req = render_in(routes, put, &event).await.unwrap();
        assert_eq!(req.method(), Method::PUT);
        assert_eq!(req.uri(), TARGET);
        assert_eq!(req.headers()["x-team"], "crm");
        assert_eq!(req.headers()["content-type"], "application/json");
        assert_eq!(req.headers()["x-webhook-source"], "cognigy-router");
        assert_eq!(req.headers()["idempotency-key"], "evt_1/crm");
        let credential = req.extensions().get::<CredentialName>().unwrap();
        assert_eq!(credential.as_str(), "crm-token");
        assert_eq!(
            body(&req),
            json!({"id": "evt_1", "n": 1}),
            "the event itself"
        );
    }

    /// `xx` for `b/c-name` and `xx/b` for `c-name` are two deliveries.
    #[tokio::test]
    async fn no_two_deliveries_have_one_idempotency_key() {
        let key = async |id: &str, name: &str| {
            let req = render(definition(name), &trigger(&json!({"id": id}))).await;
            req.unwrap().headers()["idempotency-key"].clone()
        };
        assert_eq!(key("xx", "b/c-name").await, "xx/b/c-name");
        assert_eq!(key("xx/b", "c-name").await, "xx%2Fb/c-name");
        assert_eq!(key("xx%2Fb", "c-name").await, "xx%252Fb/c-name");
    }

    #[test]
    fn an_error_of_a_definition_quotes_no_value() {
        for fields in [
            json!({"trigger_conditions": "S3CRET"}),
            json!({"trigger_conditions": [{"event_type": "intent", "threshold": "S3CRET"}]}),
            json!({"payload_format": "S3CRET"}),
            json!({"payload_format": "S3CRET, expected S3CRET"}),
            json!({"headers": "S3CRET"}),
            json!({"timeout_seconds": "S3CRET"}),
            json!({"method": "S3CRET"}),
            json!({"target_url": "S3CRET"}),
            json!({"credential": "S3CRET S3CRET"}),
            json!({"lookups": {"crm": "S3CRET"}}),
            json!({"lookups": {"crm": {"source": "crm", "key": {"S3CRET": 1}}}}),
            json!({"metadata": "S3CRET"}),
        ] {
            let error = Definition::from_json(wire(&fields).as_bytes()).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("S3CRET"), "{fields}: {said}");
        }
    }

    #[tokio::test]
    async fn without_a_template_the_event_is_sent_byte_for_byte() {
        let raw = "{ \"id\":\"a\",\"n\": 1.10, \"ä\":\"\\u00e4\" }";
        let req = render(definition("crm"), &Input::trigger(raw).unwrap())
            .await
            .unwrap();
        assert_eq!(text(&req), raw);
        let large = trigger(&json!({"x": "y".repeat(1024)}));
        let error = render(definition("crm").max_payload_size_kb(1), &large)
            .await
            .unwrap_err();
        assert!(
            matches!(error.kind(), RouteErrorKind::TooLarge { limit: 1024 }),
            "{error}"
        );
    }
}

mod triggers {
    use super::*;

    fn types() -> impl Strategy<Value = TriggerType> {
        prop_oneof![
            Just(TriggerType::Intent),
            Just(TriggerType::Entity),
            Just(TriggerType::FlowStart),
            Just(TriggerType::FlowEnd),
            Just(TriggerType::from("DIALOG_STARTED")),
        ]
    }

    fn scores() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), Just(0.25), Just(0.5), Just(1.0), 0.0..=1.0]
    }

    fn conditions() -> impl Strategy<Value = Vec<TriggerCondition>> {
        let one = (types(), scores(), any::<bool>()).prop_map(|(event_type, threshold, negate)| {
            let condition = TriggerCondition::new(event_type, threshold).unwrap();
            if negate {
                condition.negate()
            } else {
                condition
            }
        });
        prop::collection::vec(one, 0..4)
    }

    proptest! {
        /// The naive reading of S1: every definition, every condition.
        #[test]
        fn the_index_finds_what_a_scan_finds(
            all in prop::collection::vec(conditions(), 0..40),
            signals in prop::collection::vec((types(), scores()), 0..4),
        ) {
            let definitions = all.iter().enumerate().map(|(number, conditions)| {
                let builder = definition(&format!("d-{number:03}"));
                conditions.iter().cloned().fold(builder, DefinitionBuilder::when).build().unwrap()
            });
            let routes = Routes::builder().build(definitions).unwrap();
            let with = signals.iter().cloned().fold(Signals::new(), |signals, (event_type, score)| signals.with(event_type, score));
            let input = trigger(&json!({})).with_signals(with);

            let scan: Vec<_> = all.iter().enumerate().filter(|(_, conditions)| conditions.iter().all(|condition| {
                let of_type = signals.iter().filter(|(event_type, _)| event_type == condition.event_type());
                let highest = of_type.map(|(_, score)| *score).fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
                highest.is_some_and(|score| score >= condition.threshold()) != condition.is_negated()
            })).map(|(number, _)| format!("d-{number:03}")).collect();
            let found: Vec<_> = routes.matching(&input).iter().map(|definition| definition.name().to_owned()).collect();
            prop_assert_eq!(found, scan);
        }
    }

    #[test]
    fn all_conditions_must_hold_and_none_means_always() {
        let always = definition("always").build().unwrap();
        let both = definition("both")
            .when(condition("intent", 0.5))
            .when(condition("DIALOG_EVENT", 1.0));
        let not = definition("not").when(condition("flow_end", 0.0).negate());
        let routes = Routes::builder()
            .build([always, both.build().unwrap(), not.build().unwrap()])
            .unwrap();
        let names = |input: &Input| -> Vec<String> {
            let matching = routes.matching(input);
            matching
                .iter()
                .map(|definition| definition.name().to_owned())
                .collect()
        };
        let dialog = |variables: Value| {
            let raw = json!({"conversationId": "c", "variables": variables}).to_string();
            Input::try_from(&CognigyEvent::from_bytes(raw).unwrap()).unwrap()
        };
        assert_eq!(names(&dialog(json!({}))), ["always", "not"]);
        assert_eq!(
            names(&dialog(json!({"intent": "order", "intentScore": 0.4}))),
            ["always", "not"]
        );
        assert_eq!(
            names(&dialog(json!({"intent": "order", "intentScore": 0.6}))),
            ["always", "both", "not"]
        );
        let ended = json!({"eventId": "e", "timestamp": "2024-01-15T10:00:00Z", "type": "DIALOG_ENDED", "payload": {}});
        let ended = CognigyEvent::from_bytes(ended.to_string()).unwrap();
        assert_eq!(names(&Input::try_from(&ended).unwrap()), ["always"]);
    }

    #[test]
    fn an_event_that_serde_cannot_read_is_an_error_and_no_panic() {
        for raw in [
            "",
            "[]",
            "7",
            "{\"n\": 1e999}",
            "{\"t\": \"\\ud800\"}",
            "\u{feff}{}",
            &"[".repeat(100_000),
        ] {
            let error = Input::trigger(raw.to_owned()).unwrap_err();
            assert!(matches!(error.kind(), RouteErrorKind::Event));
            assert_eq!(Outcome::of_error(&error).kind(), OutcomeKind::Unsendable);
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(120), "]".repeat(120));
        assert!(Input::trigger(deep).is_ok());
    }
}

mod templates {
    use super::*;

    fn json_of(template: &str) -> DefinitionBuilder {
        definition("crm").template(template)
    }

    fn xml_of(template: &str) -> DefinitionBuilder {
        definition("crm")
            .template(template)
            .payload_format(PayloadFormat::Xml)
    }

    /// The text of the element and of the attribute `a` of `<r a="..">..</r>`.
    fn xml_values(xml: &str) -> (String, String) {
        use quick_xml::{Reader, escape::unescape, events::Event};
        let mut reader = Reader::from_str(xml);
        let (mut inner, mut attribute) = (String::new(), String::new());
        loop {
            match reader.read_event().unwrap() {
                Event::Start(tag) => {
                    let value = tag.attributes().next().unwrap().unwrap().value;
                    attribute = unescape(str::from_utf8(&value).unwrap())
                        .unwrap()
                        .into_owned();
                }
                Event::Text(text) => inner.push_str(&text.decode().unwrap()),
                Event::GeneralRef(name) => {
                    let name = name.decode().unwrap();
                    inner.push_str(&unescape(&format!("&{name};")).unwrap());
                }
                Event::Eof => return (inner, attribute),
                _ => {}
            }
        }
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(work)
    }

    /// Any JSON, with texts that break out of things.
    fn values() -> impl Strategy<Value = Value> {
        let texts = prop_oneof![
            any::<String>(),
            Just("\"}, \"admin\": true, {\"".to_owned()),
            Just("</r><r>]]>\r\n\t&amp;<!--".to_owned()),
            Just("{{ event }}{% for %}\\u0000".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            texts.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(
                    |members: BTreeMap<String, Value>| Value::Object(members.into_iter().collect())
                ),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_comes_out_of_json_as_it_went_in(value in values()) {
            let event = trigger(&json!({"v": value}));
            let req = run(render(json_of("{\"a\": {{ v }}, \"b\": [{{ event.v }}, {{ {\"c\": v} }}]}"), &event)).unwrap();
            prop_assert_eq!(body(&req), json!({"a": value, "b": [value, {"c": value}]}));
        }

        #[test]
        fn any_text_comes_out_of_xml_as_it_went_in_or_is_refused(text in prop_oneof![any::<String>(), "[<>&'\"\\]\\-\\r\\n\\t x]{0,12}"]) {
            let event = trigger(&json!({"v": text}));
            let rendered = run(render(xml_of("<r a=\"{{ v }}\">{{ v }}</r>"), &event));
            let permitted = text.chars().all(|char| matches!(char, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..));
            if permitted {
                let (inner, attribute) = xml_values(&super::text(&rendered.unwrap()));
                prop_assert_eq!(&inner, &text);
                prop_assert_eq!(&attribute, &text);
            } else {
                prop_assert!(rendered.is_err());
            }
        }

        #[test]
        fn no_template_panics(source in "(\\{\\{|\\{%|%\\}|\\}\\}|[a-z .|()\\[\\]~'\"0-9+*]){0,12}") {
            if let Ok(definition) = json_of(&source).build() {
                let routes = Routes::builder().build([definition]).unwrap();
                let _ = run(routes.render(&routes.definitions()[0], &trigger(&json!({"a": 1}))));
            }
        }
    }

    /// S1's bugs: autoescape turned `a"b` into `a&#34;b`, and a newline or a backslash gave broken JSON.
    #[tokio::test]
    async fn quotes_newlines_and_backslashes_stay_what_they_are_in_json() {
        let event = trigger(&json!({"user_id": "a\"b\\c\nd</script>'"}));
        let req = render(json_of("{\"user\": {{ user_id }}}"), &event)
            .await
            .unwrap();
        assert_eq!(body(&req), json!({"user": "a\"b\\c\nd</script>'"}));
    }

    #[tokio::test]
    async fn numbers_beyond_2_to_the_53_stay_exact() {
        let event =
            Input::trigger(r#"{"n": 18446744073709551615, "m": -9223372036854775808, "f": 0.1}"#)
                .unwrap();
        let req = render(json_of("[{{ n }}, {{ m }}, {{ f }}]"), &event)
            .await
            .unwrap();
        assert_eq!(
            text(&req),
            "[18446744073709551615, -9223372036854775808, 0.1]"
        );
    }

    /// Row "Templates" of S1: `StrictUndefined`.
    #[tokio::test]
    async fn a_missing_variable_is_an_error_that_names_definition_line_and_variable_and_no_data() {
        for (template, at) in [
            ("{\"a\": 1,\n\"b\": {{ profile.email }}}", "profile.email"),
            ("{\n\"b\": {{ nobody }}}", "nobody"),
            (
                "{\n\"b\": {% if nobody %}1{% else %}2{% endif %}}",
                "nobody",
            ),
            ("{\n\"b\": {{ {\"c\": profile.email} }}}", "profile.email"),
            ("{\n\"b\": {{ [profile.email] }}}", "profile.email"),
            ("{\n\"b\": {{ profile.email.host }}}", "profile.email.host"),
        ] {
            let event = trigger(&json!({"profile": {"name": "S3CRET"}}));
            let error = render(json_of(template), &event).await.unwrap_err();
            let said = error.to_string();
            let expected = "`crm`: payload_template, line 2, `";
            assert!(said.starts_with(expected) && said.contains(at), "{said}");
            assert!(said.ends_with("nothing of this name is there"), "{said}");
            assert!(!format!("{said}{error:?}").contains("S3CRET"));
            assert_eq!(Outcome::of_error(&error).kind(), OutcomeKind::Unsendable);
        }
        let event = trigger(&json!({}));
        let req = render(json_of("{{ nobody|default(none) }}"), &event)
            .await
            .unwrap();
        assert_eq!(text(&req), "null");
    }

    /// Row "Templates" of S1: "Rendered template does not produce valid JSON."
    #[tokio::test]
    async fn a_result_that_is_not_json_is_an_error_in_the_words_of_s1() {
        for template in [
            "{\"a\": {{ v }}",
            "hello",
            "",
            "{{ v }} {{ v }}",
            "{'a': 1}",
        ] {
            let event = trigger(&json!({"v": "S3CRET"}));
            let error = render(json_of(template), &event).await.unwrap_err();
            let said = error.to_string();
            assert!(
                said.contains("Rendered template does not produce valid JSON."),
                "{said}"
            );
            assert!(!said.contains("S3CRET"));
        }
    }

    #[tokio::test]
    async fn errors_of_operations_and_names_carry_no_data_of_the_event() {
        for template in [
            "{{ v.x.y }}",
            "{{ v + 1 }}",
            "{{ v|int }}",
            "{% for a in 7 %}{% endfor %}",
            "{{ range(v) }}",
            "{{ 1 / 0 }}",
            "{{ dict(v) }}",
            "{{ v|replace(1) }}",
            "{{ v|float }}",
            "{{ v|round }}",
        ] {
            let event = trigger(&json!({"v": "S3CRET"}));
            let error = render(json_of(template), &event).await.unwrap_err();
            let all = format!("{error} {error:?}");
            assert!(!all.contains("S3CRET"), "{template}: {all}");
        }
    }

    /// Weakness 7: template injection. What reaches further than the event is not there.
    #[tokio::test]
    async fn a_template_reaches_nothing_but_the_event() {
        for template in [
            "{% include \"/etc/passwd\" %}",
            "{% import \"x\" as y %}",
            "{% extends \"x\" %}",
            "{% macro m() %}{% endmacro %}",
            "{{ debug() }}",
            "{{ namespace() }}",
            "{{ v|safe }}",
            "{{ v|escape }}",
            "{{ v|e }}",
        ] {
            let refused = json_of(template).build().unwrap_err();
            assert_eq!(refused.setting(), "payload_template", "{template}");
        }
        for template in ["{{ ''.__class__.__mro__ }}", "{{ env }}", "{{ self }}"] {
            let error = render(json_of(template), &trigger(&json!({"v": "1"})))
                .await
                .unwrap_err();
            assert!(
                matches!(error.kind(), RouteErrorKind::Template { .. }),
                "{template}: {error}"
            );
        }
        // The text of a value is not a template.
        let event = trigger(&json!({"v": "{{ 7 * 7 }}{% raw %}"}));
        let req = render(json_of("{{ v }}"), &event).await.unwrap();
        assert_eq!(body(&req), json!("{{ 7 * 7 }}{% raw %}"));
    }

    #[tokio::test]
    async fn a_value_cannot_break_out_whatever_the_template_says_about_escaping() {
        let hostile = "1, \"admin\": true";
        let event = trigger(&json!({"v": hostile}));
        for template in [
            "{% autoescape false %}{\"a\": {{ v }}}{% endautoescape %}",
            "{% autoescape 'html' %}{\"a\": {{ v }}}{% endautoescape %}",
            "{% autoescape 'none' %}{\"a\": {{ v }}}{% endautoescape %}",
            "{% filter trim %}{\"a\": {{ v }}}{% endfilter %}",
            "{% set all %}{\"a\": {{ v }}}{% endset %}{{ all }}",
            "{\"a\": {{ v|tojson }}}",
            "{\"a\": {{ v|upper|lower }}}",
        ] {
            if let Ok(req) = render(json_of(template), &event).await {
                let body = body(&req);
                assert_eq!(body["admin"], Value::Null, "{template}");
                assert_eq!(body["a"], json!(hostile), "{template}");
            }
        }
        let hostile = "\" onload=\"x\"/><admin/>]]>&x;";
        let event = trigger(&json!({"v": hostile}));
        for template in [
            "{% autoescape false %}<r a=\"{{ v }}\">{{ v }}</r>{% endautoescape %}",
            "{% set all %}<r a=\"{{ v }}\">{{ v }}</r>{% endset %}{{ all }}",
            "<r a='{{ v }}'>{{ v }}</r>",
        ] {
            if let Ok(req) = render(xml_of(template), &event).await {
                let (inner, attribute) = xml_values(&text(&req));
                assert_eq!(
                    (inner.as_str(), attribute.as_str()),
                    (hostile, hostile),
                    "{template}"
                );
            }
        }
        let req = render(xml_of("<r><![CDATA[{{ v }}]]></r>"), &event)
            .await
            .unwrap();
        assert!(!text(&req).contains("<admin"), "{}", text(&req));
    }

    /// Measured: in minijinja 3.0 fuel did not bound memory; in 3.1 it counts what is made.
    #[tokio::test]
    async fn a_template_that_loops_or_explodes_is_ended() {
        let list = json!([vec![0; 20_000]]);
        let event = json!({"v": "x".repeat(100_000), "list": list, "same": list});
        let event = trigger(&event);
        for template in [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{{ '%50000000s'|format(1) }}",
            "{% set a %}{{ 'x'|indent(50000000, true) }}{% endset %}",
            "{% for a in range(1000) %}{% set b = v ~ v ~ v ~ v %}{% endfor %}",
            "{{ range(100000000) }}",
            "{% for a in range(20000) %}{% set b = v[-1] %}{% endfor %}1",
            "{% for a in range(50000) %}{% if list == same %}{% endif %}{% endfor %}1",
            "{% set a = list %}{% set b = same %}{% for c in range(50000) %}{% if a == b %}{% endif %}{% endfor %}1",
            "{% set a %}{% for a in range(1000) %}{{ v }}{% endfor %}{% endset %}",
        ] {
            let error = render(json_of(template), &event).await.unwrap_err();
            let ended = matches!(
                error.kind(),
                RouteErrorKind::TooMuchWork
                    | RouteErrorKind::TooLarge { .. }
                    | RouteErrorKind::Template { .. }
            );
            assert!(ended, "{template}: {error}");
        }
        let nested = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        let refused = json_of(&format!("{{{{ {nested} }}}}")).build().unwrap_err();
        assert_eq!(refused.setting(), "payload_template");
    }

    /// The engine parses, compiles and drops by recursion, which it bounds only for brackets and blocks.
    #[test]
    fn no_template_that_is_taken_or_refused_overflows_a_stack() {
        let chain = |first: &str, link: &str, last: &str| {
            let fits = (8192 - first.len() - last.len()) / link.len();
            format!("{first}{}{last}", link.repeat(fits))
        };
        let mut sources: Vec<String> = [
            ("{{v", "|string", "}}"),
            ("{{v", "|d", "}}"),
            ("{{1", "+1", "}}"),
            ("{{1", "-1", "}}"),
            ("{{1", "/1", "}}"),
            ("{{1", "**1", "}}"),
            ("{{v", "~\"-\"", "}}"),
            ("{{", "not ", "1}}"),
            ("{{", "-", "1}}"),
            ("{{", "+", "1}}"),
            ("{{v", ".a", "}}"),
            ("{{v", "[0]", "}}"),
            ("{{v", "[:]", "}}"),
            ("{{v", "()", "}}"),
            ("{{1", " or 1", "}}"),
            ("{{1", " and 1", "}}"),
            ("{{1", "<1", "}}"),
            ("{{1", " in 1", "}}"),
            ("{{1", " is odd", "}}"),
            ("{{1", " if 1 else 1", "}}"),
            ("{{v", " if 0 else v", "}}"),
            ("{{", "(", "}}"),
            ("{{", "[", "}}"),
            ("{{", "{1:", "}}"),
            ("{{", "d(", "}}"),
            ("{% set a = ", "-", "1 %}"),
            ("{% if ", "not ", "1 %}{% endif %}"),
            ("{% filter upper", "|upper", " %}1{% endfilter %}"),
        ]
        .map(|(first, link, last)| chain(first, link, last))
        .into();
        let elif = "{%elif 1%}".repeat(6000);
        sources.push(format!("{{%if 1%}}{elif}{{%endif%}}"));
        for (open, close) in [("{%if 1%}", "{%endif%}"), ("{%filter d%}", "{%endfilter%}")] {
            sources.push(format!("{}{}", open.repeat(3000), close.repeat(3000)));
        }
        for source in &sources {
            if let Ok(definition) = json_of(source).build() {
                let routes = Routes::builder().build([definition]).unwrap();
                let event = trigger(&json!({"v": [1, {"a": 1}]}));
                let _ = run(routes.render(&routes.definitions()[0], &event));
            }
        }
        let long = chain("{{v", "|d", " }}");
        for (source, limit) in [
            (format!("{{\n{long} "), "line 2: a tag"),
            ("x".repeat(65_537), "65536"),
        ] {
            let source = source.replacen("{{v", "{{v    ", 1);
            let refused = json_of(&source).build().unwrap_err();
            assert_eq!(refused.setting(), "payload_template");
            assert!(refused.to_string().contains(limit), "{refused}");
        }
    }

    /// Fuel counts what a step makes, which for a list of lists is little, whatever a walk through it would take.
    #[test]
    fn nothing_is_built_of_what_was_built_without_an_end() {
        let sets = |first: &str, next: &str, last: &str| {
            let step = |at: usize| {
                let next = next.replace('$', &format!("a{at}"));
                format!("{{% set a{} = {next} %}}", at + 1)
            };
            let all = (0..45).map(step).collect::<Vec<_>>().concat();
            format!("{{% set a0 = {first} %}}{all}{}", last.replace('$', "a45"))
        };
        let loops = |iterated: &str| {
            let step = |at: usize| {
                let iterated = iterated.replace('$', &format!("a{at}"));
                format!("{{% for a{} in {iterated} %}}", at + 1)
            };
            let all = (0..40).map(step).collect::<Vec<_>>().concat();
            let ends = "{% endfor %}".repeat(41);
            format!("{{% for a0 in [1] %}}{all}{{{{ a40|string|length }}}}{ends}")
        };
        let refused = [
            sets("1", "[$, $]", "{{ ($ ~ '')|length }}"),
            sets("1", "[$,$]", "{{ $|tojson|length }}"),
            sets("1", "[ $ , $ ]", "{{ $ == $ }}"),
            sets("1", "($, $)", "{{ $|string|length }}"),
            sets("1", "$, $", "{{ $|string|length }}"),
            sets("1", "{1: $, 2: $}", "{{ $|string|length }}"),
            sets("1", "1 if 0 else [$, $]", "{{ $|string|length }}"),
            sets("1", "none|default([$, $], true)", "{{ $|string|length }}"),
            sets("1", "x in [$, $]", "{{ $|string|length }}"),
            sets("[1]", "$ + $", "{{ $|length }}"),
            sets("[1]", "$ * 2", "{{ $|length }}"),
            sets("[1]", "$|chain($)", "{{ $|length }}"),
            sets("[1]", "$|zip($)", "{{ $|string|length }}"),
            sets("1", "dict(a=$, b=$)", "{{ $|string|length }}"),
            sets("[[1]]", "$|groupby(0)", "{{ $|string|length }}"),
            sets("[1]", "$|batch(1, $)", "{{ $|string|length }}"),
            sets("[1]", "$|slice(1, $)", "{{ $|string|length }}"),
            sets("[1]", "$|map('default', $)", "{{ $|string|length }}"),
            sets(
                "[1]",
                "$|map(attribute='b', default=$)",
                "{{ $|string|length }}",
            ),
            "{% with a = [1] %}{% with b = [a, a] %}{{ b }}{% endwith %}{% endwith %}".into(),
            "{% for a in [1] recursive %}{{ loop([a, a]) }}{% endfor %}".into(),
            "{% for a in [1] %}{{ loop([a, a]) }}{% endfor %}".into(),
            "{{ [[[v]*1000]*1000]*1000 }}".into(),
            "{{ 2 ** 3 }}".into(),
            "{% for a in v %}{{ __clock }}{% endfor %}".into(),
            format!("{{{{ [{}] }}}}", "v,".repeat(257)),
            format!("{{{{ v{} }}}}", "+v".repeat(257)),
            loops("[[$, $]]"),
            loops("([$, $],)"),
        ];
        for source in refused {
            let refused = json_of(&source).build().unwrap_err().to_string();
            assert!(refused.contains("line 1: "), "{source}: {refused}");
        }
        for (source, expected) in [
            (
                "{% for k in ['a', 1, none] %}{{ loop.index }}{% endfor %}",
                "123",
            ),
            ("{% set a = list|first|default('x') %}{{ [a, a] }}", "[1,1]"),
            (
                "{% set a = list[1:] %}{{ a + [v.b, 'c'] }}",
                "[2,{\"n\":3},\"c\"]",
            ),
            (
                "{% set a = 'id-' ~ v.b.n %}{{ {'a': a, 'b': [a]} }}",
                "{\"a\":\"id-3\",\"b\":[\"id-3\"]}",
            ),
            (
                "{% for k, m in v|items %}{{ m|map('string')|list if 0 else m.n }}{% endfor %}",
                "3",
            ),
            (
                "{% for i in list if i is odd %}{{ i|times(2.5) }}{% endfor %}",
                "2.5",
            ),
            (
                "{% set a = list|map('times')|list if 0 else list|sum %}{{ a|times(2) - 1 }}",
                "5",
            ),
            ("{% raw %}1{% endraw %}{# \" #}", "1"),
            ("{% set zip = {'zip': 'dict'}.zip %}{{ zip }}", "\"dict\""),
            (
                "[{% for i in list -%} 1{% if not loop.last %},{% endif %} {% endfor %}]",
                "[1, 1 ]",
            ),
            ("{{ '}}'|length }}", "2"),
            ("{{ {'a': {'b': 1}} }}", "{\"a\":{\"b\":1}}"),
        ] {
            let event = trigger(&json!({"list": [1, 2], "v": {"b": {"n": 3}}}));
            let req = run(render(json_of(source), &event));
            assert_eq!(text(&req.unwrap()), expected, "{source}");
        }
    }

    #[test]
    fn no_value_is_written_within_a_string_of_json() {
        for source in [
            "{\n\"a\": \"id-{{ v }}\"}",
            "{\n\"a\": \"{{ v }}-{{ v }}\"}",
            "[\n\"\\\"{{ v }}\"]",
            "[\n\"{# c #}{{ v }}\"]",
            "[\n\"{% raw %}x{% endraw %}{{ v }}\"]",
            "[\n\"{% if v %}{{ v }}{% endif %}\"]",
            "[\n\"{%- if v %}x{% endif %}\", {{ v }}]",
        ] {
            let refused = json_of(source).build().unwrap_err().to_string();
            assert!(
                refused.contains("quotes around a value in line 2"),
                "{source}: {refused}"
            );
        }
        for source in [
            "{\"a\\\"\": {{ v }}, \"b\\\\\": {{ v }}}",
            "{\"{% raw %}{{ v }}{% endraw %}\": {{ v }}}",
            "[\"{# \" #}\", {{ v ~ '\"' }}]",
        ] {
            let event = trigger(&json!({"v": ",1,true,"}));
            let req = run(render(json_of(source), &event)).unwrap();
            assert!(text(&req).contains("\",1,true,"), "{source}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error_within_lists_and_filters_too() {
        let event = trigger(&json!({"list": [{"a": 1}]}));
        for source in [
            "{{ event.nope|tojson }}",
            "{{ [nope]|tojson }}",
            "{{ {'a': [event.nope]}|tojson }}",
            "{{ [event.nope, 1]|join(',') }}",
            "{{ [1, event.nope]|string }}",
            "{{ event.nope|string }}",
            "{{ [1, event.nope]|sum }}",
            "{{ list|sum(attribute='b') }}",
            "{{ dict(a=event.nope)|tojson }}",
            "{{ dict(a=event.nope) }}",
            "{{ list|map(attribute='b')|join }}",
            "{{ list|map(attribute='b') }}",
            "{{ event.nope|times(2) }}",
        ] {
            let error = run(render(json_of(source), &event)).unwrap_err();
            assert!(
                error.to_string().ends_with("nothing of this name is there"),
                "{source}: {error}"
            );
        }
        for (source, expected) in [
            ("{{ [list, none]|tojson }}", "[[{\"a\":1}],null]"),
            (
                "{{ [1, 'b', list, true]|join('-') }}",
                "\"1-b-[{\\\"a\\\":1}]-true\"",
            ),
            ("{{ list|sum(attribute='a') }}", "1"),
            ("{{ event.nope|default(none)|tojson }}", "null"),
        ] {
            let req = run(render(json_of(source), &event)).unwrap();
            assert_eq!(text(&req), expected, "{source}");
        }
    }

    #[test]
    fn a_name_of_a_filter_test_or_function_that_is_not_there_is_refused_when_the_definition_is_built()
     {
        for (source, problem) in [
            ("{{ v|nosuch }}", "line 1: there is no filter `nosuch`"),
            ("{{ v\n|nosuch }}", "there is no filter `nosuch`"),
            (
                "{{ v|upper|first.nosuch }}",
                "there is no filter `first.nosuch`",
            ),
            (
                "{{ [v|string, (v|nosuch(1))] }}",
                "there is no filter `nosuch`",
            ),
            (
                "\n{% filter nosuch %}{% endfilter %}",
                "line 2: there is no filter `nosuch`",
            ),
            (
                "{% set a | nosuch %}{% endset %}",
                "there is no filter `nosuch`",
            ),
            ("{{ v|map('nosuch') }}", "there is no filter `nosuch`"),
            ("{{ v is nosuch }}", "there is no test `nosuch`"),
            ("{{ v is not nosuch }}", "there is no test `nosuch`"),
            ("{{ v|select('nosuch') }}", "there is no test `nosuch`"),
            (
                "{{ v|selectattr('a', 'nosuch') }}",
                "there is no test `nosuch`",
            ),
            ("{{ nosuch() }}", "there is no function `nosuch`"),
            (
                "{% if nosuch(v) %}{% endif %}",
                "there is no function `nosuch`",
            ),
            (
                "{% for a in nosuch(v) %}{% endfor %}",
                "there is no function `nosuch`",
            ),
            ("{{ v.nosuch() }}", "there is no method `nosuch`"),
        ] {
            let refused = json_of(source).build().unwrap_err().to_string();
            assert!(refused.contains(problem), "{source}: {refused}");
        }
        for source in [
            "{{ 1 if v is not none and not (v in (1, 2)) else range(3)|list }}",
            "{% for a in (v) %}{{ loop.cycle(1, 2) }}{% if (a) is defined %}{% endif %}{% endfor %}",
            "{{ 'x|nosuch()' }}",
            "{% raw %}{{ v|nosuch }}{% endraw %}",
            "{# {{ v|nosuch }} #}",
        ] {
            assert!(json_of(source).build().is_ok(), "{source}");
        }
    }

    /// S1's `max_payload_size_kb`, which its own code never looked at.
    #[tokio::test]
    async fn a_payload_is_no_longer_than_its_definition_permits() {
        let exactly = |length: usize| trigger(&json!({"v": "x".repeat(length)}));
        let kb = json_of("{{ v }}").max_payload_size_kb(1);
        let req = render(kb.clone(), &exactly(1022)).await.unwrap();
        assert_eq!(req.body().as_bytes().len(), 1024);
        let error = render(kb, &exactly(1023)).await.unwrap_err();
        assert!(
            matches!(error.kind(), RouteErrorKind::TooLarge { limit: 1024 }),
            "{error}"
        );
        let error = render(
            json_of("{% for a in range(9000) %}{{ v }}{% endfor %}"),
            &exactly(1000),
        )
        .await
        .unwrap_err();
        assert!(
            matches!(error.kind(), RouteErrorKind::TooLarge { .. }),
            "{error}"
        );
    }

    #[tokio::test]
    async fn xml_has_texts_numbers_and_loops_and_must_be_well_formed() {
        let event =
            trigger(&json!({"n": 7, "b": true, "none": null, "list": ["a<", "b"], "bad": "\u{1}"}));
        let template = "<?xml version=\"1.0\"?>\n<r n=\"{{ n }}\">{{ b }}{{ none }}{% for i in list %}<i>{{ i }}</i>{% endfor %}</r>";
        let req = render(xml_of(template), &event).await.unwrap();
        assert_eq!(
            text(&req),
            "<?xml version=\"1.0\"?>\n<r n=\"7\">true<i>a&lt;</i><i>b</i></r>"
        );
        assert_eq!(req.headers()["content-type"], "application/xml");
        for template in [
            "<r>{{ list }}</r>",
            "<r>{{ event }}</r>",
            "<r>{{ bad }}</r>",
            "<r>{{ nobody }}</r>",
        ] {
            let error = render(xml_of(template), &event).await.unwrap_err();
            assert!(
                matches!(error.kind(), RouteErrorKind::Template { .. }),
                "{template}: {error}"
            );
        }
        for template in [
            "<r>",
            "<r></s>",
            "{{ n }}",
            "<r/><r/>",
            "<!DOCTYPE r><r/>",
            "<r>&nbsp;</r>",
            "<{{ n }}/>",
        ] {
            let error = render(xml_of(template), &event).await.unwrap_err();
            assert!(
                matches!(error.kind(), RouteErrorKind::NotXml { .. }),
                "{template}: {error}"
            );
        }
    }
}

mod documents {
    use super::*;

    /// Row "Downstream" of S3.
    #[tokio::test]
    async fn the_downstream_body_of_s3_is_a_template() {
        let event = r#"{"conversationId":"conv-1","currentNode":"lookup","variables":{"customerId":"cust \"7\""}}"#;
        let event = CognigyEvent::from_bytes(event).unwrap();
        let s3 = Definition::builder("customer-lookup", "https://api.example.com/v1/customer/lookup").template(
            r#"{"conversationId": {{ conversationId }}, "externalId": {{ variables.customerId }}, "context": {{ currentNode }}}"#,
        );
        let req = render(s3, &Input::try_from(&event).unwrap()).await.unwrap();
        assert_eq!(req.uri(), "https://api.example.com/v1/customer/lookup");
        assert_eq!(
            body(&req),
            json!({"conversationId": "conv-1", "externalId": "cust \"7\"", "context": "lookup"})
        );
    }

    /// Row "CRM" of S4, from a file, over HTTP.
    #[tokio::test]
    async fn the_crm_context_of_s4_is_a_lookup_by_external_id_or_user_id() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let crm = service_fn(move |req: Request<BufferedBody>| {
            assert_eq!(req.method(), Method::GET);
            log.lock().unwrap().push(req.uri().to_string());
            async { Ok::<_, Infallible>(Response::new(BufferedBody::from(r#"{"tier":"gold"}"#))) }
        });
        let s4 = Definition::from_json(
            br#"{
                "name": "crm-enriched",
                "target_url": "https://target.example/hook",
                "trigger_conditions": [{"event_type": "PROFILE_UPDATED", "threshold": 1}],
                "payload_template": "{\"eventId\": {{ eventId }}, \"crm_context\": {{ crm_context }}}",
                "lookups": {"crm_context": {
                    "url": "https://api.example-crm.com/v1/contacts?external_id={key}",
                    "key": ["/externalId", "/userId"]
                }}
            }"#,
        )
        .unwrap();
        let routes = Routes::builder().http(crm).build([s4]).unwrap();
        for (ids, uri) in [
            (
                json!({"externalId": "a/b&c", "userId": "u"}),
                "https://api.example-crm.com/v1/contacts?external_id=a%2Fb%26c",
            ),
            (
                json!({"externalId": null, "userId": "u-1"}),
                "https://api.example-crm.com/v1/contacts?external_id=u-1",
            ),
        ] {
            let mut event = json!({"eventId": "evt_1", "timestamp": "2024-01-15T10:00:00Z", "type": "PROFILE_UPDATED", "payload": {"profile": {}}});
            event
                .as_object_mut()
                .unwrap()
                .extend(ids.as_object().unwrap().clone());
            let event = CognigyEvent::from_bytes(event.to_string()).unwrap();
            let input = Input::try_from(&event).unwrap();
            let matching = routes.matching(&input);
            let req = routes.render(&matching[0], &input).await.unwrap();
            assert_eq!(
                body(&req),
                json!({"eventId": "evt_1", "crm_context": {"tier": "gold"}})
            );
            assert_eq!(asked.lock().unwrap().pop().unwrap(), uri);
        }
    }

    /// Row "Templates" of S1: `render("user_enrichment.json", {"user_id": "usr_123", "lookup_keys": ["external_data"]}, ..)`.
    #[tokio::test]
    async fn the_external_data_of_s1_is_looked_up_if_the_event_lists_it() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let fetch_crm_data = lookup_fn(move |key| {
            count.fetch_add(1, Ordering::Relaxed);
            async move { Ok(Some(json!({"of": key}))) }
        });
        let rule = LookupRule::source("fetch_crm_data", ["/user_id"]).listed_in("/lookup_keys");
        let enrichment = definition("user_enrichment.json")
            .lookup("external_data", rule)
            .template(
                r#"{"user": {{ user_id }}, "data": {{ external_data|default("not asked for") }}}"#,
            )
            .build()
            .unwrap();
        let routes = Routes::builder()
            .lookup("fetch_crm_data", fetch_crm_data)
            .build([enrichment])
            .unwrap();
        let render = async |event: Value| {
            let definition = routes.get("user_enrichment.json").unwrap();
            body(&routes.render(&definition, &trigger(&event)).await.unwrap())
        };
        let listed = render(json!({"user_id": "usr_123", "lookup_keys": ["external_data"]})).await;
        assert_eq!(
            listed,
            json!({"user": "usr_123", "data": {"of": "usr_123"}})
        );
        let unlisted = render(json!({"user_id": "usr_456", "lookup_keys": []})).await;
        assert_eq!(
            unlisted,
            json!({"user": "usr_456", "data": "not asked for"})
        );
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_output_of_the_platform_is_routed_too() {
        let delivery = WebhookDelivery::from_bytes(
            r#"{"userId":"u","sessionId":"s","AIOutput":{"text":"Hi \"you\"","data":{},"traceId":"t","disableSensitiveLogging":false,"source":"bot"}}"#,
        )
        .unwrap();
        let output = definition("outputs")
            .when(condition("AI_OUTPUT", 1.0))
            .template(r#"{"to": {{ userId }}, "text": {{ AIOutput.text }}}"#)
            .build()
            .unwrap();
        let routes = Routes::builder().build([output]).unwrap();
        let input = Input::try_from(&delivery).unwrap();
        let req = routes
            .render(&routes.matching(&input)[0], &input)
            .await
            .unwrap();
        assert_eq!(body(&req), json!({"to": "u", "text": "Hi \"you\""}));
        assert!(
            !req.headers().contains_key("idempotency-key"),
            "it has no id"
        );
    }
}

mod lookups {
    use super::*;

    fn asking(rule: LookupRule) -> DefinitionBuilder {
        definition("crm").lookup("crm", rule).template("{{ crm }}")
    }

    fn by_id() -> LookupRule {
        LookupRule::source("crm", ["/id"])
    }

    /// A lookup that counts, and answers after `wait`.
    fn counted(wait: Duration) -> (RoutesBuilder, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&count);
        let lookup = lookup_fn(move |key| {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(wait).await;
                Ok(Some(json!({"key": key, "number": number})))
            }
        });
        (Routes::builder().lookup("crm", lookup), count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_events_with_one_key_make_one_lookup_and_what_it_found_is_kept_for_its_time()
    {
        let (routes, count) = counted(Duration::from_millis(500));
        let routes = routes.build([asking(by_id()).build().unwrap()]).unwrap();
        let definition = routes.get("crm").unwrap();
        let event = trigger(&json!({"id": 7}));
        let all = (0..1000).map(|_| routes.render(&definition, &event));
        for rendered in futures_util::future::join_all(all).await {
            assert_eq!(body(&rendered.unwrap()), json!({"key": "7", "number": 0}));
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);

        tokio::time::advance(Duration::from_secs(59)).await;
        routes.render(&definition, &event).await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1, "kept");
        tokio::time::advance(Duration::from_secs(2)).await;
        routes.render(&definition, &event).await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 2, "its time is over");
        let other = trigger(&json!({"id": "8"}));
        assert_eq!(
            body(&routes.render(&definition, &other).await.unwrap())["key"],
            "8"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_to_live_of_zero_keeps_nothing() {
        let (routes, count) = counted(Duration::ZERO);
        let routes = routes
            .build([asking(by_id().ttl_seconds(0)).build().unwrap()])
            .unwrap();
        for _ in 0..3 {
            let event = trigger(&json!({"id": "a"}));
            routes
                .render(&routes.definitions()[0], &event)
                .await
                .unwrap();
        }
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    /// Rules of one source share a lookup and what it found, but no rule decides for another.
    #[tokio::test(start_paused = true)]
    async fn each_rule_holds_to_its_own_time_limit_and_time_to_live() {
        let (routes, count) = counted(Duration::from_millis(500));
        let with = |name, rule: LookupRule| {
            let definition = definition(name).lookup("crm", rule.optional());
            definition.template("{{ crm }}").build().unwrap()
        };
        let routes = routes
            .build([
                with("short", by_id().timeout_ms(100)),
                with("long", by_id().timeout_ms(10_000)),
                with("zero", by_id().ttl_seconds(0)),
                with("day", by_id().ttl_seconds(86_400)),
                with("second", by_id().ttl_seconds(1)),
            ])
            .unwrap();
        let found = async |name: &str, id: u64| {
            let event = trigger(&json!({"id": id}));
            let definition = routes.get(name).unwrap();
            let req = routes.render(&definition, &event).await.unwrap();
            body(&req)["number"].as_u64()
        };
        let asked = || count.load(Ordering::Relaxed);

        let (short, long) = tokio::join!(found("short", 1), found("long", 1));
        assert_eq!((short, long, asked()), (None, Some(0), 1));
        let (long, short) = tokio::join!(found("long", 2), found("short", 2));
        assert_eq!((short, long, asked()), (None, Some(1), 2));

        assert_eq!(found("day", 3).await, Some(2));
        assert_eq!(found("zero", 3).await, Some(3), "not what was kept");
        assert_eq!(found("day", 3).await, Some(2), "nor is it kept");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(found("second", 3).await, Some(4), "older than a second");
        assert_eq!(found("day", 3).await, Some(4), "the newest");
        let (zero, day) = tokio::join!(found("zero", 4), found("day", 4));
        assert_eq!((zero, day), (Some(5), Some(5)));
        assert_eq!(found("day", 4).await, Some(5), "kept by the one that keeps");
        assert_eq!(asked(), 6);
    }

    /// A lookup that never ends would otherwise be waited for as long as events come.
    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_has_taken_too_long_is_not_waited_for_by_the_next() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let lookup = lookup_fn(move |_| {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if first {
                    pending::<()>().await;
                }
                Ok(Some(json!("found")))
            }
        });
        let routes = Routes::builder().lookup("crm", lookup);
        let rule = by_id().timeout_ms(1000);
        let routes = routes.build([asking(rule).build().unwrap()]).unwrap();
        let (definition, event) = (routes.get("crm").unwrap(), trigger(&json!({"id": "a"})));
        let render = async |wait| {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            routes.render(&definition, &event).await.is_ok()
        };
        let all = tokio::join!(render(0), render(900), render(1100));
        assert_eq!(all, (false, false, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_hangs_is_cut_and_its_failure_is_transient_or_null() {
        let hangs = || Routes::builder().lookup("crm", lookup_fn(|_| pending()));
        let event = trigger(&json!({"id": "a"}));
        let before = tokio::time::Instant::now();
        let error = render_in(hangs(), asking(by_id().timeout_ms(300)), &event)
            .await
            .unwrap_err();
        assert_eq!(before.elapsed().as_millis(), 300);
        assert!(
            matches!(error.kind(), RouteErrorKind::Lookup { lookup, .. } if &**lookup == "crm")
        );
        assert_eq!(Outcome::of_error(&error).kind(), OutcomeKind::Transient);
        assert!(Outcome::of_error(&error).may_retry());

        let req = render_in(hangs(), asking(by_id().optional()), &event)
            .await
            .unwrap();
        assert_eq!(body(&req), Value::Null);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_nobody_waits_for_is_dropped_and_asked_again() {
        struct Dropped(Arc<AtomicUsize>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (asked, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, drops) = (Arc::clone(&asked), Arc::clone(&dropped));
        let lookup = lookup_fn(move |_| {
            let (first, dropped) = (
                count.fetch_add(1, Ordering::Relaxed) == 0,
                Dropped(Arc::clone(&drops)),
            );
            async move {
                let _held = dropped;
                if first {
                    pending::<()>().await;
                }
                Ok(Some(json!("found")))
            }
        });
        let routes = Routes::builder().lookup("crm", lookup);
        let routes = routes.build([asking(by_id()).build().unwrap()]).unwrap();
        let (definition, event) = (routes.get("crm").unwrap(), trigger(&json!({"id": "a"})));
        let given_up = tokio::time::timeout(
            Duration::from_millis(10),
            routes.render(&definition, &event),
        );
        assert!(given_up.await.is_err());
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert_eq!(
            body(&routes.render(&definition, &event).await.unwrap()),
            json!("found")
        );
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_event_without_a_usable_key_is_not_looked_up() {
        let never = || {
            Routes::builder().lookup(
                "crm",
                lookup_fn(|key| async move { panic!("asked for {key}") }),
            )
        };
        for event in [
            json!({}),
            json!({"id": null}),
            json!({"id": ""}),
            json!({"id": {"a": 1}}),
            json!({"id": ".."}),
            json!({"id": "x".repeat(1025)}),
        ] {
            let error = render_in(never(), asking(by_id()), &trigger(&event))
                .await
                .unwrap_err();
            assert!(
                matches!(error.kind(), RouteErrorKind::Key { .. }),
                "{event}"
            );
            let req = render_in(never(), asking(by_id().optional()), &trigger(&event))
                .await
                .unwrap();
            assert_eq!(body(&req), Value::Null);
        }
    }

    #[tokio::test]
    async fn a_sender_cannot_stand_in_for_a_lookup_or_the_event() {
        let (routes, _) = counted(Duration::ZERO);
        let event = trigger(&json!({"id": "a", "crm": "forged", "event": "forged"}));
        let builder = definition("crm")
            .lookup("crm", by_id())
            .template("[{{ crm.key }}, {{ event.id }}]");
        let req = render_in(routes, builder, &event).await.unwrap();
        assert_eq!(body(&req), json!(["a", "a"]));
    }

    #[tokio::test]
    async fn the_answers_of_a_get_are_a_value_nothing_or_an_error_with_its_outcome() {
        let answer = |status: u16, body: &'static str| {
            service_fn(move |req: Request<BufferedBody>| {
                assert_eq!(req.headers()["accept"], "application/json");
                assert_eq!(
                    req.extensions().get::<CredentialName>().unwrap().as_str(),
                    "crm-token"
                );
                let mut res = Response::new(BufferedBody::from(body));
                *res.status_mut() = StatusCode::from_u16(status).unwrap();
                async { Ok::<_, Infallible>(res) }
            })
        };
        let rule = || {
            LookupRule::url("https://crm.example/contacts/{key}", ["/id"]).credential("crm-token")
        };
        let ask = async |status, body| {
            let routes = Routes::builder()
                .credentials(credentials("crm-token", "https://crm.example"))
                .http(answer(status, body));
            render_in(routes, asking(rule()), &trigger(&json!({"id": "a"}))).await
        };
        assert_eq!(body(&ask(200, "[1]").await.unwrap()), json!([1]));
        for (status, content) in [(404, ""), (410, ""), (204, "")] {
            let error = ask(status, content).await.unwrap_err();
            assert!(
                matches!(error.kind(), RouteErrorKind::NotFound { .. }),
                "{status}"
            );
            assert_eq!(Outcome::of_error(&error).kind(), OutcomeKind::Unsendable);
        }
        let large: &str = Box::leak(format!("\"{}\"", "x".repeat(256 << 10)).into_boxed_str());
        for (status, content, kind) in [
            (500, "", OutcomeKind::Transient),
            (429, "", OutcomeKind::Throttled),
            (403, "S3CRET", OutcomeKind::Permanent),
            (301, "", OutcomeKind::Permanent),
            (200, "<html>S3CRET", OutcomeKind::Permanent),
            (200, large, OutcomeKind::Permanent),
        ] {
            let error = ask(status, content).await.unwrap_err();
            assert_eq!(Outcome::of_error(&error).kind(), kind, "{status}");
            assert!(!format!("{error:?}").contains("S3CRET"));
        }
    }
}

mod registry {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> TempDir {
        let directory = TempDir::new().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    fn load(directory: &TempDir) -> Result<Routes, tower_webhook_cognigy::routing::LoadError> {
        Routes::builder().load(directory.path())
    }

    #[tokio::test]
    async fn a_directory_has_a_definition_in_each_json_file_and_templates_beside_them() {
        let directory = directory(&[
            ("b.json", &wire(&json!({"name": "second"}))),
            (
                "a.json",
                &wire(
                    &json!({"name": "first", "payload_template": null, "payload_template_file": "a.j2"}),
                ),
            ),
            ("a.j2", "{\"id\": {{ id }}}"),
            (".hidden.json", "no JSON"),
            ("README.md", "no JSON"),
        ]);
        let routes = load(&directory).unwrap();
        let names: Vec<_> = routes
            .definitions()
            .iter()
            .map(|found| found.name().to_owned())
            .collect();
        assert_eq!(names, ["first", "second"]);
        let first = routes.get("first").unwrap();
        let req = routes
            .render(&first, &trigger(&json!({"id": "x"})))
            .await
            .unwrap();
        assert_eq!(body(&req), json!({"id": "x"}));
        assert!(routes.get("third").is_none());
        assert!(
            load(&super::registry::directory(&[]))
                .unwrap()
                .definitions()
                .is_empty()
        );
    }

    #[test]
    fn a_file_is_the_only_definition_with_its_template_beside_it() {
        let fields = json!({"payload_template": null, "payload_template_file": "a.j2"});
        let files = [("a.json", &*wire(&fields)), ("a.j2", "7"), ("b.json", "no")];
        let directory = directory(&files);
        let file = directory.path().join("a.json");
        let routes = Routes::builder().load(&file).unwrap();
        assert_eq!(routes.definitions().len(), 1);
        assert_eq!(routes.reload().unwrap(), 1);
        std::fs::remove_file(directory.path().join("a.j2")).unwrap();
        let error = routes.reload().unwrap_err();
        assert_eq!(error.file(), Some(&*file));
        assert_eq!(error.field(), Some("payload_template_file"));
    }

    #[test]
    fn a_bad_file_names_itself_and_its_field_and_nothing_is_loaded() {
        for (content, said) in [
            ("{", "EOF while parsing"),
            ("", "EOF while parsing"),
            ("{} x", "missing field"),
            (&*format!("{} x", wire(&json!({}))), "trailing characters"),
            (
                &*wire(&json!({"timeout_seconds": 99})),
                "timeout_seconds: `timeout_seconds` must be from 1 to 30",
            ),
            (&*wire(&json!({"colour": 1})), "unknown field `colour`"),
            (
                &*wire(&json!({"name": "fine"})),
                "name: another definition has this name",
            ),
            (
                &*wire(&json!({"target_url": "http://example.com/"})),
                "target_url: ",
            ),
            (
                &*wire(&json!({"target_url": "https://169.254.169.254/"})),
                "target_url: ",
            ),
            (
                &*wire(&json!({"target_url": "https://user:pw@example.com/"})),
                "target_url: ",
            ),
            (
                &*wire(&json!({"credential": "nobody"})),
                "credential: there is no credential `nobody`",
            ),
            (
                &*wire(&json!({"credential": "crm-token", "target_url": "https://evil.example/"})),
                "credential: the credential `crm-token` is for https://crm.example:443 and no other",
            ),
            (
                &*wire(&json!({"lookups": {"crm": {
                    "url": "https://evil.example/{key}", "key": "/a", "credential": "crm-token"
                }}})),
                "lookups.crm.credential: the credential `crm-token` is for https://crm.example:443",
            ),
            (
                &*wire(&json!({"lookups": {"crm": {"source": "nobody", "key": "/a"}}})),
                "lookups.crm.source: there is no lookup `nobody`",
            ),
            (
                &*wire(
                    &json!({"lookups": {"crm": {"url": "https://crm.example/{key}", "key": "/a"}}}),
                ),
                "lookups.crm.url: there is no client",
            ),
            (
                &*wire(&json!({"payload_template": null, "payload_template_file": "../secret"})),
                "payload_template_file: must be the name of a file",
            ),
            (
                &*wire(&json!({"payload_template": null, "payload_template_file": "/etc/passwd"})),
                "payload_template_file: must be the name of a file",
            ),
            (
                &*wire(&json!({"payload_template": null, "payload_template_file": "none.j2"})),
                "payload_template_file: `none.j2` cannot be read",
            ),
            (
                &*wire(&json!({"payload_template": "{\n{{ x"})),
                "payload_template: `payload_template` is not a template: line 2",
            ),
        ] {
            let fine = wire(&json!({"name": "fine"}));
            let directory = directory(&[("a-fine.json", &fine), ("b-bad.json", content)]);
            let routes =
                Routes::builder().credentials(credentials("crm-token", "https://crm.example"));
            let error = routes.load(directory.path()).unwrap_err();
            assert_eq!(
                error.file(),
                Some(&*directory.path().join("b-bad.json")),
                "{error}"
            );
            assert!(error.to_string().contains(said), "{error}");
        }
        let error = Routes::builder().load("/no/such/directory").unwrap_err();
        assert!(
            error.to_string().starts_with("/no/such/directory: "),
            "{error}"
        );
        let folder = directory(&[]);
        fs::create_dir(folder.path().join("x.json")).unwrap();
        assert_eq!(
            load(&folder).unwrap_err().file(),
            Some(&*folder.path().join("x.json"))
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_names_may_be_odd() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt, os::unix::fs::symlink};
        // As Kubernetes mounts settings: links into a hidden folder that is replaced as a whole.
        let folder = directory(&[]);
        let hidden = folder.path().join("..2024");
        fs::create_dir(&hidden).unwrap();
        let linked =
            json!({"name": "linked", "payload_template": null, "payload_template_file": "a.j2"});
        fs::write(hidden.join("a.json"), wire(&linked)).unwrap();
        fs::write(hidden.join("a.j2"), "{}").unwrap();
        for name in ["a.json", "a.j2"] {
            symlink(hidden.join(name), folder.path().join(name)).unwrap();
        }
        let odd = folder.path().join(OsStr::from_bytes(b"\xff \n.json"));
        fs::write(&odd, wire(&json!({"name": "odd"}))).unwrap();
        assert_eq!(load(&folder).unwrap().definitions().len(), 2);

        fs::write(&odd, "{").unwrap();
        assert_eq!(load(&folder).unwrap_err().file(), Some(&*odd));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_does_not_end_or_leads_nowhere_is_refused_and_named() {
        use std::{os::unix::fs::symlink, process::Command};
        type Make = fn(&std::path::Path);
        let made: [(&str, Make); 6] = [
            ("it is longer than 1 MiB", |path| {
                fs::write(path, " ".repeat(1 << 20) + "{}").unwrap();
            }),
            // Hundreds of gigabytes, of a length that is told as zero.
            ("cannot be read", |path| {
                symlink("/proc/self/pagemap", path).unwrap();
            }),
            ("it is not a file", |path| {
                symlink("/dev/zero", path).unwrap();
            }),
            ("it is not a file", |path| {
                assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            }),
            ("No such file", |path| symlink("gone", path).unwrap()),
            ("symbolic links", |path| symlink(path, path).unwrap()),
        ];
        for (said, make) in made {
            for (name, error) in [
                ("b.json", "the file cannot be read"),
                ("a.j2", "`a.j2` cannot be read"),
            ] {
                let fields = json!({"payload_template": null, "payload_template_file": "a.j2"});
                let folder = directory(&[("a.json", &wire(&fields)), ("a.j2", "{}")]);
                let path = folder.path().join(name);
                let _ = fs::remove_file(&path);
                make(&path);
                let refused = load(&folder).unwrap_err();
                let cause = std::error::Error::source(&refused).map(ToString::to_string);
                let refused = format!("{refused}: {}", cause.unwrap_or_default());
                assert!(
                    refused.contains(error) && refused.contains(said),
                    "{refused}"
                );
            }
        }
    }

    #[test]
    fn more_files_than_permitted_are_counted_and_not_read() {
        let folder = directory(&[("file", "no JSON")]);
        let file = folder.path().join("file");
        for number in 0..=10_000 {
            fs::hard_link(&file, folder.path().join(format!("{number}.json"))).unwrap();
        }
        let refused = load(&folder).unwrap_err();
        assert_eq!(refused.file(), Some(folder.path()));
        assert!(
            refused
                .to_string()
                .ends_with(": there are more than 10000 definitions"),
            "{refused}"
        );
    }

    #[test]
    fn a_lookup_may_go_only_where_a_target_may() {
        let rule = |url: &str| {
            definition("crm")
                .lookup("crm", LookupRule::url(url, ["/id"]))
                .build()
                .unwrap()
        };
        let client = service_fn(|_: Request<BufferedBody>| async {
            Ok::<_, Infallible>(Response::new(BufferedBody::default()))
        });
        for (url, permitted) in [
            ("https://crm.example/{key}", true),
            ("http://crm.example/{key}", false),
            ("https://10.0.0.1/{key}", false),
        ] {
            let built = Routes::builder().http(client).build([rule(url)]);
            assert_eq!(built.is_ok(), permitted, "{url}");
        }
        let all = TargetRules::new().allow_http(true).allow_private(true);
        let routes = Routes::builder().http(client).targets(all);
        assert!(routes.build([rule("http://127.0.0.1:1/{key}")]).is_ok());
    }

    #[test]
    fn a_bad_reload_keeps_what_was_there() {
        let directory = directory(&[("a.json", &wire(&json!({"name": "one"})))]);
        let routes = load(&directory).unwrap();
        fs::write(
            directory.path().join("b.json"),
            wire(&json!({"name": "two"})),
        )
        .unwrap();
        assert_eq!(routes.reload().unwrap(), 2);
        fs::write(directory.path().join("a.json"), "{").unwrap();
        assert!(routes.reload().is_err());
        assert_eq!(routes.definitions().len(), 2);
        assert!(routes.get("one").is_some());
        assert!(Routes::builder().build([]).unwrap().reload().is_err());
    }

    /// "A definition replaced while it is in use."
    #[tokio::test(start_paused = true)]
    async fn a_rendering_keeps_the_definition_that_it_began_with() {
        let version = |number: u32| {
            let slow = LookupRule::source("slow", ["/id"]);
            let template = format!("{{\"version\": {number}, \"slow\": {{{{ slow }}}}}}");
            definition("crm")
                .lookup("slow", slow)
                .template(template)
                .build()
                .unwrap()
        };
        let slow = lookup_fn(|_| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Some(json!(true)))
        });
        let routes = Routes::builder()
            .lookup("slow", slow)
            .build([version(1)])
            .unwrap();
        let event = trigger(&json!({"id": "a"}));
        let old = routes.matching(&event);
        let (rendered, ()) = tokio::join!(routes.render(&old[0], &event), async {
            routes.replace([version(2)]).unwrap();
        });
        assert_eq!(body(&rendered.unwrap())["version"], 1);
        let new = routes.matching(&event);
        assert_eq!(
            body(&routes.render(&new[0], &event).await.unwrap())["version"],
            2
        );
    }

    #[test]
    fn readers_see_all_definitions_from_before_or_all_from_after() {
        let set = |name: &str| {
            let all =
                (0..10).map(|number| definition(&format!("{name}-{number}")).build().unwrap());
            all.collect::<Vec<_>>()
        };
        let routes = Routes::builder().build(set("old")).unwrap();
        let event = trigger(&json!({}));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..50 {
                    routes
                        .replace(set(if round % 2 == 0 { "new" } else { "old" }))
                        .unwrap();
                }
            });
            while !writer.is_finished() {
                let matching = routes.matching(&event);
                let first = matching[0].name().split_once('-').unwrap().0.to_owned();
                assert!(
                    matching.len() == 10
                        && matching
                            .iter()
                            .all(|found| found.name().starts_with(&first))
                );
            }
        });
    }

    #[test]
    fn definitions_are_not_shown_with_their_headers() -> Result<(), InvalidConfig> {
        let shown = definition("crm")
            .header("x-team", "S3CRET")
            .template("\"S3CRET\"")
            .build()?;
        assert!(!format!("{shown:?}").contains("S3CRET"));
        Ok(())
    }
}

mod router {
    use super::*;
    use tower_webhook::{
        retry::{Backoff, Jitter, RetryConfig},
        stack,
    };

    type Peer = BoxCloneSyncService<Request<BufferedBody>, Response<BufferedBody>, BoxError>;

    /// A peer that fails three times behind the delivery stack, with the schedule of S1's engine and S4's CRM call; and the
    /// times of its requests.
    fn fails_three_times() -> (Peer, Arc<Mutex<Vec<Duration>>>) {
        let (began, asked) = (tokio::time::Instant::now(), Arc::new(Mutex::new(vec![])));
        let log = Arc::clone(&asked);
        let peer = service_fn(move |_: Request<BufferedBody>| {
            let mut log = log.lock().unwrap();
            log.push(began.elapsed());
            let status = if log.len() < 4 { 503 } else { 200 };
            let answer = Response::builder().status(status);
            std::future::ready(Ok::<_, BoxError>(answer.body("{}".into()).unwrap()))
        });
        let backoff = Backoff::exponential(Duration::from_secs(2), Duration::from_secs(8));
        let backoff = backoff.jitter(Jitter::None).build().unwrap();
        let retry = RetryConfig::builder().attempts(4).backoff(backoff);
        let stack = stack::deliver().retry(retry.build().unwrap());
        (Peer::new(stack.build().unwrap().layer(peer)), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn s1_and_s4_a_lookup_and_a_delivery_are_tried_four_times_after_2_4_and_8_seconds() {
        let (crm, looked_up) = fails_three_times();
        let rule = LookupRule::url("https://crm.example.com/{key}", ["/id"]).timeout_ms(30_000);
        let enriched = definition("enriched").lookup("crm", rule).build().unwrap();
        let routes = Routes::builder().http(crm).build([enriched]).unwrap();
        let (target, delivered) = fails_three_times();
        let router = RouterLayer::new(routes).layer(target);
        let routed = router.oneshot(trigger(&json!({"id": "a"}))).await.unwrap();
        assert_eq!(routed[0].result.as_ref().unwrap().status(), StatusCode::OK);
        let seconds = |log: &Mutex<Vec<Duration>>| {
            let log = log.lock().unwrap();
            log.iter().map(Duration::as_secs).collect::<Vec<_>>()
        };
        assert_eq!(seconds(&looked_up), [0, 2, 6, 14]);
        assert_eq!(seconds(&delivered), [14, 16, 20, 28]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_failure_of_one_definition_stops_no_other() {
        let with = |name: &str, path: &str| Definition::builder(name, format!("{TARGET}/{path}"));
        let all = [
            with("fine", "fine"),
            with("broken", "fine").template("{{ nobody }}"),
            with("failing", "failing"),
            with("hanging", "hanging").timeout_seconds(2),
            with("last", "fine"),
        ];
        let routes = Routes::builder()
            .build(all.map(|builder| builder.build().unwrap()))
            .unwrap();
        let client = service_fn(|req: Request<BufferedBody>| async move {
            match req.uri().path() {
                "/hook/failing" => Err(BoxError::from("connection lost")),
                "/hook/hanging" => pending().await,
                _ => Ok(Response::new(())),
            }
        });
        let router = RouterLayer::new(routes).layer(client);
        let before = tokio::time::Instant::now();
        let routed = router.oneshot(trigger(&json!({"id": "a"}))).await.unwrap();
        assert_eq!(before.elapsed(), Duration::from_secs(2));
        let results: Vec<_> = routed
            .iter()
            .map(|routed| {
                (
                    routed.definition.name(),
                    routed
                        .result
                        .as_ref()
                        .map(Response::status)
                        .map_err(ToString::to_string),
                )
            })
            .collect();
        assert_eq!(results[0], ("fine", Ok(StatusCode::OK)));
        assert!(
            results[1]
                .1
                .as_ref()
                .unwrap_err()
                .contains("nothing of this name")
        );
        assert_eq!(results[2], ("failing", Err("connection lost".into())));
        assert_eq!(results[3].0, "hanging");
        let late = routed[3].result.as_ref().unwrap_err();
        assert_eq!(Outcome::of_error(&**late).kind(), OutcomeKind::Transient);
        assert_eq!(results[4], ("last", Ok(StatusCode::OK)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_deliveries_of_an_event_run_at_the_same_time_than_permitted() {
        let all = (0..20).map(|number| definition(&format!("d-{number:02}")).build().unwrap());
        let routes = Routes::builder().build(all).unwrap();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (now, highest) = (Arc::clone(&running), Arc::clone(&most));
        let client = service_fn(move |_: Request<BufferedBody>| {
            let (now, highest) = (Arc::clone(&now), Arc::clone(&highest));
            async move {
                highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Infallible>(())
            }
        });
        let layer = RouterLayer::new(routes).concurrency(3.try_into().unwrap());
        let routed = layer
            .layer(client)
            .oneshot(trigger(&json!({})))
            .await
            .unwrap();
        assert_eq!(routed.len(), 20);
        assert_eq!(most.load(Ordering::SeqCst), 3);
        let names: Vec<_> = routed
            .iter()
            .map(|routed| routed.definition.name())
            .collect();
        assert!(names.is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_router_s_future_drops_all_deliveries() {
        let alive = Arc::new(());
        let held = Arc::downgrade(&alive);
        let client = service_fn(move |_: Request<BufferedBody>| {
            let alive = Arc::clone(&alive);
            async move {
                pending::<()>().await;
                drop(alive);
                Ok::<_, Infallible>(())
            }
        });
        let routes = Routes::builder()
            .build([definition("crm").build().unwrap()])
            .unwrap();
        let router = RouterLayer::new(routes).layer(client);
        let call = router.oneshot(trigger(&json!({})));
        assert!(
            tokio::time::timeout(Duration::from_millis(1), call)
                .await
                .is_err()
        );
        assert_eq!(held.strong_count(), 0);
    }
}
