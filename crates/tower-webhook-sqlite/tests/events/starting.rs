//! What a start finds of those before it.

use super::*;

async fn take_up(events: &AcceptedEvents) -> u64 {
    let taken = events.take_up(|event| event.job("event").target("now"));
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, taken).await.expect("it ends")
}

#[tokio::test]
async fn what_no_start_has_finished_is_taken_up_oldest_first_as_the_same_task() {
    let home = Home::new();
    let (events, _lost_with_the_process) = home.apart();
    let mut tasks = Vec::new();
    for n in 0..1200 {
        tasks.push(accept(&events, &format!("evt_{n}")).await.id);
    }
    events.finished(&event("evt_0").key);
    events.probe().await.unwrap();

    let (events, queue) = home.apart();
    assert_eq!(take_up(&events).await, 1199);
    let claims = queue.engine().claim(Ask::new(2000, LEASE)).await.unwrap();
    let ids: Vec<_> = claims.jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids, tasks[1..]);
    assert!(claims.jobs.iter().all(|job| job.target == "now"));
    // Again, as a start that was cut short would: nothing is put in twice.
    assert_eq!(take_up(&events).await, 1199);
    assert_eq!(queue.depth().await.unwrap().unfinished(), 1199);
}

#[tokio::test]
async fn a_crash_between_the_two_writes_loses_no_event() {
    let home = Home::new();
    // Dropped after the event was stored, before the queue had its job: as a crash.
    let (events, _queue) = home.apart();
    let hangs = AcceptedEvents::apart(&home.database(), Queue::new(Troubled::Hangs)).unwrap();
    let limit = Duration::from_millis(300);
    let cut = tokio::time::timeout(limit, hangs.accept(event("evt").job("event")));
    cut.await.expect_err("it hangs");
    assert!(events.find(&key("evt")).await.unwrap().is_some());

    // The sender comes again before the next start: its job is put in, and it is no repeat.
    let (events, queue) = home.apart();
    assert!(!accept(&events, "evt").await.repeated);
    assert_eq!(queue.depth().await.unwrap().queued, 1);
    // It does not come again: the next start puts it in.
    let (events, queue) = home.apart();
    assert_eq!(take_up(&events).await, 1);
    assert_eq!(
        &take(&**queue.engine()).await.payload[..],
        event("evt").body
    );
    // And now the repeat is one.
    assert!(accept(&events, "evt").await.repeated);
}

#[tokio::test]
async fn an_end_that_was_not_marked_is_asked_for_in_the_queue() {
    let home = Home::new();
    let jobs = home.folder().join("jobs.db");
    let queue = SqliteQueue::open(&jobs).unwrap();
    let open = || AcceptedEvents::apart(&home.database(), Queue::new(queue.clone())).unwrap();
    let events = open();
    accept(&events, "evt").await;
    let job = take(&queue).await;
    let done = (job.claim(), End::Done { result: None });
    assert_eq!(queue.settle(vec![done]).await.unwrap(), [Settled::Done]);
    // The process dies here.
    let events = open();
    assert_eq!(take_up(&events).await, 1);
    assert_eq!(queue.depth().await.unwrap().unfinished(), 0);
    assert_eq!(home.count("tower_webhook_accepted WHERE finished = 1"), 1);
    assert_eq!(take_up(&events).await, 0);
}

#[tokio::test]
async fn events_move_between_a_queue_elsewhere_and_one_beside_them() {
    let home = Home::new();
    let (events, _lost_with_the_process) = home.apart();
    let first = accept(&events, "evt_1").await;
    accept(&events, "evt_2").await;

    let (events, queue) = home.beside();
    // One comes again before it is taken up.
    assert_eq!(accept(&events, "evt_1").await.id, first.id);
    assert_eq!(take_up(&events).await, 1);
    assert_eq!(queue.depth().await.unwrap().queued, 2);
    assert_eq!(take_up(&events).await, 0);
    assert!(accept(&events, "evt_2").await.repeated);
    // Beside the jobs there is nothing to take up.
    accept(&events, "evt_3").await;
    assert_eq!(take_up(&events).await, 0);
}

