//! Who may look a new name up next. The newest first: in a flood those who have waited for long are soon told that they
//! waited in vain, so a queue in the order of arrival would serve nobody in time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot::{self, Receiver, Sender};

pub(super) struct Turns {
    queue: Mutex<Queue>,
    most_waiting: usize,
}

struct Queue {
    free: usize,
    /// The oldest is at the front.
    waiting: VecDeque<Sender<Turn>>,
}

/// The right to look a name up. Whoever drops it, or does not read it any more, passes it on.
pub(super) struct Turn {
    turns: Arc<Turns>,
}

impl Turns {
    pub(super) fn new(at_a_time: usize, most_waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue {
                free: at_a_time,
                waiting: VecDeque::new(),
            }),
            most_waiting,
        })
    }

    /// Waits in line. If too many wait, the oldest of them gets no turn: its receiver ends.
    pub(super) fn wait(self: &Arc<Self>) -> Receiver<Turn> {
        let (turn, waits) = oneshot::channel();
        let mut queue = self.lock();
        queue.waiting.push_back(turn);
        let is_free = queue.free > 0;
        queue.free -= usize::from(is_free);
        let oldest = if !is_free && queue.waiting.len() > self.most_waiting {
            queue.waiting.pop_front()
        } else {
            None
        };
        drop(queue);
        drop(oldest);
        if is_free {
            self.pass_on();
        }
        waits
    }

    /// Gives a turn to the newest who still waits.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let mut queue = self.lock();
            let Some(newest) = queue.waiting.pop_back() else {
                queue.free += 1;
                return;
            };
            drop(queue);
            if !newest.is_closed() {
                let turn = Turn {
                    turns: self.clone(),
                };
                // One that cannot be sent is dropped here, and so passed on.
                drop(newest.send(turn));
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    #[test]
    fn the_newest_is_next_and_the_oldest_makes_room() {
        let turns = Turns::new(1, 3);
        let first = turns.wait().try_recv().unwrap();
        let mut waiting: Vec<_> = (0..4).map(|_| turns.wait()).collect();
        assert_eq!(waiting[0].try_recv().err(), Some(TryRecvError::Closed));
        drop(first);
        let newest = waiting.pop().unwrap().try_recv().unwrap();
        for other in &mut waiting[1..] {
            assert_eq!(other.try_recv().err(), Some(TryRecvError::Empty));
        }
        // Who has left is passed over, and so is who leaves with a turn that was not read.
        drop(waiting.pop());
        drop(newest);
        drop(waiting);
        let again = turns.wait().try_recv().unwrap();
        let mut last = turns.wait();
        assert_eq!(last.try_recv().err(), Some(TryRecvError::Empty));
        drop(again);
        assert!(last.try_recv().is_ok());
        assert_eq!(turns.lock().free, 1);
    }
}
