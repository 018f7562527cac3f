//! Streaming bodies that are sent again.
#![cfg(feature = "retry")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use proptest::prelude::*;
use std::{
    collections::HashSet,
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use support::{Gone, Script, Step, data, header_map, read, trailers};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_test::{assert_pending, assert_ready};
use tower::{Layer, ServiceExt, service_fn};
use tower_webhook::{
    BoxError, RetryWithJitterLayer,
    attempt::{GaveUp, History},
    body::{BufferedBody, Replay, ReplayBody, ReplayError},
    deadline::Deadline,
    observe::{Event, observer_fn},
    retry::{Exchange, ExchangeResponse, HttpExchange, RetryConfig},
};

#[path = "support/bodies.rs"]
mod support;

const CAP: usize = 64 << 10;

type Frames = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

fn poll<B>(body: &mut ReplayBody<B>) -> Frames
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    poll_with(body, Waker::noop())
}

fn poll_with<B>(body: &mut ReplayBody<B>, waker: &Waker) -> Frames
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    Pin::new(body).poll_frame(&mut Context::from_waker(waker))
}

/// Data that is there; nothing where the body has ended.
fn next<B>(body: &mut ReplayBody<B>) -> Option<Bytes>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    let frame = assert_ready!(poll(body))?;
    Some(frame.unwrap().into_data().unwrap())
}

fn error<B>(body: &mut ReplayBody<B>) -> ReplayError
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    let error = assert_ready!(poll(body)).unwrap().unwrap_err();
    *error.downcast().unwrap()
}

/// Says whether it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_body_that_was_read_whole_is_given_again_and_again() {
    let fields: &[_] = &[("x-sum", "7"), ("x-sum", "8")];
    let script = Script::new([data("he"), data(""), data("llo"), trailers(fields)]);
    let (first, replay) = ReplayBody::new(script, CAP);
    let all = (Bytes::from("hello"), Some(header_map(fields)));
    assert_eq!(read(first).await, all);
    for _ in 0..3 {
        assert_eq!(read(replay.replay().unwrap()).await, all);
    }
}

#[tokio::test]
async fn what_was_not_read_comes_from_the_original() {
    let (mut first, replay) = ReplayBody::new(Script::chunks(["a", "b", "c"]), CAP);
    assert_eq!(next(&mut first).unwrap(), "a");
    drop(first);
    let mut second = replay.replay().unwrap();
    assert_eq!(next(&mut second).unwrap(), "a");
    assert_eq!(next(&mut second).unwrap(), "b");
    drop(second);
    assert_eq!(read(replay.replay().unwrap()).await.0, "abc");
    // And one that was never polled took nothing.
    drop(replay.replay());
    assert_eq!(read(replay.replay().unwrap()).await.0, "abc");
}

#[test]
fn frames_are_shared_and_not_copied() {
    let payload = Bytes::from(vec![7; 1 << 10]);
    let (mut first, replay) = ReplayBody::new(Full::new(payload.clone()), CAP);
    let mut second = {
        assert_eq!(next(&mut first).unwrap().as_ptr(), payload.as_ptr());
        replay.replay().unwrap()
    };
    assert_eq!(next(&mut second).unwrap().as_ptr(), payload.as_ptr());
}

#[tokio::test]
async fn a_body_over_the_cap_is_sent_to_its_end_and_its_recording_freed() {
    let start = Bytes::from(vec![b'x'; 6]);
    let script = Script::new([data(start.clone()), data("12345"), data("6")]);
    let (mut first, replay) = ReplayBody::new(script, 10);
    assert_eq!(next(&mut first).unwrap(), start);
    assert!(!start.is_unique());
    assert_eq!(next(&mut first).unwrap(), "12345");
    assert!(start.is_unique());
    assert!(!replay.can_replay());
    assert!(replay.replay().is_none());
    assert_eq!(read(first).await.0, "6");
}

#[tokio::test]
async fn a_body_of_just_the_cap_can_be_replayed() {
    let (first, replay) = ReplayBody::new(Script::chunks(["12345", "67890"]), 10);
    read(first).await;
    assert_eq!(read(replay.replay().unwrap()).await.0, "1234567890");
}

#[tokio::test]
async fn frames_of_one_byte_are_bounded_and_cheap() {
    let steps = (0..100_000).map(|_| data("x"));
    let (first, replay) = ReplayBody::new(Script::new(steps), 1 << 20);
    assert_eq!(read(first).await.0.len(), 100_000);
    // 16 + 1 MiB / 64 frames are kept.
    assert!(!replay.can_replay());
    let steps = (0..16_400).map(|_| data("x"));
    let (first, replay) = ReplayBody::new(Script::new(steps), 1 << 20);
    read(first).await;
    assert_eq!(read(replay.replay().unwrap()).await.0.len(), 16_400);
}

