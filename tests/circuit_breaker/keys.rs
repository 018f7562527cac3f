//! Many keys, and no more memory than was agreed.

use super::*;
use std::thread;

fn call(breakers: &Breakers, key: &str, outcome: Outcome) {
    breakers.admit(key).expect("it passes").settle(outcome);
}

#[tokio::test(start_paused = true)]
async fn keys_do_not_answer_for_one_another() {
    let breakers = breakers(one_failure());
    call(&breakers, "a", Outcome::transient());
    assert!(breakers.admit("a").is_err());
    assert!(breakers.admit("b").is_ok());
    assert!(breakers.admit("").is_ok());
    assert_eq!(breakers.len(), 2);
    let mut keys: Vec<_> = breakers
        .snapshots()
        .iter()
        .map(|s| s.peer.to_string())
        .collect();
    keys.sort();
    assert_eq!(keys, ["", "a", "b"]);
    assert!(breakers.find("c").is_none());
}

/// Ten thousand new keys a second, for a while: healthy ones come and go, and the map is as large
/// as it may be.
#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_stays_under_the_bound() {
    let breakers = breakers(one_failure().max_peers(1_000));
    for second in 0..5 {
        for n in 0..10_000 {
            call(&breakers, &format!("peer-{second}-{n}"), Outcome::success());
            assert!(breakers.len() <= 1_000);
        }
        advance(secs(1)).await;
    }
    assert_eq!(breakers.len(), 1_000);
    assert_eq!(breakers.evicted(), 49_000);
    assert_eq!(breakers.unguarded(), 0);
    // What was counted is not forgotten with the keys.
    assert_eq!(breakers.totals().successes, 50_000);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_something_is_held_against_does_not_leave() {
    let breakers = breakers(one_failure().consecutive_failures(2).max_peers(600));
    call(&breakers, "failed once", Outcome::transient());
    call(&breakers, "open", Outcome::transient());
    call(&breakers, "open", Outcome::transient());
    call(&breakers, "half-open", Outcome::transient());
    call(&breakers, "half-open", Outcome::transient());
    advance(secs(10)).await;
    let probe = breakers.admit("half-open").unwrap();
    call(&breakers, "open", Outcome::transient());
    let flying = breakers.admit("in flight").unwrap();
    breakers.of("forced").unwrap().force_open();
    let held = breakers.of("held").unwrap();

    for n in 0..20_000 {
        call(&breakers, &format!("peer-{n}"), Outcome::success());
    }
    let state = |key: &str| breakers.find(key).map(|breaker| breaker.state());
    assert_eq!(
        breakers
            .find("failed once")
            .unwrap()
            .snapshot()
            .consecutive_failures,
        1
    );
    assert_eq!(state("open"), Some(BreakerState::Open));
    assert_eq!(state("half-open"), Some(BreakerState::HalfOpen));
    assert_eq!(state("in flight"), Some(BreakerState::Closed));
    assert_eq!(state("forced"), Some(BreakerState::ForcedOpen));
    assert_eq!(state("held"), Some(BreakerState::Closed));
    assert_eq!(breakers.len(), 600);
    drop((probe, flying, held));
}

/// A full map of keys in trouble refuses nobody who is not: such calls are counted, not guarded.
#[tokio::test(start_paused = true)]
async fn without_room_calls_pass_unguarded_and_are_counted() {
    let breakers = breakers(one_failure().max_peers(50));
    for n in 0..50 {
        call(&breakers, &format!("down-{n}"), Outcome::transient());
    }
    for n in 0..10_000 {
        call(&breakers, &format!("new-{}", n % 10), Outcome::transient());
    }
    assert_eq!(
        (breakers.len(), breakers.unguarded(), breakers.evicted()),
        (50, 10_000, 0)
    );
    assert!(breakers.admit("down-7").is_err(), "it is guarded as before");
    assert!(breakers.of("new-1").is_none());
}

/// Endpoints that are gone for good must not hold their places for ever.
#[tokio::test(start_paused = true)]
async fn what_is_held_against_a_key_is_forgotten_in_time() {
    let config = one_failure().consecutive_failures(2).forget_after(secs(60));
    let breakers = breakers(config.max_peers(3));
    call(&breakers, "failed once", Outcome::transient());
    call(&breakers, "open", Outcome::transient());
    call(&breakers, "open", Outcome::transient());
    call(&breakers, "half-open", Outcome::transient());
    call(&breakers, "half-open", Outcome::transient());
    advance(secs(10)).await;
    drop(breakers.admit("half-open"));

    advance(secs(49)).await;
    call(&breakers, "new", Outcome::success());
    assert!(breakers.find("new").is_none());
    advance(secs(1)).await;
    // A minute after its last failure, but the open one's time ended later.
    call(&breakers, "new", Outcome::success());
    assert!(breakers.find("failed once").is_none());
    assert!(breakers.find("open").is_some() && breakers.find("half-open").is_some());
    advance(secs(10)).await;
    call(&breakers, "newer", Outcome::transient());
    call(&breakers, "newest", Outcome::transient());
    call(&breakers, "last", Outcome::transient());
    assert_eq!(
        (breakers.len(), breakers.unguarded(), breakers.evicted()),
        (3, 1, 4)
    );
}

