//! What the figures say, and what they say when there is nothing to say.

use super::*;
use proptest::prelude::*;

fn told(metrics: &DeliveryMetrics, outcome: Outcome, elapsed: Duration) {
    let peer = "peer.test";
    metrics.on(&Event::DeliveryBegan { peer });
    metrics.on(&Event::DeliveryEnded {
        peer,
        outcome,
        elapsed,
        attempts: 1,
        queued: false,
    });
}

#[test]
fn nothing_counted_is_no_rate_and_no_latency() {
    let snapshot = DeliveryMetrics::new().snapshot();
    for level in [snapshot.attempts(), snapshot.deliveries()] {
        assert_eq!((level.total(), level.in_flight()), (0, 0));
        assert_eq!(level.success_rate(), None);
        let latency = level.latency();
        assert_eq!(latency.count(), 0);
        assert_eq!([latency.mean(), latency.min(), latency.max()], [None; 3]);
        assert_eq!([latency.p50(), latency.p99(), latency.p999()], [None; 3]);
    }
    assert_eq!(snapshot.retries_by_code(), []);
    assert!(snapshot.peers().is_empty());
}

#[test]
fn a_task_of_a_queue_is_counted_and_was_never_in_flight() {
    let metrics = DeliveryMetrics::new();
    metrics.on(&Event::DeliveryBegan { peer: "peer.test" });
    metrics.on(&queued("peer.test"));
    let snapshot = metrics.snapshot();
    let deliveries = snapshot.deliveries();
    assert_eq!(deliveries.count(OutcomeKind::Success), 1);
    assert_eq!(deliveries.in_flight(), 1);
}

#[test]
fn refused_and_unsendable_count_against_the_rate_and_cancelled_do_not() {
    let metrics = DeliveryMetrics::new();
    for outcome in [
        Outcome::success(),
        Outcome::refused(None),
        Outcome::unsendable(),
        Outcome::unreached(),
        Outcome::cancelled(),
    ] {
        told(&metrics, outcome, millis(1));
    }
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.deliveries().success_rate(), Some(0.25));
    assert_eq!(snapshot.deliveries().failures(), 3);
    assert_eq!(snapshot.deliveries().total(), 5);
    assert_eq!(snapshot.deliveries().latency().count(), 4);
}

#[test]
fn quantiles_are_within_their_error_and_the_rest_is_exact() {
    let metrics = DeliveryMetrics::new();
    for n in 1..=1000 {
        told(&metrics, Outcome::success(), millis(n));
    }
    let snapshot = metrics.snapshot();
    let latency = snapshot.deliveries().latency();
    assert_eq!(latency.count(), 1000);
    assert_eq!(latency.mean(), Some(Duration::from_micros(500_500)));
    assert_eq!(
        (latency.min(), latency.max()),
        (Some(millis(1)), Some(millis(1000)))
    );
    for (read, exact) in [
        (latency.p50(), 500),
        (latency.p90(), 900),
        (latency.p99(), 990),
        (latency.p999(), 999),
    ] {
        let wrong = read.unwrap().abs_diff(millis(exact));
        assert!(wrong <= millis(exact) / 32, "{exact} ms read as {read:?}");
    }
}

#[test]
fn all_of_one_time_have_that_very_quantile() {
    let metrics = DeliveryMetrics::new();
    told(&metrics, Outcome::success(), millis(123));
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.deliveries().latency().p99(), Some(millis(123)));
}

#[test]
fn a_clock_that_stands_still_gives_zero() {
    let metrics = DeliveryMetrics::new();
    told(&metrics, Outcome::success(), Duration::ZERO);
    let snapshot = metrics.snapshot();
    let latency = snapshot.deliveries().latency();
    let zero = Some(Duration::ZERO);
    assert_eq!(
        [latency.mean(), latency.min(), latency.max(), latency.p50()],
        [zero; 4]
    );
}

#[test]
fn the_longest_times_do_not_overflow() {
    let metrics = DeliveryMetrics::new();
    for elapsed in [
        Duration::MAX,
        Duration::MAX,
        Duration::from_nanos(u64::MAX),
        millis(1),
    ] {
        told(&metrics, Outcome::success(), elapsed);
    }
    let snapshot = metrics.snapshot();
    let latency = snapshot.deliveries().latency();
    let longest = Duration::from_nanos(u64::MAX);
    assert_eq!(
        (latency.min(), latency.max()),
        (Some(millis(1)), Some(longest))
    );
    assert_eq!(latency.p999(), Some(longest));
    // The sum stays at its limit, instead of beginning anew.
    assert_eq!(latency.mean(), Some(longest / 4));
}

#[tokio::test(start_paused = true)]
async fn the_uptime_is_counted_from_the_making_of_the_metrics() {
    let metrics = DeliveryMetrics::new();
    tokio::time::advance(Duration::from_secs(90)).await;
    assert_eq!(metrics.snapshot().uptime(), Duration::from_secs(90));
}

