//! Re-drives many entries: lists them, sends a few at a time, and counts the results.

use super::{
    Redrive, Redriven, Report, Resend, RunFailed, Shared, asked_by,
    one::{self, or_stopped},
};
use crate::{
    IntoBoxError, StoreError,
    dead_letter::{Cursor, DescribeResponse, EntryId, Filter, Listing, Page},
    outcome::{Classify, MakeClassifier},
};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tower_service::Service;

/// How many entries are listed at a time.
const PAGE: usize = 100;

/// How many refused targets are remembered.
const MOST_TARGETS: usize = 10_000;

/// The wait for a refused target if the refusal has no hint.
const UNSAID: Duration = Duration::from_secs(1);

/// A run: which entries are sent again, who asked for it, and where it starts. For [`Redrive::run`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Run {
    filter: Filter,
    by: String,
    after: Option<Cursor>,
    stop: Stop,
}

impl Run {
    /// Makes a run of all matching entries. `by` names who asked for it.
    pub fn new(filter: Filter, by: &str) -> Self {
        Self {
            filter,
            by: asked_by(by),
            after: None,
            stop: Stop::new(),
        }
    }

    /// Sets where the run starts: at the [`Report::cursor`] of a stopped run with the same filter, or at the
    /// cursor of its last [`Event::Redriven`](crate::observe::Event::Redriven). Default: the newest entry, so
    /// that entries that failed before are sent once more.
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Stops the run when `stop` is stopped. Default: the run cannot be stopped.
    pub fn until(mut self, stop: &Stop) -> Self {
        self.stop = stop.clone();
        self
    }
}

/// Stops runs between two entries: the run waits for entries that are being sent, and sends no more.
///
/// Clones stop the same runs. A run with a stopped handle does nothing.
#[derive(Clone)]
pub struct Stop {
    stopped: Arc<watch::Sender<bool>>,
}

