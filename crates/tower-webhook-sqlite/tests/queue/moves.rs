//! Jobs and their dead letters in one database: each move is one transaction.

use crate::support::{
    Home, add, child, childs_file, claim, done, end, job, killed_after, none, one, put, say,
    settings, settle, take,
};
use std::{sync::Arc, time::Duration};
use tower_webhook::{
    StoreErrorKind,
    attempt::History,
    clock::WallClock,
    dead_letter::{
        Cause, Entry, EntryBody, EntryClaim, EntryId, Filter, LetterStore, Page, Reason, Sink,
        redrive::{Redrive, Redriven},
    },
    idempotency::IdempotencyKey,
    lease::Settled,
    queue::{Depth, End, Engine, Jobs, Moves, NewJob, Queue, Requeue, Status, Tasks, Worker},
    retry::{Backoff, Budget, RetryConfig},
};
use tower_webhook_sqlite::{Database, SqliteDeadLetters, SqliteQueue};

fn both(database: &Database) -> (SqliteQueue, SqliteDeadLetters, Box<dyn Moves>) {
    let queue = settings().attempts(1000).build(database).unwrap();
    let entries = SqliteDeadLetters::new(database).unwrap();
    let moves = queue.moves(&entries).expect("one database");
    (queue, entries, moves)
}

pub(crate) fn entry(id: EntryId) -> Arc<Entry> {
    let cause = Cause::new(Reason::Rejected);
    let mut entry = Entry::new(id, "test", "", cause, std::time::UNIX_EPOCH);
    entry.task_id = Some(id);
    entry.body = EntryBody::new(&"payload".into(), 100);
    Arc::new(entry)
}

fn requeue(entries: &SqliteDeadLetters, queue: &SqliteQueue) -> Requeue {
    let builder = Redrive::builder(Arc::new(entries.clone()));
    let builder = builder.no_rate().max_replays(u32::MAX);
    let queue = Queue::new(queue.clone());
    builder.requeue(queue, NewJob::of_entry).unwrap()
}

/// A job that has failed has its entry, and no other has one.
fn is_paired(home: &Home) {
    let raw = home.raw();
    let one = |sql: &str| -> i64 { raw.query_row(sql, [], |row| row.get(0)).unwrap() };
    let failed = "SELECT lower(hex(id)) FROM tower_webhook_jobs WHERE state = 6";
    let entries = "SELECT json_extract(record, '$.taskId') FROM tower_webhook_dead_letters";
    for (these, those) in [(failed, entries), (entries, failed)] {
        let alone = one(&format!("SELECT count(*) FROM ({these} EXCEPT {those})"));
        assert_eq!(alone, 0, "{these} without those");
    }
    let between = "SELECT count(*) FROM tower_webhook_jobs WHERE state IN (3, 4)";
    assert_eq!(one(between), 0, "a job is between the two");
    home.check();
}

#[test]
fn two_databases_share_no_transaction() {
    let (home, other) = (Home::new(), Home::new());
    let queue = home.queue();
    let elsewhere = SqliteDeadLetters::open(other.file()).unwrap();
    assert!(queue.moves(&elsewhere).is_none());
    // Another handle on the same file has a thread of its own.
    let apart = SqliteDeadLetters::open(home.file()).unwrap();
    assert!(queue.moves(&apart).is_none());
    assert!(
        queue
            .moves(&tower_webhook::dead_letter::MemoryDeadLetters::default())
            .is_none()
    );
}

#[tokio::test]
async fn a_job_fails_with_its_entry_or_not_at_all() {
    let home = Home::new();
    let database = home.database();
    let (queue, _, _) = both(&database);
    let entries = SqliteDeadLetters::new(&database).unwrap();
    let entries = entries.max_entries(1).unwrap();
    let moves = queue.moves(&entries).unwrap();
    let first = add(&queue, job("a").fifo_group("order")).await.unwrap().id;
    add(&queue, job("b").fifo_group("order")).await.unwrap();
    let held = take(&queue).await;
    let entry_of_first = entry(first.entry_id());
    let moved = moves.dead_letter(held.claim(), &entry_of_first).await;
    assert_eq!(moved.unwrap(), Settled::Done);
    assert_eq!(
        queue.task(first).await.unwrap().unwrap().status,
        Status::Failed
    );
    assert!(entries.get(first.entry_id()).await.unwrap().is_some());
    is_paired(&home);
    let again = moves.dead_letter(held.claim(), &entry_of_first).await;
    assert_eq!(again.unwrap(), Settled::Lost, "the claim is over");

    // The next of its group follows. There is no room for its entry: it is as it was.
    let held = take(&queue).await;
    let full = moves
        .dead_letter(held.claim(), &entry(held.id.entry_id()))
        .await;
    assert_eq!(full.unwrap_err().kind(), StoreErrorKind::Full);
    assert_eq!(queue.depth().await.unwrap(), Depth::new(0, 1, 0));
    let settled = end(&queue, held.claim(), done()).await.unwrap();
    assert_eq!(settled, Settled::Done);
    is_paired(&home);
}