#[test]
fn breakers_are_counted_when_they_open() {
    let metrics = DeliveryMetrics::new();
    assert_eq!(metrics.snapshot().breaker_trips(), 0);
    for state in [
        BreakerState::Open,
        BreakerState::HalfOpen,
        BreakerState::Open,
        BreakerState::Closed,
    ] {
        breaker_changed(&metrics, "a.test", state);
    }
    breaker_changed(&metrics, "b.test", BreakerState::Open);
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.breaker_trips(), 3);
    let states: Vec<_> = snapshot
        .peers()
        .iter()
        .map(|peer| (peer.breaker_trips(), peer.breaker()))
        .collect();
    assert_eq!(
        states,
        [
            (2, Some(BreakerState::Closed)),
            (1, Some(BreakerState::Open))
        ]
    );
}

#[test]
fn of_two_changes_of_a_breaker_the_newer_one_is_shown() {
    let metrics = DeliveryMetrics::new();
    breaker_changed_as(&metrics, "a.test", BreakerState::Closed, 8);
    breaker_changed_as(&metrics, "a.test", BreakerState::Open, 7);
    let snapshot = metrics.snapshot();
    let peer = snapshot.peer("a.test").unwrap();
    assert_eq!(peer.breaker(), Some(BreakerState::Closed));
    assert_eq!(peer.breaker_trips(), 1, "it opened all the same");
}

#[test]
fn states_that_an_operator_set_are_shown_as_what_they_do() {
    let metrics = DeliveryMetrics::new();
    for (set, shown) in [
        (BreakerState::ForcedOpen, BreakerState::Open),
        (BreakerState::ForcedClosed, BreakerState::Closed),
        (BreakerState::Disabled, BreakerState::Closed),
        (BreakerState::MetricsOnly, BreakerState::Closed),
    ] {
        breaker_changed(&metrics, "a.test", set);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.peer("a.test").unwrap().breaker(), Some(shown));
    }
    assert_eq!(metrics.snapshot().breaker_trips(), 1);
}

#[test]
fn dead_letters_are_counted_by_reason_and_by_where_their_entry_is() {
    let metrics = DeliveryMetrics::new();
    let (entry, peer, reason) = (Id::new(&1), "a.test", "retries_exhausted");
    for fell_back in [false, true, false] {
        metrics.on(&Event::DeadLettered {
            entry,
            peer,
            reason,
            event_id: None,
            fell_back,
        });
    }
    metrics.on(&Event::Lost {
        entry,
        peer,
        reason,
        kind: tower_webhook::StoreErrorKind::Full,
        retry_after: None,
    });
    let snapshot = metrics.snapshot();
    assert_eq!(
        snapshot.dead_letters_by_reason(),
        [
            (reason, "fell_back", 1),
            (reason, "not_written", 1),
            (reason, "written", 2),
        ]
    );
    assert_eq!(snapshot.dead_letters(), 4);
    assert_eq!(snapshot.peer(peer).unwrap().dead_letters(), 4);
}

#[test]
fn a_write_that_is_tried_again_is_no_dead_letter_yet() {
    let metrics = DeliveryMetrics::new();
    dead_lettered(&metrics, "a.test");
    let snapshot = metrics.snapshot();
    let reason = "retries_exhausted";
    assert_eq!(
        snapshot.dead_letters_by_reason(),
        [(reason, "not_written", 1), (reason, "written", 1)]
    );
    assert_eq!(snapshot.peer("a.test").unwrap().dead_letters(), 2);
}

#[test]
fn grpc_codes_and_http_statuses_stand_beside_each_other() {
    let metrics = DeliveryMetrics::new();
    for code in [
        Some(14),
        Some(503),
        None,
        Some(99),
        Some(600),
        Some(u16::MAX),
        Some(0),
    ] {
        retried(&metrics, "peer.test", code);
    }
    assert_eq!(
        metrics.snapshot().retries_by_code(),
        [(Some(0), 1), (Some(14), 1), (Some(503), 1), (None, 4)]
    );
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::success()),
        Just(Outcome::transient()),
        Just(Outcome::refused(None)),
        Just(Outcome::cancelled()),
    ]
}

proptest! {
    #[test]
    fn the_figures_agree_with_each_other(
        calls in proptest::collection::vec((any_outcome(), any::<u64>(), any::<u8>()), 0..60),
    ) {
        let metrics = DeliveryMetrics::new();
        let mut times = Vec::new();
        for (outcome, nanos, shift) in &calls {
            let elapsed = Duration::from_nanos(nanos >> (shift % 64));
            told(&metrics, *outcome, elapsed);
            if outcome.kind() != OutcomeKind::Cancelled {
                times.push(elapsed);
            }
        }
        let snapshot = metrics.snapshot();
        let level = snapshot.deliveries();
        prop_assert_eq!(level.total(), calls.len() as u64);
        prop_assert_eq!(level.in_flight(), 0);
        prop_assert_eq!(level.success_rate().is_some(), !times.is_empty());
        prop_assert!(level.success_rate().is_none_or(|rate| (0.0..=1.0).contains(&rate)));

        let latency = level.latency();
        prop_assert_eq!(latency.count(), times.len() as u64);
        prop_assert_eq!(latency.min(), times.iter().min().copied());
        prop_assert_eq!(latency.max(), times.iter().max().copied());
        let quantiles = [latency.p50(), latency.p90(), latency.p99(), latency.p999()];
        prop_assert!(quantiles.is_sorted());
        let inside = |read: Option<Duration>| latency.min() <= read && read <= latency.max();
        prop_assert!(quantiles.into_iter().chain([latency.mean()]).all(inside));
    }
}
