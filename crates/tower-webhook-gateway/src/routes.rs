//! Routing, with `--routes`: the job of an event makes a job for each definition that matches it, with the target of the
//! definition as its own, so that each is retried, dead-lettered and sent again for itself.
//!
//! The jobs are in the queue before the one of the event ends, and are known by the event's key and the definition's
//! name: whatever is killed in between, none is lost and none is there twice.

use crate::{
    args::{Args, Problem, target_rules},
    deliver::{self, Client, Stack},
    events,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_webhook::{
    BoxError, BoxFuture, StoreError,
    body::BufferedBody,
    cognigy::{CognigyEvent, WebhookDelivery},
    dead_letter::Entry,
    deadline::Deadline,
    idempotency::{IdempotencyKey, KeyError},
    loop_guard::Hops,
    observe::{Event, Id, Observers},
    outcome::{Outcome, TransportError, Unsendable},
    queue::{Job, NewJob, Queue, Status, Task, TaskId},
};
use tower_webhook_cognigy::routing::{Definition, Input, RouteError, Routes};
use tower_webhook_operator::EventDelivery;

/// The kind of the jobs that definitions have.
pub const KIND: &str = "route";

/// The target of the jobs of events where there is no downstream. No host has this name.
pub const TARGET: &str = "no downstream";

/// Jobs that are added in one step.
const BATCH: usize = 64;

/// Loads the definitions of `--routes`, and loads them again at each SIGHUP: a bad one then keeps those from before.
pub fn load(args: &Args) -> Result<Option<Routes>, Problem> {
    let Some(directory) = &args.routes else {
        return Ok(None);
    };
    let problem = |error: BoxError| Problem::new("--routes", error);
    let credentials = &args.credentials.all;
    let routes = Routes::builder()
        .targets(target_rules(args.allow_private))
        .credentials(credentials.clone())
        .http(credentials.layer(Client::new(args.allow_private)))
        .load(directory)
        .map_err(|error| problem(error.into()))?;
    if args.downstream.is_none() && routes.definitions().is_empty() {
        tracing::warn!(
            "there is no definition in the directory of --routes, and no --downstream: events go nowhere"
        );
    }
    #[cfg(unix)]
    reload_on_hangup(routes.clone()).map_err(|error| problem(error.into()))?;
    Ok(Some(routes))
}

#[cfg(unix)]
fn reload_on_hangup(routes: Routes) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let again = routes.clone();
            // It reads files.
            match tokio::task::spawn_blocking(move || again.reload()).await {
                Ok(Ok(definitions)) => tracing::info!(definitions, "the routes are loaded again"),
                Ok(Err(error)) => {
                    tracing::error!(%error, "the routes are not loaded again: those from before stay");
                }
                // Only if the runtime ends.
                Err(_) => {}
            }
        }
    });
    Ok(())
}

/// What a job does, in the extensions of its request.
#[derive(Clone)]
pub(crate) struct Errand {
    event: IdempotencyKey,
    /// The task that routes an event once more for an operator: its deliveries are no repeats of the first.
    again: Option<TaskId>,
    /// The definition that is delivered; without it, the event is routed.
    definition: Option<Arc<str>>,
    /// Whether the event was accepted for a downstream, beside its definitions.
    for_downstream: bool,
}

impl Errand {
    pub fn of_job(job: &Job) -> Option<Self> {
        let about = &job.about;
        let event = match job.kind.as_str() {
            KIND => about.event_id.as_deref(),
            _ => about.idempotency_key.as_deref(),
        };
        Self::new(
            &job.kind,
            &job.target,
            event?,
            job.dedup_key.clone(),
            job.id,
        )
    }

    pub fn of_entry(entry: &Entry) -> Option<Self> {
        let event = match entry.kind.as_str() {
            KIND => entry.event_id.as_deref(),
            _ => entry.idempotency_key.as_deref(),
        };
        let key = entry.dedup_key.as_deref();
        let key = key.and_then(|key| IdempotencyKey::from_text(key).ok());
        let task = TaskId::from_bytes(*entry.task_id.unwrap_or(entry.id).as_bytes());
        Self::new(&entry.kind, &entry.target, event?, key, task)
    }

