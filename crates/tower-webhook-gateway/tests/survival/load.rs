//! The sender, in a process of its own: it sends until it is told to stop, keeps what was not
//! answered as senders do, and writes down each answer.

use crate::{SECRET, moment::moment, now};
use std::{
    collections::VecDeque,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tower_webhook::signature::{
    Outgoing, SignScheme,
    scheme::{Cognigy, CognigyFormat},
};

/// How long an answer may take, and how long an event may go without one once sending has stopped.
const PATIENCE: Duration = Duration::from_secs(40);

/// Where a sender waits before it tries again.
const AWAY: Duration = Duration::from_millis(20);
const REFUSED: Duration = Duration::from_millis(100);

/// When it comes back to an event whose first request is said to be under way still.
const LATER: Duration = Duration::from_millis(500);

/// Of a hundred requests, those that repeat an event that was accepted before.
const REPEATS: u8 = 3;

/// Statuses that are asked for at a time.
const WATCHED: usize = 300;

#[derive(Clone, Copy)]
pub struct Settings {
    pub to: SocketAddr,
    pub senders: usize,
    /// Between two events of a sender.
    pub pause: Duration,
    /// After so many events it stops by itself.
    pub most: u64,
}

/// The running sender. Killed when it is dropped.
pub struct Load {
    child: Child,
    ledger: PathBuf,
}

impl Load {
    /// It writes to `ledger`.
    pub fn start(settings: Settings, ledger: &Path) -> Self {
        let child = Command::new(env::current_exe().expect("a test knows where it is"))
            .args(["load::child_that_sends", "--exact", "--nocapture"])
            .env("TEST_GATEWAY", settings.to.to_string())
            .env("TEST_LEDGER", ledger)
            .env("TEST_SENDERS", settings.senders.to_string())
            .env("TEST_PAUSE_MS", settings.pause.as_millis().to_string())
            .env("TEST_MOST", settings.most.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        Self {
            child,
            ledger: ledger.to_owned(),
        }
    }

    /// What it has written so far.
    pub fn so_far(&self) -> Vec<Line> {
        let text = fs::read_to_string(&self.ledger).unwrap_or_default();
        // The last line may be half there.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(Line::parse).collect()
    }

    /// Tells it to stop, and waits until each of its events is answered.
    pub fn finish(mut self) -> Vec<Line> {
        drop(self.child.stdin.take());
        let until = Instant::now() + PATIENCE + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                break status;
            }
            assert!(Instant::now() < until, "the sender does not end");
            thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "the sender saw something wrong: above");
        self.so_far()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Something that the sender saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: u64,
    pub event: u64,
    pub what: Seen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Answered 200. `known` where it was called a duplicate: of a request that was not answered.
    Accepted {
        known: bool,
        took: Duration,
    },
    /// Refused, with a `Retry-After` or without.
    Refused {
        status: u16,
        hint: bool,
    },
    /// The connection broke before the answer.
    Broken,
    /// An event that had been accepted before was sent again, and called a duplicate or not.
    Repeated {
        known: bool,
    },
    /// Its status says so.
    Delivered,
    Failed,
    Unknown,
}

impl Line {
    fn text(&self) -> String {
        let what = match &self.what {
            Seen::Accepted { known, took } => format!("accepted {known} {}", took.as_micros()),
            Seen::Refused { status, hint } => format!("refused {hint} {status}"),
            Seen::Broken => "broken".to_owned(),
            Seen::Repeated { known } => format!("repeated {known}"),
            Seen::Delivered => "delivered".to_owned(),
            Seen::Failed => "failed".to_owned(),
            Seen::Unknown => "unknown".to_owned(),
        };
        format!("{} {} {what}\n", self.at, self.event)
    }

    fn parse(line: &str) -> Self {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (at, event, what) = (word(), word(), word());
        let (flag, number) = (word() == "true", word().parse::<u64>().unwrap_or_default());
        Self {
            at: at.parse().expect("a time"),
            event: event.parse().expect("a number"),
            what: match what {
                "accepted" => Seen::Accepted {
                    known: flag,
                    took: Duration::from_micros(number),
                },
                "refused" => Seen::Refused {
                    status: u16::try_from(number).expect("a status"),
                    hint: flag,
                },
                "broken" => Seen::Broken,
                "repeated" => Seen::Repeated { known: flag },
                "delivered" => Seen::Delivered,
                "failed" => Seen::Failed,
                "unknown" => Seen::Unknown,
                other => panic!("{other:?} in the ledger"),
            },
        }
    }
}

/// The id of an event, and back.
pub fn id(event: u64) -> String {
    format!("evt-{event}")
}

pub fn number(id: &str) -> u64 {
    let number = id.strip_prefix("evt-").and_then(|n| n.parse().ok());
    number.unwrap_or_else(|| panic!("{id:?} was never sent"))
}

/// A whole request with an event.
pub fn request(event: u64, scheme: &impl SignScheme) -> Vec<u8> {
    let body = format!(
        r#"{{"eventId":"{}","timestamp":{},"type":"USER_INPUT_RECEIVED","payload":{{"input":"Grüße"}},"userId":"u-1"}}"#,
        id(event),
        moment()
    );
    let mut headers = http::HeaderMap::new();
    scheme
        .sign(&Outgoing::new(body.as_bytes(), 0), &mut headers)
        .expect("it signs");
    let signature = headers["x-cognigy-signature"]
        .to_str()
        .expect("hexadecimal");
    format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-cognigy-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
    )
    .into_bytes()
}

