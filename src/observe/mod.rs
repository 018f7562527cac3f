//! Events and observers: layers, workers and stores report what happens in them.
//!
//! An [`Observer`] gets each [`Event`] as it happens, on the thread on which it happens. Metrics
//! ([`DeliveryMetrics`](crate::metrics::DeliveryMetrics)), audit logs and alerts are observers.
//!
//! # Examples
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
//! use tower_webhook::observe::{Event, Observer};
//!
//! /// Counts the retries.
//! #[derive(Clone, Default)]
//! struct Retries(Arc<AtomicU64>);
//!
//! impl Observer for Retries {
//!     fn on(&self, event: &Event<'_>) {
//!         if let Event::Retrying { .. } = event {
//!             self.0.fetch_add(1, Ordering::Relaxed);
//!         }
//!     }
//! }
//! ```
//!
//! # Settings
//!
//! Every layer and builder has a setter `observe` that adds an observer. By default there is none. With feature `tracing`
//! (on by default), every event is also reported to the `tracing` subscriber.
//!
//! Without an observer or subscriber, an event costs a branch; its value is not built.
//!
//! # Panics
//!
//! A panic of an observer or of the `tracing` subscriber is caught and [counted](Observers::panics) in the
//! [`Observers`] that the program keeps a clone of. It affects neither the call that the event belongs to
//! nor the other observers.

mod breaker_state;
mod event;
#[cfg(feature = "tracing")]
mod throttle;
mod trace;

#[allow(
    unused_imports,
    reason = "which layers open spans depends on the features"
)]
pub(crate) use self::trace::{Entered, Scope};
pub use self::{
    breaker_state::BreakerState,
    event::{Event, Id, JobEnd},
};

use crate::catch_panic::catch_panic;
use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Receives events. See the [module docs](self).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no observer",
    note = "make one of a closure that is `Send + Sync + 'static`: `observer_fn(|event| ..)`",
    note = "or implement `Observer` for it, and share it in an `Arc`"
)]
pub trait Observer: Send + Sync + 'static {
    /// Called for each event, on the thread of the call it belongs to, with no lock held. Return quickly,
    /// and do not block.
    fn on(&self, event: &Event<'_>);
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn on(&self, event: &Event<'_>) {
        (**self).on(event);
    }
}

