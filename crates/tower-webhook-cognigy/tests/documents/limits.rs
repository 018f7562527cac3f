//! Each limit on both of its sides.

use std::time::Duration;
use tower_webhook_cognigy::documents::{
    IntervalRetries, TimeoutPipeline, WebhookDefinition, WebhookEndpoint,
};

const URL: &str = "https://example.com/";

#[test]
fn s2_an_endpoint_at_its_limits_is_taken_and_one_step_beyond_is_not() {
    for (length, fits) in [(2, false), (3, true), (100, true), (101, false)] {
        // Characters, not bytes.
        for letter in ["x", "ü"] {
            let built = WebhookEndpoint::builder(letter.repeat(length), URL).build();
            assert_eq!(built.is_ok(), fits, "{length} of {letter}");
        }
    }
    for (ms, fits) in [(999, false), (1000, true), (30_000, true), (30_001, false)] {
        let time = Duration::from_millis(ms);
        let built = WebhookEndpoint::builder("abc", URL).timeout(time).build();
        assert_eq!(built.is_ok(), fits, "{ms}");
        let setting = TimeoutPipeline::new(time).map_err(|error| error.setting());
        assert_eq!(setting.err(), (!fits).then_some("timeout"), "{ms}");
        assert_eq!(IntervalRetries::new(3, time).is_ok(), fits, "{ms}");
    }
    for time in [Duration::ZERO, Duration::MAX] {
        assert!(TimeoutPipeline::new(time).is_err());
    }
    for (retries, fits) in [(0, true), (10, true), (11, false)] {
        let built = IntervalRetries::new(retries, Duration::from_secs(5));
        assert_eq!(built.is_ok(), fits, "{retries}");
    }
    for (urls, fits) in [(5, true), (6, false)] {
        let endpoint = WebhookEndpoint::builder("abc", URL);
        let built = endpoint.fallback_urls(vec![URL; urls]).build();
        assert_eq!(built.is_ok(), fits, "{urls}");
    }
}

#[test]
fn a_header_that_is_there_twice_is_refused_by_name() {
    let endpoint = WebhookEndpoint::builder("abc", URL).header("X-A", "1");
    let error = endpoint.header("x-a", "2").build().expect_err("twice");
    assert_eq!(error.setting(), "headers");
    assert!(error.to_string().contains("\"x-a\" twice"), "{error}");
    let again = WebhookEndpoint::builder("abc", URL).header("X-A", "1");
    assert!(again.header("X-A", "2").build().is_ok(), "it is replaced");
}

#[test]
fn s1_a_statement_of_jinja2_that_is_not_checked_is_no_syntax_error() {
    let of = |template: &str| {
        let definition = WebhookDefinition::builder("abc", URL).payload_template(template);
        definition.build().map_err(|error| error.to_string())
    };
    for statement in [
        "macro m(a) %}{{ a }}{% endmacro",
        "include 'a'",
        "import 'a' as b",
        "from 'a' import b",
        "extends 'a'",
        "call m(1) %}{% endcall",
    ] {
        let error = of(&format!("{{}}\n{{% {statement} %}}")).expect_err(statement);
        assert!(
            error.contains("statement in line 2 that is not checked here"),
            "{error}"
        );
    }
    let error = of("{{").expect_err("no template");
    assert!(error.contains("is no template"), "{error}");
    let all = "{# c #}{% set a = 1 %}{% with b = 2 %}{% if a %}{% for c in d %}{{ c|upper }}{% endfor %}\
        {% endif %}{% endwith %}{% filter upper %}x{% endfilter %}{% raw %}{{{% endraw %}";
    of(all).expect("a template");
}
