//! A delivery that is dropped at any point sends nothing more and gives its permit back, unless the
//! retry was sent.

use super::*;
use tokio_test::{assert_pending, task};

fn one_retry() -> Budget {
    Budget::builder()
        .share(0.0)
        .floor(1)
        .window(secs(1))
        .build()
        .unwrap()
}

async fn service(budget: &Budget, peer: &Peer) -> Retry {
    let mut service = layer(plain().budget(budget.clone())).layer(peer.clone());
    ready(&mut service).await;
    service
}

#[tokio::test(start_paused = true)]
async fn before_it_is_polled() {
    let (budget, peer) = (one_retry(), Peer::new([Step::Hang]));
    drop(service(&budget, &peer).await.call(get()));
    assert_eq!((peer.calls(), budget.balance()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn during_the_first_attempt() {
    let (budget, peer) = (one_retry(), Peer::new([Step::Hang]));
    let mut call = task::spawn(service(&budget, &peer).await.call(get()));
    assert_pending!(call.poll());
    drop(call);
    tokio::time::advance(secs(1_000)).await;
    assert_eq!((peer.calls(), budget.balance()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn during_the_wait() {
    let (budget, peer) = (one_retry(), Peer::new([Step::Status(500)]));
    let mut call = task::spawn(service(&budget, &peer).await.call(get()));
    assert_pending!(call.poll());
    assert_eq!(budget.balance(), 0);
    drop(call);
    assert_eq!(budget.balance(), 1);
    tokio::time::advance(secs(1_000)).await;
    assert_eq!(peer.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn during_the_second_attempt() {
    // The window of the budget is longer than the wait here, so that what is spent stays seen.
    let budget = Budget::builder()
        .share(0.0)
        .floor(1)
        .window(secs(10))
        .build()
        .unwrap();
    let peer = Peer::new([Step::Status(500), Step::Hang]);
    let mut call = task::spawn(service(&budget, &peer).await.call(get()));
    assert_pending!(call.poll());
    tokio::time::advance(secs(2)).await;
    assert_pending!(call.poll());
    assert_eq!((peer.calls(), budget.balance()), (2, 9));
    drop(call);
    assert_eq!(budget.balance(), 9, "the retry was sent");
}

#[tokio::test(start_paused = true)]
async fn while_a_response_is_put_away_or_the_service_becomes_ready() {
    /// Never done with a response.
    #[derive(Clone, Copy)]
    struct Stuck;

    impl Exchange<Request<()>> for Stuck {
        type Sent = Request<()>;
        type Kept = <CloneExchange as Exchange<Request<()>>>::Kept;

        fn first(&self, req: Request<()>, keep: bool) -> (Request<()>, Option<Self::Kept>) {
            CloneExchange.first(req, keep)
        }

        fn can_send_again(&self, _: &Self::Kept) -> bool {
            true
        }

        fn again(&self, kept: &mut Option<Self::Kept>, last: bool) -> Option<Request<()>> {
            CloneExchange.again(kept, last)
        }
    }

    impl ExchangeResponse<Response<()>> for Stuck {
        type Discard = std::future::Pending<()>;

        fn discard(&self, _: Response<()>) -> Self::Discard {
            std::future::pending()
        }

        fn annotate(&self, _: &mut Response<()>, _: History) {}
    }

    let (budget, peer) = (one_retry(), Peer::new([Step::Status(500)]));
    let config = plain().budget(budget.clone());
    let mut service = layer(config).exchange(Stuck).layer(peer.clone());
    ready(&mut service).await;
    let mut call = task::spawn(service.call(get()));
    assert_pending!(call.poll());
    assert_eq!(budget.balance(), 0);
    drop(call);
    assert_eq!((peer.calls(), budget.balance()), (1, 1));

    // Full but for one: the retry waits for its turn.
    let (budget, peer) = (one_retry(), Peer::new([Step::Status(500)]));
    let limited = tower::limit::ConcurrencyLimit::new(peer.clone(), 1);
    let config = plain().budget(budget.clone()).build().unwrap();
    let mut service = RetryWithJitterLayer::new(config).layer(limited.clone());
    ready(&mut service).await;
    let mut call = task::spawn(service.call(get()));
    assert_pending!(call.poll());
    let mut other = limited;
    Service::<Request<()>>::poll_ready(
        &mut other,
        &mut Context::from_waker(std::task::Waker::noop()),
    )
    .is_ready()
    .then_some(())
    .unwrap();
    tokio::time::advance(Duration::from_millis(1_001)).await;
    assert_pending!(call.poll());
    drop(call);
    assert_eq!((peer.calls(), budget.balance()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn polling_after_the_end_does_not_panic() {
    let peer = Peer::new([Step::Status(500)]);
    let deadline = tower_webhook::deadline::Deadline::at(Instant::now());
    let mut service = service(&Budget::unlimited(), &peer).await;
    let mut call = task::spawn(deadline.scope(|| service.call(get())));
    assert!(call.poll().is_ready());
    assert!(call.poll().is_ready());
}
