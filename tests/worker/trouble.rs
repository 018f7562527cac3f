//! A queue or a sink that fails or hangs.

use crate::support::{Bench, Calls, LEASE, Mode, SECOND, retry};
use std::time::Duration;
use tokio::time::sleep;
use tower::service_fn;
use tower_webhook::{
    BoxError,
    dead_letter::{DeadLetters, LetterStore, MemoryDeadLetters},
    observe::observer_fn,
    outcome::Unsendable,
    queue::{Job, NewJob, Status},
};

fn well()
-> impl tower::Service<Job, Response = (), Error = BoxError, Future: Send> + Clone + Send + 'static
{
    service_fn(|_: Job| async { Ok::<_, BoxError>(()) })
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_cannot_be_asked_pauses_the_worker_and_does_not_end_it() {
    for mode in [Mode::Fails, Mode::Hangs] {
        let bench = Bench::new();
        bench.engine.claim_mode(mode);
        let worker = bench.worker().build(well()).unwrap().spawn();
        let id = bench.put("").await;
        sleep(300 * SECOND).await;
        assert_eq!(bench.status(id).await, Status::Queued);
        let asked = bench.engine.claims();
        assert!((5..=150).contains(&asked), "{mode:?}: asked {asked} times");
        assert!(!worker.is_finished());
        bench.engine.claim_mode(Mode::Well);
        sleep(LEASE).await;
        assert_eq!(bench.status(id).await, Status::Succeeded { result: None });
        assert!(bench.count("trouble") > 3);
    }
}

/// An engine gives back the jobs of a claim that is dropped, so that others need not wait for them.
#[tokio::test(start_paused = true)]
async fn a_claim_that_took_too_long_is_dropped_before_the_pause() {
    let bench = Bench::new();
    bench.engine.claim_mode(Mode::Hangs);
    let _worker = bench.worker().build(well()).unwrap().spawn();
    sleep(Duration::from_millis(1)).await;
    for _ in 0..8 {
        assert_eq!(bench.engine.claiming(), 1);
        sleep(LEASE / 3).await;
        assert_eq!(bench.engine.claiming(), 0, "while the worker pauses");
        while bench.engine.claiming() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_done_and_cannot_be_noted_is_noted_later_and_not_done_again() {
    for mode in [Mode::Fails, Mode::Hangs] {
        let bench = Bench::new();
        bench.engine.settle_mode(mode);
        let id = bench.put("").await;
        let calls = Calls::new();
        let seen = calls.clone();
        let worker = bench.worker().build(service_fn(move |job: Job| {
            seen.note(&job);
            async { Ok::<_, BoxError>(()) }
        }));
        let _worker = worker.unwrap().spawn();
        sleep(5 * LEASE).await;
        assert_eq!(bench.status(id).await, Status::Running, "{mode:?}");
        bench.engine.settle_mode(Mode::Well);
        assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
        assert_eq!(calls.len(), 1, "{mode:?}");
        assert_eq!(bench.count("succeeded"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_written_is_tried_until_it_can() {
    for mode in [Mode::Fails, Mode::Hangs] {
        let bench = Bench::new();
        bench.sink.mode(mode);
        let id = bench.put("").await;
        let retry = retry().attempts(1).build().unwrap();
        let broken = service_fn(|_: Job| async { Err::<(), BoxError>("broke".into()) });
        let _worker = bench.worker().retry(retry).build(broken).unwrap().spawn();
        sleep(3600 * SECOND).await;
        let tries = bench.count("not_dead_lettered");
        assert!(
            (30..200).contains(&tries),
            "{mode:?}: {tries} tries in an hour"
        );
        assert_eq!(bench.queue.depth().await.unwrap().dead_lettering, 1);
        bench.sink.mode(Mode::Well);
        assert_eq!(bench.end(id).await, Status::Failed);
        assert_eq!(bench.sink.only().id, id.entry_id());
        assert_eq!(bench.count("dead_lettered"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_keeps_no_job_from_its_work() {
    let bench = Bench::new();
    bench.sink.mode(Mode::Hangs);
    let worker = bench
        .worker()
        .concurrency(2)
        .retry(retry().attempts(1).build().unwrap());
    let worker = worker.build(service_fn(|job: Job| async move {
        if job.payload == "bad" {
            Err(BoxError::from("broke"))
        } else {
            Ok(())
        }
    }));
    let _worker = worker.unwrap().spawn();
    for _ in 0..50 {
        bench.put("bad").await;
    }
    sleep(60 * SECOND).await;
    assert_eq!(bench.queue.depth().await.unwrap().dead_lettering, 50);
    let id = bench.put("good").await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.status(id).await, Status::Succeeded { result: None });
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_breaks_no_job() {
    let bench = Bench::new();
    let id = bench.put("").await;
    let worker = bench
        .worker()
        .observe(observer_fn(|_| panic!("on purpose")));
    let _worker = worker.build(well()).unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
}

#[tokio::test(start_paused = true)]
async fn a_description_that_panics_leaves_the_entry_as_it_is() {
    let bench = Bench::new();
    let id = bench.put("payload").await;
    let worker = bench.worker().describe(|_, entry| {
        entry.event_id = Some("evt_1".into());
        panic!("on purpose")
    });
    let broken = service_fn(|_: Job| async { Err::<(), BoxError>("broke".into()) });
    let _worker = worker.build(broken).unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Failed);
    let entry = bench.sink.only();
    assert_eq!(entry.event_id.as_deref(), Some("evt_1"));
    assert_eq!(entry.body.bytes(), "payload");
}

#[tokio::test(start_paused = true)]
async fn many_that_fail_at_once_are_all_dead_lettered_at_once() {
    let bench = Bench::new();
    for _ in 0..120 {
        bench.put("").await;
    }
    let retry = retry().attempts(1).build().unwrap();
    let broken = service_fn(|_: Job| async { Err::<(), BoxError>("broke".into()) });
    let _worker = bench.worker().retry(retry).build(broken).unwrap().spawn();
    // More than may be written at once: whoever has written one comes for the next.
    sleep(SECOND).await;
    assert_eq!(bench.sink.all().len(), 120);
    assert_eq!(bench.queue.depth().await.unwrap().unfinished(), 0);
}

fn broken()
-> impl tower::Service<Job, Response = (), Error = BoxError, Future: Send> + Clone + Send + 'static
{
    service_fn(|_: Job| async { Err(BoxError::from(Unsendable::new())) })
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_entry_fell_back_is_kept_until_the_sink_has_it() {
    let bench = Bench::new();
    bench.sink.mode(Mode::Fails);
    let fallback = MemoryDeadLetters::default();
    let entries = DeadLetters::new(bench.sink.clone()).fallback(fallback.clone());
    let worker = bench.worker().dead_letters(entries).build(broken());
    let _worker = worker.unwrap().spawn();
    let id = bench.put("").await;
    sleep(600 * SECOND).await;
    // There is one copy to be read, however often it was written.
    assert_eq!(fallback.len(), 1);
    assert!(fallback.get(id.entry_id()).await.unwrap().is_some());
    assert_eq!(bench.queue.depth().await.unwrap().dead_lettering, 1);
    assert_eq!(bench.count("dead_lettered"), 0);
    bench.sink.mode(Mode::Well);
    assert_eq!(bench.end(id).await, Status::Failed);
    assert_eq!(bench.sink.only().id, id.entry_id());
    assert_eq!(bench.count("dead_lettered"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_too_large_is_cut_and_written_at_once() {
    for (most, kept) in [(1000, 1000), (999, 500), (499, 0)] {
        let mut bench = Bench::new();
        bench.sink.most = Some(most);
        let _worker = bench.worker().build(broken()).unwrap().spawn();
        let id = bench.put_in(NewJob::new("event", vec![b'x'; 1000])).await;
        sleep(Duration::from_millis(100)).await;
        assert_eq!(bench.status(id).await, Status::Failed);
        let entry = bench.sink.only();
        assert_eq!(
            (entry.body.bytes().len(), entry.body.length()),
            (kept, 1000)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_rejected_is_tried_ever_more_rarely_and_holds_up_no_other() {
    let mut bench = Bench::new();
    bench.sink.rejects = Some("odd");
    let _worker = bench.worker().build(broken()).unwrap().spawn();
    bench.put("odd").await;
    sleep(6 * 3600 * SECOND).await;
    let tries = bench.count("not_dead_lettered");
    assert!((10..40).contains(&tries), "{tries} tries in six hours");
    let id = bench.put("good").await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.sink.only().id, id.entry_id());
    assert_eq!(bench.queue.depth().await.unwrap().dead_lettering, 1);
}
