//! When attempts are made.

use super::*;
use std::collections::BTreeSet;
use tower_webhook::{
    deadline::Deadline,
    retry::{HintLimit, Schedule},
};

#[tokio::test(start_paused = true)]
async fn the_first_attempt_is_made_at_once_and_the_others_after_their_delays() {
    let backoff = Backoff::exponential(secs(1), secs(5))
        .jitter(Jitter::None)
        .build()
        .unwrap();
    let peer = Peer::new([Step::Status(500)]);
    let result = deliver(plain().attempts(6).backoff(backoff), &peer, get()).await;
    assert_eq!(
        (status(&result), gave_up(&result)),
        (500, Some(GaveUp::RetriesExhausted))
    );
    assert_eq!(peer.times(), [0, 1_000, 3_000, 7_000, 12_000, 17_000]);
    assert_eq!(peer.attempts(), [1, 2, 3, 4, 5, 6].map(Some));
}

#[tokio::test(start_paused = true)]
async fn the_svix_schedule_takes_more_than_a_day_and_is_not_cut_short() {
    let peer = Peer::new([Step::Status(503)]);
    let config = plain().schedule(Schedule::svix());
    let result = deliver(config, &peer, get()).await;
    assert_eq!(gave_up(&result), Some(GaveUp::RetriesExhausted));
    let times = peer.times();
    let (shortest, longest) = (99_305_000, 99_305_000 * 11 / 10 + 10);
    assert!(
        times.len() == 8 && (shortest..longest).contains(&times[7]),
        "{times:?}"
    );
}

/// tower's policy clones its generator with the request, so that every request waits the same.
#[tokio::test(start_paused = true)]
async fn no_two_deliveries_share_a_sequence_of_delays() {
    let config = RetryConfig::builder().budget(Budget::unlimited());
    let layer = layer(config);
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let peer = Peer::new([Step::Status(500)]);
        layer.layer(peer.clone()).oneshot(get()).await.unwrap();
        seen.insert(peer.times());
    }
    assert!(seen.len() > 90, "{}", seen.len());
}

#[tokio::test(start_paused = true)]
async fn a_seed_makes_the_delays_repeatable_and_still_different_from_each_other() {
    let run = async || {
        let config = RetryConfig::builder()
            .seed(7)
            .budget(Budget::unlimited())
            .build()
            .unwrap();
        let layer = RetryWithJitterLayer::new(config);
        let mut all = Vec::new();
        for _ in 0..3 {
            let peer = Peer::new([Step::Status(500)]);
            layer.layer(peer.clone()).oneshot(get()).await.unwrap();
            all.push(peer.times());
        }
        all
    };
    let (one, other) = (run().await, run().await);
    assert_eq!(one, other);
    assert!(one[0] != one[1] && one[1] != one[2]);
}

/// urllib3, RFC 9110 §10.2.3: seconds are honoured; never sooner than asked.
#[tokio::test(start_paused = true)]
async fn the_peers_hint_is_waited_for_where_it_is_longer() {
    for (hint, earliest) in [(0, 1_000), (1, 1_000), (7, 7_000), (300, 300_000)] {
        let peer = Peer::new([Step::Busy(503, hint), Step::Status(200)]);
        let result = deliver(plain(), &peer, get()).await;
        let latest = earliest + earliest / 10 + 1;
        assert!(
            (earliest..=latest).contains(&peer.times()[1]),
            "{hint}: {:?}",
            peer.times()
        );
        assert_eq!((status(&result), gave_up(&result)), (200, None));
    }
}

/// linkerd cuts a `Retry-After` at 300 s, got gives up on one that is too long.
#[tokio::test(start_paused = true)]
async fn a_hint_over_the_limit_is_cut_or_given_up_on() {
    let busy = || Peer::new([Step::Busy(429, 1_000), Step::Status(200)]);
    let peer = busy();
    assert_eq!(status(&deliver(plain(), &peer, get()).await), 200);
    assert!(
        (300_000..=310_000).contains(&peer.times()[1]),
        "{:?}",
        peer.times()
    );

    let peer = busy();
    let strict = plain().hint_limit(HintLimit::GiveUp(secs(300)));
    let result = deliver(strict, &peer, get()).await;
    assert_eq!(
        (status(&result), gave_up(&result)),
        (429, Some(GaveUp::HintTooLong))
    );
    assert_eq!(peer.times(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_always_says_in_a_day_is_asked_once_and_not_waited_for() {
    let (peer, start) = (Peer::new([Step::Busy(503, 86_400)]), Instant::now());
    let strict = plain().hint_limit(HintLimit::GiveUp(secs(300)));
    let result = deliver(strict.attempts(u32::MAX), &peer, get()).await;
    assert_eq!(
        (status(&result), gave_up(&result)),
        (503, Some(GaveUp::HintTooLong))
    );
    assert_eq!((peer.calls(), start.elapsed()), (1, Duration::ZERO));
}

/// The cap comes first, and only then the question whether there is time for it.
#[tokio::test(start_paused = true)]
async fn a_hint_of_any_length_is_cut_to_the_cap() {
    for hint in [300, 3_000, 3_700, 86_400, 1_000_000_000] {
        let (peer, start) = (Peer::new([Step::Busy(503, hint)]), Instant::now());
        let capped = plain().hint_limit(HintLimit::CapTo(secs(300)));
        let result = deliver(capped.attempts(3), &peer, get()).await;
        assert_eq!(gave_up(&result), Some(GaveUp::RetriesExhausted), "{hint}");
        assert_eq!((peer.calls(), start.elapsed()), (3, secs(600)), "{hint}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_begun_that_cannot_end_before_the_deadline() {
    let start = Instant::now();
    for (left_ms, calls) in [
        (5_000, 5),
        (4_010, 5),
        (4_009, 4),
        (1_000, 1),
        (10, 1),
        (9, 0),
        (0, 0),
    ] {
        let (peer, begun) = (Peer::new([Step::Status(500)]), Instant::now());
        let mut service = layer(plain().attempts(9)).layer(peer.clone());
        ready(&mut service).await;
        let deadline = Deadline::at(begun + Duration::from_millis(left_ms));
        let result = deadline.scope(|| service.call(get())).await;
        assert_eq!(
            (peer.calls(), gave_up(&result)),
            (calls, Some(GaveUp::Deadline)),
            "{left_ms}"
        );
        // It did not sleep only to find that there is no time.
        let slept = calls.saturating_sub(1) as u64;
        assert_eq!(begun.elapsed(), secs(slept), "{left_ms}");
    }
    assert!(start.elapsed() < secs(60));
}

#[tokio::test(start_paused = true)]
async fn the_window_counts_the_time_of_the_attempts_too() {
    let peer = Peer::new([Step::Slow(20)]);
    let result = deliver(plain().attempts(99).window(secs(60)), &peer, get()).await;
    assert_eq!(gave_up(&result), Some(GaveUp::Window));
    assert_eq!(peer.times(), [0, 21_000, 42_000]);
}

/// reqwest-retry and aws-smithy measure with the wall clock; ours is tokio's, which tests move.
#[tokio::test(start_paused = true)]
async fn elapsed_time_is_monotonic_time() {
    let wall = std::time::SystemTime::now();
    let peer = Peer::new([Step::Status(500)]);
    let result = deliver(plain().attempts(9_999), &peer, get()).await;
    assert_eq!(
        (gave_up(&result), peer.calls()),
        (Some(GaveUp::Window), 3_600)
    );
    assert!(wall.elapsed().unwrap() < secs(600));
}
