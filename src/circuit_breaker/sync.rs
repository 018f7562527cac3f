//! What the gate is made of. The model checker in `tests/loom` puts its own in the place of these.

pub(super) use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