    fn new(
        kind: &str,
        target: &str,
        event: &str,
        key: Option<IdempotencyKey>,
        task: TaskId,
    ) -> Option<Self> {
        let event = events::named(event)?;
        if kind != KIND {
            let again = key.is_none().then_some(task);
            return Some(Self {
                event,
                again,
                definition: None,
                for_downstream: target != TARGET,
            });
        }
        let key = key?;
        let (_, rest) = key.scope().split_once(':')?;
        let (_, definition) = rest.split_once(':')?;
        Some(Self {
            event,
            again: None,
            definition: Some(definition.into()),
            for_downstream: false,
        })
    }

    /// The definition that is delivered, if it is still there.
    pub fn definition(&self, routes: &Routes) -> Option<Arc<Definition>> {
        routes.get(self.definition.as_deref()?)
    }

    /// The job that delivers the event to a definition. It has been where the event has been.
    fn job(
        &self,
        raw: Bytes,
        hops: Option<&Hops>,
        definition: &Definition,
        target: String,
    ) -> Result<NewJob, BoxError> {
        let (scope, name) = (self.event.scope(), definition.name());
        let key = match self.again {
            None => key(&self.event, name),
            Some(task) => {
                IdempotencyKey::new(&format!("{KIND}-again:{scope}:{name}"), &task.to_string())
            }
        };
        let event = events::name(&self.event);
        let mut job = NewJob::new(KIND, raw).dedup_key(key?);
        job.about.idempotency_key = Some(format!("{event}/{name}"));
        job.about.event_id = Some(event);
        job.about.hops = hops.map(Hops::to_string);
        Ok(job.target(target))
    }
}

/// The event of this key, read as the route reads it that accepted it.
fn input(event: &IdempotencyKey, raw: Bytes) -> Result<Input, BoxError> {
    let input = match event.scope() {
        "trigger" => Input::trigger(raw)?,
        scope if scope.starts_with("cognigy/endpoint") => {
            Input::try_from(&WebhookDelivery::from_bytes(raw)?)?
        }
        _ => Input::try_from(&CognigyEvent::from_bytes(raw)?)?,
    };
    Ok(input.with_id(events::name(event)))
}

/// The key of the first delivery of an event to a definition.
fn key(event: &IdempotencyKey, definition: &str) -> Result<IdempotencyKey, KeyError> {
    IdempotencyKey::new(
        &format!("{KIND}:{}:{definition}", event.scope()),
        event.id(),
    )
}

/// The deliveries that were made of an event: a part of the result of its task, and an extension of the response that it
/// had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Routed {
    /// Whether there was no downstream: the answer to the event is then that of its deliveries.
    pub alone: bool,
    /// The name of each definition, and the task.
    deliveries: Arc<[(String, TaskId)]>,
}

impl Routed {
    /// The result of the task of an event: these as a line of JSON, which is an array, and then the downstream's answer, which is
    /// an object.
    pub fn with(&self, answer: Option<Bytes>) -> Option<Bytes> {
        let deliveries = self.deliveries.iter();
        let deliveries: Vec<_> = deliveries
            .map(|(name, task)| (name, task.to_string()))
            .collect();
        let mut result = serde_json::to_vec(&(self.alone, deliveries)).ok()?;
        if let Some(answer) = answer {
            result.push(b'\n');
            result.extend_from_slice(&answer);
        }
        Some(result.into())
    }

    /// Reads what [`with`](Self::with) wrote; of another result there is nothing but the answer.
    fn of(result: &Bytes) -> Option<(Self, Option<Bytes>)> {
        let end = result.iter().position(|byte| *byte == b'\n');
        let (line, answer) = match end {
            Some(end) => (&result[..end], Some(result.slice(end + 1..))),
            None => (&result[..], None),
        };
        let (alone, deliveries): (bool, Vec<(String, String)>) =
            serde_json::from_slice(line).ok()?;
        let deliveries = deliveries.into_iter();
        let deliveries = deliveries.map(|(name, task)| Some((name, task.parse().ok()?)));
        let deliveries = deliveries.collect::<Option<_>>()?;
        Some((Self { alone, deliveries }, answer))
    }

    /// The deliveries that an event's task has recorded.
    pub fn of_task(task: &Task) -> Option<Self> {
        match &task.status {
            Status::Succeeded {
                result: Some(result),
            } => Some(Self::of(result)?.0),
            _ => None,
        }
    }

