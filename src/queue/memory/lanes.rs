//! One lane for each target. Finds the next job among the targets that have room.

use crate::queue::Kinds;
use std::collections::{BTreeSet, HashMap};
use tokio::time::Instant;

/// The due time of a job, and its number, which grows in the order of arrival.
pub(super) type Spot = (Instant, u64);

/// The waiting jobs, by target and kind.
///
/// A claim reads only the heads of the lanes that have room, one set for each kind: a full lane costs
/// nothing, however many jobs wait in it.
#[derive(Debug)]
pub(super) struct Lanes {
    /// How many jobs of a target may run.
    per_target: u32,
    lanes: HashMap<String, Lane>,
    /// The first job of each kind in each lane that has room, by kind.
    heads: HashMap<String, BTreeSet<Spot>>,
    /// How many spots claims have looked at.
    #[cfg(test)]
    looked_at: std::cell::Cell<usize>,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: HashMap<String, BTreeSet<Spot>>,
    running: u32,
}

impl Lane {
    fn head(&self, kind: &str) -> Option<Spot> {
        self.waiting.get(kind)?.first().copied()
    }

    fn heads(&self) -> impl Iterator<Item = (&str, Spot)> {
        let heads = self.waiting.iter();
        heads.filter_map(|(kind, spots)| Some((kind.as_str(), *spots.first()?)))
    }

    fn remove(&mut self, kind: &str, spot: Spot) {
        if let Some(spots) = self.waiting.get_mut(kind) {
            spots.remove(&spot);
            if spots.is_empty() {
                self.waiting.remove(kind);
            }
        }
    }
}

impl Lanes {
    /// No limit if `per_target` is `u32::MAX`.
    pub(super) fn new(per_target: u32) -> Self {
        Self {
            per_target,
            lanes: HashMap::new(),
            heads: HashMap::new(),
            #[cfg(test)]
            looked_at: std::cell::Cell::default(),
        }
    }

    /// Adds a waiting job.
    pub(super) fn push(&mut self, target: &str, kind: &str, spot: Spot) {
        self.change(target, Some(kind), |lane| {
            if let Some(spots) = lane.waiting.get_mut(kind) {
                spots.insert(spot);
            } else {
                lane.waiting.insert(kind.to_owned(), [spot].into());
            }
        });
    }

    /// Removes a waiting job.
    pub(super) fn remove(&mut self, target: &str, kind: &str, spot: Spot) {
        self.change(target, Some(kind), |lane| lane.remove(kind, spot));
    }

    /// Moves a waiting job to running.
    pub(super) fn start(&mut self, target: &str, kind: &str, spot: Spot) {
        self.change(target, Some(kind), |lane| {
            lane.remove(kind, spot);
            lane.running = lane.running.saturating_add(1);
        });
    }

    /// Adds a running job.
    pub(super) fn enter(&mut self, target: &str) {
        self.change(target, None, |lane| {
            lane.running = lane.running.saturating_add(1);
        });
    }

    /// Ends a running job. Returns whether a waiting job could now run in its place.
    pub(super) fn stop(&mut self, target: &str, now: Instant) -> bool {
        self.change(target, None, |lane| {
            lane.running = lane.running.saturating_sub(1);
        });
        let lane = self.lanes.get(target);
        lane.is_some_and(|lane| {
            lane.running < self.per_target && lane.heads().any(|(_, (due, _))| due <= now)
        })
    }

    /// The job of these kinds that is due first, among lanes that have room.
    pub(super) fn first(&self, kinds: &Kinds) -> Option<Spot> {
        let first = |heads: &BTreeSet<Spot>| {
            #[cfg(test)]
            self.looked_at.set(self.looked_at.get() + 1);
            heads.first().copied()
        };
        match kinds {
            Kinds::All => self.heads.values().filter_map(first).min(),
            Kinds::Only(kinds) => {
                let heads = kinds.iter().filter_map(|kind| self.heads.get(kind));
                heads.filter_map(first).min()
            }
        }
    }

    /// The number of lanes.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// How many spots claims have looked at so far.
    #[cfg(test)]
    pub(super) const fn looked_at(&self) -> usize {
        self.looked_at.get()
    }