pub fn scheme() -> impl SignScheme {
    Cognigy::new(SECRET, [CognigyFormat::Hex])
        .expect("a secret")
        .sign_as(CognigyFormat::Hex)
}

/// Not a test of its own: the sender, when this binary is started as one.
#[test]
fn child_that_sends() {
    let Some(to) = env::var_os("TEST_GATEWAY") else {
        return;
    };
    let number = |name| env::var(name).unwrap().parse::<u64>().unwrap();
    let sender = Sender {
        to: to.to_str().unwrap().parse().unwrap(),
        pause: Duration::from_millis(number("TEST_PAUSE_MS")),
        most: number("TEST_MOST"),
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        accepted: Mutex::default(),
        watched: Mutex::default(),
        ledger: Mutex::new(fs::File::create(env::var_os("TEST_LEDGER").unwrap()).unwrap()),
    };
    thread::scope(|scope| {
        for _ in 0..number("TEST_SENDERS") {
            scope.spawn(|| sender.send());
        }
        scope.spawn(|| sender.watch());
        // Until our parent closes it, or is gone.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        sender.stop.store(true, Ordering::Relaxed);
    });
}

struct Sender {
    to: SocketAddr,
    pause: Duration,
    most: u64,
    next: AtomicU64,
    stop: AtomicBool,
    accepted: Mutex<Vec<u64>>,
    /// Events whose status is asked for, with their task ids.
    watched: Mutex<VecDeque<(u64, String)>>,
    ledger: Mutex<fs::File>,
}

impl Sender {
    fn write(&self, event: u64, what: Seen) {
        let at = now();
        let line = Line { at, event, what }.text();
        // One write: a line is whole or not there.
        let mut ledger = self.ledger.lock().unwrap();
        ledger.write_all(line.as_bytes()).unwrap();
    }

    fn send(&self) {
        let scheme = scheme();
        let mut connection = None;
        // What was answered 409, and when to ask again.
        let mut later: VecDeque<(Instant, u64)> = VecDeque::new();
        while !self.stop.load(Ordering::Relaxed) {
            if fastrand::u8(0..100) < REPEATS {
                self.repeat_one(&mut connection, &scheme);
            }
            let due = |(due, _): &(Instant, u64)| *due <= Instant::now();
            let event = match later.front().copied().filter(due) {
                Some((_, event)) => {
                    later.pop_front();
                    event
                }
                None => self.next.fetch_add(1, Ordering::Relaxed),
            };
            if event >= self.most {
                break;
            }
            match self.insist(&mut connection, event, &scheme) {
                Some((answer, took)) => self.note(event, &answer, took),
                None => later.push_back((Instant::now() + LATER, event)),
            }
            thread::sleep(self.pause);
        }
        let stopped = Instant::now();
        while let Some((_, event)) = later.pop_front() {
            assert!(
                stopped.elapsed() < PATIENCE,
                "{} is not accepted",
                id(event)
            );
            if let Some((answer, took)) = self.insist(&mut connection, event, &scheme) {
                self.note(event, &answer, took);
            } else {
                later.push_back((Instant::now(), event));
                thread::sleep(REFUSED);
            }
        }
        for _ in 0..10 {
            self.repeat_one(&mut connection, &scheme);
        }
    }