#[tokio::test]
async fn a_cancelled_job_leaves_no_entry_and_the_next_of_its_group_follows() {
    let home = Home::new();
    let (queue, entries, moves) = both(&home.database());
    for payload in ["a", "b"] {
        add(&queue, job(payload).fifo_group("order")).await.unwrap();
    }
    let held = take(&queue).await;
    let cancelled = queue.cancel(held.id).await.unwrap();
    assert_eq!(cancelled, Some(Status::Cancelled));
    none(&queue).await;
    let entry = entry(held.id.entry_id());
    let moved = moves.dead_letter(held.claim(), &entry).await.unwrap();
    assert_eq!(moved, Settled::Lost);
    assert_eq!(entries.get(entry.id).await.unwrap(), None);
    assert_eq!(take(&queue).await.payload, "b");
    home.check();
}

#[tokio::test]
async fn a_failed_job_that_waits_for_its_entry_moves_too() {
    let home = Home::new();
    let (queue, _, moves) = both(&home.database());
    let id = put(&queue, "x").await;
    let held = take(&queue).await;
    let failed = End::Failed {
        cause: Cause::new(Reason::Rejected),
        history: History::new(),
    };
    assert_eq!(
        end(&queue, held.claim(), failed).await.unwrap(),
        Settled::Done
    );
    let failed = claim(&queue, one()).await.unwrap().failed_jobs.remove(0);
    let moved = moves
        .dead_letter(failed.claim(), &entry(id.entry_id()))
        .await;
    assert_eq!(moved.unwrap(), Settled::Done);
    is_paired(&home);
    none(&queue).await;
}

#[tokio::test]
async fn an_entry_is_queued_again_in_one_step_or_stays() {
    let home = Home::new();
    let database = home.database();
    let entries = SqliteDeadLetters::new(&database).unwrap();
    let queue = settings().max_jobs(1).build(&database).unwrap();
    let moves = queue.moves(&entries).unwrap();
    let key = IdempotencyKey::new("test", "evt").unwrap();
    let new = job("payload").dedup_key(key).fifo_group("order");
    let id = add(&queue, new).await.unwrap().id;
    let mut lost = entry(id.entry_id());
    {
        let lost = Arc::make_mut(&mut lost);
        lost.dedup_key = Some("key:test:evt".to_owned());
        lost.fifo_group = Some("order".to_owned());
    }
    let held = take(&queue).await;
    let moved = moves.dead_letter(held.claim(), &lost).await;
    assert_eq!(moved.unwrap(), Settled::Done);

    // The queue is full.
    let other = put(&queue, "other").await;
    let redrive = requeue(&entries, &queue);
    let redriven = redrive.one(lost.id, "anna").await.unwrap();
    assert_eq!(redriven, Redriven::Refused { retry_after: None });
    assert_eq!(entries.get(lost.id).await.unwrap(), Some((*lost).clone()));
    is_paired(&home);
    let held = take(&queue).await;
    assert_eq!(held.id, other);
    settle(&queue, &held, done()).await;

    assert_eq!(
        redrive.one(lost.id, "anna").await.unwrap(),
        Redriven::Accepted
    );
    is_paired(&home);
    assert_eq!(entries.count(&Filter::all()).await.unwrap(), 0);
    let held = take(&queue).await;
    assert_eq!(
        (held.id, held.attempt, &held.payload[..]),
        (id, 1, &b"payload"[..])
    );
    assert_eq!(held.fifo_group.as_deref(), Some("order"));
    assert_eq!(held.dedup_key.as_ref().map(IdempotencyKey::id), Some("evt"));
    assert_eq!(
        redrive.one(lost.id, "anna").await.unwrap(),
        Redriven::Missing
    );
    settle(&queue, &held, done()).await;
    is_paired(&home);
}