    /// The tasks that are known still, by the definitions' names.
    pub async fn deliveries(&self, queue: &Queue) -> Result<Vec<EventDelivery>, StoreError> {
        let mut found = Vec::with_capacity(self.deliveries.len());
        for (name, id) in &*self.deliveries {
            let task = queue.task(*id).await?;
            found.extend(task.map(|task| EventDelivery::new(task).named(name)));
        }
        Ok(found)
    }
}

/// The status of a task for its sender. Where there was no downstream, that of an event is the status of its deliveries: it is
/// pending while one of them is, failed if one failed, and has the first answer.
pub(crate) async fn answered(queue: &Queue, status: Status) -> Result<Status, StoreError> {
    let Status::Succeeded {
        result: Some(result),
    } = &status
    else {
        return Ok(status);
    };
    let Some((routed, mut answer)) = Routed::of(result) else {
        return Ok(status);
    };
    let mut failed = None;
    if routed.alone {
        for delivery in routed.deliveries(queue).await? {
            match delivery.task.status {
                Status::Queued | Status::Running => return Ok(Status::Running),
                Status::Succeeded { result } => answer = answer.or(result),
                ended => failed = Some(ended),
            }
        }
    }
    Ok(failed.unwrap_or(Status::Succeeded { result: answer }))
}

/// The deliveries of an event whose task has not recorded them, to the definitions that it meets now, by the definitions' names.
/// One that has been removed or changed since is not among them.
pub(crate) async fn deliveries(
    routes: &Routes,
    queue: &Queue,
    event: &IdempotencyKey,
    raw: Bytes,
) -> Result<Vec<EventDelivery>, StoreError> {
    // What cannot be read is not routed.
    let Ok(input) = input(event, raw) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for definition in routes.matching(&input) {
        let name = definition.name();
        let Ok(key) = key(event, name) else { continue };
        if let Some(task) = queue.find(key).await? {
            found.push(EventDelivery::new(task).named(name));
        }
    }
    Ok(found)
}

/// The stack of one attempt, with routing before it: of an event, to the jobs of its definitions; of such a job, to the
/// request of its definition.
#[derive(Clone)]
pub(crate) struct Routing {
    /// The one that is polled. To the downstream, with its places for requests; where all jobs are those of definitions, to
    /// their targets, so that none of them waits for such a place.
    pub stack: Stack,
    /// To the targets of definitions.
    pub routed: Stack,
    pub routes: Option<Routes>,
    /// The target of deliveries to the downstream, if there is one.
    pub downstream: Option<Arc<str>>,
    pub queue: Queue,
    pub observers: Observers,
}

impl Routing {
    /// The target of deliveries to a definition: its host. Where that is the downstream's too, another name, so that the two
    /// have a share of places each.
    fn target(&self, definition: &Definition) -> String {
        let mut target = deliver::target(definition.target_url());
        if self.downstream.as_deref() == Some(&target) {
            target.push_str(" (routes)");
        }
        target
    }

    /// Puts the jobs of all definitions that match into the queue, and returns what they are.
    async fn route(
        &self,
        routes: &Routes,
        errand: &Errand,
        req: &Request<BufferedBody>,
    ) -> Result<Routed, BoxError> {
        let (raw, hops) = (req.body().as_bytes(), req.extensions().get());
        let input = input(&errand.event, raw.clone()).map_err(Unsendable::because)?;
        let matching = routes.matching(&input);
        let mut deliveries = Vec::with_capacity(matching.len());
        if matching.is_empty() && self.downstream.is_none() {
            let event = events::name(&errand.event);
            self.observers.tell(|| Event::Trouble {
                part: "routes",
                what: "an event meets no definition, and there is no downstream: it goes nowhere",
                detail: Some(Id::new(&event)),
            });
        }
        for definitions in matching.chunks(BATCH) {
            let jobs = definitions.iter().map(|definition| {
                let target = self.target(definition);
                errand.job(raw.clone(), hops, definition, target)
            });
            let jobs: Vec<_> = jobs
                .collect::<Result<_, _>>()
                .map_err(Unsendable::because)?;
            // Not an attempt: nothing was sent, and there may be room later.
            let held_back = |error| TransportError::new(Outcome::refused(None), error);
            let queued = self.queue.enqueue_all(jobs).await.map_err(held_back)?;
            for (definition, queued) in definitions.iter().zip(queued) {
                let task = queued.map_err(held_back)?.id;
                deliveries.push((definition.name().to_owned(), task));
            }
        }
        Ok(Routed {
            alone: self.downstream.is_none(),
            deliveries: deliveries.into(),
        })
    }