    /// Changes a lane, of whose waiting jobs only those of `kind` change.
    fn change(&mut self, target: &str, kind: Option<&str>, change: impl FnOnce(&mut Lane)) {
        if !self.lanes.contains_key(target) {
            self.lanes.insert(target.to_owned(), Lane::default());
        }
        let Some(lane) = self.lanes.get_mut(target) else {
            return;
        };
        let head = |lane: &Lane| kind.and_then(|kind| Some((kind, lane.head(kind)?)));
        let (had_room, before) = (lane.running < self.per_target, head(lane));
        change(lane);
        let (has_room, after) = (lane.running < self.per_target, head(lane));
        let heads = &mut self.heads;
        if had_room
            && (!has_room || before != after)
            && let Some(head) = before
        {
            remove_head(heads, head);
        }
        if has_room
            && (!had_room || before != after)
            && let Some(head) = after
        {
            add_head(heads, head);
        }
        if had_room != has_room {
            let others = lane.heads().filter(|(other, _)| Some(*other) != kind);
            for head in others {
                if has_room {
                    add_head(heads, head);
                } else {
                    remove_head(heads, head);
                }
            }
        }
        if lane.running == 0 && lane.waiting.is_empty() {
            self.lanes.remove(target);
        }
    }
}

fn add_head(heads: &mut HashMap<String, BTreeSet<Spot>>, (kind, spot): (&str, Spot)) {
    if let Some(heads) = heads.get_mut(kind) {
        heads.insert(spot);
    } else {
        heads.insert(kind.to_owned(), [spot].into());
    }
}

fn remove_head(heads: &mut HashMap<String, BTreeSet<Spot>>, (kind, spot): (&str, Spot)) {
    if let Some(of_kind) = heads.get_mut(kind) {
        of_kind.remove(&spot);
        if of_kind.is_empty() {
            heads.remove(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A hundred thousand jobs wait for full targets, and a claim looks at none of them.
    #[test]
    fn what_waits_in_full_lanes_costs_a_claim_nothing() {
        let now = Instant::now();
        let mut lanes = Lanes::new(8);
        let mut number = 0;
        let mut next = || {
            number += 1;
            (now, number)
        };
        for target in 0..100 {
            let target = format!("full-{target}");
            for _ in 0..1_000 {
                lanes.push(&target, "a", next());
            }
            for _ in 0..8 {
                let spot = lanes.lanes[&target].head("a");
                lanes.start(&target, "a", spot.expect("it was put in"));
            }
        }
        assert_eq!(lanes.first(&Kinds::All), None);
        let last = next();
        lanes.push("free", "a", last);
        let before = lanes.looked_at();
        assert_eq!(lanes.first(&Kinds::All), Some(last));
        assert_eq!(lanes.looked_at() - before, 1);

        assert!(lanes.stop("full-42", now));
        assert!(lanes.first(&Kinds::All) < Some(last));
    }

    #[test]
    fn a_lane_that_fills_hides_its_jobs_of_every_kind_until_it_has_room() {
        let now = Instant::now();
        let mut lanes = Lanes::new(1);
        for (number, kind) in [(1, "a"), (2, "b"), (3, "a")] {
            lanes.push("t", kind, (now, number));
        }
        let only = |kind: &str| Kinds::from([kind]);
        assert_eq!(lanes.first(&Kinds::All), Some((now, 1)));
        assert_eq!(lanes.first(&only("b")), Some((now, 2)));
        assert_eq!(lanes.first(&only("c")), None);
        lanes.start("t", "b", (now, 2));
        assert_eq!(lanes.first(&Kinds::All), None);
        lanes.enter("t");
        assert!(!lanes.stop("t", now), "another one runs");
        assert!(lanes.stop("t", now));
        assert_eq!(lanes.first(&Kinds::All), Some((now, 1)));
        lanes.start("t", "a", (now, 1));
        lanes.stop("t", now);
        assert_eq!(lanes.first(&only("a")), Some((now, 3)));
    }

    #[test]
    fn a_lane_leaves_with_its_last_job() {
        let now = Instant::now();
        let mut lanes = Lanes::new(8);
        lanes.push("a", "k", (now, 1));
        lanes.push("b", "k", (now + Duration::from_secs(1), 2));
        lanes.start("a", "k", (now, 1));
        assert_eq!(lanes.len(), 2);
        assert!(!lanes.stop("a", now));
        lanes.start("b", "k", (now + Duration::from_secs(1), 2));
        assert!(!lanes.stop("b", now));
        assert_eq!((lanes.len(), lanes.heads.len()), (0, 0));
        assert_eq!(lanes.first(&Kinds::All), None);
    }
}
