//! What can be done wrong, and where.

use h2::Reason;
use std::time::Duration;

/// Where in an exchange something happens, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before a byte is read, or TLS begun. On a connection that is kept alive: as `Head`.
    Accept,
    /// After the head of the request.
    Head,
    /// After half of the request's body, or the whole of it where its length is not declared.
    MidRequest,
    /// After the whole request.
    Answer,
    /// After half of the answer's head. HTTP/2 has no half heads: as `Answer`.
    MidHead,
    /// After the head of the answer.
    AfterHead,
    /// After half of the answer's body.
    MidBody,
    /// After the whole body, before its trailers, or before its end is marked.
    End,
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// An RST of the connection (`SO_LINGER` 0).
    Reset,
    /// A FIN.
    Close,
    /// Nothing more, until it is released.
    Stall,
    /// HTTP/2: `RST_STREAM`.
    Stream(Reason),
    /// HTTP/2: GOAWAY, with the request processed as far as the point, or not at all; then a FIN.
    GoAway { reason: Reason, processed: bool },
}

/// An answer, and what goes wrong with it.
#[derive(Clone, Debug)]
pub struct Step {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) trickle: Option<Duration>,
    pub(super) endless: bool,
    pub(super) early: bool,
    fault: Option<(How, Point)>,
}

/// An answer without a body. Nothing is wrong with it.
pub fn answer(status: u16) -> Step {
    Step {
        status,
        headers: Vec::new(),
        body: Vec::new(),
        trailers: Vec::new(),
        trickle: None,
        endless: false,
        early: false,
        fault: None,
    }
}

/// A 200 that is cut by an RST.
pub fn reset(at: Point) -> Step {
    answer(200).body("a body that is cut").fault(How::Reset, at)
}

/// A 200 that is cut by a FIN.
pub fn close(at: Point) -> Step {
    answer(200).body("a body that is cut").fault(How::Close, at)
}

/// A 200 that stalls until [`release`](super::Faults::release).
pub fn stall(at: Point) -> Step {
    answer(200).body("a body that waits").fault(How::Stall, at)
}

/// GOAWAY with `NO_ERROR`, for a request that was not processed.
pub fn go_away() -> Step {
    let (reason, processed) = (Reason::NO_ERROR, false);
    answer(200).fault(How::GoAway { reason, processed }, Point::Head)
}

/// A gRPC answer of trailers only: its status is in its head.
pub fn grpc(code: u16) -> Step {
    let head = answer(200).header("content-type", "application/grpc");
    head.header("grpc-status", &code.to_string())
}

/// A gRPC answer with a message and its status in the trailers.
pub fn grpc_late(code: u16, message: &[u8]) -> Step {
    let length = u32::try_from(message.len()).expect("a small message");
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    let head = answer(200).header("content-type", "application/grpc");
    head.body(framed).trailer("grpc-status", &code.to_string())
}

impl Step {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the answer byte by byte; the head too, with HTTP/1.
    pub fn trickle(mut self, every: Duration) -> Self {
        self.trickle = Some(every);
        self
    }

    /// Goes on with the body for ever.
    pub fn endless(mut self) -> Self {
        self.endless = true;
        self
    }

    /// Answers when the head was read, and reads the body only then; with `connection: close`, not
    /// at all.
    pub fn early(mut self) -> Self {
        self.early = true;
        self
    }

    pub fn fault(mut self, how: How, at: Point) -> Self {
        self.fault = Some((how, at));
        self
    }

    pub(super) fn is_at(&self, point: Point) -> bool {
        self.fault.is_some_and(|(_, at)| at == point)
    }

    pub(super) fn how(&self) -> Option<How> {
        self.fault.map(|(how, _)| how)
    }

    /// What goes wrong here, if it is here.
    pub(super) fn at(&self, point: Point) -> Option<How> {
        self.how().filter(|_| self.is_at(point))
    }

    pub(super) fn closes(&self) -> bool {
        let mut headers = self.headers.iter();
        headers.any(|(name, value)| name == "connection" && value == "close")
    }
}