#[tokio::test]
async fn an_error_of_the_original_is_passed_on_and_ends_replaying() {
    let (mut first, replay) = ReplayBody::new(Script::new([data("a"), Step::Fail]), CAP);
    assert_eq!(next(&mut first).unwrap(), "a");
    let mut promised = replay.replay().unwrap();
    let failed = assert_ready!(poll(&mut first)).unwrap().unwrap_err();
    assert_eq!(*failed.downcast::<Gone>().unwrap(), Gone);
    assert!(assert_ready!(poll(&mut first)).is_none());
    assert!(!replay.can_replay());
    assert_eq!(error(&mut promised), ReplayError::Lost);
    assert!(assert_ready!(poll(&mut promised)).is_none());
}

#[test]
fn data_after_trailers_keep_their_place() {
    let (mut first, replay) =
        ReplayBody::new(Script::new([trailers(&[("a", "b")]), data("late")]), CAP);
    let read = |body: &mut ReplayBody<Script>| {
        let first = assert_ready!(poll(body)).unwrap().unwrap();
        (first.into_trailers().unwrap(), next(body).unwrap())
    };
    let given = read(&mut first);
    assert_eq!(given, (header_map(&[("a", "b")]), Bytes::from("late")));
    assert_eq!(read(&mut replay.replay().unwrap()), given);
}

// D40: early answers, and two of them polled.

#[tokio::test]
async fn a_later_body_takes_over_from_one_that_is_still_held() {
    let (sender, mut source) = mpsc::unbounded_channel::<Bytes>();
    let body = Channel(&mut source);
    let (mut first, replay) = ReplayBody::new(body, CAP);
    sender.send("a".into()).unwrap();
    assert_eq!(next(&mut first).unwrap(), "a");

    let (held, taking) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    assert_pending!(poll_with(&mut first, &held.clone().into()));
    let mut second = replay.replay().unwrap();
    assert_eq!(held.times(), 0);
    assert_eq!(next(&mut second).unwrap(), "a");
    // Woken, so that its connection does not wait for ever.
    assert_eq!(held.times(), 1);
    assert_pending!(poll_with(&mut second, &taking.clone().into()));
    assert_eq!(error(&mut first), ReplayError::TakenOver);
    assert!(assert_ready!(poll(&mut first)).is_none());

    sender.send("b".into()).unwrap();
    assert_eq!((held.times(), taking.times()), (1, 1));
    assert_eq!(next(&mut second).unwrap(), "b");
    // One made before a later one was polled comes too late.
    let mut third = replay.replay().unwrap();
    let mut fourth = replay.replay().unwrap();
    assert_eq!(next(&mut fourth).unwrap(), "a");
    assert_eq!(error(&mut third), ReplayError::TakenOver);
    assert_eq!(next(&mut fourth).unwrap(), "b");
    drop(sender);
    assert_eq!(next(&mut fourth), None);
}

struct Channel<'a>(&'a mut mpsc::UnboundedReceiver<Bytes>);

impl Body for Channel<'_> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.0.poll_recv(cx);
        data.map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

#[test]
fn a_promise_holds_until_it_is_kept_or_the_handle_dropped() {
    let long = || ReplayBody::new(Script::chunks(["1234", "5678", "9"]), 6);
    let woken = Arc::new(Woken::default());

    // Kept: the later one gives what the earlier one has waited with.
    let (mut first, replay) = long();
    assert_eq!(next(&mut first).unwrap(), "1234");
    assert!(replay.can_replay());
    assert_pending!(poll_with(&mut first, &woken.clone().into()));
    assert_pending!(poll_with(&mut first, &woken.clone().into()));
    let mut second = replay.replay().unwrap();
    assert_eq!(second.size_hint().lower(), 8);
    assert_eq!(next(&mut second).unwrap(), "1234");
    assert_eq!(woken.times(), 1);
    assert_eq!(error(&mut first), ReplayError::TakenOver);
    assert_eq!(next(&mut second).unwrap(), "5678");
    assert!(!replay.can_replay());
    assert_eq!(next(&mut second).unwrap(), "9");
    assert_eq!(next(&mut second), None);

    // Not made use of: the first goes on.
    let (mut first, replay) = long();
    assert_eq!(next(&mut first).unwrap(), "1234");
    assert!(replay.can_replay());
    assert_pending!(poll_with(&mut first, &woken.clone().into()));
    drop(replay);
    assert_eq!(woken.times(), 2);
    assert_eq!(next(&mut first).unwrap(), "5678");
    assert_eq!(next(&mut first).unwrap(), "9");

    // The next body is dropped, and the handle with it.
    let (mut first, replay) = long();
    assert_eq!(next(&mut first).unwrap(), "1234");
    let unused = replay.replay().unwrap();
    drop(replay);
    assert_pending!(poll_with(&mut first, &woken.clone().into()));
    drop(unused);
    assert_eq!(woken.times(), 3);
    assert_eq!(next(&mut first).unwrap(), "5678");

    // A body that takes over without a further promise is free of it.
    let (first, replay) = long();
    assert!(replay.can_replay());
    let mut second = replay.replay().unwrap();
    for chunk in ["1234", "5678", "9"] {
        assert_eq!(next(&mut second).unwrap(), chunk);
    }
    drop(first);
}