impl Stop {
    /// Makes a handle for one run or several.
    pub fn new() -> Self {
        Self {
            stopped: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Stops the runs, for good.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Whether the handle was stopped.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits until the handle is stopped.
    pub(super) async fn stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        // An error would mean that the sender was dropped, but `self` holds it.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_stopped()).finish()
    }
}

/// A listed entry that is not done.
struct Item {
    id: EntryId,
    target: String,
    /// The result, if the list already determines it, so that the entry need not be claimed.
    known: Option<Redriven>,
    /// The number of its page.
    page: u64,
}

/// The position of a page: the beginning of the list, or a cursor.
#[derive(Clone, Default)]
struct Begin(Option<Cursor>);

/// A page with entries that are not done.
struct Open {
    begins: Begin,
    left: usize,
}

/// Targets that this side refuses to call, each with the end of the refusal.
#[derive(Clone, Default)]
struct Refusing {
    until: Arc<Mutex<HashMap<String, Instant>>>,
}

struct Progress {
    report: Report,
    total: u64,
    /// Pages in order; the first is number `closed`.
    open: VecDeque<Open>,
    closed: u64,
    /// The next page; `None` at the end of the list.
    next: Option<Begin>,
    items: VecDeque<Item>,
    error: Option<StoreError>,
}

pub(super) async fn drive<S, M, R>(this: Redrive<S, M, R>, asked: Run) -> Result<Report, RunFailed>
where
    Redrive<S, M, R>: Clone,
    S: Service<R::Request>,
    S::Error: IntoBoxError,
    M: MakeClassifier<R::Request>,
    M::Classifier: Classify<S::Response, S::Error>,
    R: Resend + DescribeResponse<S::Response>,
{
    let Run {
        filter,
        by,
        after,
        stop,
    } = asked;
    let shared = Arc::clone(&this.shared);
    let store = Arc::clone(&shared.store);
    let mut run = Progress::new(after);
    match store.count(&filter).await {
        Ok(total) => run.total = total,
        Err(error) => run.error = Some(error),
    }
    let refusing = Refusing::default();
    let mut sending = Several::new();
    let mut listing = None;
    loop {
        run.report.stopped = run.report.stopped || stop.is_stopped();
        let going = !run.report.stopped && run.error.is_none();
        while going && sending.len() < shared.settings.concurrency {
            let Some(mut item) = run.items.pop_front() else {
                break;
            };
            match item.known.take() {
                Some(known) => run.done(&shared, &by, &item, &known),
                None => sending.push(send_patiently(
                    this.clone(),
                    item,
                    refusing.clone(),
                    stop.clone(),
                )),
            }
        }
        if going
            && run.items.is_empty()
            && listing.is_none()
            && let Some(begins) = run.next.take()
        {
            let mut page = Page::first(PAGE);
            if let Some(cursor) = &begins.0 {
                page = page.after(cursor.clone());
            }
            listing = Some((store.list(&filter, &page), begins));
        }
        if sending.len() == 0 && listing.is_none() {
            break;
        }
        let step = poll_fn(|cx| {
            if let Some((list, _)) = &mut listing
                && let Poll::Ready(listed) = list.as_mut().poll(cx)
            {
                return Poll::Ready(Step::Listed(listed));
            }
            sending
                .poll_next(cx)
                .map(|(item, end)| Step::Sent(item, end))
        });
        match step.await {
            Step::Listed(listed) => {
                let begins = listing.take().map(|(_, begins)| begins);
                let begins = begins.unwrap_or_default();
                match listed {
                    Ok(listed) => run.listed(listed, begins, shared.settings.max_replays),
                    Err(error) => {
                        run.next = Some(begins);
                        run.error = run.error.or(Some(error));
                    }
                }
            }
            Step::Sent(item, Ok(redriven)) => {
                run.done(&shared, &by, &item, &redriven);
            }
            Step::Sent(item, Err(error)) => {
                // Its page stays open, so that another run handles it.
                drop(item);
                run.error = run.error.or(Some(error));
            }
        }
    }
    run.report.cursor = run.cursor().cloned();
    match run.error {
        None => Ok(run.report),
        Some(source) => Err(RunFailed {
            report: run.report,
            source,
        }),
    }
}

enum Step {
    Listed(Result<Listing, StoreError>),
    Sent(Item, Result<Redriven, StoreError>),
}

impl Progress {
    fn new(after: Option<Cursor>) -> Self {
        Self {
            report: Report::default(),
            total: 0,
            open: VecDeque::new(),
            closed: 0,
            next: Some(Begin(after)),
            items: VecDeque::new(),
            error: None,
        }
    }

    fn listed(&mut self, listed: Listing, begins: Begin, max_replays: u32) {
        let page = self.closed + self.open.len() as u64;
        let left = listed.entries.len();
        let matched = (left as u64).saturating_add(listed.unreadable);
        self.report.matched = self.report.matched.saturating_add(matched);
        self.report.unreadable = self.report.unreadable.saturating_add(listed.unreadable);
        self.open.push_back(Open { begins, left });
        self.next = listed.next.map(|next| Begin(Some(next)));
        self.items.extend(listed.entries.into_iter().map(|entry| {
            let replays = entry.replays;
            let known = (replays >= max_replays && !entry.in_progress)
                .then_some(Redriven::Spent { replays });
            Item {
                id: entry.id,
                target: entry.target,
                known,
                page,
            }
        }));
        self.close();
    }

    fn done(&mut self, shared: &Shared, by: &str, item: &Item, redriven: &Redriven) {
        if *redriven == Redriven::Stopped {
            return;
        }
        self.report.add(redriven);
        let at = usize::try_from(item.page - self.closed).unwrap_or(usize::MAX);
        if let Some(open) = self.open.get_mut(at) {
            open.left -= 1;
        }
        self.close();
        let far = [self.report.done(), self.total];
        shared.tell(by, item.id, redriven, far, self.cursor());
    }