    /// The request of a definition.
    async fn render(
        &self,
        errand: &Errand,
        name: &str,
        asked: &Request<BufferedBody>,
    ) -> Result<(Arc<Definition>, Request<BufferedBody>), BoxError> {
        let definition = self
            .routes
            .as_ref()
            .and_then(|routes| Some((routes, routes.get(name)?)));
        let Some((routes, definition)) = definition else {
            let why = format!("there is no definition `{name}` any more");
            return Err(Unsendable::because(why).into());
        };
        let raw = asked.body().as_bytes().clone();
        let input = input(&errand.event, raw).map_err(Unsendable::because)?;
        let mut req = routes
            .render(&definition, &input)
            .await
            .map_err(before_sending)?;
        if let Some(hops) = asked.extensions().get::<Hops>() {
            req.extensions_mut().insert(hops.clone());
        }
        Ok((definition, req))
    }
}

/// A lookup that may succeed later: nothing has reached the target, so that it is tried again in any case.
fn before_sending(error: RouteError) -> BoxError {
    let outcome = Outcome::of_error(&error);
    if !outcome.may_retry() {
        return error.into();
    }
    let unreached = Outcome::unreached().with_retry_after(outcome.retry_after());
    TransportError::new(unreached, error).into()
}

impl Service<Request<BufferedBody>> for Routing {
    type Response = Response<Either<Incoming, BufferedBody>>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.stack.poll_ready(cx)
    }

    fn call(&mut self, req: Request<BufferedBody>) -> Self::Future {
        let errand = req.extensions().get::<Errand>();
        // Without definitions an event has one way to go.
        let errand = errand.filter(|of| of.definition.is_some() || self.routes.is_some());
        let Some(errand) = errand.cloned() else {
            let sending = self.stack.call(req);
            return Box::pin(async { Ok(sending.await?.map(Either::Left)) });
        };
        let clone = self.stack.clone();
        // It keeps the place that it got in `poll_ready`.
        let mut stack = mem::replace(&mut self.stack, clone);
        let this = self.clone();
        Box::pin(async move {
            if let Some(name) = &errand.definition {
                let (definition, req) = this.render(&errand, name, &req).await?;
                let mut routed = this.routed.clone();
                let routed = routed.ready().await?;
                let until = Deadline::at(Instant::now() + definition.timeout());
                let sent = until.scope(|| routed.call(req)).await?;
                drop(stack);
                return Ok(sent.map(Either::Left));
            }
            let mut deliveries = None;
            if let Some(routes) = &this.routes {
                match this.route(routes, &errand, &req).await {
                    // The downstream may take what has no form for templates.
                    Err(error)
                        if this.downstream.is_some() && !Outcome::of_error(&*error).may_retry() =>
                    {
                        this.observers.tell(|| Event::Trouble {
                            part: "routes",
                            what: "an event cannot be routed; it goes to the downstream alone",
                            detail: Some(Id::new(&error)),
                        });
                    }
                    routed => deliveries = Some(routed?),
                }
            }
            let mut res = if this.downstream.is_some() {
                stack.call(req).await?.map(Either::Left)
            } else if errand.for_downstream {
                let why = "it is for the downstream, and there is no `--downstream` any more";
                return Err(Unsendable::because(why).into());
            } else {
                Response::new(Either::Right(BufferedBody::default()))
            };
            if let Some(deliveries) = deliveries {
                res.extensions_mut().insert(deliveries);
            }
            Ok(res)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_of_an_event_is_read_from_its_result_and_the_answer_stays_as_it_is() {
        let deliveries = [("a\n\"b\"".to_owned(), TaskId::from_bytes([7; 16]))];
        let routed = Routed {
            alone: true,
            deliveries: deliveries.into(),
        };
        let answer = Bytes::from("{\"status\":\"success\",\n\"variables\":{\"n\":1.50}}");
        for answer in [None, Some(answer.clone())] {
            let result = routed.with(answer.clone()).expect("it serialises");
            assert_eq!(Routed::of(&result), Some((routed.clone(), answer)));
        }
        assert_eq!(Routed::of(&answer), None, "an answer alone");
        assert_eq!(Routed::of(&Bytes::new()), None);
    }
}
