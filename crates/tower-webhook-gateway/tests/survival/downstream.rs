//! A downstream of a bad day: refuses some, answers some too late or not at all, hangs up on some,
//! and never takes the poison. It writes down what it answered, and when.

use crate::now;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How it treats what comes. The shares are of all requests; what is left over is taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mood {
    /// Answered 503.
    pub unavailable: f64,
    /// Answered 400: not to be tried again.
    pub rejected: f64,
    /// Never answered.
    pub hung: f64,
    /// Cut off without an answer.
    pub reset: f64,
    /// The time that an answer takes.
    pub slow: Duration,
    /// Whether some events are [poison](poison).
    pub poisoned: bool,
}

/// What will never be taken: by the number of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    /// Always 400.
    Rejected,
    /// Always 500.
    Failing,
}

pub const fn poison(event: u64) -> Option<Poison> {
    match event % 100 {
        13 => Some(Poison::Rejected),
        57 => Some(Poison::Failing),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 2xx, all of it written.
    Taken,
    /// 400, 500 or 503.
    Status(u16),
    /// No answer, or nobody was left to hear it.
    None,
}

/// A request, by the number of its event.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub event: u64,
    pub at: u64,
    pub answered: u64,
    pub answer: Answer,
}

pub struct Downstream {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    random: fastrand::Rng,
    keep: bool,
    arrivals: Vec<Arrival>,
    /// How often each event was taken, and how many were at all.
    taken: Vec<u8>,
    delivered: u64,
    requests: u64,
}

impl Downstream {
    /// Listens on a free loopback port until the test ends. `keep` keeps every arrival; without, it
    /// only counts.
    pub fn start(seed: u64, mood: Mood, keep: bool) -> Self {
        let state = Arc::new(Mutex::new(State {
            mood,
            random: fastrand::Rng::with_seed(seed),
            keep,
            arrivals: Vec::new(),
            taken: Vec::new(),
            delivered: 0,
            requests: 0,
        }));
        let (sender, receiver) = std::sync::mpsc::channel();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let address = listener.local_addr().expect("an address");
                sender.send(address).expect("awaited");
                loop {
                    if let Ok((stream, _)) = listener.accept().await {
                        let _ = stream.set_nodelay(true);
                        tokio::spawn(serve(stream, Arc::clone(&shared)));
                    }
                }
            });
        });
        let address = receiver.recv().expect("it starts");
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// From now on.
    pub fn mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// Every request so far, by the time that it came.
    pub fn arrivals(&self) -> Vec<Arrival> {
        let mut arrivals = self.state().arrivals.clone();
        arrivals.sort_by_key(|arrival| arrival.at);
        arrivals
    }

    /// How often an event was taken.
    pub fn taken(&self, event: u64) -> u8 {
        let event = usize::try_from(event).expect("a number in memory");
        self.state().taken.get(event).copied().unwrap_or_default()
    }

    /// Requests, events that were taken, and events that were taken twice or more.
    pub fn counts(&self) -> (u64, u64, usize) {
        let state = self.state();
        let repeated = state.taken.iter().filter(|times| **times > 1).count();
        (state.requests, state.delivered, repeated)
    }

    /// Events that were taken: without looking at each.
    pub fn delivered(&self) -> u64 {
        self.state().delivered
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

impl State {
    fn answer(&mut self, event: u64) -> Plan {
        let Mood {
            unavailable,
            rejected,
            hung,
            reset,
            slow,
            poisoned,
        } = self.mood;
        if let Some(poison) = poison(event).filter(|_| poisoned) {
            return Plan::Answer(
                match poison {
                    Poison::Rejected => 400,
                    Poison::Failing => 500,
                },
                slow,
            );
        }
        let mut draw = self.random.f64();
        for (share, plan) in [
            (unavailable, Plan::Answer(503, slow)),
            (rejected, Plan::Answer(400, slow)),
            (hung, Plan::Hang),
            (reset, Plan::Reset),
        ] {
            if draw < share {
                return plan;
            }
            draw -= share;
        }
        Plan::Answer(200, slow)
    }

    fn record(&mut self, arrival: Arrival) {
        self.requests += 1;
        if arrival.answer == Answer::Taken {
            let event = usize::try_from(arrival.event).expect("a number in memory");
            if event >= self.taken.len() {
                self.taken.resize(event + 1, 0);
            }
            self.delivered += u64::from(self.taken[event] == 0);
            self.taken[event] = self.taken[event].saturating_add(1);
        }
        if self.keep {
            self.arrivals.push(arrival);
        }
    }
}

#[derive(Clone, Copy)]
enum Plan {
    Answer(u16, Duration),
    Hang,
    Reset,
}

/// One connection: HTTP/1.1 as the gateway's client speaks it, by hand, because no server library
/// hangs up in the middle.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut buffer = Vec::with_capacity(4096);
    while let Some(event) = request(&mut stream, &mut buffer).await {
        let at = now();
        let plan = state.lock().expect("nobody panics with it").answer(event);
        let answer = carry_out(plan, &mut stream).await;
        let answered = now();
        state
            .lock()
            .expect("nobody panics with it")
            .record(Arrival {
                event,
                at,
                answered,
                answer,
            });
        if answer == Answer::None {
            // Not an orderly end, where it was not asked for.
            let _ = stream.set_zero_linger();
            return;
        }
    }
}

async fn carry_out(plan: Plan, stream: &mut TcpStream) -> Answer {
    let (status, slow) = match plan {
        Plan::Answer(status, slow) => (status, slow),
        Plan::Hang => {
            // Until the other side gives up.
            let _ = stream.read_u8().await;
            return Answer::None;
        }
        Plan::Reset => return Answer::None,
    };
    if !slow.is_zero() {
        let mut one = [0];
        tokio::select! {
            () = tokio::time::sleep(slow) => {}
            // Nobody is left to hear the answer.
            _ = stream.peek(&mut one) => return Answer::None,
        }
    }
    let text = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
    match stream.write_all(text.as_bytes()).await {
        Ok(()) if status == 200 => Answer::Taken,
        Ok(()) => Answer::Status(status),
        Err(_) => Answer::None,
    }
}

/// The event of the next whole request: the number in its `Idempotency-Key`.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<u64> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        read(stream, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let length: usize = header("content-length")?.parse().ok()?;
    let event = crate::load::number(header("idempotency-key")?);
    while buffer.len() < end + length {
        read(stream, buffer).await?;
    }
    buffer.drain(..end + length);
    Some(event)
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}
