//! Recorders made of recorders.

use super::{BreakerState, Level, Measurement, Recorder, Series};
use crate::catch_panic;
use std::{fmt, sync::Arc};

/// Runs a recorder's code, which must not break the call that it measures.
pub(super) fn catch_panic<T>(record: impl FnOnce() -> T) -> Option<T> {
    let result = catch_panic::catch_panic(record);
    if result.is_none() {
        crate::trace::trouble!("delivery_metrics", "a recorder panicked");
    }
    result
}

impl<R: Recorder + ?Sized> Recorder for Arc<R> {
    type Series = R::Series;

    fn series(&self, key: &str) -> R::Series {
        (**self).series(key)
    }
}

/// `None` records nothing.
impl<R: Recorder> Recorder for Option<R> {
    type Series = Option<R::Series>;

    fn series(&self, key: &str) -> Self::Series {
        self.as_ref().map(|recorder| recorder.series(key))
    }
}

/// Both are told; where one panics, the other is told all the same.
impl<A: Recorder, B: Recorder> Recorder for (A, B) {
    type Series = Both<A::Series, B::Series>;

    fn series(&self, key: &str) -> Self::Series {
        Both {
            one: catch_panic(|| self.0.series(key)),
            other: catch_panic(|| self.1.series(key)),
        }
    }
}

/// The series of two recorders.
#[derive(Clone, Debug)]
pub struct Both<X, Y> {
    /// `None` where the recorder panicked: it is asked again at the next call.
    one: Option<X>,
    other: Option<Y>,
}

macro_rules! told {
    ($($method:ident: $arg:ty),*) => {
        $(fn $method(&self, arg: $arg) {
            self.tell(|series| series.$method(arg));
        })*
    };
}

impl<X: Series> Series for Option<X> {
    fn is_for(&self, key: &str) -> bool {
        self.as_ref().is_none_or(|series| series.is_for(key))
    }

    told!(started: Level, finished: &Measurement, retried: Option<u16>, breaker_changed: BreakerState);

    fn dead_lettered(&self, reason: &'static str, end: &'static str) {
        self.tell(|series| series.dead_lettered(reason, end));
    }
}

trait Tell {
    fn tell(&self, what: impl Fn(&dyn Series));
}

impl<X: Series> Tell for Option<X> {
    fn tell(&self, what: impl Fn(&dyn Series)) {
        if let Some(series) = self {
            what(series);
        }
    }
}

impl<X: Series, Y: Series> Series for Both<X, Y> {
    fn is_for(&self, key: &str) -> bool {
        let one = self.one.as_ref().is_some_and(|series| series.is_for(key));
        one && self.other.as_ref().is_some_and(|series| series.is_for(key))
    }

    told!(started: Level, finished: &Measurement, retried: Option<u16>, breaker_changed: BreakerState);

    fn dead_lettered(&self, reason: &'static str, end: &'static str) {
        self.tell(|series| series.dead_lettered(reason, end));
    }
}

impl<X: Series, Y: Series> Tell for Both<X, Y> {
    fn tell(&self, what: impl Fn(&dyn Series)) {
        catch_panic(|| self.one.tell(&what));
        catch_panic(|| self.other.tell(&what));
    }
}

impl<X: Series + ?Sized> Series for Arc<X> {
    fn is_for(&self, key: &str) -> bool {
        (**self).is_for(key)
    }

    fn started(&self, level: Level) {
        (**self).started(level);
    }

    fn finished(&self, measurement: &Measurement) {
        (**self).finished(measurement);
    }

    fn retried(&self, code: Option<u16>) {
        (**self).retried(code);
    }

    fn breaker_changed(&self, state: BreakerState) {
        (**self).breaker_changed(state);
    }

    fn dead_lettered(&self, reason: &'static str, end: &'static str) {
        (**self).dead_lettered(reason, end);
    }
}

/// A recorder whose type is forgotten: for what must not be generic over it.
///
/// It costs one allocation each time that a layer calls for another key than before.
#[derive(Clone)]
pub struct SharedRecorder {
    recorder: Arc<dyn AnyRecorder>,
}

trait AnyRecorder: Send + Sync {
    fn any_series(&self, key: &str) -> Arc<dyn Series>;
}

impl<R: Recorder> AnyRecorder for R {
    fn any_series(&self, key: &str) -> Arc<dyn Series> {
        Arc::new(self.series(key))
    }
}

impl SharedRecorder {
    /// Forgets the type of `recorder`.
    pub fn new(recorder: impl Recorder) -> Self {
        Self {
            recorder: Arc::new(recorder),
        }
    }
}

impl Recorder for SharedRecorder {
    type Series = Arc<dyn Series>;

    fn series(&self, key: &str) -> Arc<dyn Series> {
        self.recorder.any_series(key)
    }
}

impl fmt::Debug for SharedRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRecorder").finish_non_exhaustive()
    }
}
