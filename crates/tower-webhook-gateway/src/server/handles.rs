//! File handles: how many connections fit into the limit of the process.

use crate::args::Problem;

/// The most open connections, however many handles there are: each may hold its buffers.
const MOST: usize = 4096;

/// With fewer places a share of them is too few connections for one sender.
const LEAST: usize = 64;

/// Handles for everything that is neither a connection of a sender nor one to a target: standard streams, the
/// runtime, databases with their logs, name resolution, connections that are being closed.
const OWN: usize = 64 + super::LEAVING;

/// Raises the limit on open files as far as it may be, and returns the places for connections: what the limit
/// leaves after `reserved` handles for targets, at most 4096.
pub fn places(reserved: usize) -> Result<usize, Problem> {
    fit(limit(), reserved).map_err(|why| Problem::new("the limit on open files", why))
}

/// The limit on open files; `None` where there is none, or none that can be asked for.
#[cfg(unix)]
fn limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let mut raised = limit;
    // The soft limit is low for the sake of programs that use `select`.
    raised.current = raised.maximum;
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

#[cfg(not(unix))]
fn limit() -> Option<u64> {
    None
}

fn fit(limit: Option<u64>, reserved: usize) -> Result<usize, String> {
    let Some(limit) = limit else { return Ok(MOST) };
    let reserved = OWN + reserved;
    let left = usize::try_from(limit).unwrap_or(usize::MAX);
    let left = left.saturating_sub(reserved);
    if left < LEAST {
        let needed = reserved + LEAST;
        return Err(format!(
            "{limit} are too few, {needed} are needed (ulimit -n)"
        ));
    }
    Ok(left.min(MOST))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn places_are_what_the_limit_leaves() {
        assert_eq!(fit(None, 200).unwrap(), 4096);
        assert_eq!(fit(Some(u64::MAX), 200).unwrap(), 4096);
        assert_eq!(fit(Some(1024), 200).unwrap(), 728);
        assert_eq!(fit(Some(360), 200).unwrap(), 64);
    }

    #[test]
    fn a_limit_too_small_for_anything_is_refused_and_says_what_is_needed() {
        for limit in [0, 1, 296, 359] {
            let why = fit(Some(limit), 200).unwrap_err();
            assert!(why.contains("360"), "{why}");
        }
    }
}
