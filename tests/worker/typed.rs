//! Jobs with types of their own.

use crate::support::{Bench, LEASE, SECOND};
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};
use tokio::time::sleep;
use tower::{ServiceBuilder, service_fn};
use tower_webhook::{
    BoxError, StoreErrorKind,
    body::BufferedBody,
    clock::WallClock,
    dead_letter::{DeadLetters, LetterStore, MemoryDeadLetters, Reason},
    outcome::Unsendable,
    queue::{
        Ask, Engine, HttpJob, Job, JobContext, JobError, JobKind, NewJob, Status, Worker,
        WorkerBuilder,
    },
    transport,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SendInvoice {
    id: u64,
    customer: Customer,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Customer {
    name: String,
}

impl JobKind for SendInvoice {
    const KIND: &'static str = "send-invoice";
}

#[derive(Serialize, Deserialize)]
struct Delivery {
    url: String,
}

impl JobKind for Delivery {
    const KIND: &'static str = "delivery";
}

impl HttpJob for Delivery {
    fn request(&self) -> Result<Request<BufferedBody>, BoxError> {
        Ok(Request::post(&self.url).body(BufferedBody::from("{}"))?)
    }
}

fn invoice(id: u64) -> SendInvoice {
    let name = "J\u{f6}rg".to_owned();
    SendInvoice {
        id,
        customer: Customer { name },
    }
}

async fn succeed(_: SendInvoice, _: JobContext) -> Result<(), JobError> {
    Ok(())
}

fn worker(bench: &Bench) -> WorkerBuilder {
    bench.set_up(Worker::builder(bench.queue.clone()))
}

#[tokio::test(start_paused = true)]
async fn each_kind_reaches_its_handler_and_an_unknown_one_waits() {
    let bench = Bench::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (invoices, urls) = (Arc::clone(&seen), Arc::clone(&seen));
    let first = bench.queue.push(invoice(7)).await.unwrap().id;
    let url = "https://peer.test/hooks".to_owned();
    let second = bench.queue.push(Delivery { url }).await.unwrap().id;
    let unknown = bench.put_in(NewJob::new("fax", "{}")).await;
    let worker = worker(&bench)
        .handle(move |job: SendInvoice, context: JobContext| {
            assert_eq!(job, invoice(7));
            let seen = Arc::clone(&invoices);
            async move {
                let line = format!("{} {} {}", context.kind, context.attempt, job.id);
                seen.lock().unwrap().push(line);
                Ok(())
            }
        })
        .handle_http::<Delivery>(service_fn(move |req: Request<BufferedBody>| {
            urls.lock().unwrap().push(req.uri().to_string());
            async { Ok::<_, BoxError>(Response::new(BufferedBody::default())) }
        }))
        .concurrency(16)
        .build();
    let _worker = worker.unwrap().spawn();
    for id in [first, second] {
        assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
    }
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, ["https://peer.test/hooks", "send-invoice 1 7"]);
    sleep(3600 * SECOND).await;
    assert_eq!(bench.status(unknown).await, Status::Queued);
    assert_eq!(bench.attempts(unknown).await, 0);
}

#[tokio::test]
async fn a_key_that_is_too_long_is_refused_by_name_and_adds_no_job() {
    let bench = Bench::new();
    let long = "k".repeat(256);
    let refused = bench.queue.push(invoice(1)).key(&long).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Rejected);
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert!(why.contains("255"), "{why}");
    assert_eq!(bench.queue.depth().await.unwrap().unfinished(), 0);
    let longest = bench.queue.push(invoice(1)).key(&long[1..]).await;
    assert!(longest.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_ends_a_job_at_once_and_any_other_is_tried_again() {
    let bench = Bench::new();
    let gone = bench.queue.push(invoice(1)).await.unwrap().id;
    let worker = worker(&bench).handle(|job: SendInvoice, context: JobContext| async move {
        match (job.id, context.attempt) {
            (1, _) => Err(JobError::permanent("invoice 1 was withdrawn")),
            (_, 1) => Err("not yet".parse::<u8>().unwrap_err().into()),
            _ => Ok(()),
        }
    });
    let _worker = worker.build().unwrap().spawn();
    assert_eq!(bench.end(gone).await, Status::Failed);
    let entry = bench.sink.only();
    assert_eq!(entry.cause.reason, Reason::Rejected);
    let message = entry.cause.message.as_deref();
    assert_eq!(message, Some("invoice 1 was withdrawn"));
    assert_eq!(entry.history.attempts(), 1);

    let later = bench.queue.push(invoice(2)).await.unwrap().id;
    assert_eq!(bench.end(later).await, Status::Succeeded { result: None });
    assert_eq!(bench.attempts(later).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_payload_of_another_type_is_dead_lettered_with_the_field_that_failed() {
    for (payload, says) in [
        (r#"{"id":7,"customer":{"name":3}}"#, "customer.name"),
        (r#"{"id":7,"customer":{}}"#, "customer"),
        (r#"{"id":-7,"customer":{"name":"x"}}"#, "id"),
        (r#"{"id":7,"customer":{"name":"x"}} and more"#, "trailing"),
        ("", "EOF"),
    ] {
        let bench = Bench::new();
        let id = bench.put_in(NewJob::new("send-invoice", payload)).await;
        let _worker = worker(&bench).handle(succeed).build().unwrap().spawn();
        assert_eq!(bench.end(id).await, Status::Failed, "{payload}");
        let entry = bench.sink.only();
        assert_eq!(entry.cause.reason, Reason::Unsendable);
        let message = entry.cause.message.clone().unwrap();
        assert!(message.contains(says), "{message}");
        assert_eq!(entry.body.bytes(), payload, "the payload is kept");
    }
    // A newer version has more fields: it is read.
    let bench = Bench::new();
    let newer = r#"{"id":7,"customer":{"name":"x","vat":1},"currency":"EUR"}"#;
    let id = bench.put_in(NewJob::new("send-invoice", newer)).await;
    let _worker = worker(&bench).handle(succeed).build().unwrap().spawn();
    assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_has_its_key_its_time_and_its_place() {
    let bench = Bench::new();
    let push = |id: u64| bench.queue.push(invoice(id));
    let first = push(7).key("invoice-7").await.unwrap();
    let again = push(8).key("invoice-7").await.unwrap();
    assert_eq!((again.id, again.repeated), (first.id, true));
    // The same id for another kind is another key.
    let url = "https://peer.test/".to_owned();
    let other = bench.queue.push(Delivery { url }).key("invoice-7").await;
    assert!(!other.unwrap().repeated);
    let refused = push(7).key(" ").await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Rejected);

    let claim = async || {
        let asked = Ask::new(9, LEASE).kinds(["send-invoice"]);
        bench.engine.inner.claim(asked).await.unwrap().jobs
    };
    let jobs = claim().await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].dedup_key.as_ref().unwrap().scope(), "send-invoice");

    let ids = [
        push(1).run_at(UNIX_EPOCH).target("a").await.unwrap().id,
        push(2).delay(60 * SECOND).await.unwrap().id,
        push(3)
            .delay(100 * SECOND)
            .fifo_group("g")
            .await
            .unwrap()
            .id,
    ];
    let due = claim().await;
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].id, &*due[0].target), (ids[0], "a"));
    sleep(61 * SECOND).await;
    let due = claim().await;
    assert!(due.iter().any(|job| job.id == ids[1]) && due.iter().all(|job| job.id != ids[2]));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_job_is_by_the_clock_of_its_queue() {
    let new_year = UNIX_EPOCH + Duration::from_secs(946_684_800);
    let bench = Bench::with_clock(WallClock::fixed(new_year));
    let at = new_year + 60 * SECOND;
    let (typed, bytes) = (invoice(1), NewJob::new("send-invoice", "{}"));
    let typed = bench.queue.push(typed).run_at(at).await.unwrap().id;
    let bytes = bench.put_in(bytes.run_at(at)).await;
    let claim = async || {
        let asked = bench.engine.inner.claim(Ask::new(9, LEASE)).await;
        let jobs = asked.unwrap().jobs.into_iter();
        jobs.map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(claim().await, []);
    sleep(59 * SECOND).await;
    assert_eq!(claim().await, []);
    sleep(2 * SECOND).await;
    assert_eq!(claim().await, [typed, bytes]);
}

#[tokio::test]
async fn a_job_for_a_time_too_far_away_is_refused_by_the_name_of_the_setting() {
    let bench = Bench::new();
    let year_9999 = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    for (refused, setting) in [
        (bench.queue.push(invoice(1)).run_at(year_9999), "`run_at`"),
        (bench.queue.push(invoice(1)).delay(Duration::MAX), "`delay`"),
    ] {
        let refused = refused.await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Rejected);
        let why = std::error::Error::source(&refused).unwrap().to_string();
        let longest = bench.queue.engine().promises().longest_delay.as_secs();
        assert!(
            why.contains(setting) && why.contains(&longest.to_string()),
            "{why}"
        );
    }
    // In a batch, the other jobs go in.
    let far = NewJob::new("mail", "").run_at(year_9999);
    let batch = vec![far, NewJob::new("mail", "")];
    let batch = bench.queue.enqueue_all(batch).await.unwrap();
    assert!(batch[0].is_err() && batch[1].is_ok());
    assert_eq!(bench.queue.depth().await.unwrap().unfinished(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_has_its_kind_beside_typed_handlers() {
    let bench = Bench::new();
    let payload = r#"{"id":7,"customer":{"name":3}}"#;
    let typed = bench.queue.push(invoice(7)).await.unwrap().id;
    let bytes = bench.put_in(NewJob::new("thumbnail", "PNG")).await;
    let again = bench.put_in(NewJob::new("thumbnail", "again")).await;
    let odd = bench.put_in(NewJob::new("invoice-copy", payload)).await;
    let thumbnails = service_fn(|job: Job| async move {
        match (&job.payload[..], job.attempt) {
            (b"again", 1) => Err(BoxError::from("not yet")),
            _ => Ok("made"),
        }
    });
    let copies = service_fn(|job: Job| async move {
        job.typed::<SendInvoice>()?;
        Ok::<_, BoxError>(())
    });
    let worker = worker(&bench)
        .handle(succeed)
        .handle_service("thumbnail", ServiceBuilder::new().service(thumbnails))
        .handle_service(String::from("invoice-copy"), copies)
        .build();
    let _worker = worker.unwrap().spawn();
    for (id, attempts) in [(typed, 1), (bytes, 1), (again, 2)] {
        assert_eq!(bench.end(id).await, Status::Succeeded { result: None });
        assert_eq!(bench.attempts(id).await, attempts);
    }
    assert_eq!(bench.end(odd).await, Status::Failed);
    let cause = bench.sink.only().cause.clone();
    assert_eq!(cause.reason, Reason::Unsendable);
    let message = cause.message.unwrap();
    assert!(message.contains("customer.name"), "{message}");
}

#[tokio::test]
async fn a_kind_has_one_handler() {
    let bench = Bench::new();
    let twice = worker(&bench).handle(succeed).handle(succeed).build();
    assert_eq!(twice.unwrap_err().setting(), "handle");
    let builder = worker(&bench).handle(succeed).handle_service(
        "send-invoice",
        service_fn(async |_: Job| Ok::<_, BoxError>(())),
    );
    assert_eq!(builder.build().unwrap_err().setting(), "handle");
}

#[tokio::test]
async fn kinds_beside_handlers_are_refused() {
    let bench = Bench::new();
    let before = worker(&bench).kinds(["mail"]).handle(succeed);
    let after = worker(&bench).handle(succeed).kinds(["mail"]);
    for builder in [before, after] {
        let refused = builder.build().unwrap_err();
        assert_eq!(refused.setting(), "kinds");
        assert!(refused.to_string().contains("handlers"), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_payload_names_the_field_and_not_its_value() {
    let bench = Bench::new();
    let letters = MemoryDeadLetters::default();
    let worker = worker(&bench)
        .entry_body(0)
        .dead_letters(DeadLetters::new(letters.clone()))
        .handle(succeed)
        .build();
    let _worker = worker.unwrap().spawn();
    let payload = r#"{"id":"sk-live-SECRET","customer":{"name":"x"}}"#;
    let id = bench.put_in(NewJob::new("send-invoice", payload)).await;
    assert_eq!(bench.end(id).await, Status::Failed);
    let entry = letters.get(id.entry_id()).await.unwrap().unwrap();
    let message = entry.cause.message.unwrap();
    assert!(message.contains("id: invalid, expected u64"), "{message}");
    assert!(!message.contains("SECRET"), "{message}");
}

/// A peer that once answers with the page of its proxy is no reason to give the job up, nor is a part of the work that
/// could not be sent.
#[tokio::test(start_paused = true)]
async fn an_error_that_the_handler_does_not_call_permanent_is_tried_again() {
    for is_read in [true, false] {
        let bench = Bench::new();
        let worker = worker(&bench)
            .handle(move |_: SendInvoice, context: JobContext| async move {
                if context.attempt > 1 {
                    return Ok(());
                }
                if is_read {
                    let page = Response::new(BufferedBody::from("<html>502 Bad Gateway</html>"));
                    transport::read_json::<SendInvoice, _>(page).await?;
                }
                Err(Unsendable::because("a part of the work").into())
            })
            .build();
        let _worker = worker.unwrap().spawn();
        let id = bench.queue.push(invoice(7)).await.unwrap().id;
        let end = bench.end(id).await;
        assert_eq!(end, Status::Succeeded { result: None }, "{is_read}");
    }
}