    /// Closes pages whose entries are all done.
    fn close(&mut self) {
        while self.open.len() > 1 && self.open.front().is_some_and(|open| open.left == 0) {
            self.open.pop_front();
            self.closed += 1;
        }
    }

    /// The cursor at which another run can continue.
    fn cursor(&self) -> Option<&Cursor> {
        let open = self.open.front().filter(|open| open.left > 0);
        let begins = open.map(|open| &open.begins).or(self.next.as_ref());
        begins.and_then(|begins| begins.0.as_ref())
    }
}

/// Sends an entry. If this side refuses to call its target, waits for the target once.
async fn send_patiently<S, M, R>(
    this: Redrive<S, M, R>,
    item: Item,
    refusing: Refusing,
    stop: Stop,
) -> (Item, Result<Redriven, StoreError>)
where
    Redrive<S, M, R>: Clone,
    S: Service<R::Request>,
    S::Error: IntoBoxError,
    M: MakeClassifier<R::Request>,
    M::Classifier: Classify<S::Response, S::Error>,
    R: Resend + DescribeResponse<S::Response>,
{
    let mut wait_left = this.shared.settings.max_refusal_wait;
    if let Some(until) = refusing.of(&item.target) {
        // This run has already waited for the target.
        wait_left = Duration::ZERO;
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            let retry_after = Some(left);
            return (item, Ok(Redriven::Refused { retry_after }));
        }
    }
    let give_up = Instant::now() + wait_left;
    loop {
        let result = one::send(this.clone(), item.id, stop.clone()).await;
        let Ok(Redriven::Refused { retry_after }) = result else {
            return (item, result);
        };
        let wait = retry_after.unwrap_or(UNSAID).max(Duration::from_millis(50));
        let now = Instant::now();
        if now.checked_add(wait).is_none_or(|until| until > give_up) {
            refusing.add(&item.target, now, wait);
            return (item, result);
        }
        if or_stopped(sleep(wait), &stop).await.is_none() {
            return (item, Ok(Redriven::Stopped));
        }
    }
}

impl Refusing {
    fn of(&self, target: &str) -> Option<Instant> {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(target).copied()
    }

    fn add(&self, target: &str, now: Instant, wait: Duration) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= MOST_TARGETS {
            until.clear();
        }
        // Longer hints are cut to an hour.
        let end = now + wait.min(Duration::from_secs(3600));
        until.insert(target.to_owned(), end);
    }
}

/// Polls all of its futures whenever it is woken, which is cheap for the few of a run.
struct Several<F> {
    futures: Vec<Pin<Box<F>>>,
}

impl<F: Future> Several<F> {
    const fn new() -> Self {
        Self {
            futures: Vec::new(),
        }
    }

    fn push(&mut self, future: F) {
        self.futures.push(Box::pin(future));
    }

    fn len(&self) -> usize {
        self.futures.len()
    }

    /// The output of the next future that is ready. Pending if there are no futures.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        for at in 0..self.futures.len() {
            if let Poll::Ready(done) = self.futures[at].as_mut().poll(cx) {
                drop(self.futures.swap_remove(at));
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    }
}

/// Spaces start times evenly. Unused time is not saved: after a pause there is no burst.
#[derive(Debug)]
pub(super) struct Pace {
    spacing: Duration,
    /// The earliest start time of the next entry.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) const fn new(spacing: Duration) -> Self {
        Self {
            spacing,
            next: Mutex::new(None),
        }
    }

    /// Takes the next start time: `now`, or later.
    pub(super) fn take(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = next.map_or(now, |next| next.max(now));
        *next = begin.checked_add(self.spacing);
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starts_are_evenly_spaced_and_nothing_is_saved_up() {
        let spacing = Duration::from_millis(100);
        let (pace, now) = (Pace::new(spacing), Instant::now());
        assert_eq!([pace.take(now), pace.take(now)], [now, now + spacing]);
        let later = now + Duration::from_secs(60);
        assert_eq!(
            [pace.take(later), pace.take(later)],
            [later, later + spacing]
        );
    }
}
