//! Which values of a setting make sense.

use crate::InvalidConfig;
use std::time::Duration;

/// Beyond it, nothing in here means anything.
const MAX_TIME: Duration = Duration::from_secs(366 * 24 * 3_600);

pub(super) fn invalid<T>(setting: &'static str, problem: &'static str) -> Result<T, InvalidConfig> {
    Err(InvalidConfig::new(setting, problem))
}

pub(super) fn part(setting: &'static str, rate: Option<f64>) -> Result<(), InvalidConfig> {
    match rate {
        Some(rate) if !(rate > 0.0 && rate <= 1.0) => {
            invalid(setting, "must be a number above 0, and at most 1")
        }
        _ => Ok(()),
    }
}

pub(super) fn span(setting: &'static str, time: Duration) -> Result<(), InvalidConfig> {
    if time.is_zero() {
        return invalid(setting, "must be longer than zero");
    }
    if time > MAX_TIME {
        return invalid(setting, "must not be longer than a year");
    }
    Ok(())
}

pub(super) fn count(setting: &'static str, count: u32, max: u32) -> Result<(), InvalidConfig> {
    if count == 0 {
        return invalid(setting, "must be at least 1");
    }
    if count > max {
        return Err(InvalidConfig::new(
            setting,
            format!("must not be more than {max}"),
        ));
    }
    Ok(())
}