#[test]
fn nothing_is_recorded_for_nobody() {
    let payload = Bytes::from(vec![b'x'; 8]);
    let script = Script::new([data(payload.clone()), data("rest")]);
    let (mut first, replay) = ReplayBody::new(script, CAP);
    next(&mut first);
    let mut last = replay.replay().unwrap();
    drop(replay);
    // The last one still needs it, and frees it when it has given it.
    assert_eq!(next(&mut last).unwrap(), payload);
    assert!(!payload.is_unique());
    assert_eq!(next(&mut last).unwrap(), "rest");
    assert!(payload.is_unique());

    let script = Script::new([data(payload.clone())]);
    let mut once = ReplayBody::once(script);
    next(&mut once);
    assert!(payload.is_unique());
}

#[test]
fn the_original_is_dropped_with_the_last_of_them_and_at_its_end() {
    let script = Script::chunks(["a"]);
    let probe = script.probe();
    let (first, replay) = ReplayBody::new(script, CAP);
    let second = replay.replay();
    drop((first, replay));
    assert!(!probe.is_dropped());
    drop(second);
    assert!(probe.is_dropped());

    let script = Script::chunks([]);
    let probe = script.probe();
    let (mut first, _replay) = ReplayBody::new(script, CAP);
    assert_eq!(next(&mut first), None);
    assert!(probe.is_dropped());
}

struct Panics;

impl Body for Panics {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("on purpose")
    }
}

#[test]
fn an_original_that_panics_has_failed() {
    let (mut first, replay) = ReplayBody::new(Panics, CAP);
    let mut second = replay.replay().unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(&mut first)));
    assert!(panicked.is_err());
    assert_eq!(error(&mut second), ReplayError::Lost);
    assert!(!replay.can_replay());
}

#[tokio::test]
async fn lengths_are_right_at_every_point() {
    let hints = |body: &ReplayBody<_>| (body.size_hint().exact(), body.is_end_stream());
    let (mut first, replay) = ReplayBody::new(Full::<Bytes>::from("hello"), CAP);
    assert_eq!(hints(&first), (Some(5), false));
    let mut second = replay.replay().unwrap();
    assert_eq!(hints(&second), (Some(5), false));
    next(&mut first);
    assert_eq!(hints(&first), (Some(0), true));
    assert_eq!(hints(&second), (Some(5), false));
    next(&mut second);
    assert_eq!(hints(&second), (Some(0), true));
    // The one that was taken over has something to say: it must not look whole.
    assert!(!first.is_end_stream());

    let (first, replay) = ReplayBody::new(Empty::<Bytes>::new(), CAP);
    for body in [first, replay.replay().unwrap()] {
        assert_eq!(
            (body.size_hint().exact(), body.is_end_stream()),
            (Some(0), true)
        );
    }

    // A length that is declared stays; one that was not known is known after the end.
    let declared = Script::chunks(["ab", "c"]).declares(3);
    let (first, _replay) = ReplayBody::new(declared, CAP);
    assert_eq!(first.size_hint().exact(), Some(3));
    let (first, replay) = ReplayBody::new(Stream::of(["ab", "c"]), CAP);
    assert_eq!(first.size_hint().exact(), None);
    read(first).await;
    let again = replay.replay().unwrap();
    assert_eq!(again.size_hint().exact(), Some(3));
}

/// A body that does not tell its length.
struct Stream(std::vec::IntoIter<Frame<Bytes>>);

impl Stream {
    fn of<const N: usize>(chunks: [&'static str; N]) -> Self {
        let frames = chunks.map(|chunk| Frame::data(Bytes::from(chunk)));
        Self(Vec::from(frames).into_iter())
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

#[tokio::test]
async fn a_replay_with_trailers_has_no_length_where_the_original_had_none() {
    let frames = vec![
        Frame::data(Bytes::from("ab")),
        Frame::trailers(header_map(&[("x-sum", "1")])),
    ];
    let (first, replay) = ReplayBody::new(Stream(frames.into_iter()), CAP);
    read(first).await;
    let hint = replay.replay().unwrap().size_hint();
    assert_eq!((hint.lower(), hint.upper()), (2, None));
}

#[test]
fn a_hint_that_lies_breaks_nothing() {
    struct Vast;
    impl Body for Vast {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from("x")))))
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(u64::MAX)
        }
    }
    let (mut first, replay) = ReplayBody::new(Vast, CAP);
    next(&mut first);
    let again = replay.replay().unwrap();
    assert_eq!(again.size_hint().lower(), u64::MAX);
}

