//! The observer that is always present with feature `tracing`: it reports events under the
//! `tracing` target `tower_webhook`, and makes spans around the work they belong to.
//!
//! Levels: `ERROR` for dead-letter entries that could not be written and for handlers without the layer that they
//! need, `WARN` for what an operator should
//! see, `INFO` for failed attempts, audit records and the spans that tie them to their work (`deliver`,
//! `attempt`, `job`), `DEBUG` for the rest and for the other spans. Fields are names from closed sets, ids, peers and errors,
//! never a body or a secret, and of headers only ids of events.
//!
//! What anyone can cause at will is limited: of the refusals and missing layers with the same names (`by` and `reason`, `part`
//! and what happened) ten in ten seconds have that level, of the troubles one. The others are `DEBUG`, and the next that has that
//! level counts them, as `more`.

#[cfg(feature = "tracing")]
mod on {
    use crate::{
        catch_panic::catch_panic,
        observe::{Event, JobEnd, throttle::Throttle},
    };
    use std::{
        mem,
        sync::{
            Mutex, PoisonError,
            atomic::{AtomicU64, Ordering},
        },
        time::Instant,
    };
    use tracing::{Level, Span, debug_span, info_span, level_filters::LevelFilter, span};

    const TARGET: &str = "tower_webhook";

    /// Of the whole process: spans belong to no list of observers.
    static PANICS: AtomicU64 = AtomicU64::new(0);

    /// Of the whole process, as the log is.
    static REPEATED: Mutex<Throttle> = Mutex::new(Throttle::new());

    pub(crate) fn panics() -> u64 {
        PANICS.load(Ordering::Relaxed)
    }

