//! Hooks hear of every retry and of the end, and can do no harm.

use super::*;
use tower_webhook::{outcome::OutcomeKind, retry::Retrying};

#[tokio::test(start_paused = true)]
async fn hooks_hear_of_each_retry_and_of_giving_up() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let config = plain()
        .on_retry({
            let heard = Arc::clone(&heard);
            move |retrying: &Retrying| {
                let (failed, wait) = (retrying.failed().number(), retrying.wait());
                heard
                    .lock()
                    .unwrap()
                    .push(format!("{failed} {} {wait:?}", retrying.outcome().kind()));
            }
        })
        .on_give_up({
            let heard = Arc::clone(&heard);
            move |history: &History| {
                let reason = history.gave_up().unwrap();
                heard
                    .lock()
                    .unwrap()
                    .push(format!("{} {}", history.attempts(), reason.as_str()));
            }
        });
    let peer = Peer::new([Step::Status(500), Step::Reset]);
    deliver(config, &peer, get()).await.unwrap_err();
    assert_eq!(
        *heard.lock().unwrap(),
        ["1 transient 1s", "2 transient 1s", "3 retries_exhausted"]
    );
}

#[tokio::test(start_paused = true)]
async fn hooks_hear_nothing_of_a_success() {
    let config = plain()
        .on_retry(|_| panic!("no retry"))
        .on_give_up(|_| panic!("not given up"));
    let peer = Peer::new([Step::Status(200)]);
    assert_eq!(status(&deliver(config, &peer, get()).await), 200);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_does_no_harm() {
    let config = plain()
        .on_retry(|_| panic!("on purpose"))
        .on_give_up(|_| panic!("on purpose"));
    let peer = Peer::new([Step::Status(500)]);
    let result = deliver(config, &peer, get()).await;
    assert_eq!((status(&result), peer.calls()), (500, 3));
    let kinds = history(&result)
        .unwrap()
        .records()
        .iter()
        .map(|record| record.outcome().kind());
    assert!(kinds.eq([OutcomeKind::Transient; 3]));
}
