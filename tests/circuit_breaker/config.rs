//! What cannot be built.

use super::*;

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let base = BreakerConfig::builder;
    let slow = || base().slow_call(secs(1));
    let timed = || base().window_time(secs(1));
    let year = secs(400 * 24 * 3_600);
    let mut cases = vec![
        ("consecutive_failures", base().consecutive_failures(0)),
        ("slow_call", base().slow_call(Duration::ZERO)),
        ("slow_call", base().slow_call(year)),
        ("slow_call", base().slow_call_rate(0.5)),
        (
            "failure_rate",
            base().without_failure_rate().without_consecutive_failures(),
        ),
        ("window_calls", base().window_calls(0)),
        ("window_calls", base().window_calls(u32::MAX)),
        ("window_time", base().window_time(Duration::ZERO)),
        ("window_time", base().window_time(Duration::MAX)),
        ("window_time", base().window_time(Duration::from_nanos(9))),
        ("window_buckets", timed().window_buckets(0)),
        ("window_buckets", timed().window_buckets(u32::MAX)),
        ("min_calls", base().min_calls(0)),
        ("min_calls", base().window_calls(10).min_calls(11)),
        (
            "min_calls",
            slow().without_failure_rate().window_calls(10).min_calls(11),
        ),
        ("open_for", base().open_for(Duration::ZERO)),
        ("open_for", base().open_for(Duration::MAX)),
        ("max_open_for", base().max_open_for(Duration::ZERO)),
        (
            "max_open_for",
            base().open_for(secs(5)).max_open_for(secs(4)),
        ),
        ("max_open_for", base().max_open_for(year)),
        ("probes", base().probes(0)),
        ("probes", base().probes(u32::MAX)),
        ("probe_successes", base().probe_successes(0)),
        ("probe_lease", base().probe_lease(Duration::ZERO)),
        ("probe_lease", base().probe_lease(Duration::MAX)),
        ("max_peers", base().max_peers(0)),
        ("forget_after", base().forget_after(Duration::ZERO)),
        ("forget_after", base().forget_after(Duration::MAX)),
    ];
    let none = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1];
    for bad in none.into_iter().chain([0.0, -0.0, 1.000_001, 50.0]) {
        cases.push(("failure_rate", base().failure_rate(bad)));
        cases.push(("slow_call_rate", slow().slow_call_rate(bad)));
    }
    for bad in none.into_iter().chain([0.0, 0.999]) {
        cases.push(("open_growth", base().open_growth(bad)));
    }
    for bad in none.into_iter().chain([1.000_001]) {
        cases.push(("open_jitter", base().open_jitter(bad)));
    }
    for (setting, config) in cases {
        let error = config
            .clone()
            .build()
            .expect_err(&format!("{setting}: {config:?}"));
        assert_eq!(error.setting(), setting, "{config:?}");
    }
}

#[test]
fn settings_at_their_ends_are_taken() {
    let base = BreakerConfig::builder;
    for config in [
        base(),
        base().consecutive_failures(1).without_failure_rate(),
        base().failure_rate(1.0).window_calls(1).min_calls(1),
        base().failure_rate(f64::MIN_POSITIVE).window_calls(65_536),
        base().window_time(Duration::from_nanos(10)),
        base().open_jitter(1.0).open_growth(f64::MAX),
        base().open_jitter(0.0).open_growth(1.0),
        base().max_peers(usize::MAX),
        // A row needs no minimum.
        base().without_failure_rate().window_calls(1),
    ] {
        assert!(config.clone().build().is_ok(), "{config:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wildest_settings_neither_panic_nor_wedge() {
    let config = one_failure().open_growth(f64::MAX).open_jitter(1.0);
    let breakers = breakers(config.max_open_for(secs(366 * 24 * 3_600)));
    for _ in 0..40 {
        advance(secs(366 * 24 * 3_600)).await;
        assert_eq!(run(&breakers, "F").await, 1);
    }
}