    fn note(&self, event: u64, answer: &serde_json::Value, took: Duration) {
        let known = answer["duplicate"] == true;
        self.write(event, Seen::Accepted { known, took });
        self.accepted.lock().unwrap().push(event);
        let mut watched = self.watched.lock().unwrap();
        if let Some(task) = answer["taskId"].as_str()
            && watched.len() < WATCHED
        {
            watched.push_back((event, task.to_owned()));
        }
    }

    /// Sends an event again that was accepted at some time.
    fn repeat_one(&self, connection: &mut Option<Connection>, scheme: &impl SignScheme) {
        let known = fastrand::choice(&*self.accepted.lock().unwrap()).copied();
        if let Some(event) = known
            && let Some((answer, _)) = self.insist(connection, event, scheme)
        {
            let known = answer["duplicate"] == true;
            self.write(event, Seen::Repeated { known });
        }
    }

    /// Sends an event until it is answered 200, or 409: another request with it is said to be under
    /// way. Gives the answer and the time of the last request.
    fn insist(
        &self,
        connection: &mut Option<Connection>,
        event: u64,
        scheme: &impl SignScheme,
    ) -> Option<(serde_json::Value, Duration)> {
        let request = request(event, scheme);
        let mut stopped = None;
        loop {
            let started = Instant::now();
            match self.ask(connection, &request) {
                Some(answer) if answer.status == 200 => {
                    let body = serde_json::from_slice(&answer.body).expect("JSON");
                    return Some((body, started.elapsed()));
                }
                Some(answer) => {
                    let (status, hint) = (answer.status, answer.retry_after);
                    self.write(event, Seen::Refused { status, hint });
                    if status == 409 {
                        return None;
                    }
                    thread::sleep(REFUSED);
                }
                None => {
                    assert!(
                        started.elapsed() < PATIENCE,
                        "{} is not answered",
                        id(event)
                    );
                    self.write(event, Seen::Broken);
                    thread::sleep(AWAY);
                }
            }
            if self.stop.load(Ordering::Relaxed) {
                let stopped = *stopped.get_or_insert_with(Instant::now);
                assert!(
                    stopped.elapsed() < PATIENCE,
                    "{} is not accepted",
                    id(event)
                );
            }
        }
    }

    fn ask(&self, connection: &mut Option<Connection>, request: &[u8]) -> Option<Answer> {
        if connection.is_none() {
            *connection = Connection::open(self.to);
        }
        let answer = connection.as_mut()?.ask(request);
        if answer.as_ref().is_none_or(|answer| answer.closes) {
            *connection = None;
        }
        answer
    }

    /// Asks what became of some of the events.
    fn watch(&self) {
        let mut connection = None;
        while !self.stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(3));
            let Some((event, task)) = self.watched.lock().unwrap().pop_front() else {
                continue;
            };
            let path = format!("/webhooks/cognigy/status/{task}");
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            match self.ask(&mut connection, request.as_bytes()) {
                Some(answer) if answer.status == 200 => {
                    let body: serde_json::Value =
                        serde_json::from_slice(&answer.body).expect("JSON");
                    let delivered = body["nextNode"] == "continue_dialog";
                    self.write(
                        event,
                        if delivered {
                            Seen::Delivered
                        } else {
                            Seen::Failed
                        },
                    );
                }
                Some(answer) if answer.status == 404 => self.write(event, Seen::Unknown),
                _ => self.watched.lock().unwrap().push_back((event, task)),
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

struct Answer {
    status: u16,
    retry_after: bool,
    closes: bool,
    body: Vec<u8>,
}

impl Connection {
    fn open(to: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(to).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let answers = BufReader::new(stream.try_clone().ok()?);
        Some(Self { stream, answers })
    }

    /// `None` where the connection broke: nobody knows then what became of the request.
    fn ask(&mut self, request: &[u8]) -> Option<Answer> {
        self.stream.write_all(request).ok()?;
        let mut line = String::new();
        let mut next = |line: &mut String| {
            line.clear();
            self.answers.read_line(line).ok().filter(|read| *read > 0)
        };
        next(&mut line)?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let (mut length, mut retry_after, mut closes) = (0, false, false);
        loop {
            next(&mut line)?;
            if line == "\r\n" {
                break;
            }
            let (name, value) = line.split_once(':')?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "retry-after" => retry_after = value.trim().parse::<u64>().is_ok(),
                "connection" => closes = value.trim() == "close",
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.answers.read_exact(&mut body).ok()?;
        Some(Answer {
            status,
            retry_after,
            closes,
            body,
        })
    }
}
