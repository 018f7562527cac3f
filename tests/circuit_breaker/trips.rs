//! When a closed breaker opens.

use super::*;
use BreakerState::{Closed, Open};

/// A window of so many calls, judged from so many on, at a rate; nothing else.
fn rate(window: u32, min: u32, rate: f64) -> BreakerConfigBuilder {
    BreakerConfig::builder()
        .without_consecutive_failures()
        .window_calls(window)
        .min_calls(min)
        .failure_rate(rate)
}

fn row(failures: u32) -> BreakerConfigBuilder {
    BreakerConfig::builder()
        .without_failure_rate()
        .consecutive_failures(failures)
}

async fn table(cases: impl IntoIterator<Item = (BreakerConfigBuilder, String, BreakerState)>) {
    for (config, script, expected) in cases {
        let breakers = breakers(config.clone());
        run(&breakers, &script).await;
        assert_eq!(state(&breakers), expected, "{script} with {config:?}");
    }
}

/// The windows of resilience4j: "when the failure rate is equal or greater than the threshold", "if
/// only 9 calls have been evaluated the `CircuitBreaker` will not transition to open even if all 9
/// have failed" (its guide, `failureRateThreshold`, `minimumNumberOfCalls`), and evaluation after
/// successes too (its `CircuitBreakerMetrics`).
#[tokio::test(start_paused = true)]
async fn rates_as_resilience4j_has_them() {
    table([
        (rate(10, 10, 0.5), "FFFFFFFFF".into(), Closed),
        (rate(10, 10, 0.5), "FFFFFFFFFF".into(), Open),
        (rate(10, 10, 0.5), "FFFFFFFFFS".into(), Open),
        (rate(10, 10, 0.5), "SSSSSFFFFF".into(), Open),
        (rate(10, 10, 0.5), "SSSSSSFFFF".into(), Closed),
        (rate(10, 10, 0.5), "SSSSSSFFFFF".into(), Open),
        (rate(10, 10, 0.51), "SSSSSFFFFF".into(), Closed),
        (rate(10, 10, 0.3), "FFFSSSSSSS".into(), Open),
        (rate(10, 10, 0.1), "SSSSSSSSSF".into(), Open),
        (rate(10, 10, 1.0), "FFFFFFFFFS".into(), Closed),
        (rate(10, 10, 1.0), "SFFFFFFFFFF".into(), Open),
        (rate(2, 2, 0.5), "FS".into(), Open),
        (rate(1, 1, 1.0), "F".into(), Open),
        // Neither neutral nor cancelled calls are among the calls.
        (rate(10, 4, 0.5), "FFCCNNCN".into(), Closed),
        (rate(10, 4, 0.5), "FFCCNNCNSS".into(), Open),
        // A 400 says that the peer is well.
        (rate(4, 4, 0.5), "PPPFPPPF".into(), Closed),
        (rate(4, 4, 0.5), "PUPU".into(), Open),
    ])
    .await;
}

/// The defect of a window that only fills up: a thousand successes would take a thousand failures.
#[tokio::test(start_paused = true)]
async fn a_window_slides_however_many_calls_were_before() {
    table([
        (rate(10, 10, 0.5), "S".repeat(1_000) + "FFFF", Closed),
        (rate(10, 10, 0.5), "S".repeat(1_000) + "FFFFF", Open),
        (rate(10, 10, 0.5), "FFFFSSSSSS".repeat(50), Closed),
        (rate(65_536, 65_536, 0.5), "S".repeat(70_000), Closed),
    ])
    .await;
}

/// A minimum of 5 means that 5 calls can open it, however long the window is.
#[tokio::test(start_paused = true)]
async fn the_minimum_is_taken_literally() {
    let breakers = breakers(rate(100, 5, 0.5));
    assert_eq!(run(&breakers, &"F".repeat(10)).await, 5);
    let seen = see(&breakers);
    assert_eq!(
        (seen.calls, seen.failures, seen.failure_rate),
        (5, 5, Some(1.0))
    );
}

/// resilience4j says -1 below the minimum; here there is no rate.
#[tokio::test(start_paused = true)]
async fn there_is_no_rate_below_the_minimum() {
    let breakers = breakers(rate(100, 5, 0.9));
    run(&breakers, "FFSS").await;
    assert_eq!(see(&breakers).failure_rate, None);
    run(&breakers, "S").await;
    assert_eq!(see(&breakers).failure_rate, Some(0.4));
}