#[test]
fn a_body_that_waits_is_whole_although_a_later_one_was_dropped() {
    let pieces = [vec![], vec![1], vec![2]].map(|data| Some(Piece::Data(data)));
    let (mut first, replay) = ReplayBody::new(Halting(pieces.into()), 0);
    let mut waits = replay.replay().unwrap();
    // Nothing of the content, so that a cap of zero still holds it.
    assert!(matches!(poll(&mut first), Poll::Ready(Some(Ok(_)))));
    drop(replay.replay().unwrap());
    assert!(poll(&mut first).is_pending(), "what it reads is lost");
    let mut all = Vec::new();
    while let Poll::Ready(Some(frame)) = poll(&mut waits) {
        join(&mut all, frame.unwrap());
    }
    assert_eq!(all, [Piece::Data(vec![1, 2])]);
}

/// One step of a story about several bodies.
#[derive(Clone, Copy, Debug)]
enum Act {
    Poll(usize),
    Drop(usize),
    Make,
    Ask,
}

/// A body that now and then has nothing yet.
#[derive(Clone, Debug)]
struct Halting(std::collections::VecDeque<Option<Piece>>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Data(Vec<u8>),
    Trailers(u8),
}

impl Body for Halting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Some(piece)) => Poll::Ready(Some(Ok(match piece {
                Piece::Data(data) => Frame::data(data.into()),
                Piece::Trailers(n) => {
                    let mut map = HeaderMap::new();
                    map.insert("x-n", u16::from(n).into());
                    Frame::trailers(map)
                }
            }))),
        }
    }
}

/// What was given, with neighbouring data joined.
fn join(all: &mut Vec<Piece>, frame: Frame<Bytes>) {
    match frame.into_data() {
        Ok(data) if data.is_empty() => {}
        Ok(data) => match all.last_mut() {
            Some(Piece::Data(last)) => last.extend_from_slice(&data),
            _ => all.push(Piece::Data(data.to_vec())),
        },
        Err(frame) => {
            let map = frame.into_trailers().unwrap();
            let n = map["x-n"].to_str().unwrap().parse().unwrap();
            all.push(Piece::Trailers(n));
        }
    }
}

fn pieces() -> impl Strategy<Value = Vec<Option<Piece>>> {
    let piece = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..6).prop_map(|data| Some(Piece::Data(data))),
        1 => any::<u8>().prop_map(|n| Some(Piece::Trailers(n))),
        2 => Just(None),
    ];
    proptest::collection::vec(piece, 0..12)
}

