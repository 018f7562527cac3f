//! A server that keeps each request as it stood on the wire, and answers with what a function says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Method and path.
    pub line: String,
    /// Lower-case names and values, sorted, without `host` and `content-length`.
    pub headers: Vec<String>,
    pub body: String,
}

impl Seen {
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let of = |line: &'_ String| line.strip_prefix(name)?.strip_prefix(": ").map(str::len);
        let (line, len) = self
            .headers
            .iter()
            .find_map(|line| Some((line, of(line)?)))?;
        Some(&line[line.len() - len..])
    }
}

#[derive(Clone)]
pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub async fn start(answer: impl Fn(&Seen) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let (seen, answer) = (Arc::clone(&server.seen), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&answer)));
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<impl Fn(&Seen) -> String>,
) {
    let mut bytes = Vec::new();
    loop {
        let request = loop {
            if let Some((request, len)) = parse(&bytes) {
                bytes.drain(..len);
                break request;
            }
            match stream.read_buf(&mut bytes).await {
                Ok(n) if n > 0 => {}
                _ => return,
            }
        };
        let text = answer(&request);
        seen.lock().unwrap().push(request);
        if text.is_empty() {
            // Hangs: the connection stays open, and nothing is said.
            std::future::pending::<()>().await;
        }
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Seen, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1");
    let mut length = 0;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        match &*name.to_ascii_lowercase() {
            "host" => {}
            "content-length" => length = value.parse().unwrap(),
            name => headers.push(format!("{name}: {value}")),
        }
    }
    headers.sort();
    let body = bytes.get(end..end + length)?;
    let seen = Seen {
        line: line.to_owned(),
        headers,
        body: str::from_utf8(body).unwrap().to_owned(),
    };
    Some((seen, end + length))
}

/// An answer with a body.
pub fn answer(status: u16, headers: &str, body: &str) -> String {
    let len = body.len();
    format!("HTTP/1.1 {status} x\r\n{headers}content-length: {len}\r\n\r\n{body}")
}

/// The answer of a token endpoint.
pub fn token(token: &str, expires_in: u64) -> String {
    let body =
        format!(r#"{{"access_token":"{token}","expires_in":{expires_in},"token_type":"Bearer"}}"#);
    answer(200, "content-type: application/json\r\n", &body)
}
