//! The queue in SQLite: the contract, several handles and processes on one file, transactions of
//! one's own, clocks that jump, what goes wrong, and what is left after a kill.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Children of the tests speak through their stdout.
#![allow(clippy::print_stdout)]

#[path = "../../../../tests/support/child.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod child;
#[path = "../support/home.rs"]
#[allow(dead_code, reason = "each test file uses some of it")]
mod home;

mod contract;
mod crash;
mod damaged;
mod jobs;
mod keys;
mod moves;
mod newer;
mod owners;
mod processes;
mod support;
mod time;
mod transactions;
mod trouble;
mod waiting;