proptest! {
    #[test]
    fn any_cut_under_any_cap_is_replayed_whole_or_not_at_all(
        pieces in pieces(), cut in 0..16_usize, cap in 0..40_usize,
    ) {
        let whole = {
            let mut all = Vec::new();
            let mut body = ReplayBody::once(Halting(pieces.clone().into()));
            loop {
                match poll(&mut body) {
                    Poll::Pending => {}
                    Poll::Ready(None) => break all,
                    Poll::Ready(Some(frame)) => join(&mut all, frame.unwrap()),
                }
            }
        };
        let (mut first, replay) = ReplayBody::new(Halting(pieces.into()), cap);
        let mut given = Vec::new();
        for _ in 0..cut {
            if let Poll::Ready(Some(frame)) = poll(&mut first) {
                join(&mut given, frame.unwrap());
            }
        }
        let bodies = match replay.replay() {
            Some(second) => vec![(second, Vec::new())],
            None => vec![(first, given)],
        };
        for (mut body, mut all) in bodies {
            loop {
                match poll(&mut body) {
                    Poll::Pending => {}
                    Poll::Ready(None) => break,
                    Poll::Ready(Some(frame)) => join(&mut all, frame.unwrap()),
                }
            }
            prop_assert_eq!(&all, &whole);
        }
    }

    #[test]
    fn no_interleaving_panics_loses_or_doubles_anything(
        pieces in pieces(),
        cap in 0..40_usize,
        acts in proptest::collection::vec(prop_oneof![
            6 => (0..4_usize).prop_map(Act::Poll),
            1 => (0..4_usize).prop_map(Act::Drop),
            2 => Just(Act::Make),
            1 => Just(Act::Ask),
        ], 0..60),
    ) {
        let mut whole = Vec::new();
        for piece in pieces.iter().flatten() {
            let mut one = Halting([Some(piece.clone())].into());
            let noop = &mut Context::from_waker(Waker::noop());
            if let Poll::Ready(Some(frame)) = Pin::new(&mut one).poll_frame(noop) {
                join(&mut whole, frame.unwrap());
            }
        }
        let (first, replay) = ReplayBody::new(Halting(pieces.into()), cap);
        let mut replay = Some(replay);
        let mut bodies = vec![Some((first, Vec::new()))];
        let mut asked = false;
        for act in acts {
            match act {
                Act::Poll(at) => {
                    let Some(Some((body, all))) = bodies.get_mut(at) else { continue };
                    match poll(body) {
                        Poll::Ready(Some(Ok(frame))) => {
                            join(all, frame);
                            // A beginning of the whole, whoever else has read.
                            let bytes = |pieces: &[Piece]| format!("{pieces:?}").replace(']', "");
                            prop_assert!(all.len() <= whole.len());
                            if let Some((_, before)) = all.split_last() {
                                prop_assert_eq!(bytes(before), bytes(&whole[..before.len()]));
                            }
                        }
                        Poll::Ready(Some(Err(error))) => {
                            prop_assert_eq!(*error.downcast::<ReplayError>().unwrap(), ReplayError::TakenOver);
                        }
                        Poll::Ready(None) | Poll::Pending => {}
                    }
                }
                Act::Drop(at) => {
                    if at == 3 {
                        replay = None;
                    } else if let Some(body) = bodies.get_mut(at) {
                        *body = None;
                    }
                }
                Act::Make => {
                    let made = replay.as_ref().and_then(Replay::replay);
                    // What was promised is kept.
                    prop_assert!(!asked || made.is_some());
                    asked = false;
                    if let Some(body) = made {
                        bodies.push(Some((body, Vec::new())));
                    }
                }
                Act::Ask => asked = replay.as_ref().is_some_and(Replay::can_replay),
            }
            if replay.is_none() {
                asked = false;
            }
            // A body that begins takes the promise with it.
            if matches!(act, Act::Poll(_)) {
                asked = asked && replay.as_ref().is_some_and(Replay::can_replay);
            }
        }
        // The last one made still gives the whole.
        if let Some(Some((mut body, mut all))) = bodies.pop() {
            drop(replay);
            for _ in 0..64 {
                match poll(&mut body) {
                    Poll::Ready(Some(frame)) => join(&mut all, frame.unwrap()),
                    Poll::Ready(None) => break,
                    Poll::Pending => {}
                }
            }
            prop_assert_eq!(all, whole);
        }
    }
}

#[test]
fn bodies_on_several_threads_neither_panic_nor_wait_for_each_other() {
    for round in 0..200 {
        let steps = (0..64).map(|_| data("0123456789"));
        let (first, replay) = ReplayBody::new(Script::new(steps), CAP);
        let read = |mut body: ReplayBody<Script>| {
            move || {
                let mut bytes = 0;
                loop {
                    match poll(&mut body) {
                        Poll::Ready(Some(Ok(frame))) => bytes += frame.into_data().unwrap().len(),
                        Poll::Ready(Some(Err(_))) => return None,
                        Poll::Ready(None) => return Some(bytes),
                        Poll::Pending => std::thread::yield_now(),
                    }
                }
            }
        };
        let second = replay.replay().unwrap();
        let held = (round % 2 == 0).then_some(replay);
        let (first, second) = (
            std::thread::spawn(read(first)),
            std::thread::spawn(read(second)),
        );
        let first = first.join().unwrap();
        assert!(matches!(first, None | Some(640)), "{first:?}");
        assert_eq!(second.join().unwrap(), Some(640));
        drop(held);
    }
}

/// Says that it is polled, and stays there until it is told to go on.
struct Blocking {
    polled: std::sync::mpsc::Sender<()>,
    go_on: std::sync::mpsc::Receiver<Frames>,
}

impl Body for Blocking {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Frames {
        self.polled.send(()).unwrap();
        self.go_on.recv().unwrap()
    }
}

