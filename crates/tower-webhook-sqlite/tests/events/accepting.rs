//! Accepting, finding and replaying.

use super::*;
use tower_webhook::queue::Status;
use tower_webhook_sqlite::database::Statement;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_arrives_often_at_once_is_accepted_once() {
    for beside in [true, false] {
        let home = Home::new();
        let (events, queue) = if beside {
            let (events, queue) = home.beside();
            (events, Queue::new(queue))
        } else {
            home.apart()
        };
        let calls: Vec<_> = (0..32)
            .map(|n| {
                let events = events.clone();
                tokio::spawn(async move { accept(&events, &format!("evt_{}", n % 4)).await })
            })
            .collect();
        let mut accepted = Vec::new();
        for call in calls {
            accepted.push(call.await.unwrap());
        }
        let new: Vec<_> = accepted.iter().filter(|one| !one.repeated).collect();
        assert_eq!(new.len(), 4, "one for each event, beside: {beside}");
        for (n, one) in accepted.iter().enumerate() {
            assert!(
                accepted
                    .iter()
                    .skip(n % 4)
                    .step_by(4)
                    .all(|other| other.id == one.id),
                "a repeat gets the first one's task, beside: {beside}"
            );
        }
        assert_eq!(home.count("tower_webhook_accepted"), 4);
        assert_eq!(queue.depth().await.unwrap().queued, 4);
    }
}