fn timed(seconds: u64, min: u32, rate: f64) -> BreakerConfigBuilder {
    BreakerConfig::builder()
        .without_consecutive_failures()
        .window_time(secs(seconds))
        .min_calls(min)
        .failure_rate(rate)
}

/// A result whose age is the window is expired (Polly's `RollingHealthMetrics`, `HealthWindow`).
#[tokio::test(start_paused = true)]
async fn windows_of_time_as_polly_has_them() {
    let wait = |seconds: usize| "_".repeat(seconds);
    table([
        (timed(10, 2, 0.5), "F".to_owned() + &wait(9) + "F", Open),
        (timed(10, 2, 0.5), "F".to_owned() + &wait(10) + "F", Closed),
        (timed(10, 2, 0.5), "F".to_owned() + &wait(10) + "FF", Open),
        (
            timed(10, 4, 0.5),
            "F".to_owned() + &wait(5) + "FF" + &wait(5) + "S",
            Closed,
        ),
        (
            timed(10, 4, 0.5),
            "F".to_owned() + &wait(5) + "FF" + &wait(4) + "S",
            Open,
        ),
        (
            timed(10, 3, 1.0),
            "S".repeat(1_000) + &wait(10) + "FFF",
            Open,
        ),
        // One bucket: the window starts anew as a whole.
        (
            timed(10, 2, 0.5).window_buckets(1),
            "F".to_owned() + &wait(10) + "F",
            Closed,
        ),
    ])
    .await;
}

/// Linkerd's regression test for a gap that a 32-bit count of buckets did not survive.
#[tokio::test(start_paused = true)]
async fn sixty_days_of_silence_do_no_harm() {
    let breakers = breakers(timed(10, 2, 0.5));
    run(&breakers, "F").await;
    advance(secs(60 * 24 * 3_600)).await;
    run(&breakers, "F").await;
    assert_eq!(state(&breakers), Closed);
    run(&breakers, "F").await;
    assert_eq!(state(&breakers), Open);
    advance(secs(60 * 24 * 3_600)).await;
    assert_eq!(see(&breakers).time_left, Some(Duration::ZERO));
    run(&breakers, "S").await;
    assert_eq!(state(&breakers), Closed);
}

/// Rows as pybreaker's `fail_max`, gobreaker's `ConsecutiveFailures` and the documents' 3 have them.
#[tokio::test(start_paused = true)]
async fn failures_in_a_row() {
    table([
        (row(3), "FF".into(), Closed),
        (row(3), "FFF".into(), Open),
        (row(3), "FFSFF".into(), Closed),
        (row(3), "FFPFF".into(), Closed),
        (row(3), "FUF".into(), Open),
        (row(3), "FFCNF".into(), Open),
        (row(1), "F".into(), Open),
    ])
    .await;
}

