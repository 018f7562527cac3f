//! The queue in SQLite: the contract, several handles and processes on one file, transactions of
//! one's own, clocks that jump, what goes wrong, and what is left after a kill.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Children of the tests speak through their stdout.
#![allow(clippy::print_stdout)]

mod contract;
mod crash;
mod jobs;
mod newer;
mod processes;
mod support;
mod time;
mod transactions;
mod trouble;
mod waiting;