#[tokio::test]
async fn while_there_is_no_room_taking_up_waits() {
    let home = Home::new();
    let (events, _lost_with_the_process) = home.apart();
    for n in 0..3 {
        accept(&events, &format!("evt_{n}")).await;
    }
    let jobs = home.folder().join("jobs.db");
    let queue = SqliteQueue::builder().max_jobs(2).open(&jobs).unwrap();
    let queue = Queue::new(queue);
    let (database, mut told) = home.observed();
    let events = AcceptedEvents::apart(&database, queue.clone()).unwrap();
    let taking = tokio::spawn({
        let events = events.clone();
        async move { take_up(&events).await }
    });
    let limit = Duration::from_secs(20);
    let waits = tokio::time::timeout(limit, told.recv()).await;
    assert_eq!(waits.unwrap(), Some("accepted events wait for the queue"));
    assert!(!taking.is_finished());
    let job = take(&**queue.engine()).await;
    finish(&**queue.engine(), &job).await;
    assert_eq!(taking.await.unwrap(), 3);
}

#[tokio::test]
async fn an_event_that_no_queue_takes_does_not_hold_up_the_others() {
    let home = Home::new();
    let (events, _lost_with_the_process) = home.apart();
    let large = AcceptedEvent::new(key("large"), vec![b' '; 2000]);
    events.accept(large.job("event")).await.unwrap();
    accept(&events, "evt").await;
    accept(&events, "broken").await;
    home.raw()
        .execute(
            "UPDATE tower_webhook_accepted SET id = '' WHERE id = 'broken'",
            [],
        )
        .unwrap();
    accept(&events, "never").await;
    accept(&events, "evt_2").await;
    let jobs = home.folder().join("jobs.db");
    let queue = SqliteQueue::builder()
        .max_payload(1000)
        .open(&jobs)
        .unwrap();
    let (database, mut told) = home.observed();
    let events = AcceptedEvents::apart(&database, Queue::new(queue)).unwrap();
    let taken = events.take_up(|event| match event.job("event") {
        job if event.key == key("never") => job.delay(Duration::MAX),
        job => job,
    });
    let limit = Duration::from_secs(20);
    let taken = tokio::time::timeout(limit, taken).await.expect("it ends");
    assert_eq!(taken, 2);
    for what in [
        "an accepted event is too large for the queue",
        "an accepted event cannot be read",
        "the queue does not take the job of an accepted event",
    ] {
        assert_eq!(told.try_recv(), Ok(what));
    }
    // It is still there for a queue that takes it.
    assert_eq!(events.find(&key("large")).await.unwrap(), Some(large));
}

/// Its worker, if there is one, does not tell of it: its queue does.
#[tokio::test]
async fn a_job_that_was_cancelled_does_not_come_back_with_the_next_start() {
    let home = Home::new();
    let events: Arc<OnceLock<AcceptedEvents>> = Arc::default();
    let marking = Arc::clone(&events);
    let queue = MemoryQueue::builder().observe(observer_fn(move |event| {
        if let Event::JobCancelled {
            dedup_key: Some((scope, id)),
            ..
        } = event
        {
            let key = IdempotencyKey::new(scope, id).unwrap();
            marking.get().unwrap().finished(&key);
        }
    }));
    let queue = Queue::new(queue.build().unwrap());
    let of_file = AcceptedEvents::apart(&home.database(), queue.clone()).unwrap();
    let events = events.get_or_init(|| of_file);
    let running = accept(events, "a").await.id;
    assert_eq!(take(&**queue.engine()).await.id, running);
    let queued = accept(events, "b").await.id;
    accept(events, "c").await;
    for id in [queued, running] {
        assert_eq!(queue.cancel(id).await.unwrap(), Some(Status::Cancelled));
    }
    events.probe().await.unwrap();

    let (events, queue) = home.apart();
    assert_eq!(take_up(&events).await, 1);
    assert_eq!(take(&**queue.engine()).await.payload, event("c").body);
}
