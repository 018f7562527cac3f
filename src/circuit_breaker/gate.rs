//! The state machine behind a lock, and a word that lets calls of a closed breaker pass without the lock.
//!
//! The word holds, from the lowest bit:
//!
//! | Bits | Meaning |
//! | --- | --- |
//! | 1 | all calls of the generation pass |
//! | 1 | a success changes nothing but how many there were: nothing is held against the peer |
//! | 16 | successes that the machine has not been told of |
//! | 46 | the generation, of all breakers: enough for a change each microsecond for two years |
//!
//! So a call that succeeds, of a peer that is well, is one read and one addition. Successes are added only to
//! a word with the second bit. Whoever has the lock takes bit and successes away together before anything
//! else, so a success comes either before the work under the lock or after it.

use super::{
    model::{BreakerMode, Rules, World},
    state::{Admission, Change, Evidence, Machine, Refusal},
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
};

const PASSES: u64 = 1;
const WELL: u64 = 1 << 1;
const SUCCESS: u64 = 1 << 2;
const GENERATION: u32 = 18;
const SUCCESSES: u64 = (1 << GENERATION) - SUCCESS;

// The word first, and the lock next to it: see `Breaker`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Gate {
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

    /// Admits a call without the lock, if the breaker lets every call pass.
    #[inline]
    pub(super) fn pass(&self, rules: &Rules, world: &impl World) -> Option<Admission> {
        let word = self.word.load(Ordering::Acquire);
        // The breaker may open at this moment. This call was then admitted just before, and its result is stale.
        (word & PASSES != 0).then(|| Admission {
            generation: word >> GENERATION,
            ticket: 0,
            started: rules.slow_call.map(|_| world.now()),
            answered: None,
        })
    }

    pub(super) fn admit(
        &self,
        rules: &Rules,
        world: &impl World,
    ) -> (Result<Admission, Refusal>, Option<Change>) {
        match self.pass(rules, world) {
            Some(admission) => (Ok(admission), None),
            None => self.change(|machine| machine.admit(rules, world)),
        }
    }

    #[inline]
    pub(super) fn settle(
        &self,
        rules: &Rules,
        admission: Admission,
        evidence: Evidence,
        world: &impl World,
    ) -> Option<Change> {
        if evidence == Evidence::Healthy && self.count_success(admission.generation) {
            return None;
        }
        self.judge(rules, admission, evidence, world)
    }

    #[inline(never)]
    fn judge(
        &self,
        rules: &Rules,
        admission: Admission,
        evidence: Evidence,
        world: &impl World,
    ) -> Option<Change> {
        self.change(|machine| machine.settle(rules, admission, evidence, world))
    }

    /// Counts a success in the word, if that is all there is to do.
    #[inline]
    fn count_success(&self, generation: u64) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        // The generation of a probe is without the bit, and so is a machine that times its calls.
        while word & WELL != 0 && word >> GENERATION == generation && word & SUCCESSES != SUCCESSES
        {
            let more = word + SUCCESS;
            // Released, so that whoever takes it sees what came before it.
            let added =
                self.word
                    .compare_exchange_weak(word, more, Ordering::Release, Ordering::Relaxed);
            match added {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
        false
    }

    pub(super) fn set_mode(&self, mode: BreakerMode, world: &impl World) -> Option<Change> {
        self.change(|machine| machine.set_mode(mode, world))
    }

    pub(super) fn reset(&self, world: &impl World) -> Option<Change> {
        self.change(|machine| machine.reset(world))
    }

    pub(super) fn evict(&self, world: &impl World) -> Option<Change> {
        self.change(|machine| machine.evict(world))
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        self.change(|machine| look(machine))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.lock();
        let mut before = self.word.load(Ordering::Relaxed);
        if before & WELL != 0 {
            before = self.word.fetch_and(!(WELL | SUCCESSES), Ordering::Acquire);
            machine.succeeded((before & SUCCESSES) / SUCCESS);
            before &= !(WELL | SUCCESSES);
        }
        let result = change(&mut machine);
        // Until it is stored, nobody else writes the word. Stored under the lock, so that the words have the
        // order of the states.
        let after = word(&machine);
        if after != before {
            self.word.store(after, Ordering::Release);
        }
        result
    }

    /// Ignores poisoning: no user code runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn word(machine: &Machine) -> u64 {
    let passes = if machine.passes_all() { PASSES } else { 0 };
    let well = if machine.is_well() { WELL } else { 0 };
    machine.generation() << GENERATION | well | passes
}