/// Otherwise an exporter shows a breaker as open for ever that does not exist any more, while its peer is called.
#[tokio::test(start_paused = true)]
async fn a_breaker_that_goes_while_it_refuses_says_so() {
    let heard = Changes::default();
    let breakers = breakers(one_failure().forget_after(secs(60)).max_peers(1));
    let asked = breakers.clone();
    let breakers = breakers
        .observe(heard.clone())
        .observe(observer_fn(move |event| {
            // Told under no lock, not that of the shard either.
            if let Event::BreakerChanged { peer, .. } = *event {
                let _ = (asked.find(peer), asked.snapshots());
            }
        }));
    call(&breakers, "gone", Outcome::transient());
    advance(secs(70)).await;
    call(&breakers, "other", Outcome::success());
    assert!(breakers.find("gone").is_none());
    call(&breakers, "gone", Outcome::transient());
    advance(secs(10)).await;
    drop(breakers.admit("gone"));
    advance(secs(60)).await;
    // What an operator has set goes with the breaker that it was set for, and comes with the next one.
    breakers.set_mode_of_all(BreakerMode::ForcedOpen);
    breakers.set_mode_of_all(BreakerMode::Auto);
    breakers.set_mode_of_all(BreakerMode::ForcedOpen);
    assert!(breakers.admit("last").is_err());

    let heard = heard.all();
    let of_peers = heard.iter().filter(|change| !change.peer.is_empty());
    let words = of_peers.map(|change| {
        let (from, to) = (change.from.as_str(), change.to.as_str());
        (&*change.peer, from, to, change.reason)
    });
    let expected = [
        ("gone", "closed", "open", "consecutive_failures"),
        ("gone", "open", "closed", "evicted"),
        ("gone", "closed", "open", "consecutive_failures"),
        ("gone", "open", "half_open", "open_time_over"),
        ("gone", "half_open", "forced_open", "operator"),
        ("gone", "forced_open", "closed", "operator"),
        ("gone", "closed", "forced_open", "operator"),
        ("gone", "forced_open", "closed", "evicted"),
        ("last", "closed", "forced_open", "operator"),
    ];
    assert_eq!(words.collect::<Vec<_>>(), expected);
    let generations = heard.iter().map(|change| change.generation);
    assert!(generations.is_sorted_by(|one, two| one < two), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_key_stays_while_idle_ones_go() {
    let config = BreakerConfig::builder().max_peers(60);
    let breakers = breakers(config);
    for n in 0..5_000 {
        call(&breakers, "busy", Outcome::success());
        call(&breakers, &format!("once-{n}"), Outcome::success());
    }
    let busy = breakers.find("busy").unwrap().snapshot();
    assert_eq!(busy.totals.successes, 5_000);
}

#[tokio::test(start_paused = true)]
async fn a_long_key_is_kept_short_and_told_apart() {
    let breakers = breakers(one_failure());
    let (a, b) = ("é".repeat(5_000) + "a", "é".repeat(5_000) + "b");
    call(&breakers, &a, Outcome::transient());
    let open = breakers.admit(&a).unwrap_err();
    assert_eq!(open.peer(), "é".repeat(128));
    assert!(open.to_string().len() < 400);
    assert!(breakers.admit(&b).is_ok());
}

#[test]
fn threads_agree_on_every_key() {
    let breakers = breakers(one_failure().max_peers(300));
    thread::scope(|scope| {
        for thread in 0..4 {
            let breakers = &breakers;
            scope.spawn(move || {
                for n in 0..20_000_usize {
                    let key = format!("peer-{}", (n * (thread + 1)) % 900);
                    let permit = breakers.admit(&key);
                    if let Ok(permit) = permit {
                        permit.settle(Outcome::success());
                    }
                }
            });
        }
    });
    let totals = breakers.totals();
    assert_eq!(
        totals.successes + totals.stale + breakers.unguarded(),
        80_000
    );
    assert!(breakers.len() <= 300);
    assert_eq!(breakers.snapshots().len(), breakers.len());
}

/// Under contention a trip happens once, and exactly the allowed probes pass.
#[test]
fn threads_that_fail_together_trip_once() {
    let lease = secs(60);
    let config = one_failure()
        .open_for(Duration::from_nanos(1))
        .probe_lease(lease);
    let breakers = breakers(config.probes(2).probe_successes(2));
    call(&breakers, KEY, Outcome::transient());
    let probes = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| breakers.admit(KEY).ok()))
            .collect();
        let admitted = threads.into_iter().map(|thread| thread.join().unwrap());
        admitted.flatten().collect::<Vec<_>>()
    });
    assert_eq!(probes.len(), 2);
    let totals = breakers.totals();
    assert_eq!((totals.trips, totals.refused), (1, 6));
}
