//! Variants of the same call, measured in turns: on a shared machine nothing else can be compared.

use std::{
    hint::black_box,
    task::{Context, Waker},
    time::{Duration, Instant},
};
use tower::Service;

use crate::bare::now;

/// Few enough that requests made off the clock are still in the processor's cache when called.
const BATCH: usize = 32;

/// How long a variant is measured before the next one has its turn: long beside a look at the clock, short
/// beside the time after which something else gets the processor.
const TURN: Duration = Duration::from_micros(50);

/// Makes this many batches of calls, and returns how long the calls took.
pub type Calls = Box<dyn FnMut(usize) -> Duration>;

/// What a variant stands for in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The call without a layer: the variants after it are told as what they add to it.
    Bare,
    Ours,
    Peer,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "baseline",
            Self::Ours => "ours",
            Self::Peer => "peer",
        }
    }

    pub fn of(name: &str) -> Self {
        let all = [Self::Bare, Self::Ours, Self::Peer];
        all.into_iter().find(|kind| kind.name() == name).unwrap()
    }
}

struct Variant {
    name: String,
    kind: Kind,
    calls: Calls,
    batches: usize,
    /// Nanoseconds for a call, for each round.
    nanos: Vec<f64>,
}

/// Ways to do the same work.
pub struct Row {
    pub name: &'static str,
    variants: Vec<Variant>,
    /// The least calls of a turn.
    least: usize,
    /// Its variants have their turn in one of so many rounds.
    every: usize,
}

impl Row {
    pub fn new(name: &'static str, build: fn(&mut Row)) -> Self {
        let mut row = Self {
            name,
            variants: Vec::new(),
            least: 128,
            every: 1,
        };
        build(&mut row);
        for variant in &mut row.variants {
            variant.settle(row.least);
        }
        row
    }

    /// Turns of at least so many calls.
    pub fn at_least(&mut self, calls: usize) {
        self.least = calls;
    }

    /// Rare turns of so many calls, for work that is put off and done for all of them together: shorter turns
    /// would see all of it or none.
    pub fn rare_turns(&mut self, calls: usize) {
        self.least = calls;
        self.every = 20;
    }

    pub fn bare(&mut self, name: &'static str, calls: Calls) {
        self.add(name, Kind::Bare, calls);
    }

    pub fn ours(&mut self, calls: Calls) {
        self.add("tower-webhook", Kind::Ours, calls);
    }

    pub fn peer(&mut self, name: &'static str, calls: Calls) {
        self.add(name, Kind::Peer, calls);
    }

    /// The name and the kind of each variant, and its nanoseconds for a call in each round.
    pub fn measured(self) -> impl Iterator<Item = (String, Kind, Vec<f64>)> {
        let variants = self.variants.into_iter();
        variants.map(|one| (one.name, one.kind, one.nanos))
    }

    fn add(&mut self, name: &'static str, kind: Kind, calls: Calls) {
        self.variants.push(Variant {
            name: name.to_owned(),
            kind,
            calls,
            batches: 1,
            nanos: Vec::new(),
        });
    }
}

impl Variant {
    /// Finds out how many calls a turn has time for.
    fn settle(&mut self, least: usize) {
        (self.calls)(4);
        let took = (self.calls)(4).max(Duration::from_nanos(1)) / 4;
        let batches = TURN.as_nanos() / took.as_nanos().max(1);
        self.batches = usize::try_from(batches)
            .unwrap_or(1)
            .clamp(least / BATCH, 256.max(least / BATCH));
    }

    fn turn(&mut self) {
        // What the others had left in the caches is not this one's cost.
        (self.calls)(1);
        let took = (self.calls)(self.batches);
        #[allow(clippy::cast_precision_loss)]
        let calls = (self.batches * BATCH) as f64;
        self.nanos.push(took.as_secs_f64() * 1e9 / calls);
    }
}

/// Measures the variants of all rows, one after the other, in each round.
pub fn take_turns(rows: &mut [Row], rounds: usize) {
    for round in 0..rounds {
        let rows = rows.iter_mut().filter(|row| round % row.every == 0);
        let variants = rows.flat_map(|row| &mut row.variants);
        variants.for_each(Variant::turn);
    }
}

/// Calls with what `make` makes off the clock. What a call leaves is dropped on the clock.
pub fn calls<I: 'static, O>(
    mut make: impl FnMut() -> I + 'static,
    mut call: impl FnMut(I) -> O + 'static,
) -> Calls {
    let mut inputs = Vec::with_capacity(BATCH);
    Box::new(move |batches| {
        let mut took = Duration::ZERO;
        for _ in 0..batches {
            inputs.extend((0..BATCH).map(|_| make()));
            let started = Instant::now();
            for input in inputs.drain(..) {
                drop(black_box(call(input)));
            }
            took += started.elapsed();
        }
        took
    })
}

/// Calls of a service with requests that are made off the clock. To ask it whether it is ready is part of a call.
pub fn service<S, Req>(mut service: S, requests: impl FnMut() -> Req + 'static) -> Calls
where
    S: Service<Req> + 'static,
    Req: 'static,
{
    calls(requests, move |req| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let result = now(service.call(req));
        result.map_err(|_| "the call failed").unwrap()
    })
}