/// Jobs fail and are queued again at once, in several lives on one file.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_no_job_between_the_queue_and_the_dead_letters() {
    let home = Home::new();
    let mut accepted = std::collections::HashSet::new();
    for lines in [5, 60, 200, 300] {
        let child = child("moves::child_that_is_killed", &home.file());
        killed_after(lines, child, |line| {
            if let Some(id) = line.strip_prefix("accepted ") {
                accepted.insert(id.to_owned());
            }
            line == "requeued" || line == "failed"
        });
        // Opening it ends the claims of the dead.
        drop(home.queue());
        is_paired(&home);
    }
    let raw = home.raw();
    let known: i64 = raw
        .query_row("SELECT count(*) FROM tower_webhook_jobs", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(
        known >= i64::try_from(accepted.len()).unwrap(),
        "none is lost"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Some(file) = childs_file() else { return };
    let database = Database::open(file).unwrap();
    let (queue, entries, _) = both(&database);
    let backoff = Backoff::constant(Duration::from_millis(1)).build().unwrap();
    let retry = RetryConfig::builder()
        .attempts(2)
        .backoff(backoff)
        .budget(Budget::unlimited())
        .build()
        .unwrap();
    let fails = tower::service_fn(|_: tower_webhook::queue::Job| async {
        Err::<(), tower_webhook::BoxError>("broke".into())
    });
    let _worker = Worker::builder(Queue::new(queue.clone()))
        .retry(retry)
        .dead_letters(tower_webhook::dead_letter::DeadLetters::new(
            entries.clone(),
        ))
        .observe(tower_webhook::observe::observer_fn(|event| {
            if let tower_webhook::observe::Event::DeadLettered { .. } = event {
                say("failed");
            }
        }))
        .build(fails)
        .unwrap()
        .spawn();
    for number in 0..20 {
        let new = job("payload").target(format!("t{}", number % 3));
        say(&format!("accepted {}", add(&queue, new).await.unwrap().id));
    }
    let redrive = requeue(&entries, &queue);
    loop {
        let page = entries
            .list(&Filter::all(), &Page::first(10))
            .await
            .unwrap();
        for summary in page.entries {
            // Two callers at once.
            let (one, two) =
                tokio::join!(redrive.one(summary.id, "a"), redrive.one(summary.id, "b"));
            let accepted = [one, two]
                .into_iter()
                .filter(|redriven| matches!(redriven, Ok(Redriven::Accepted)));
            let accepted = accepted.count();
            assert!(accepted <= 1, "each entry is queued once");
            if accepted == 1 {
                say("requeued");
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_entry_whose_key_is_another_tasks_by_now_stays() {
    let home = Home::new();
    let (queue, entries, _) = both(&home.database());
    // Of a task that is known no more.
    let mut old = entry(EntryId::random());
    Arc::make_mut(&mut old).dedup_key = Some("key:test:evt".to_owned());
    Sink::write(&entries, &old).await.unwrap();
    let key = IdempotencyKey::new("test", "evt").unwrap();
    let other = add(&queue, job("other").dedup_key(key)).await.unwrap().id;
    let cancelled = queue.jobs().unwrap().cancel(other).await.unwrap();
    assert_eq!(cancelled, Some(Status::Cancelled));
    let redriven = requeue(&entries, &queue).one(old.id, "anna").await.unwrap();
    assert!(matches!(redriven, Redriven::Failed { .. }), "{redriven:?}");
    assert_eq!(queue.depth().await.unwrap().queued, 0);
    assert!(entries.get(old.id).await.unwrap().is_some());
}

/// Another claims the entry when its re-drive stands still: before it may send, or just before the move.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_another_has_claimed_stays_and_adds_no_job() {
    for is_before in [true, false] {
        let home = Home::new();
        let (queue, entries, _) = both(&home.database());
        let lost = entry(EntryId::random());
        Sink::write(&entries, &lost).await.unwrap();
        let lease = Duration::from_millis(200);
        let (theirs, id) = (entries.clone(), lost.id);
        let stands_still = move || {
            std::thread::sleep(lease * 3);
            let claim = theirs.claim(id, Duration::from_secs(600), 100);
            let runtime = tokio::runtime::Handle::current();
            let claimed = std::thread::spawn(move || runtime.block_on(claim)).join();
            let claimed = claimed.unwrap().unwrap();
            assert!(matches!(claimed, EntryClaim::Claimed { .. }), "{claimed:?}");
        };
        let builder = Redrive::builder(Arc::new(entries.clone())).lease(lease);
        let queue_of_it = Queue::new(queue.clone());
        let redrive = if is_before {
            builder.requeue(queue_of_it, move |entry| {
                stands_still();
                NewJob::of_entry(entry)
            })
        } else {
            let clock = WallClock::from_fn(move || {
                stands_still();
                std::time::SystemTime::now()
            });
            builder.clock(clock).requeue(queue_of_it, NewJob::of_entry)
        };
        let redriven = redrive.unwrap().one(lost.id, "anna").await.unwrap();
        assert_eq!(redriven, Redriven::Lost, "before: {is_before}");
        assert_eq!(queue.depth().await.unwrap().queued, 0);
        assert!(entries.get(lost.id).await.unwrap().is_some());
    }
}
