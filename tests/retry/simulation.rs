//! The models that the documentation draws: jitter under contention, and a total outage.

#[path = "../../examples/jitter_simulation/contention.rs"]
mod contention;
#[path = "../../examples/jitter_simulation/outage.rs"]
mod outage;

use outage::Guard;

/// A rerun of the AWS article's model of our own, made apart from this code (30 runs each): calls
/// with 10, 50 and 100 clients.
const MODEL: [(&str, [f64; 3]); 5] = [
    ("no backoff", [52.0, 692.0, 2_427.0]),
    ("no jitter", [51.0, 624.0, 1_852.0]),
    ("equal", [42.0, 350.0, 811.0]),
    ("decorrelated", [37.0, 376.0, 1_004.0]),
    ("full", [39.0, 332.0, 795.0]),
];

#[test]
fn jitter_saves_the_calls_that_the_model_says_and_full_jitter_most() {
    let kinds = contention::kinds().unwrap();
    let calls = |clients, runs| -> Vec<_> {
        kinds
            .iter()
            .map(|kind| {
                (
                    kind.name,
                    contention::simulate(kind.backoff.as_ref(), clients, runs, 7).calls,
                )
            })
            .collect()
    };
    for (at, clients) in [10, 50, 100].into_iter().enumerate() {
        let calls = calls(clients, 1_500 / clients);
        for (name, expected) in MODEL {
            let (_, calls) = calls.iter().find(|kind| kind.0 == name).unwrap();
            let off = (calls / expected[at] - 1.0).abs();
            assert!(
                off < 0.05,
                "{name}, {clients} clients: {calls} instead of {}",
                expected[at]
            );
        }
        if clients > 10 {
            let fewest = calls
                .iter()
                .min_by(|one, other| one.1.total_cmp(&other.1))
                .unwrap();
            assert_eq!(fewest.0, "full", "{clients} clients: {calls:?}");
        }
    }
}

/// Clients that failed together stay together.
#[test]
fn without_jitter_it_takes_ten_times_as_long() {
    let kinds = contention::kinds().unwrap();
    let time = |name: &str| {
        let kind = kinds.iter().find(|kind| kind.name == name).unwrap();
        contention::simulate(kind.backoff.as_ref(), 50, 20, 7).time
    };
    assert!(time("no jitter") > 10.0 * time("full"));
}

#[test]
fn a_total_outage_is_not_made_worse_than_by_the_share_and_the_floor() {
    let during = |guard| -> u32 {
        let calls = outage::simulate(guard, 7).unwrap();
        (0..)
            .zip(calls)
            .filter(|(second, _)| outage::DOWN.contains(second))
            .map(|(_, calls)| calls)
            .sum()
    };
    let seconds = u32::try_from(outage::DOWN.end - outage::DOWN.start).unwrap();
    let offered = outage::RATE * seconds;
    assert!(during(Guard::Nothing) > 4 * offered);

    // Retries of the window before the outage may still be there when it begins.
    let floor = 10 * (seconds + 10);
    let guarded = during(Guard::Budget);
    assert!(guarded <= offered * 12 / 10 + floor, "{guarded}");
    assert!(guarded > offered);

    // With a breaker the peer hears next to nothing of it.
    assert!(during(Guard::BudgetAndBreaker) < offered / 100);
}

/// Three thousand deliveries wait for an open breaker. With the hint alone they would all be back in
/// the second in which it closes.
#[test]
fn what_a_breaker_refused_comes_back_over_time() {
    let calls = outage::simulate(Guard::BudgetAndBreaker, 7).unwrap();
    let after: u32 = calls[40..].iter().sum();
    assert!(after > 4_500, "what waited is delivered: {after}");
    let most = calls.iter().max().unwrap();
    assert!(*most < 8 * outage::RATE, "{calls:?}");
}
