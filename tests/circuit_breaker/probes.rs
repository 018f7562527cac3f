//! Open, half-open, and back.

use super::*;
use BreakerState::{Closed, HalfOpen, Open};

async fn opened(config: BreakerConfigBuilder) -> Breakers {
    let breakers = breakers(config);
    run(&breakers, "F").await;
    assert_eq!(state(&breakers), Open);
    breakers
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_says_when_to_come_back() {
    let breakers = opened(one_failure()).await;
    for left in (1..=10).rev() {
        let open = breakers.admit(KEY).unwrap_err();
        assert_eq!((open.retry_after(), open.state()), (secs(left), Open));
        advance(secs(1)).await;
    }
    assert_eq!(state(&breakers), Open, "until a call comes");
    admit(&breakers).settle(Outcome::success());
    assert_eq!(state(&breakers), Closed);
}

/// Polly: what arrives while it is open changes nothing, and does not lengthen the break.
#[tokio::test(start_paused = true)]
async fn late_results_are_counted_as_stale_and_change_nothing() {
    let breakers = breakers(one_failure());
    let late: Vec<_> = (0..4).map(|_| admit(&breakers)).collect();
    let mut late = late.into_iter();
    let mut settle = |outcome: Outcome| late.next().unwrap().settle(outcome);
    run(&breakers, "F").await;
    advance(secs(4)).await;

    settle(Outcome::transient());
    settle(Outcome::success());
    assert_eq!(see(&breakers).time_left, Some(secs(6)));

    // Neither may they decide for a probe.
    advance(secs(6)).await;
    let probe = admit(&breakers);
    settle(Outcome::success());
    assert_eq!(state(&breakers), HalfOpen);
    settle(Outcome::transient());
    assert_eq!(state(&breakers), HalfOpen);
    probe.settle(Outcome::success());
    assert_eq!(state(&breakers), Closed);
    let totals = see(&breakers).totals;
    assert_eq!((totals.stale, totals.failures, totals.successes), (4, 1, 1));
}

/// A call of the closed state that fails after the breaker has closed again is of another time.
#[tokio::test(start_paused = true)]
async fn a_result_from_before_the_last_outage_does_not_count() {
    let breakers = breakers(one_failure());
    let old = admit(&breakers);
    run(&breakers, "F").await;
    advance(secs(10)).await;
    run(&breakers, "S").await;
    old.settle(Outcome::transient());
    assert_eq!(state(&breakers), Closed);
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_than_are_allowed() {
    let breakers = opened(one_failure().probes(3).probe_successes(3)).await;
    advance(secs(10)).await;
    let mut probes: Vec<_> = (0..3).map(|_| admit(&breakers)).collect();
    let refused = breakers.admit(KEY).unwrap_err();
    assert_eq!(refused.state(), HalfOpen);
    assert_eq!(refused.retry_after(), secs(1));
    assert_eq!(see(&breakers).probes_in_flight, 3);

    probes.pop().unwrap().settle(Outcome::success());
    probes.push(admit(&breakers));
    assert!(breakers.admit(KEY).is_err());
    probes.pop().unwrap().settle(Outcome::success());
    assert_eq!(see(&breakers).probe_successes, 2);
    probes.pop().unwrap().settle(Outcome::success());
    assert_eq!(state(&breakers), Closed);
    // The round is over, and so is what its last probe had to say.
    probes.pop().unwrap().settle(Outcome::transient());
    assert_eq!(state(&breakers), Closed);
}

#[tokio::test(start_paused = true)]
async fn one_probe_that_fails_opens_it_again() {
    for failure in [
        Outcome::transient(),
        Outcome::unreached(),
        Outcome::throttled(None),
    ] {
        let breakers = opened(one_failure().probes(2).probe_successes(2)).await;
        advance(secs(10)).await;
        let (first, second) = (admit(&breakers), admit(&breakers));
        first.settle(failure);
        assert_eq!(state(&breakers), Open, "{failure:?}");
        second.settle(Outcome::success());
        assert_eq!(state(&breakers), Open);
    }
}

/// Neither its successes nor the places that its probes still hold.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_round_is_left_to_the_next() {
    let config = one_failure().probes(3).probe_successes(2);
    let breakers = opened(config.open_growth(1.0).open_for(secs(1))).await;
    advance(secs(1)).await;
    let hung = [admit(&breakers), admit(&breakers)];
    run(&breakers, "S").await;
    run(&breakers, "F").await;
    assert_eq!(state(&breakers), Open);

    advance(secs(1)).await;
    let probes: Vec<_> = (0..3).map(|_| admit(&breakers)).collect();
    assert!(breakers.admit(KEY).is_err());
    for late in hung {
        late.settle(Outcome::success());
    }
    assert_eq!(see(&breakers).probes_in_flight, 3);
    let mut probes = probes.into_iter();
    probes.next().unwrap().settle(Outcome::success());
    assert_eq!(state(&breakers), HalfOpen);
    probes.next().unwrap().settle(Outcome::success());
    assert_eq!(state(&breakers), Closed);
}

/// A slow probe is no sign of recovery where slow calls count.
#[tokio::test(start_paused = true)]
async fn a_slow_probe_fails() {
    let breakers = opened(one_failure().slow_call(secs(1))).await;
    advance(secs(10)).await;
    run(&breakers, "W").await;
    assert_eq!(state(&breakers), Open);
}

/// Polly closes here, pybreaker opens; resilience4j, opossum and Linkerd have wedged.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_cancelled_or_says_nothing_is_neither() {
    let breakers = opened(one_failure()).await;
    advance(secs(10)).await;
    for _ in 0..20 {
        drop(admit(&breakers));
        assert_eq!(state(&breakers), HalfOpen);
        admit(&breakers).settle(Outcome::unsendable());
        admit(&breakers).settle(Outcome::refused(None));
        admit(&breakers).settle(Outcome::cancelled());
        assert_eq!(state(&breakers), HalfOpen);
    }
    assert_eq!(see(&breakers).probes_in_flight, 0);
    run(&breakers, "S").await;
    assert_eq!(state(&breakers), Closed);
    let totals = breakers.totals();
    assert_eq!(
        (totals.cancelled, totals.neutral, totals.leases_lost),
        (40, 40, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_gives_its_place_back_with_its_lease() {
    let breakers = opened(one_failure()).await;
    advance(secs(10)).await;
    let hung = admit(&breakers);
    advance(Duration::from_millis(4_500)).await;
    let refused = breakers.admit(KEY).unwrap_err();
    assert_eq!(refused.retry_after(), Duration::from_millis(500));
    advance(Duration::from_millis(500)).await;
    let second = admit(&breakers);
    // Its result comes too late, whether its place was given away or not.
    hung.settle(Outcome::success());
    assert_eq!(
        (state(&breakers), see(&breakers).probes_in_flight),
        (HalfOpen, 1)
    );
    advance(secs(5)).await;
    second.settle(Outcome::transient());
    assert_eq!(state(&breakers), HalfOpen);
    let totals = breakers.totals();
    assert_eq!((totals.stale, totals.leases_lost), (2, 2));
    run(&breakers, "S").await;
    assert_eq!(state(&breakers), Closed);
}

/// resilience4j#597: with a time window of its own, successes age out while permits are consumed,
/// and it stays half-open for ever.
#[tokio::test(start_paused = true)]
async fn successes_of_probes_do_not_age() {
    let config = one_failure().window_time(secs(1)).probe_successes(5);
    let breakers = opened(config).await;
    advance(secs(10)).await;
    for _ in 0..5 {
        assert_eq!(run(&breakers, "S").await, 1);
        advance(secs(3_600)).await;
    }
    assert_eq!(state(&breakers), Closed);
}

#[tokio::test(start_paused = true)]
async fn the_open_time_grows_to_its_cap_and_starts_over() {
    let config = one_failure().open_for(secs(5)).max_open_for(secs(30));
    let breakers = opened(config).await;
    for expected in [5, 10, 20, 30, 30, 30] {
        assert_eq!(see(&breakers).time_left, Some(secs(expected)));
        advance(secs(expected)).await;
        run(&breakers, "F").await;
    }
    assert_eq!(see(&breakers).failed_rounds, 6);
    advance(secs(30)).await;
    run(&breakers, "SF").await;
    assert_eq!(see(&breakers).time_left, Some(secs(5)));
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_evidence_gives_its_place_to_another() {
    let breakers = opened(one_failure()).await;
    advance(secs(10)).await;
    assert_eq!(run(&breakers, "ssff").await, 4);
    let seen = see(&breakers);
    assert_eq!((seen.state, seen.probes_in_flight), (HalfOpen, 0));
    assert_eq!((seen.probe_successes, seen.failed_rounds), (0, 0));
    assert_eq!(run(&breakers, "S").await, 1);
    assert_eq!(state(&breakers), Closed);
}

/// The instances that saw one outage begin must not all probe in the same moment.
#[tokio::test(start_paused = true)]
async fn open_times_differ_at_the_cap_too() {
    let config = one_failure()
        .open_growth(4.0)
        .max_open_for(secs(20))
        .open_jitter(0.5);
    let breakers = breakers(config);
    let mut times = Vec::new();
    for n in 0..200 {
        let key = format!("peer-{n}");
        breakers.admit(&key).unwrap().settle(Outcome::transient());
        advance(secs(20)).await;
        breakers.admit(&key).unwrap().settle(Outcome::transient());
        times.push(breakers.find(&key).unwrap().snapshot().time_left.unwrap());
    }
    times.sort_unstable();
    assert!(times[0] >= secs(10) && times[199] <= secs(20), "{times:?}");
    assert!(times[20] < secs(13) && times[180] > secs(17), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn the_peers_own_word_lengthens_the_open_time_up_to_the_cap() {
    let told = |seconds| Outcome::throttled(Some(secs(seconds)));
    for (hint, expected) in [(0, 10), (9, 10), (25, 25), (60, 60), (86_400, 60)] {
        let config = one_failure().failure_rate(0.1).min_calls(1);
        let breakers = breakers(config.open_for(secs(10)).max_open_for(secs(60)));
        admit(&breakers).settle(told(hint));
        assert_eq!(see(&breakers).time_left, Some(secs(expected)), "{hint}");
        advance(secs(expected)).await;
        // Of a probe that fails, too: here the own time has doubled.
        admit(&breakers).settle(told(hint));
        assert_eq!(
            see(&breakers).time_left,
            Some(secs(expected.max(20))),
            "{hint}"
        );
    }
    // One that does not open it is the retry's business.
    let breakers = breakers(one_failure().consecutive_failures(2));
    admit(&breakers).settle(Outcome::transient().with_retry_after(Some(secs(60))));
    run(&breakers, "F").await;
    assert_eq!(see(&breakers).time_left, Some(secs(10)));
}
