//! Bodies that do as a test says.

#![allow(dead_code, reason = "each test file uses some of these")]

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// What a [`Script`] does next. At the end of its steps it ends.
#[derive(Debug)]
pub(crate) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Fail,
    Wait(Duration),
    Hang,
    /// Empty frames, for ever.
    Spin,
}

pub(crate) fn data(bytes: impl Into<Bytes>) -> Step {
    Step::Data(bytes.into())
}

pub(crate) fn trailers(fields: &[(&'static str, &'static str)]) -> Step {
    Step::Trailers(header_map(fields))
}

pub(crate) fn header_map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, value.parse().unwrap());
    }
    map
}

/// A body that plays its steps. It never says that its stream ended before it gives the end.
#[derive(Debug)]
pub(crate) struct Script {
    steps: VecDeque<Step>,
    sleeping: Option<Pin<Box<Sleep>>>,
    declared: Option<u64>,
    probe: Probe,
}

/// What became of a [`Script`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe {
    polls: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
}

impl Probe {
    pub(crate) fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst)
    }
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            sleeping: None,
            declared: None,
            probe: Probe::default(),
        }
    }

    pub(crate) fn chunks<const N: usize>(chunks: [&'static str; N]) -> Self {
        Self::new(chunks.map(data))
    }

    /// Says that this many bytes follow, whatever follows.
    pub(crate) fn declares(mut self, bytes: u64) -> Self {
        self.declared = Some(bytes);
        self
    }

    pub(crate) fn probe(&self) -> Probe {
        self.probe.clone()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.probe.dropped.store(true, Ordering::SeqCst);
    }
}

/// The peer went away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gone")
    }
}

impl std::error::Error for Gone {}

impl Body for Script {
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        self.probe.polls.fetch_add(1, Ordering::SeqCst);
        loop {
            if let Some(sleeping) = &mut self.sleeping {
                if sleeping.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.sleeping = None;
            }
            let frame = match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Data(data)) => Ok(Frame::data(data)),
                Some(Step::Trailers(trailers)) => Ok(Frame::trailers(trailers)),
                Some(Step::Fail) => Err(Gone),
                Some(Step::Wait(wait)) => {
                    self.sleeping = Some(Box::pin(sleep(wait)));
                    continue;
                }
                Some(Step::Hang) => {
                    self.steps.push_front(Step::Hang);
                    return Poll::Pending;
                }
                Some(Step::Spin) => {
                    self.steps.push_front(Step::Spin);
                    Ok(Frame::data(Bytes::new()))
                }
            };
            return Poll::Ready(Some(frame));
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.declared
            .map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// Everything a body gives.
pub(crate) async fn read<B>(body: B) -> (Bytes, Option<HeaderMap>)
where
    B: Body,
    B::Error: fmt::Debug,
{
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    (collected.to_bytes(), trailers)
}