#[test]
fn an_original_that_is_being_polled_is_waited_for_and_nothing_of_it_lost() {
    type Case = (fn() -> Frames, fn(&Frames) -> bool, Option<&'static str>);

    let frame = || Poll::Ready(Some(Ok(Frame::data(Bytes::from("x")))));
    let broken = || Poll::Ready(Some(Err(BoxError::from(Gone))));
    let is_taken_over = |given: &Frames| match given {
        Poll::Ready(Some(Err(error))) => error.is::<ReplayError>(),
        _ => false,
    };
    let cases: [Case; 4] = [
        (frame, is_taken_over, Some("x")),
        (|| Poll::Pending, is_taken_over, None),
        (
            || Poll::Ready(None),
            |given| matches!(given, Poll::Ready(None)),
            Some(""),
        ),
        (
            broken,
            |given| matches!(given, Poll::Ready(Some(Err(error))) if error.is::<Gone>()),
            Some("lost"),
        ),
    ];
    for (gives, expected, then) in cases {
        let (polled, is_polled) = std::sync::mpsc::channel();
        let (go, go_on) = std::sync::mpsc::channel();
        let (mut first, replay) = ReplayBody::new(Blocking { polled, go_on }, CAP);
        let sending = std::thread::spawn(move || poll(&mut first));
        is_polled.recv().unwrap();

        let woken = Arc::new(Woken::default());
        let mut second = replay.replay().unwrap();
        assert_pending!(poll_with(&mut second, &woken.clone().into()));
        assert!(!second.is_end_stream());
        assert_eq!(woken.times(), 0);
        go.send(gives()).unwrap();
        let given = sending.join().unwrap();
        assert!(expected(&given), "{given:?}");
        assert_eq!(woken.times(), 1);
        match then {
            Some("lost") => assert_eq!(error(&mut second), ReplayError::Lost),
            Some("") => assert_eq!(next(&mut second), None),
            Some(data) => assert_eq!(next(&mut second).unwrap(), data),
            None => {
                go.send(frame()).unwrap();
                assert_eq!(next(&mut second).unwrap(), "x");
            }
        }
    }
}

// The exchange, in process and over a socket.

#[tokio::test]
async fn without_a_second_attempt_nothing_is_recorded() {
    let payload = Bytes::from(vec![b'x'; 8]);
    let exchange = HttpExchange::new().replaying(CAP);
    let req = Request::new(Script::new([data(payload.clone())]));
    let (sent, kept) = Exchange::first(&exchange, req, false);
    assert!(kept.is_none());
    let mut body = sent.into_body();
    next(&mut body);
    assert!(payload.is_unique());

    // Nor of what says that it is too long.
    let long = Script::chunks(["x"]).declares(CAP as u64 + 1);
    let (sent, kept) = Exchange::first(&exchange, Request::new(long), true);
    assert!(kept.is_none());
    assert_eq!(read(sent.into_body()).await.0, "x");
}

#[tokio::test]
async fn the_request_is_sent_again_as_it_was() {
    let exchange = HttpExchange::new().replaying(CAP);
    let req = Request::put("/hooks?x=1")
        .header("webhook-id", "msg_1")
        .extension(7_u8)
        .body(Script::chunks(["a", "b"]))
        .unwrap();
    let (first, mut kept) = Exchange::first(&exchange, req, true);
    assert!(Exchange::<Request<Script>>::can_send_again(
        &exchange,
        kept.as_ref().unwrap()
    ));
    drop(first);
    for last in [false, true] {
        let req = Exchange::<Request<Script>>::again(&exchange, &mut kept, last).unwrap();
        assert_eq!(kept.is_none(), last);
        assert_eq!(req.method(), "PUT");
        assert_eq!(req.uri(), "/hooks?x=1");
        assert_eq!(req.headers()["webhook-id"], "msg_1");
        assert_eq!(req.extensions().get(), Some(&7_u8));
        assert_eq!(read(req.into_body()).await.0, "ab");
    }
}

/// A body whose clone opens its source again, for uploads that are too long to be kept.
struct Reopened {
    opened: Arc<AtomicUsize>,
    body: Option<Script>,
}

impl Clone for Reopened {
    fn clone(&self) -> Self {
        Self {
            opened: Arc::clone(&self.opened),
            body: None,
        }
    }
}

impl Body for Reopened {
    type Data = Bytes;
    type Error = <Script as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let body = this.body.get_or_insert_with(|| {
            this.opened.fetch_add(1, Ordering::SeqCst);
            Script::chunks(["a", "b"])
        });
        Pin::new(body).poll_frame(cx)
    }
}

