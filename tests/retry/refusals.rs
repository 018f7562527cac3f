//! Calls that were refused on our side: they cost nothing, and do not go on for ever.

use super::*;
use std::error::Error as _;
use tower_webhook::{
    outcome::{Outcome, OutcomeKind},
    retry::Refusals,
};

#[tokio::test(start_paused = true)]
async fn a_refusal_is_waited_for_and_is_no_attempt() {
    let script = [
        Step::Refused(15),
        Step::Status(500),
        Step::Refused(15),
        Step::Refused(15),
        Step::Status(200),
    ];
    let peer = Peer::new(script);
    let result = deliver(plain().attempts(2), &peer, get()).await;
    assert_eq!(status(&result), 200);
    assert_eq!(peer.attempts(), [1, 1, 2, 2, 2].map(Some));
    let history = history(&result).unwrap();
    assert_eq!((history.attempts(), history.refusals()), (2, 3));
    assert!(
        (46_000..=51_000).contains(&peer.times()[4]),
        "{:?}",
        peer.times()
    );
}

/// A breaker inside the retries must not drain their budget.
#[tokio::test(start_paused = true)]
async fn refusals_take_nothing_from_the_budget() {
    let budget = Budget::builder()
        .share(0.0)
        .floor(1)
        .window(secs(1))
        .build()
        .unwrap();
    let peer = Peer::new([
        Step::Refused(2),
        Step::Refused(2),
        Step::Refused(2),
        Step::Status(200),
    ]);
    let mut service = layer(plain().budget(budget.clone())).layer(peer.clone());
    ready(&mut service).await;
    let call = service.call(get());
    assert_eq!(budget.balance(), 1);
    assert_eq!(status(&call.await), 200);
    assert_eq!(budget.balance(), 1);
}

/// A thousand calls that an open breaker refused once bought two hundred retries.
#[tokio::test(start_paused = true)]
async fn calls_that_were_not_sent_buy_no_retries() {
    let budget = Budget::builder().share(0.2).floor(0).window(secs(3_600));
    let budget = budget.build().unwrap();
    let refused = || Peer::new([Step::Refused(2)]);
    for _ in 0..10 {
        let config = plain().refusals(Refusals::GiveUp).budget(budget.clone());
        assert_eq!(
            gave_up(&deliver(config, &refused(), get()).await),
            Some(GaveUp::Refused)
        );
    }
    assert_eq!(budget.balance(), 0);
    // One that waited for the refusal to end and was sent counts once.
    for _ in 0..5 {
        let peer = Peer::new([Step::Refused(2), Step::Refused(2), Step::Status(200)]);
        let sent = deliver(plain().budget(budget.clone()), &peer, get()).await;
        assert_eq!(status(&sent), 200);
    }
    assert_eq!(budget.balance(), 1);
}

#[tokio::test(start_paused = true)]
async fn refusals_end() {
    let start = Instant::now();
    let peer = Peer::new([Step::Refused(0)]);
    let result = deliver(plain(), &peer, get()).await;
    assert_eq!(
        (gave_up(&result), peer.calls()),
        (Some(GaveUp::Refused), 11)
    );
    assert_eq!(start.elapsed(), secs(10));

    for (refusals, calls) in [
        (Refusals::GiveUp, 1),
        (Refusals::Wait(0), 1),
        (Refusals::Wait(2), 3),
    ] {
        let peer = Peer::new([Step::Refused(0)]);
        let result = deliver(plain().refusals(refusals), &peer, get()).await;
        assert_eq!(
            (gave_up(&result), peer.calls()),
            (Some(GaveUp::Refused), calls)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_again_after_the_window_is_not_waited_for() {
    let (peer, start) = (Peer::new([Step::Refused(60)]), Instant::now());
    let result = deliver(plain().window(secs(30)), &peer, get()).await;
    assert_eq!(
        (gave_up(&result), start.elapsed()),
        (Some(GaveUp::Refused), Duration::ZERO)
    );
    assert_eq!(
        result.unwrap_err().to_string(),
        "not sent: refused on this side; try again in 60s"
    );
}

/// What the peer did to the attempt before explains more than a circuit that has opened since.
#[tokio::test(start_paused = true)]
async fn a_refusal_at_the_end_does_not_hide_the_error_of_an_attempt() {
    let none = || plain().refusals(Refusals::GiveUp);
    let peer = Peer::new([Step::Status(500), Step::Reset, Step::Refused(5)]);
    let error = deliver(none(), &peer, get()).await.unwrap_err();
    let failed = error.downcast_ref::<Failed>().unwrap();
    assert_eq!(failed.gave_up(), Some(GaveUp::Refused));
    assert_eq!(failed.source().unwrap().to_string(), "reset");
    let refusal = failed.refusal().unwrap();
    assert_eq!(Outcome::of_error(refusal).kind(), OutcomeKind::Refused);
    assert_eq!(Outcome::of_error(failed).kind(), OutcomeKind::Transient);
    assert_eq!(
        error.to_string(),
        "gave up after 2 attempts: another was refused on this side and not sent (refused on this side; try again in 5s)"
    );

    // Refusals in between, and one that is waited for in vain.
    let peer = Peer::new([Step::Reset, Step::Refused(1), Step::Refused(7_200)]);
    let error = deliver(plain(), &peer, get()).await.unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "reset");

    // Also if the service takes no more calls.
    let peer = Peer::new([Step::Reset, Step::Closed]);
    let error = deliver(plain(), &peer, get()).await.unwrap_err();
    let failed = error.downcast_ref::<Failed>().unwrap();
    assert_eq!(failed.gave_up(), Some(GaveUp::NotReady));
    assert_eq!(failed.source().unwrap().to_string(), "reset");
    assert!(failed.refusal().is_some());

    // A response was discarded, and its status is told.
    let peer = Peer::new([Step::Reset, Step::Status(503), Step::Refused(5)]);
    let error = deliver(none(), &peer, get()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "gave up after 2 attempts, the last answered 503: another was refused on this side and not sent"
    );
    let refusal = error.source().unwrap();
    assert_eq!(Outcome::of_error(refusal).kind(), OutcomeKind::Refused);
}

/// Also where the request was to be sent for the last time: it was not sent.
#[tokio::test(start_paused = true)]
async fn a_refused_last_attempt_is_made_later() {
    let peer = Peer::new([
        Step::Status(500),
        Step::Status(500),
        Step::Refused(5),
        Step::Status(200),
    ]);
    assert_eq!(status(&deliver(plain(), &peer, get()).await), 200);
}
