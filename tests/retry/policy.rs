//! `RetryPolicy` in tower's own retry.

use super::*;
use tower::ServiceBuilder;
use tower_webhook::{
    outcome::HttpClassifier,
    retry::{Refusals, RetryPolicy},
};

fn through_tower(
    config: RetryConfigBuilder,
    peer: &Peer,
) -> tower::retry::Retry<RetryPolicy<HttpClassifier>, Peer> {
    let policy = RetryPolicy::new(config.build().unwrap());
    ServiceBuilder::new().retry(policy).service(peer.clone())
}

#[tokio::test(start_paused = true)]
async fn it_decides_as_the_layer_does() {
    let scripts: [&[Step]; 7] = [
        &[Step::Status(200)],
        &[Step::Status(500)],
        &[Step::Status(400)],
        &[Step::Reset, Step::Busy(503, 30), Step::Status(200)],
        &[Step::Busy(503, 86_400)],
        &[
            Step::Refused(15),
            Step::Status(500),
            Step::Refused(0),
            Step::Status(200),
        ],
        &[Step::Refused(0)],
    ];
    for script in scripts {
        for req in [get(), post()] {
            let (ours, theirs) = (Peer::new(script), Peer::new(script));
            // The same seed: the spread of the hints is the same, too.
            let one = deliver(plain().seed(7), &ours, req.clone()).await;
            let start = Instant::now();
            theirs.shared.lock().unwrap().started = start;
            let other = through_tower(plain().seed(7), &theirs).oneshot(req).await;
            assert_eq!(ours.times(), theirs.times(), "{script:?}");
            assert_eq!(
                one.map(|res| res.status()).ok(),
                other.map(|res| res.status()).ok()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_begins_anew_and_all_share_the_budget() {
    let peer = Peer::new([Step::Status(500)]);
    let budget = Budget::builder().share(0.5).floor(0).build().unwrap();
    let mut service = through_tower(plain().budget(budget.clone()), &peer);
    for _ in 0..8 {
        ready(&mut service).await;
        service.call(get()).await.unwrap();
        let mut clone = service.clone();
        ready(&mut clone).await;
        clone.call(get()).await.unwrap();
    }
    assert!((23..=24).contains(&peer.calls()), "{}", peer.calls());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_gives_its_permit_back() {
    let peer = Peer::new([Step::Status(500)]);
    let budget = Budget::builder()
        .share(0.0)
        .floor(1)
        .window(secs(1))
        .build()
        .unwrap();
    let mut service = through_tower(plain().budget(budget.clone()), &peer);
    ready(&mut service).await;
    let mut call = tokio_test::task::spawn(service.call(get()));
    tokio_test::assert_pending!(call.poll());
    assert_eq!(budget.balance(), 0);
    drop(call);
    assert_eq!((budget.balance(), peer.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn its_hook_hears_of_giving_up_though_tower_asks_for_no_copy() {
    let heard = Arc::new(Mutex::new(0));
    let config = plain().refusals(Refusals::GiveUp).on_give_up({
        let heard = Arc::clone(&heard);
        move |_| *heard.lock().unwrap() += 1
    });
    let peer = Peer::new([Step::Status(500)]);
    through_tower(config, &peer).oneshot(get()).await.unwrap();
    assert_eq!((peer.calls(), *heard.lock().unwrap()), (3, 1));
}
