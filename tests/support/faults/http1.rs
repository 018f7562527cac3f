//! HTTP/1.1, byte by byte: no library would write half a head.

use super::{How, Point, Seen, Shared, Socket, Step, close_cleanly};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{fmt::Write as _, io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time,
};

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

struct Wire<S> {
    stream: S,
    /// Read, but not used.
    ahead: Vec<u8>,
}

/// Why a connection is over.
enum Over {
    Gone,
    Fault(How),
    Done,
}

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

pub(super) async fn serve<S: Socket>(stream: S, shared: &Shared, connection: usize) {
    let mut wire = Wire {
        stream,
        ahead: Vec::new(),
    };
    let over = loop {
        if let Err(over) = exchange(&mut wire, shared, connection).await {
            break over;
        }
    };
    match over {
        Over::Fault(How::Reset) => wire.stream.reset(),
        Over::Fault(_) => close_cleanly(wire.stream).await,
        Over::Gone | Over::Done => {}
    }
}

async fn exchange<S: Socket>(
    wire: &mut Wire<S>,
    shared: &Shared,
    connection: usize,
) -> Result<(), Over> {
    let (seen, framing) = wire.head(connection).await?;
    let (request, step) = shared.requested(seen);
    let at = async |point| match step.at(point) {
        Some(How::Stall) => {
            shared.stalled().await;
            Ok(())
        }
        Some(how) => Err(Over::Fault(how)),
        None => Ok(()),
    };
    if step.is_at(Point::Accept) {
        return Err(Over::Fault(step.how().expect("it is at a point")));
    }
    at(Point::Head).await?;
    if !step.early {
        match framing {
            Framing::Length(length) => {
                wire.body(shared, request, length / 2).await?;
                at(Point::MidRequest).await?;
                wire.body(shared, request, length - length / 2).await?;
            }
            Framing::Chunked => {
                wire.chunks(shared, request).await?;
                at(Point::MidRequest).await?;
            }
        }
        at(Point::Answer).await?;
    }

    let head = head(&step);
    let (first, second) = head.split_at(head.len() / 2);
    wire.write(&step, first).await?;
    at(Point::MidHead).await?;
    wire.write(&step, second).await?;
    at(Point::AfterHead).await?;
    let (first, second) = step.body.split_at(step.body.len() / 2);
    wire.write(&step, &data(&step, first)).await?;
    at(Point::MidBody).await?;
    wire.write(&step, &data(&step, second)).await?;
    at(Point::End).await?;
    if step.endless {
        loop {
            wire.write(&step, &data(&step, &[b'.'; 1024])).await?;
            time::sleep(Duration::from_millis(5)).await;
        }
    }
    if is_chunked(&step) {
        let mut end = "0\r\n".to_owned();
        for (name, value) in &step.trailers {
            let _ = write!(end, "{name}: {value}\r\n");
        }
        end.push_str("\r\n");
        wire.write(&step, end.as_bytes()).await?;
    }
    if step.closes() {
        wire.stream.shutdown().await?;
        return Err(Over::Done);
    }
    if step.early {
        match framing {
            Framing::Length(length) => wire.body(shared, request, length).await?,
            Framing::Chunked => wire.chunks(shared, request).await?,
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

fn is_chunked(step: &Step) -> bool {
    step.endless || !step.trailers.is_empty()
}

fn head(step: &Step) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", step.status);
    if is_chunked(step) {
        head.push_str("transfer-encoding: chunked\r\n");
    } else if step.status >= 200 && step.status != 204 {
        let _ = write!(head, "content-length: {}\r\n", step.body.len());
    }
    for (name, value) in &step.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn data(step: &Step, piece: &[u8]) -> Vec<u8> {
    if !is_chunked(step) || piece.is_empty() {
        return piece.to_vec();
    }
    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
    chunk.extend_from_slice(piece);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

impl<S: Socket> Wire<S> {
    async fn more(&mut self) -> Result<(), Over> {
        match self.stream.read_buf(&mut self.ahead).await? {
            0 => Err(Over::Gone),
            _ => Ok(()),
        }
    }

    async fn line(&mut self) -> Result<String, Over> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more().await?;
            if self.ahead.first() == Some(&HANDSHAKE) {
                // As servers answer to TLS where they expect none.
                let refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                self.stream.write_all(refusal).await?;
                return Err(Over::Fault(How::Close));
            }
        }
    }

    async fn head(&mut self, connection: usize) -> Result<(Seen, Framing), Over> {
        let first = self.line().await?;
        let mut words = first.split(' ').map(str::to_owned);
        let mut headers = HeaderMap::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(Over::Gone)?;
            let name: HeaderName = name.parse().map_err(|_| Over::Gone)?;
            let value = HeaderValue::from_str(value.trim()).map_err(|_| Over::Gone)?;
            headers.append(name, value);
        }
        let length = headers.get("content-length");
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        let framing = if headers.contains_key("transfer-encoding") {
            Framing::Chunked
        } else {
            Framing::Length(length.unwrap_or(0))
        };
        let seen = Seen {
            method: words.next().unwrap_or_default(),
            path: words.next().unwrap_or_default(),
            headers,
            body: Vec::new(),
            connection,
        };
        Ok((seen, framing))
    }

    /// Reads this much of the body.
    async fn body(&mut self, shared: &Shared, request: usize, mut left: usize) -> Result<(), Over> {
        while left > 0 {
            if self.ahead.is_empty() {
                self.more().await?;
            }
            let length = left.min(self.ahead.len());
            let piece: Vec<u8> = self.ahead.drain(..length).collect();
            shared.read(request, &piece);
            left -= length;
        }
        Ok(())
    }

    async fn chunks(&mut self, shared: &Shared, request: usize) -> Result<(), Over> {
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| Over::Gone)?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(());
            }
            self.body(shared, request, size).await?;
            self.line().await?;
        }
    }

    async fn write(&mut self, step: &Step, bytes: &[u8]) -> Result<(), Over> {
        let size = if step.trickle.is_some() {
            1
        } else {
            bytes.len().max(1)
        };
        for piece in bytes.chunks(size) {
            self.stream.write_all(piece).await?;
            self.stream.flush().await?;
            if let Some(pause) = step.trickle {
                time::sleep(pause).await;
            }
        }
        Ok(())
    }
}
