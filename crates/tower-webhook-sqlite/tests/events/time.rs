//! How long events are kept.

use super::*;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Longer than an idle database takes to look for what is over.
const A_WHILE: Duration = Duration::from_millis(2500);

#[tokio::test]
async fn what_is_finished_leaves_after_a_week_and_what_is_not_stays() {
    let home = Home::new();
    let (database, clock) = home.timed_database();
    let queue = Queue::new(MemoryQueue::default());
    let events = AcceptedEvents::apart(&database, queue).unwrap();
    for n in 0..1000 {
        let id = format!("evt_{n}");
        accept(&events, &id).await;
        if n % 10 != 0 {
            events.finished(&event(&id).key);
        }
    }
    events.audit("replay", "evt_1").await.unwrap();
    clock.forward(7 * DAY);
    accept(&events, "young").await;
    events.finished(&event("young").key);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(home.count("tower_webhook_accepted"), 1001);

    clock.forward(Duration::from_secs(61));
    until("they leave", || async {
        home.count("tower_webhook_accepted") == 101
    })
    .await;
    until("so does what was done", || async {
        home.count("tower_webhook_audit") == 0
    })
    .await;
    assert!(events.find(&key("evt_0")).await.unwrap().is_some());
    assert!(events.find(&key("evt_1")).await.unwrap().is_none());
    assert!(events.find(&key("young")).await.unwrap().is_some());
}

#[tokio::test]
async fn the_retention_is_a_setting() {
    let home = Home::new();
    let (database, clock) = home.timed_database();
    let queue = SqliteQueue::new(&database).unwrap();
    let retention = 30 * DAY;
    let events = AcceptedEvents::builder()
        .retention(retention)
        .beside(&queue)
        .unwrap();
    accept(&events, "evt").await;
    clock.forward(29 * DAY);
    tokio::time::sleep(A_WHILE).await;
    assert!(events.find(&key("evt")).await.unwrap().is_some());
    clock.forward(2 * DAY);
    until("it leaves", || async {
        home.count("tower_webhook_accepted") == 0
    })
    .await;
}
