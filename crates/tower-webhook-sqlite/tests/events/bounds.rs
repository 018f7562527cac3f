//! How much the events may take, and what becomes of those that leave before their time.

use super::*;
use home::ManualClock;
use tower_webhook::observe::Observers;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What ten of the events take.
const TEN: u64 = 10 * (256 + 16);

fn sized(id: usize) -> AcceptedEvent {
    AcceptedEvent::new(key(&id.to_string()), format!("{id:016}"))
}

/// The last ten of forty events, beside their jobs or apart: there is no room for more.
struct Full {
    home: Home,
    database: Database,
    clock: ManualClock,
    events: AcceptedEvents,
    queue: Queue,
    tasks: Vec<TaskId>,
}

impl Full {
    async fn new(beside: bool, observers: Observers) -> Self {
        let (home, clock) = (Home::new(), ManualClock::new());
        let database = Database::builder().clock(clock.wall()).observe(observers);
        let database = database.open(home.file()).unwrap();
        let (events, queue) = open(&database, beside);
        let mut tasks = Vec::new();
        for id in 0..40 {
            let event = sized(id);
            tasks.push(events.accept(event.job("event")).await.unwrap().id);
            let job = take(&**queue.engine()).await;
            finish(&**queue.engine(), &job).await;
            events.finished(&event.key);
        }
        until("the oldest have left", || async {
            home.count("tower_webhook_accepted") == 10
        })
        .await;
        home.check_size();
        Self {
            home,
            database,
            clock,
            events,
            queue,
            tasks,
        }
    }
}

fn open(database: &Database, beside: bool) -> (AcceptedEvents, Queue) {
    let builder = AcceptedEvents::builder().max_bytes(TEN);
    if beside {
        let queue = SqliteQueue::builder().max_finished(1);
        let queue = queue.build(database).unwrap();
        (builder.beside(&queue).unwrap(), Queue::new(queue))
    } else {
        let queue = Queue::new(MemoryQueue::default());
        (builder.apart(database, queue.clone()).unwrap(), queue)
    }
}

impl Home {
    fn check_size(&self) {
        let size = self.raw().query_row(
            "SELECT bytes, (SELECT coalesce(sum(length(body) + 256), 0) FROM tower_webhook_accepted)
             FROM tower_webhook_accepted_size",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        );
        let (kept, sum) = size.unwrap();
        assert_eq!(kept, sum);
    }
}

/// Hazard: events whose bodies fill the disk, and a bound that forgets which of them were delivered.
#[tokio::test(flavor = "multi_thread")]
async fn of_too_much_the_oldest_leaves_and_is_known_all_the_same() {
    for beside in [true, false] {
        let (tell, mut told) = unbounded_channel();
        let observer = observer_fn(move |event| {
            if let Event::Trouble { part, what, detail } = event {
                let count = detail.map(|count| count.to_string());
                let _ = tell.send((*part, *what, count));
            }
        });
        let full = Full::new(beside, Observers::new(observer)).await;
        let mut last = None;
        while let Ok((part, what, count)) = told.try_recv() {
            assert_eq!(part, "accepted_events", "{what}");
            last = count;
        }
        assert_eq!(last.as_deref(), Some("30"), "all that left are counted");
        for id in [0, 15, 29] {
            assert!(full.events.find(&sized(id).key).await.unwrap().is_none());
        }
        for id in 30..40 {
            let found = full.events.find(&sized(id).key).await.unwrap();
            assert_eq!(found, Some(sized(id)));
        }
        // Also by who has just started, with the jobs elsewhere.
        let (others, elsewhere) = open(&full.database, !beside);
        for (events, queue) in [(&full.events, &full.queue), (&others, &elsewhere)] {
            for (id, task) in full.tasks.iter().enumerate() {
                let repeat = events.accept(sized(id).job("event")).await.unwrap();
                assert_eq!((repeat.id, repeat.repeated), (*task, true), "{id}");
            }
            assert_eq!(queue.depth().await.unwrap().unfinished(), 0);
        }
        assert_eq!(full.home.count("tower_webhook_accepted"), 10);
        full.home.check_size();

        full.clock.forward(8 * DAY);
        until("nothing is left when the retention is over", || async {
            full.home.count("tower_webhook_accepted") + full.home.count("tower_webhook_keys") == 0
        })
        .await;
        if beside {
            let new = full.events.accept(sized(0).job("event")).await.unwrap();
            assert!(!new.repeated);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_finished_stays_however_much_it_takes() {
    let home = Home::new();
    let (database, clock) = home.timed_database();
    let (events, _queue) = open(&database, false);
    for id in 0..40 {
        events.accept(sized(id).job("event")).await.unwrap();
    }
    for id in 20..40 {
        events.finished(&sized(id).key);
    }
    // Where nothing can leave, a search is made once a minute.
    clock.forward(Duration::from_secs(61));
    until("all that is finished has left", || async {
        home.count("tower_webhook_accepted") == 20
    })
    .await;
    for id in 0..20 {
        assert!(events.find(&sized(id).key).await.unwrap().is_some());
    }
    home.check_size();
}

#[test]
fn room_for_nothing_is_refused() {
    let home = Home::new();
    let queue = SqliteQueue::new(&home.database()).unwrap();
    for bytes in [0, u64::MAX] {
        let refused = AcceptedEvents::builder().max_bytes(bytes).beside(&queue);
        match refused {
            Err(OpenError::Config(error)) => assert_eq!(error.setting(), "max_bytes"),
            other => panic!("{other:?}"),
        }
    }
}