/// Makes an observer from a function.
///
/// # Examples
///
/// ```
/// use tower_webhook::observe::{Event, Observers, observer_fn};
///
/// let observers = Observers::new(observer_fn(|event| println!("{event:?}")));
/// ```
pub const fn observer_fn<F>(on: F) -> impl Observer
where
    F: Fn(&Event<'_>) + Send + Sync + 'static,
{
    ObserverFn(on)
}

struct ObserverFn<F>(F);

impl<F> Observer for ObserverFn<F>
where
    F: Fn(&Event<'_>) + Send + Sync + 'static,
{
    fn on(&self, event: &Event<'_>) {
        (self.0)(event);
    }
}

/// A list of observers, empty by default. Cheap to clone.
///
/// A list is an [`Observer`]: pass clones of one list to the `observe` setters of a program, and keep a
/// clone to read how many times its observers [have panicked](Self::panics). An observer that is passed to a
/// setter without a list is caught too, but nothing can read its count.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use std::convert::Infallible;
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_webhook::{DeliveryMetricsLayer, observe::{Event, Observers, observer_fn}};
///
/// # tokio_test::block_on(async {
/// let observers = Observers::new(observer_fn(|event| {
///     if let Event::DeliveryEnded { .. } = event {
///         panic!("a bug");
///     }
/// }));
/// let client = DeliveryMetricsLayer::deliveries()
///     .observe(observers.clone())
///     .layer(service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) }));
///
/// let res = client.oneshot(Request::new(())).await?;
/// assert_eq!(res.status(), 200);
/// assert_eq!(observers.panics(), 1);
/// # Ok::<_, Infallible>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Observers {
    list: Option<Arc<List>>,
    /// Whether it is a list that was added to an empty one.
    is_anothers: bool,
}

struct List {
    observers: Box<[Arc<dyn Observer>]>,
    panics: AtomicU64,
}

impl Observers {
    /// An empty list: only `tracing` gets the events, if that feature is on.
    pub const fn none() -> Self {
        Self {
            list: None,
            is_anothers: false,
        }
    }

    /// A list with one observer.
    pub fn new(observer: impl Observer) -> Self {
        Self::none().and(observer)
    }

    /// Adds an observer. Observers get an event in the order in which they were added.
    ///
    /// A list that is added to an empty one stays the same list, with the same count of panics.
    #[must_use]
    pub fn and(self, observer: impl Observer) -> Self {
        // A list within a list costs each event another round.
        if let Some(added) = (&observer as &dyn Any).downcast_ref::<Self>() {
            if added.list.is_none() {
                return self;
            }
            if self.list.is_none() {
                return Self {
                    list: added.list.clone(),
                    is_anothers: true,
                };
            }
        }
        let panics = self.own_panics();
        let observer: Arc<dyn Observer> = Arc::new(observer);
        let observers = match &self.list {
            // Who keeps that list counts by it.
            Some(_) if self.is_anothers => Box::new([Arc::new(self) as _, observer]) as Box<[_]>,
            known => {
                let known = known.as_ref().map_or(&[][..], |list| &list.observers);
                known.iter().cloned().chain([observer]).collect()
            }
        };
        Self {
            list: Some(Arc::new(List {
                observers,
                panics: AtomicU64::new(panics),
            })),
            is_anothers: false,
        }
    }

    /// Whether an observer or a `tracing` subscriber listens.
    #[inline]
    pub fn is_heard(&self) -> bool {
        self.list.is_some() || trace::is_heard()
    }

    /// Passes an event to all observers. `event` is called only if there is an observer or a subscriber.
    #[inline]
    pub fn tell<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if self.is_heard() {
            self.tell_all(&event());
        }
    }

    #[inline(never)]
    fn tell_all(&self, event: &Event<'_>) {
        trace::on(event);
        self.tell_list(event);
    }

    fn tell_list(&self, event: &Event<'_>) {
        let Some(list) = &self.list else { return };
        for observer in &list.observers {
            if catch_panic(|| observer.on(event)).is_none() {
                list.panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How many times observers of this list have panicked. Clones share the count; [`and`](Self::and) makes
    /// another list, which begins with this count and goes on with its own.
    ///
    /// The `tracing` subscriber is an observer of every list: its panics in this process count too, those
    /// in spans included.
    pub fn panics(&self) -> u64 {
        self.own_panics().saturating_add(trace::panics())
    }

    fn own_panics(&self) -> u64 {
        let list = self.list.as_ref();
        list.map_or(0, |list| list.panics.load(Ordering::Relaxed))
    }
}

/// A list is an observer, so it can be added to another list.
impl Observer for Observers {
    fn on(&self, event: &Event<'_>) {
        self.tell_list(event);
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.as_ref().map_or(0, |list| list.observers.len());
        write!(f, "Observers({count})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use std::{sync::Mutex, time::Duration};

    fn retrying<'a>() -> Event<'a> {
        Event::Retrying {
            attempt: 1,
            outcome: Outcome::transient(),
            wait: Duration::ZERO,
        }
    }

    #[test]
    fn everybody_is_told_in_order_though_one_panics() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let note = |name: &'static str| {
            let told = Arc::clone(&told);
            observer_fn(move |_| told.lock().unwrap().push(name))
        };
        let observers = Observers::new(note("first"))
            .and(observer_fn(|_| panic!("on purpose")))
            .and(Observers::new(note("nested")))
            .and(note("last"));
        observers.tell(retrying);
        assert_eq!(*told.lock().unwrap(), ["first", "nested", "last"]);
        assert_eq!(observers.clone().panics(), 1);
    }

    #[test]
    fn where_nobody_listens_no_event_is_made() {
        Observers::none().tell(|| panic!("nobody listens"));
    }
}
