//! Slows those who guess: answers 401 are delayed for a peer that got many, and then replaced by 429.
//!
//! Only what is refused is slowed. A request with the right credentials passes at once, also from an address
//! that others guess from. It is a bound on what guessing costs the gateway, and it makes guessing seen; what makes
//! it futile is the length of the secrets.

use crate::peer::Peer;
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::StatusCode;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tower_webhook::{
    observe::{Event, Id, Observers},
    problem::Problem,
};

/// The number of refusals in a row that cost a peer nothing: a sender with a wrong secret, or a suite of tests, is not
/// one who guesses.
const FREE: u32 = 100;

/// After them, one refusal in this time.
const EACH: Duration = Duration::from_millis(100);

/// The longest delay of an answer; with `EACH`, at most fifty answers of a peer wait at the same time.
const LONGEST: Duration = Duration::from_secs(5);

/// The shortest time between two looks for peers that can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// The largest number of peers that are known by name. Beyond it, the others count as one.
const MAX_PEERS: usize = 10_000;

/// The refusals of each peer.
pub(crate) struct Guesses {
    table: Mutex<Table>,
    observers: Observers,
}

impl Guesses {
    pub fn new(observers: Observers) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::default(),
            observers,
        })
    }

    fn refused(&self, peer: Peer) -> Verdict {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = table.refused(peer, Instant::now());
        drop(table);
        let reason = match verdict {
            Verdict::Now => return verdict,
            Verdict::After(_) => "slowed",
            Verdict::TooMany(_) => "too_many",
        };
        self.observers.tell(|| Event::Refused {
            by: "guesses",
            reason,
            detail: Id::new(&peer.0),
        });
        verdict
    }
}

/// Middleware around all routes.
pub async fn slow(State(guesses): State<Arc<Guesses>>, req: Request, next: Next) -> Response {
    let peer = req.extensions().get::<Peer>().copied();
    let answer = next.run(req).await;
    let Some(peer) = peer.filter(|_| answer.status() == StatusCode::UNAUTHORIZED) else {
        return answer;
    };
    match guesses.refused(peer) {
        Verdict::Now => answer,
        Verdict::After(wait) => {
            tokio::time::sleep(wait).await;
            answer
        }
        Verdict::TooMany(wait) => Problem::new(StatusCode::TOO_MANY_REQUESTS)
            .retry_after(wait)
            .into_response()
            .map(Body::new),
    }
}

/// When a refusal is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Now,
    After(Duration),
    TooMany(Duration),
}

#[derive(Default)]
struct Table {
    /// For each peer, the time at which all its refusals are forgotten.
    peers: HashMap<Peer, Instant>,
    others: Option<Instant>,
    swept: Option<Instant>,
}

impl Table {
    fn refused(&mut self, peer: Peer, now: Instant) -> Verdict {
        let clear = self.place(peer, now);
        let from = (*clear).max(now);
        let wait = from.duration_since(now).saturating_sub(EACH * (FREE - 1));
        if wait > LONGEST {
            return Verdict::TooMany(wait);
        }
        *clear = from + EACH;
        if wait.is_zero() {
            Verdict::Now
        } else {
            Verdict::After(wait)
        }
    }

    fn place(&mut self, peer: Peer, now: Instant) -> &mut Instant {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            // Once a second at most, because it looks at every peer.
            if self
                .swept
                .is_none_or(|swept| now.duration_since(swept) >= SWEEP)
            {
                self.swept = Some(now);
                self.peers.retain(|_, clear| *clear > now);
            }
            if self.peers.len() >= MAX_PEERS {
                return self.others.get_or_insert(now);
            }
        }
        self.peers.entry(peer).or_insert(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn peer(number: u32) -> Peer {
        IpAddr::from(Ipv4Addr::from(number)).into()
    }

    #[test]
    fn some_are_free_then_ten_a_second_and_no_answer_waits_long() {
        let start = Instant::now();
        let mut table = Table::default();
        for _ in 0..FREE {
            assert_eq!(table.refused(peer(1), start), Verdict::Now);
        }
        for waiting in 1..=50 {
            let wait = Verdict::After(EACH * waiting);
            assert_eq!(table.refused(peer(1), start), wait);
        }
        for _ in 0..1000 {
            let too_many = Verdict::TooMany(LONGEST + EACH);
            assert_eq!(table.refused(peer(1), start), too_many);
        }
        // Others are not slowed by it.
        assert_eq!(table.refused(peer(2), start), Verdict::Now);
        // One more after a while.
        let later = start + EACH;
        assert_eq!(table.refused(peer(1), later), Verdict::After(LONGEST));
        assert_eq!(
            table.refused(peer(1), later),
            Verdict::TooMany(LONGEST + EACH)
        );
        // After a rest it has its free ones again, and no more.
        let rested = start + Duration::from_secs(1000);
        for _ in 0..FREE {
            assert_eq!(table.refused(peer(1), rested), Verdict::Now);
        }
        assert_eq!(table.refused(peer(1), rested), Verdict::After(EACH));
    }

    #[test]
    fn the_table_is_bounded_and_idle_peers_leave() {
        let start = Instant::now();
        let mut table = Table::default();
        for number in 0..20_000 {
            table.refused(peer(number), start);
        }
        assert_eq!(table.peers.len(), MAX_PEERS);
        // Those without a place share one.
        let shared = table.refused(peer(30_000), start);
        assert!(matches!(shared, Verdict::TooMany(_)), "{shared:?}");
        assert_eq!(table.refused(peer(1), start), Verdict::Now);
        let later = start + Duration::from_secs(2);
        assert_eq!(table.refused(peer(30_000), later), Verdict::Now);
        assert!(table.peers.len() < 10, "{}", table.peers.len());
    }
}