#[tokio::test]
async fn a_body_whose_clone_opens_its_source_again_is_opened_for_each_attempt() {
    let opened = Arc::new(AtomicUsize::new(0));
    let body = Reopened {
        opened: Arc::clone(&opened),
        body: None,
    };
    let (first, mut kept) = HttpExchange::new().first(Request::new(body), true);
    assert_eq!(opened.load(Ordering::SeqCst), 0);
    let mut first = first.into_body();
    first.frame().await.unwrap().unwrap();
    let again = HttpExchange::new().again(&mut kept, true).unwrap();
    assert_eq!(read(again.into_body()).await.0, "ab");
    assert_eq!(read(first).await.0, "b");
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

async fn discard(exchange: HttpExchange, body: Script) -> Duration {
    let begun = tokio::time::Instant::now();
    exchange.discard(Response::new(body)).await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_failed_answer_is_read_within_its_bounds() {
    let exchange = HttpExchange::new().discard_within(10, Duration::from_millis(100));

    let short = Script::new([
        data("12345"),
        Step::Wait(Duration::from_millis(50)),
        data("6"),
    ]);
    let probe = short.probe();
    assert_eq!(discard(exchange, short).await.as_millis(), 50);
    assert_eq!(probe.polls(), 4);

    for slow in [
        Script::new([data("1"), Step::Hang]),
        Script::new((0..9).flat_map(|_| [data("1"), Step::Wait(Duration::from_millis(30))])),
    ] {
        let probe = slow.probe();
        assert_eq!(discard(exchange, slow).await.as_millis(), 100);
        assert!(probe.is_dropped());
    }

    let long = Script::chunks(["12345", "67890", "1"]);
    let probe = long.probe();
    assert_eq!(discard(exchange, long).await, Duration::ZERO);
    assert_eq!(probe.polls(), 2);

    let declared = Script::chunks(["1"]).declares(11);
    let probe = declared.probe();
    discard(exchange, declared).await;
    assert_eq!(probe.polls(), 0);

    // No end, and no byte either; and an error.
    discard(HttpExchange::new(), Script::new([Step::Spin])).await;
    discard(exchange, Script::new([Step::Fail])).await;

    // Nor longer than the deadline.
    let begun = tokio::time::Instant::now();
    let mut discarding = pin!(exchange.discard(Response::new(Script::new([Step::Hang]))));
    let end = Deadline::at(begun + Duration::from_millis(20));
    std::future::poll_fn(|cx| end.scope(|| discarding.as_mut().poll(cx))).await;
    assert_eq!(begun.elapsed().as_millis(), 20);
}

#[test]
fn an_answer_that_is_here_needs_no_timer() {
    // No runtime here: a timer would panic.
    let mut discarding = pin!(HttpExchange::new().discard(Response::new(BufferedBody::from("x"))));
    assert_ready!(
        discarding
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    );
}

/// Answers the first request with 503 at its head, and reads the others; notes the peers' ports.
async fn early_server(bodies: mpsc::UnboundedSender<(Bytes, Option<HeaderMap>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (calls, bodies) = (Arc::clone(&calls), bodies.clone());
            let service = hyper::service::service_fn(move |req: Request<hyper::body::Incoming>| {
                let (calls, bodies) = (Arc::clone(&calls), bodies.clone());
                async move {
                    let mut res = Response::new(Full::<Bytes>::from("later"));
                    if calls.fetch_add(1, Ordering::SeqCst) == 0 {
                        *res.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                        // Held, so that the server goes on taking what is sent.
                        tokio::spawn(async move {
                            let _ = req.into_body().collect().await;
                        });
                    } else {
                        let collected = req.into_body().collect().await.unwrap();
                        let trailers = collected.trailers().cloned();
                        bodies.send((collected.to_bytes(), trailers)).unwrap();
                    }
                    Ok::<_, Infallible>(res)
                }
            });
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    });
    format!("http://{addr}/")
}

async fn early_answer(is_http2: bool) {
    let (bodies, mut received) = mpsc::unbounded_channel();
    let uri = early_server(bodies).await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(is_http2)
        .build_http::<ReplayBody<OwnedChannel>>();
    let (chunks, source) = mpsc::unbounded_channel();
    let exchange = HttpExchange::new().replaying(CAP);
    let req = Request::put(&uri).body(OwnedChannel(source)).unwrap();
    let (first, mut kept) = Exchange::first(&exchange, req, true);

    chunks.send(Frame::data(Bytes::from("one "))).unwrap();
    let answer = client.request(first).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    // The upload is still going on.
    chunks.send(Frame::data(Bytes::from("two "))).unwrap();
    assert!(Exchange::<Request<OwnedChannel>>::can_send_again(
        &exchange,
        kept.as_ref().unwrap()
    ));
    exchange.discard(answer).await;

    let again = Exchange::<Request<OwnedChannel>>::again(&exchange, &mut kept, true).unwrap();
    let answer = tokio::spawn(client.request(again));
    tokio::task::yield_now().await;
    chunks.send(Frame::data(Bytes::from("three"))).unwrap();
    chunks
        .send(Frame::trailers(header_map(&[("x-sum", "3")])))
        .unwrap();
    drop(chunks);
    assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
    let (body, trailers) = received.recv().await.unwrap();
    assert_eq!(body, "one two three");
    if is_http2 {
        assert_eq!(trailers.unwrap()["x-sum"], "3");
    }
}

struct OwnedChannel(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl Body for OwnedChannel {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// The same, through the layer.
async fn early_answer_through_the_layer(is_http2: bool) {
    let (bodies, mut received) = mpsc::unbounded_channel();
    let uri = early_server(bodies).await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(is_http2)
        .build_http::<ReplayBody<OwnedChannel>>();
    let (retried, mut retrying) = mpsc::unbounded_channel();
    let note = observer_fn(move |event| {
        if let Event::Retrying { outcome, .. } = event {
            retried.send(outcome.code()).unwrap();
        }
    });
    let service = RetryWithJitterLayer::new(RetryConfig::default())
        .exchange(HttpExchange::new().replaying(CAP))
        .observe(note)
        .layer(client);
    let (chunks, source) = mpsc::unbounded_channel();
    let req = Request::put(&uri).body(OwnedChannel(source)).unwrap();
    let calling = tokio::spawn(service.oneshot(req));
    chunks.send(Frame::data(Bytes::from("one "))).unwrap();
    assert_eq!(retrying.recv().await, Some(Some(503)));
    chunks.send(Frame::data(Bytes::from("two"))).unwrap();
    drop(chunks);
    let answer = calling.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let history = answer.extensions().get::<History>().unwrap();
    assert_eq!(history.attempts(), 2);
    assert_eq!(received.recv().await.unwrap().0, "one two");
}

#[tokio::test]
async fn the_retry_layer_sends_a_streaming_upload_again() {
    for is_http2 in [false, true] {
        let done = early_answer_through_the_layer(is_http2);
        timeout(Duration::from_secs(20), done).await.unwrap();
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_sent_again_is_sent_once_and_its_answer_returned() {
    let transport = service_fn(|req: Request<ReplayBody<Script>>| async move {
        assert_eq!(read(req.into_body()).await.0, "12345678");
        let res = Response::builder().status(503);
        Ok::<_, BoxError>(res.body(BufferedBody::from("busy"))?)
    });
    let layer = RetryWithJitterLayer::new(RetryConfig::default());
    for body in [
        Script::chunks(["1234", "5678"]),
        Script::chunks(["1234", "5678"]).declares(8),
    ] {
        let layer = layer.clone().exchange(HttpExchange::new().replaying(7));
        let req = Request::put("/").body(body).unwrap();
        let answer = layer.layer(transport).oneshot(req).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let history = answer.extensions().get::<History>().unwrap();
        assert_eq!(history.gave_up(), Some(GaveUp::BodyNotReplayable));
        assert_eq!(history.attempts(), 1);
        assert_eq!(read(answer.into_body()).await.0, "busy");
    }
}

#[tokio::test]
async fn an_early_answer_over_http1_does_not_end_retrying() {
    timeout(Duration::from_secs(20), early_answer(false))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_early_answer_over_http2_does_not_end_retrying() {
    timeout(Duration::from_secs(20), early_answer(true))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_failed_answer_that_is_read_leaves_its_connection_to_the_next() {
    let ports = Arc::new(Mutex::new(HashSet::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let seen = Arc::clone(&ports);
    tokio::spawn(async move {
        loop {
            let (socket, peer) = listener.accept().await.unwrap();
            seen.lock().unwrap().insert(peer.port());
            let service = hyper::service::service_fn(|req: Request<hyper::body::Incoming>| async {
                let lengths = req.headers().get_all("content-length").iter().count();
                let body = req.into_body().collect().await.unwrap().to_bytes();
                assert_eq!((lengths, body), (1, Bytes::from("hello")));
                let answer = Full::<Bytes>::from(vec![b'x'; 32 << 10]);
                Ok::<_, Infallible>(Response::builder().status(503).body(answer).unwrap())
            });
            tokio::spawn(async move {
                let builder = hyper::server::conn::http1::Builder::new();
                let _ = builder
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    });
    let client = Client::builder(TokioExecutor::new()).build_http::<ReplayBody<Full<Bytes>>>();
    let exchange = HttpExchange::new().replaying(CAP);
    let body = Full::<Bytes>::from("hello");
    let req = Request::put(format!("http://{addr}/")).body(body).unwrap();
    let (first, mut kept) = Exchange::first(&exchange, req, true);
    let mut sent = Some(first);
    for last in [false, false, true, true] {
        let answer = client.request(sent.take().unwrap()).await.unwrap();
        exchange.discard(answer).await;
        // The pool takes a connection back in a task of its own.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if kept.is_some() {
            sent = Exchange::<Request<Full<Bytes>>>::again(&exchange, &mut kept, last);
        }
    }
    assert_eq!(ports.lock().unwrap().len(), 1);
}
