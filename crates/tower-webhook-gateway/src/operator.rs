//! The operator routes of `tower-webhook-operator`, over the gateway's events and dead letters.

use crate::{
    args::{Args, Problem},
    entries::DeadLetterDesk,
    events::{Event, Events, job},
};
use std::sync::Arc;
use tower_webhook::{
    BoxFuture, StoreError,
    queue::{Enqueued, NewJob, Queue},
};
use tower_webhook_operator::{EventLog, Operator, Trigger};

pub fn open(
    args: &Args,
    entries: &DeadLetterDesk,
    events: &Events,
    queue: &Queue,
    target: &Arc<str>,
) -> Result<Operator, Problem> {
    let mut operator = Operator::builder(args.operator_token.as_str())
        .max_body(args.max_body)
        .events(Accepted {
            events: events.clone(),
            queue: queue.clone(),
            target: Arc::clone(target),
        });
    if let Some(again) = entries.redrive() {
        operator = operator.redrive(again.clone());
    }
    let operator = operator.build();
    operator.map_err(|error| Problem::new("--operator-token", error))
}

struct Accepted {
    events: Events,
    queue: Queue,
    target: Arc<str>,
}

impl EventLog for Accepted {
    fn replay(&self, event_id: &str) -> BoxFuture<Result<Option<Enqueued>, StoreError>> {
        let (events, queue) = (self.events.clone(), self.queue.clone());
        let (id, target) = (event_id.to_owned(), Arc::clone(&self.target));
        Box::pin(async move {
            let Some(event) = events.find(id).await? else {
                return Ok(None);
            };
            queue.enqueue(repetition(&event, &target)).await.map(Some)
        })
    }

    fn trigger(&self, trigger: Trigger) -> BoxFuture<Result<Enqueued, StoreError>> {
        let events = self.events.clone();
        let mut job = job(&trigger.key, trigger.payload, &self.target);
        if trigger.event_id.is_some() {
            job.about.event_id = trigger.event_id;
        }
        Box::pin(async move { events.accept(job).await })
    }

    fn audit(&self, action: &'static str, subject: &str) -> BoxFuture<Result<(), StoreError>> {
        let (events, subject) = (self.events.clone(), subject.to_owned());
        Box::pin(async move { events.audit(action, &subject).await })
    }
}

/// A job like the event's own but without its key, under which it is known.
fn repetition(event: &Event, target: &str) -> NewJob {
    let mut job = job(&event.key, event.body.clone(), target);
    job.dedup_key = None;
    job.about.replay_of = Some(event.key.id().to_owned());
    job.about.replays = 1;
    job
}
