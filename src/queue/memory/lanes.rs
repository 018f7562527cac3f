//! One lane for each target. Finds the next job among the targets that have room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio::time::Instant;

/// The due time of a job, and its number, which grows in the order of arrival.
pub(super) type Spot = (Instant, u64);

/// The waiting jobs, by target.
///
/// Lanes are grouped by their number of running jobs; each group is a set of the first jobs of its
/// lanes. A claim reads only the sets of lanes that have room: a full lane costs nothing, however many
/// jobs wait in it. The number of sets is at most the number of running jobs in the fullest lane, and at
/// most the square root of twice the number of all running jobs.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<String, Lane>,
    heads: BTreeMap<u32, BTreeSet<Spot>>,
    /// How many spots claims have looked at.
    #[cfg(test)]
    looked_at: std::cell::Cell<usize>,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeSet<Spot>,
    running: u32,
}

impl Lanes {
    /// Adds a waiting job.
    pub(super) fn push(&mut self, target: &str, spot: Spot) {
        self.change(target, |lane| {
            lane.waiting.insert(spot);
        });
    }

    /// Removes a waiting job.
    pub(super) fn remove(&mut self, target: &str, spot: Spot) {
        self.change(target, |lane| {
            lane.waiting.remove(&spot);
        });
    }

    /// Moves a waiting job to running.
    pub(super) fn start(&mut self, target: &str, spot: Spot) {
        self.change(target, |lane| {
            lane.waiting.remove(&spot);
            lane.running = lane.running.saturating_add(1);
        });
    }

    /// Ends a running job. Returns whether a waiting job could now run in its place.
    pub(super) fn stop(&mut self, target: &str, now: Instant) -> bool {
        self.change(target, |lane| lane.running = lane.running.saturating_sub(1));
        let lane = self.lanes.get(target);
        lane.and_then(|lane| lane.waiting.first())
            .is_some_and(|(due, _)| *due <= now)
    }

    /// The job that is due first, among lanes with fewer than `per_target` running jobs.
    pub(super) fn first(&self, per_target: u32) -> Option<Spot> {
        let heads = self.heads.range(..per_target);
        heads
            .filter_map(|(_, heads)| {
                #[cfg(test)]
                self.looked_at.set(self.looked_at.get() + 1);
                heads.first().copied()
            })
            .min()
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

    fn change(&mut self, target: &str, change: impl FnOnce(&mut Lane)) {
        if !self.lanes.contains_key(target) {
            self.lanes.insert(target.to_owned(), Lane::default());
        }
        let Some(lane) = self.lanes.get_mut(target) else {
            return;
        };
        let before = (lane.running, lane.waiting.first().copied());
        change(lane);
        let after = (lane.running, lane.waiting.first().copied());
        if after == (0, None) {
            self.lanes.remove(target);
        }
        if before == after {
            return;
        }
        if let (running, Some(head)) = before
            && let Some(heads) = self.heads.get_mut(&running)
        {
            heads.remove(&head);
            if heads.is_empty() {
                self.heads.remove(&running);
            }
        }
        if let (running, Some(head)) = after {
            self.heads.entry(running).or_default().insert(head);
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
        let mut lanes = Lanes::default();
        let mut number = 0;
        let mut next = || {
            number += 1;
            (now, number)
        };
        for target in 0..100 {
            let target = format!("full-{target}");
            for _ in 0..1_000 {
                lanes.push(&target, next());
            }
            for _ in 0..8 {
                let spot = lanes.lanes[&target].waiting.first().copied();
                lanes.start(&target, spot.expect("it was put in"));
            }
        }
        let last = next();
        lanes.push("free", last);
        let before = lanes.looked_at();
        assert_eq!(lanes.first(8), Some(last));
        assert_eq!(lanes.looked_at() - before, 1);

        // One lane has room again. Two sets: lanes with no running job, and lanes with seven.
        assert!(lanes.stop("full-42", now));
        let before = lanes.looked_at();
        assert!(lanes.first(8) < Some(last));
        assert_eq!(lanes.looked_at() - before, 2);
    }

    #[test]
    fn a_lane_leaves_with_its_last_job() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        lanes.push("a", (now, 1));
        lanes.push("b", (now + Duration::from_secs(1), 2));
        lanes.start("a", (now, 1));
        assert_eq!(lanes.len(), 2);
        assert!(!lanes.stop("a", now));
        lanes.remove("b", (now + Duration::from_secs(1), 2));
        assert_eq!((lanes.len(), lanes.heads.len()), (0, 0));
        assert_eq!(lanes.first(u32::MAX), None);
    }
}
