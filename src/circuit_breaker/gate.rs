//! The machine behind a lock, and before it a word that lets calls of a closed breaker pass without
//! the lock.

use super::{
    call::{Admission, Change, Evidence, Refusal},
    model::BreakerMode,
    rules::{Rules, World},
    state::Machine,
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
};

#[derive(Debug)]
pub(super) struct Gate {
    /// The generation, and in the lowest bit whether all its calls pass.
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
            // It may open this very moment: then this call came just before, and its result counts
            // as late.
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
            // Under the lock, so that the words follow one another as the states do.
            self.word.store(word(&machine), Ordering::Release);
        }
        result
    }

    /// Nothing of a user's runs under the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn word(machine: &Machine) -> u64 {
    machine.generation() << 1 | u64::from(machine.passes_all())
}
