//! The state machine behind a lock, and a word that lets calls of a closed breaker pass without the lock.

use super::{
    model::{BreakerMode, Rules, World},
    state::{Admission, Change, Evidence, Machine, Refusal},
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
};

#[derive(Debug)]
pub(super) struct Gate {
    /// The generation, shifted by one bit. The lowest bit is set if all calls of the generation pass.
    word: AtomicU64,
    machine: Mutex<Machine>,
}

impl Gate {
    pub(super) fn new(machine: Machine) -> Self {
        Self {
            word: AtomicU64::new(word(&machine)),
            machine: Mutex::new(machine),
        }
    }

    pub(super) fn admit(
        &self,
        rules: &Rules,
        world: &impl World,
    ) -> (Result<Admission, Refusal>, Option<Change>) {
        let word = self.word.load(Ordering::Acquire);
        if word & 1 == 1 {
            // The breaker may open at this moment. This call was then admitted just before, and its
            // result is stale.
            let admission = Admission {
                generation: word >> 1,
                ticket: 0,
                started: rules.slow_call.map(|_| world.now()),
                answered: None,
            };
            return (Ok(admission), None);
        }
        self.change(|machine| machine.admit(rules, world))
    }

    pub(super) fn settle(
        &self,
        rules: &Rules,
        admission: Admission,
        evidence: Evidence,
        world: &impl World,
    ) -> Option<Change> {
        self.change(|machine| machine.settle(rules, admission, evidence, world))
    }

    pub(super) fn set_mode(&self, mode: BreakerMode, world: &impl World) -> Option<Change> {
        self.change(|machine| machine.set_mode(mode, world))
    }

    pub(super) fn reset(&self, world: &impl World) -> Option<Change> {
        self.change(|machine| machine.reset(world))
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.lock())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.lock();
        let before = machine.generation();
        let result = change(&mut machine);
        if machine.generation() != before {
            // Stored under the lock, so that the words have the order of the states.
            self.word.store(word(&machine), Ordering::Release);
        }
        result
    }

    /// Ignores poisoning: no user code runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn word(machine: &Machine) -> u64 {
    machine.generation() << 1 | u64::from(machine.passes_all())
}