/// Linkerd: a 429 lowers the success rate and is no consecutive failure.
#[tokio::test(start_paused = true)]
async fn throttled_calls_as_linkerd_has_them() {
    let both = row(3).failure_rate(0.5).window_calls(10).min_calls(10);
    table([
        (row(3), "T".repeat(100), Closed),
        (row(3), "FTFTTF".into(), Open),
        (row(3), "FFTS".into(), Closed),
        (both.clone(), "TTTTT".into(), Closed),
        (both.clone(), "TTTTTSSSSS".into(), Open),
        (both, "FFTTTTTTTT".into(), Open),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn slow_calls_by_rate_and_not_by_result() {
    let slow = || {
        let config = BreakerConfig::builder().without_consecutive_failures();
        config
            .without_failure_rate()
            .slow_call(secs(1))
            .min_calls(4)
            .window_calls(4)
    };
    table([
        (slow(), "WWW".into(), Closed),
        (slow(), "WWWW".into(), Open),
        (slow(), "WXWX".into(), Open),
        (slow(), "FFFFFFFF".into(), Closed),
        (slow().slow_call_rate(0.5), "WSWS".into(), Open),
        (slow().slow_call_rate(0.75), "WSWS".into(), Closed),
        // Longer than: as long is not slow.
        (slow().slow_call(secs(2)), "WWWW".into(), Closed),
    ])
    .await;
}

/// Finagle ORs its policies: whichever comes first.
#[tokio::test(start_paused = true)]
async fn all_conditions_at_once_and_the_reason_says_which() {
    let config = || {
        let config = BreakerConfig::builder()
            .consecutive_failures(5)
            .failure_rate(0.5);
        config
            .slow_call(secs(1))
            .slow_call_rate(0.5)
            .min_calls(6)
            .window_calls(6)
    };
    for (script, expected) in [
        ("FFFFF", "consecutive_failures"),
        ("SFSFSF", "failure_rate"),
        ("SWSWSW", "slow_call_rate"),
    ] {
        let changes = Changes::default();
        let breakers = breakers(config()).observe(changes.clone());
        assert_eq!(
            run(&breakers, &(script.to_owned() + "S")).await,
            script.len()
        );
        let change = changes.all().remove(0);
        assert_eq!(
            (change.from, change.to, change.reason),
            (Closed, Open, expected)
        );
        assert_eq!(breakers.totals().trips, 1);
    }
}

/// The documents' clients, which saw one outage begin, must not all probe at the same moment after it.
#[cfg(feature = "cognigy")]
#[tokio::test(start_paused = true)]
async fn breakers_of_the_documents_preset_open_for_different_times() {
    let breakers = breakers(tower_webhook::cognigy::presets::circuit_breaker());
    let mut times = Vec::new();
    for n in 0..200 {
        let key = format!("client-{n}");
        for _ in 0..3 {
            breakers.admit(&key).unwrap().settle(Outcome::transient());
        }
        times.push(breakers.find(&key).unwrap().snapshot().time_left.unwrap());
        let retry_after = breakers.admit(&key).unwrap_err().retry_after();
        assert_eq!(Some(&retry_after), times.last(), "they agree");
    }
    times.sort_unstable();
    let millis = Duration::from_millis;
    assert!(
        times[0] >= secs(15) && times[199] <= millis(16_500),
        "{times:?}"
    );
    // One in ten million runs has fewer than 20 of 200 in a quarter.
    assert!(
        times[20] < millis(15_500) && times[180] > millis(16_000),
        "{times:?}"
    );
}

/// A call that says nothing about the peer: neither for it nor against it, in a row or in a share, slow or not.
#[tokio::test(start_paused = true)]
async fn a_verdict_without_evidence_is_counted_and_nothing_else() {
    let config = BreakerConfig::builder()
        .consecutive_failures(3)
        .failure_rate(0.5);
    let breakers = breakers(config.min_calls(4).slow_call(secs(1)).slow_call_rate(0.5));
    assert_eq!(run(&breakers, "fffffffwwwwwwxxxxttttuuu").await, 24);
    let seen = see(&breakers);
    assert_eq!((seen.state, seen.calls, seen.slow), (Closed, 0, 0));
    assert_eq!((seen.totals.neutral, seen.totals.failures), (24, 0));
    // It does not end a row of failures either.
    assert_eq!(run(&breakers, "FsFspFS").await, 6);
    assert_eq!(state(&breakers), Open);
}

/// Source S3: `CircuitBreaker(fail_max=3, reset_timeout=15)`.
#[cfg(feature = "cognigy")]
#[tokio::test(start_paused = true)]
async fn the_documents_preset() {
    let breakers = breakers(tower_webhook::cognigy::presets::circuit_breaker());
    assert_eq!(run(&breakers, "FFFF").await, 3);
    let longest = Duration::from_millis(16_500);
    let left = || see(&breakers).time_left.expect("it is open");
    for _ in 0..5 {
        let left = left();
        assert!(left >= secs(15) && left <= longest, "{left:?}");
        // In whole milliseconds, as the timer counts.
        let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap());
        advance(left).await;
        let refused = breakers.admit(KEY).unwrap_err();
        assert!(refused.retry_after() <= Duration::from_millis(1));
        advance(Duration::from_millis(1)).await;
        let probe = admit(&breakers);
        assert!(probe.is_probe());
        assert!(breakers.admit(KEY).is_err(), "one probe");
        probe.settle(Outcome::transient());
    }
    advance(longest).await;
    assert_eq!(run(&breakers, "SSS").await, 3);
    let totals = breakers.totals();
    assert_eq!((totals.trips, totals.reopened, totals.refused), (1, 5, 11));
}
