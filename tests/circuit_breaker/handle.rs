//! What an operator sees and does.

use super::*;
use BreakerState::{Closed, Disabled, ForcedClosed, ForcedOpen, HalfOpen, MetricsOnly, Open};
use std::sync::atomic::{AtomicUsize, Ordering};
use tower_webhook::{
    circuit_breaker::BreakerMode,
    observe::{Observers, observer_fn},
};

#[tokio::test(start_paused = true)]
async fn forced_open_refuses_until_told_otherwise() {
    let breakers = breakers(one_failure());
    let flying = admit(&breakers);
    let breaker = breakers.find(KEY).unwrap();
    breaker.force_open();
    let open = breakers.admit(KEY).unwrap_err();
    assert_eq!((open.state(), open.retry_after()), (ForcedOpen, secs(10)));
    assert!(open.to_string().contains("operator"));
    advance(secs(1_000_000)).await;
    assert!(breakers.admit(KEY).is_err());
    flying.settle(Outcome::success());
    assert_eq!(
        (breaker.state(), breaker.snapshot().totals.stale),
        (ForcedOpen, 1)
    );
    breaker.auto();
    assert_eq!(run(&breakers, "S").await, 1);
    assert_eq!(state(&breakers), Closed);
}

#[tokio::test(start_paused = true)]
async fn forced_closed_and_disabled_pass_everything() {
    for (mode, expected, failures) in [
        (BreakerMode::ForcedClosed, ForcedClosed, 50),
        (BreakerMode::Disabled, Disabled, 0),
    ] {
        let breakers = breakers(one_failure());
        run(&breakers, "F").await;
        let breaker = breakers.of(KEY).unwrap();
        breaker.set_mode(mode);
        assert_eq!(run(&breakers, &"F".repeat(50)).await, 50);
        let seen = breaker.snapshot();
        assert_eq!((seen.state, seen.totals.failures), (expected, failures + 1));
        // What it saw meanwhile is not held against the peer.
        breaker.auto();
        assert_eq!(
            (breaker.state(), breaker.snapshot().consecutive_failures),
            (Closed, 0)
        );
        run(&breakers, "F").await;
        assert_eq!(state(&breakers), Open);
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_only_counts_what_it_would_have_done() {
    let breakers = breakers(one_failure().consecutive_failures(3));
    breakers.of(KEY).unwrap().metrics_only();
    assert_eq!(run(&breakers, &"F".repeat(10)).await, 10);
    let seen = see(&breakers);
    assert_eq!(
        (seen.state, seen.totals.held_back, seen.totals.trips),
        (MetricsOnly, 3, 0)
    );
    assert_eq!(seen.totals.refused, 0);
}

#[tokio::test(start_paused = true)]
async fn all_means_those_to_come_too() {
    let breakers = breakers(one_failure());
    run(&breakers, "S").await;
    breakers.set_mode_of_all(BreakerMode::ForcedOpen);
    for key in [KEY, "", "never seen"] {
        assert_eq!(
            breakers.admit(key).unwrap_err().state(),
            ForcedOpen,
            "{key}"
        );
    }
    breakers.set_mode_of_all(BreakerMode::Auto);
    for key in [KEY, "", "never seen", "another"] {
        breakers.admit(key).unwrap().settle(Outcome::transient());
        assert!(breakers.admit(key).is_err());
    }
    breakers.reset_all();
    for key in [KEY, "", "never seen", "another"] {
        assert!(breakers.admit(key).is_ok(), "{key}");
    }
}

/// An operator's mode is not a reason to fill the map.
#[tokio::test(start_paused = true)]
async fn keys_in_the_mode_of_all_come_and_go_as_ever() {
    let breakers = breakers(one_failure().max_peers(10));
    breakers.set_mode_of_all(BreakerMode::MetricsOnly);
    for n in 0..100 {
        let permit = breakers.admit(&format!("peer-{n}")).unwrap();
        permit.settle(Outcome::success());
    }
    assert_eq!((breakers.len(), breakers.unguarded()), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reset_forgets_all_evidence_and_calls_in_flight() {
    let breakers = breakers(one_failure().consecutive_failures(3));
    run(&breakers, "FF").await;
    let flying = admit(&breakers);
    let breaker = breakers.find(KEY).unwrap();
    breaker.reset();
    assert_eq!(breaker.snapshot().consecutive_failures, 0);
    flying.settle(Outcome::transient());
    assert_eq!(breaker.snapshot().consecutive_failures, 0);
    run(&breakers, "FFF").await;
    assert_eq!(breaker.state(), Open);
    breaker.reset();
    assert_eq!(
        (breaker.state(), breaker.snapshot().failed_rounds),
        (Closed, 0)
    );
    assert_eq!(breaker.snapshot().totals.failures, 5, "the totals stay");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_says_how_it_stands() {
    let config = one_failure()
        .consecutive_failures(2)
        .window_calls(10)
        .min_calls(1);
    let breakers = breakers(config);
    advance(secs(3)).await;
    run(&breakers, "SSFTC").await;
    let seen = see(&breakers);
    assert_eq!(
        (&*seen.peer, seen.state, seen.time_left),
        (KEY, Closed, None)
    );
    assert_eq!((seen.calls, seen.failures, seen.slow), (4, 2, 0));
    assert_eq!(
        (seen.failure_rate, seen.consecutive_failures),
        (Some(0.5), 1)
    );
    let before = seen.generation;
    run(&breakers, "F").await;
    advance(secs(4)).await;
    let seen = see(&breakers);
    assert_eq!(
        (seen.state, seen.time_left, seen.since),
        (Open, Some(secs(6)), secs(4))
    );
    assert!(seen.generation > before);
    assert_eq!(seen.calls, 5, "those that opened it");
    let totals = seen.totals;
    assert_eq!(
        (totals.successes, totals.failures, totals.throttled),
        (2, 3, 1)
    );
    assert_eq!((totals.cancelled, totals.trips), (1, 1));
}

/// What opened it stays to be seen while it is open; then its probes are, and nothing of before.
#[tokio::test(start_paused = true)]
async fn the_window_of_a_half_open_breaker_is_that_of_its_probes() {
    for config in [one_failure(), one_failure().window_time(secs(5))] {
        let config = config.consecutive_failures(3).probe_successes(2);
        let breakers = breakers(config.open_growth(1.0));
        run(&breakers, "SFFF").await;
        let counts = |breakers: &Breakers| {
            let seen = see(breakers);
            (
                seen.state,
                seen.calls,
                seen.failures,
                seen.consecutive_failures,
            )
        };
        assert_eq!(counts(&breakers), (Open, 4, 3, 3));
        advance(secs(10)).await;
        assert_eq!(counts(&breakers), (Open, 4, 3, 3), "those that opened it");
        let probe = admit(&breakers);
        assert_eq!(counts(&breakers), (HalfOpen, 0, 0, 3));
        probe.settle(Outcome::transient());
        assert_eq!(counts(&breakers), (Open, 1, 1, 4));
        advance(secs(10)).await;
        run(&breakers, "S").await;
        assert_eq!(counts(&breakers), (HalfOpen, 1, 0, 0));
        run(&breakers, "S").await;
        assert_eq!(counts(&breakers), (Closed, 0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn transitions_are_told_in_order_with_their_reasons() {
    let heard = Changes::default();
    let breakers = breakers(one_failure()).observe(heard.clone());
    run(&breakers, "F").await;
    advance(secs(10)).await;
    run(&breakers, "F").await;
    advance(secs(20)).await;
    run(&breakers, "S").await;
    let breaker = breakers.of(KEY).unwrap();
    // Nothing changes, so nothing is told (as in resilience4j).
    breaker.reset();
    breaker.auto();
    breaker.force_open();
    breaker.force_open();
    let expected = [
        ("closed", "open", "consecutive_failures"),
        ("open", "half_open", "open_time_over"),
        ("half_open", "open", "probe_failed"),
        ("open", "half_open", "open_time_over"),
        ("half_open", "closed", "probes_succeeded"),
        ("closed", "forced_open", "operator"),
    ];
    let heard = heard.all();
    let words = heard
        .iter()
        .map(|change| (change.from.as_str(), change.to.as_str(), change.reason));
    assert_eq!(words.collect::<Vec<_>>(), expected);
    let generations = heard.iter().map(|change| change.generation);
    assert!(generations.is_sorted_by(|one, two| one < two), "{heard:?}");
    let first = &heard[0];
    assert_eq!(
        (&*first.peer, first.to, first.open_for),
        (KEY, Open, Some(secs(10)))
    );
}

/// An observer may look at the breaker it is told about: it is called under no lock.
#[tokio::test(start_paused = true)]
async fn an_observer_may_ask_the_breakers_back() {
    let breakers = breakers(one_failure());
    let asked = breakers.clone();
    let observers = Observers::new(observer_fn(move |event| {
        let Event::BreakerChanged { peer, to, .. } = *event else {
            panic!("{event:?}");
        };
        let breaker = asked.find(peer).unwrap();
        assert_eq!(breaker.state(), to);
        assert!(!asked.snapshots().is_empty());
        let _ = asked.clone().observe(observer_fn(|_| {}));
        if to == Open {
            breaker.force_closed();
        }
    }));
    let breakers = breakers.observe(observers.clone());
    run(&breakers, "F").await;
    assert_eq!(state(&breakers), ForcedClosed);
    assert_eq!(observers.panics(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_harms_nothing() {
    let heard = Arc::new(AtomicUsize::new(0));
    let after = Arc::clone(&heard);
    let panics = Observers::new(observer_fn(|_| panic!("on purpose")));
    let breakers = breakers(one_failure())
        .observe(panics.clone())
        .observe(observer_fn(move |event| {
            let Event::BreakerChanged { reason, .. } = *event else {
                panic!("{event:?}");
            };
            assert_ne!(reason, "slow_call_rate");
            after.fetch_add(1, Ordering::Relaxed);
        }));
    run(&breakers, "F").await;
    assert_eq!(state(&breakers), Open);
    advance(secs(10)).await;
    assert_eq!(run(&breakers, "SS").await, 2);
    assert_eq!((panics.panics(), heard.load(Ordering::Relaxed)), (3, 3));
}