#[tokio::test]
async fn event_and_job_are_there_together_or_not_at_all() {
    let home = Home::new();
    let database = home.database();
    let queue = SqliteQueue::builder().max_jobs(1).build(&database).unwrap();
    let events = AcceptedEvents::beside(&queue).unwrap();
    accept(&events, "evt_1").await;
    let error = events
        .accept(event("evt_2").job("event"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert!(events.find(&key("evt_2")).await.unwrap().is_none());
    assert!(accept(&events, "evt_1").await.repeated);

    finish(&queue, &take(&queue).await).await;
    assert!(!accept(&events, "evt_2").await.repeated);
}

#[tokio::test]
async fn a_repeat_is_recognised_although_the_queue_has_forgotten() {
    let home = Home::new();
    let (events, queue) = home.beside();
    let first = accept(&events, "evt").await;
    finish(&queue, &take(&queue).await).await;
    // Its time is over at once.
    until("the task has left", || async {
        home.count("tower_webhook_jobs") == 0
    })
    .await;
    let repeat = accept(&events, "evt").await;
    assert_eq!((repeat.id, repeat.repeated), (first.id, true));
    assert_eq!(queue.depth().await.unwrap().unfinished(), 0);

    let home = Home::new();
    let (events, queue) = home.apart();
    let first = accept(&events, "evt").await;
    let job = take(&**queue.engine()).await;
    finish(&**queue.engine(), &job).await;
    events.finished(&event("evt").key);
    let repeat = accept(&events, "evt").await;
    assert_eq!((repeat.id, repeat.repeated), (first.id, true));
    assert_eq!(queue.depth().await.unwrap().unfinished(), 0);
}

#[tokio::test]
async fn the_job_of_an_event_says_where_it_comes_from() {
    let home = Home::new();
    let (events, queue) = home.beside();
    let accepted = accept(&events, "evt").await;
    let job = take(&queue).await;
    assert_eq!(job.id, accepted.id);
    assert_eq!(job.kind, "event");
    assert_eq!(job.payload, event("evt").body);
    assert_eq!(job.dedup_key, Some(event("evt").key));
    assert_eq!(job.about.event_id.as_deref(), Some("evt"));
    let sent = job.about.idempotency_key.as_deref();
    assert_eq!(sent, Some("key:/webhooks:evt"));
}

#[tokio::test]
async fn a_job_without_a_key_is_queued_and_not_kept() {
    let home = Home::new();
    for (events, queue) in [home.apart(), {
        let (events, queue) = home.beside();
        (events, Queue::new(queue))
    }] {
        for _ in 0..2 {
            let accepted = events.accept(NewJob::new("event", "{}")).await.unwrap();
            assert!(!accepted.repeated);
            let task = queue.task(accepted.id).await.unwrap().unwrap();
            assert_eq!(task.status, Status::Queued);
        }
    }
    assert_eq!(home.count("tower_webhook_accepted"), 0);
}

#[tokio::test]
async fn a_replay_is_of_the_event_that_was_asked_for_and_a_job_of_its_own() {
    let home = Home::new();
    let (events, queue) = home.beside();
    for (scope, body) in [("/a", "asked"), ("/b", "newest")] {
        let key = IdempotencyKey::new(scope, "evt").unwrap();
        let event = AcceptedEvent::new(key, body);
        events.accept(event.job("event")).await.unwrap();
    }
    accept(&events, "another").await;
    let of_a = IdempotencyKey::new("/a", "evt").unwrap();
    let found = events.find(&of_a).await.unwrap().unwrap();
    assert_eq!((found.key.scope(), &found.body[..]), ("/a", &b"asked"[..]));
    assert!(events.find(&key("evt")).await.unwrap().is_none());
    assert!(!format!("{found:?}").contains("asked"));

    for _ in 0..2 {
        let replayed = queue.enqueue(vec![found.replay("event")]).await.unwrap();
        assert!(!replayed[0].as_ref().unwrap().repeated);
    }
    let claims = queue.claim(Ask::new(8, LEASE)).await.unwrap();
    let replays = claims.jobs.iter().filter(|job| job.about.replays == 1);
    let replays: Vec<_> = replays.collect();
    assert_eq!(replays.len(), 2);
    for job in replays {
        assert_eq!(&job.payload[..], b"asked");
        assert_eq!(job.dedup_key, None);
        assert_eq!(job.about.replay_of.as_deref(), Some("evt"));
        let sent = job.about.idempotency_key.as_deref();
        assert_eq!(sent, Some("key:/a:evt"), "not the key of the other one");
    }
}

#[tokio::test]
async fn what_the_queue_refuses_is_not_accepted() {
    let home = Home::new();
    for kind in [StoreErrorKind::Full, StoreErrorKind::Unavailable] {
        let events =
            AcceptedEvents::apart(&home.database(), Queue::new(Troubled::Refuses(kind))).unwrap();
        let error = events.accept(event("evt").job("event")).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(events.find(&key("evt")).await.unwrap().is_none());
        assert_eq!(home.count("tower_webhook_accepted"), 0);
    }
}

#[tokio::test]
async fn a_refusal_does_not_take_an_event_away_that_was_accepted_meanwhile() {
    let home = Home::new();
    let database = home.database();
    let refused = AcceptedEvents::apart(
        &database,
        Queue::new(Troubled::RefusesLate(StoreErrorKind::Unavailable)),
    )
    .unwrap();
    let queue = Queue::new(MemoryQueue::default());
    let events = AcceptedEvents::apart(&database, queue).unwrap();
    // The first has stored the event and waits for its queue; the second is accepted; then the
    // first is refused.
    let first = tokio::spawn({
        let refused = refused.clone();
        async move { refused.accept(event("evt").job("event")).await }
    });
    until("it is stored", || async {
        home.count("tower_webhook_accepted") == 1
    })
    .await;
    accept(&events, "evt").await;
    first.await.unwrap().unwrap_err();
    assert!(events.find(&key("evt")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_so() {
    let home = Home::new();
    let database = home.database();
    let queue = SqliteQueue::new(&database).unwrap();
    let events = AcceptedEvents::beside(&queue).unwrap();
    events.probe().await.unwrap();
    database.close().await;
    let error = events.probe().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Closed);
    let error = events.accept(event("evt").job("event")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Closed);
}

#[tokio::test]
async fn what_an_operator_did_is_written_down() {
    let home = Home::new();
    let database = home.database();
    let queue = SqliteQueue::new(&database).unwrap();
    let events = AcceptedEvents::beside(&queue).unwrap();
    events.audit("replay", "evt_1").await.unwrap();
    let rows = database
        .query(Statement::new(
            "SELECT action, subject FROM tower_webhook_audit",
        ))
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<String>("action").unwrap(), "replay");
    assert_eq!(rows[0].get::<String>("subject").unwrap(), "evt_1");
}

#[tokio::test]
async fn what_an_operator_asks_for_and_its_record_are_there_together_or_not_at_all() {
    let home = Home::new();
    let database = home.database();
    let queue = SqliteQueue::builder().max_jobs(1).build(&database).unwrap();
    let events = AcceptedEvents::beside(&queue).unwrap();
    let job = || event("evt_1").job("event");
    let first = events.accept_by(job(), "trigger", "evt_1").await.unwrap();
    let repeat = events.accept_by(job(), "trigger", "evt_1").await.unwrap();
    assert_eq!((repeat.id, repeat.repeated), (first.id, true));
    assert_eq!(home.count("tower_webhook_audit"), 2);
    let replay = event("evt_1").replay("event");
    let error = events.accept_by(replay, "replay", "evt_1").await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Full);
    assert_eq!(home.count("tower_webhook_audit"), 2);

    // Elsewhere, the record is first.
    for kind in [StoreErrorKind::Full, StoreErrorKind::Unavailable] {
        let home = Home::new();
        let refusing = Queue::new(Troubled::Refuses(kind));
        let events = AcceptedEvents::apart(&home.database(), refusing).unwrap();
        let error = events.accept_by(job(), "trigger", "evt_1").await;
        assert_eq!(error.unwrap_err().kind(), kind);
        assert_eq!(home.count("tower_webhook_audit"), 1);
    }
}