    /// Calls the subscriber. Returns `None` if it panics: it is foreign code, as every observer.
    fn subscriber<T>(call: impl FnOnce() -> T) -> Option<T> {
        let done = catch_panic(call);
        if done.is_none() {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    pub(crate) fn is_heard() -> bool {
        LevelFilter::current() != LevelFilter::OFF
    }

    /// An event at a level that is computed at run time.
    macro_rules! tell {
        ($level:expr, $($fields:tt)*) => {
            match $level {
                Level::ERROR => tracing::error!(target: TARGET, $($fields)*),
                Level::WARN => tracing::warn!(target: TARGET, $($fields)*),
                Level::INFO => tracing::info!(target: TARGET, $($fields)*),
                _ => tracing::debug!(target: TARGET, $($fields)*),
            }
        };
    }

    const fn level(event: &Event<'_>) -> Level {
        match event {
            Event::Lost { .. } | Event::MissingLayer { .. } => Level::ERROR,
            Event::BreakerChanged { .. }
            | Event::ClaimLost { .. }
            | Event::DeadLettered { .. }
            | Event::Refused { .. }
            | Event::Trouble { .. }
            | Event::JobEnded {
                end: JobEnd::Failed { .. },
                ..
            } => Level::WARN,
            Event::AttemptEnded { outcome, .. } if outcome.is_failure() => Level::INFO,
            Event::Discarded { .. }
            | Event::FailedOver { .. }
            | Event::GaveUp { .. }
            | Event::JobCancelled { .. }
            | Event::KeysRotated { .. }
            | Event::Redriven { .. }
            | Event::JobEnded {
                end: JobEnd::Lost | JobEnd::Retrying { .. },
                ..
            } => Level::INFO,
            _ => Level::DEBUG,
        }
    }

    pub(crate) fn on(event: &Event<'_>) {
        // Asked first: without a subscriber no event passes.
        if !is_heard() {
            return;
        }
        let mut level = level(event);
        if level > LevelFilter::current() {
            return;
        }
        let kind = match *event {
            // Each may be of another sender or route: a forger who sends now and then must not hide why an honest sender
            // is refused.
            Event::Refused { by, reason, .. } => Some(([by, reason], 10)),
            Event::MissingLayer { part, what, .. } => Some(([part, what], 10)),
            Event::Trouble { part, what, .. } => Some(([part, what], 1)),
            _ => None,
        };
        let mut more = None;
        if let Some((kind, most)) = kind {
            let mut repeated = REPEATED.lock().unwrap_or_else(PoisonError::into_inner);
            match repeated.ask(kind, most, Instant::now()) {
                Some(0) => {}
                Some(left_out) => more = Some(left_out),
                None => level = Level::DEBUG,
            }
        }
        if level <= LevelFilter::current() {
            let _ = subscriber(|| write(level, event, more));
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm for each event")]
    fn write(level: Level, event: &Event<'_>, more: Option<u64>) {
        match event {
            Event::Accepted {
                task,
                kind,
                peer,
                repeated,
            } => tell!(level, %task, kind, peer, repeated, "accepted"),
            Event::AttemptBegan { peer, retry, after } => {
                tell!(level, peer, retry, after, "attempt began");
            }
            Event::AttemptEnded {
                peer,
                outcome,
                elapsed,
            } => {
                let (kind, code) = (outcome.kind(), outcome.code());
                tell!(level, peer, outcome = %kind, code, ?elapsed, "attempt ended");
            }
            Event::BreakerChanged {
                peer,
                from,
                to,
                reason,
                open_for,
                generation,
            } => {
                tell!(level, peer, %from, %to, reason, ?open_for, generation, "breaker changed");
            }
            Event::Claimed { scope } => tell!(level, scope, "claimed"),
            Event::ClaimLost { what } => tell!(level, what, "claim lost before its work was done"),
            Event::DeadLettered {
                entry,
                peer,
                reason,
                event_id,
                fell_back,
            } => tell!(level, %entry, peer, reason, event_id, fell_back, "dead-lettered"),
            Event::DeadlineExceeded { what, limit } => {
                tell!(level, what, ?limit, "deadline exceeded");
            }
            Event::DeliveryBegan { peer } => tell!(level, peer, "delivery began"),
            Event::DeliveryEnded {
                peer,
                outcome,
                elapsed,
                attempts,
                ..
            } => {
                let (kind, code) = (outcome.kind(), outcome.code());
                tell!(level, peer, outcome = %kind, code, ?elapsed, attempts, "delivery ended");
            }
            Event::Discarded { entry, by } => tell!(level, audit = true, %entry, by, "discarded"),
            Event::FailedOver { from, to, outcome } => {
                tell!(level, from, to, outcome = %outcome.kind(), "failed over");
            }
            Event::FallbackAnswered { outcome } => {
                tell!(level, outcome = %outcome.kind(), "fallback answered");
            }
            Event::GaveUp { reason, history } => {
                tell!(
                    level,
                    reason = reason.as_str(),
                    attempts = history.attempts(),
                    "gave up"
                );
            }
            Event::JobBegan {
                task,
                kind,
                peer,
                attempt,
            } => tell!(level, %task, kind, peer, attempt, "job began"),
            Event::JobCancelled { task, running, .. } => {
                tell!(level, %task, running, "job cancelled");
            }
            Event::JobEnded {
                task,
                kind,
                peer,
                attempt,
                end,
                elapsed,
                event_id,
                ..
            } => {
                let (reason, code) = match end {
                    JobEnd::Failed { reason, code } => (Some(*reason), *code),
                    JobEnd::Retrying { outcome, .. } => (None, outcome.code()),
                    _ => (None, None),
                };
                let end = end.as_str();
                tell!(
                    level, %task, kind, peer, event_id, attempt, end, reason, code, ?elapsed,
                    "job ended"
                );
            }
            Event::KeysRotated { keys } => tell!(level, keys, "keys rotated"),
            Event::Lost {
                entry,
                peer,
                reason,
                kind,
                retry_after,
            } => {
                tell!(level, %entry, peer, reason, %kind, ?retry_after, "dead-letter entry not written");
            }
            Event::MissingLayer { part, path, what } => tell!(level, part, path, more, "{what}"),
            Event::Redriven {
                entry,
                by,
                result,
                done,
                total,
                ..
            } => tell!(level, audit = true, %entry, by, result, done, total, "redriven"),
            Event::Refused { by, reason, detail } => {
                tell!(level, by, reason, %detail, more, "refused");
            }
            Event::Replayed { scope } => tell!(level, scope, "replayed"),
            Event::Retrying {
                attempt,
                outcome,
                wait,
            } => {
                let (kind, code) = (outcome.kind(), outcome.code());
                tell!(level, attempt, outcome = %kind, code, ?wait, "retrying");
            }
            Event::Trouble { part, what, detail } => {
                let detail = detail.as_ref().map(tracing::field::display);
                tell!(level, part, detail, more, "{what}");
            }
            Event::Verified { scheme, label } => tell!(level, scheme, label, "verified"),
        }
    }

    /// A span that a future enters each time it is polled. A panic of the subscriber is caught.
    #[derive(Debug)]
    pub(crate) struct Scope(Span);

    #[allow(dead_code, reason = "which layers open spans depends on the features")]
    impl Scope {
        #[inline]
        fn new(span: impl FnOnce() -> Span) -> Self {
            if !is_heard() {
                return Self::none();
            }
            Self(subscriber(span).unwrap_or_else(Span::none))
        }

        /// No span.
        pub(crate) fn none() -> Self {
            Self(Span::none())
        }

        /// Reading a request.
        pub(crate) fn receive() -> Self {
            Self::new(|| debug_span!(target: TARGET, "receive"))
        }

        /// Checking a signature.
        pub(crate) fn verify(scheme: &str) -> Self {
            Self::new(|| debug_span!(target: TARGET, "verify", scheme))
        }

        /// Work under an idempotency key.
        pub(crate) fn claim(scope: &str) -> Self {
            Self::new(|| debug_span!(target: TARGET, "claim", scope))
        }

        /// A delivery with all of its attempts.
        pub(crate) fn deliver(peer: &str) -> Self {
            Self::new(|| info_span!(target: TARGET, "deliver", peer))
        }

        /// One attempt.
        pub(crate) fn attempt(peer: &str) -> Self {
            Self::new(|| info_span!(target: TARGET, "attempt", peer))
        }

        /// One attempt at a job.
        pub(crate) fn job(
            task: &dyn std::fmt::Display,
            kind: &str,
            attempt: u32,
            event_id: Option<&str>,
        ) -> Self {
            Self::new(|| info_span!(target: TARGET, "job", %task, kind, attempt, event_id))
        }

        /// Runs `work` inside the span.
        #[inline]
        pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
            let _entered = self.entered();
            work()
        }

        /// Enters the span until the guard is dropped.
        #[inline]
        pub(crate) fn entered(&self) -> Entered<'_> {
            if self.0.is_none() {
                return Entered(None);
            }
            Entered(subscriber(|| self.0.enter()))
        }
    }

    impl Clone for Scope {
        fn clone(&self) -> Self {
            Self::new(|| self.0.clone())
        }
    }

    impl Drop for Scope {
        #[inline]
        fn drop(&mut self) {
            if !self.0.is_none() {
                let span = mem::replace(&mut self.0, Span::none());
                let _ = subscriber(|| drop(span));
            }
        }
    }

    /// Leaves the span when it is dropped, also by a panic.
    #[must_use]
    pub(crate) struct Entered<'a>(Option<span::Entered<'a>>);

    impl Drop for Entered<'_> {
        #[inline]
        fn drop(&mut self) {
            if let Some(entered) = self.0.take() {
                let _ = subscriber(|| drop(entered));
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod on {
    use crate::observe::Event;
    use std::marker::PhantomData;

    pub(crate) const fn is_heard() -> bool {
        false
    }

    pub(crate) const fn on(_: &Event<'_>) {}

    pub(crate) const fn panics() -> u64 {
        0
    }

    /// Nothing, where the feature is off. Not `Copy`, as where it is on.
    #[derive(Clone, Debug)]
    pub(crate) struct Scope;

    #[allow(dead_code, reason = "which layers open spans depends on the features")]
    #[allow(clippy::unused_self, reason = "as where the feature is on")]
    impl Scope {
        pub(crate) const fn none() -> Self {
            Self
        }

        pub(crate) const fn receive() -> Self {
            Self
        }

        pub(crate) const fn verify(_: &str) -> Self {
            Self
        }

        pub(crate) const fn claim(_: &str) -> Self {
            Self
        }

        pub(crate) const fn deliver(_: &str) -> Self {
            Self
        }

        pub(crate) const fn attempt(_: &str) -> Self {
            Self
        }

        pub(crate) const fn job(
            _: &dyn std::fmt::Display,
            _: &str,
            _: u32,
            _: Option<&str>,
        ) -> Self {
            Self
        }

        pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
            work()
        }

        pub(crate) const fn entered(&self) -> Entered<'_> {
            Entered(PhantomData)
        }
    }

    #[must_use]
    pub(crate) struct Entered<'a>(PhantomData<&'a Scope>);
}

pub(crate) use on::{Entered, Scope};
pub(super) use on::{is_heard, on, panics};
