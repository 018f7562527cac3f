use std::fmt;

/// A setting that makes no sense, found when a layer or store is built: never at request time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig {
    setting: &'static str,
    problem: String,
}

impl InvalidConfig {
    /// Names the setting and what is wrong with it: "`lease` must be longer than zero" is
    /// `InvalidConfig::new("lease", "must be longer than zero")`. Never put a secret in `problem`.
    pub fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self {
            setting,
            problem: problem.into(),
        }
    }

    /// The name of the setting.
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.setting, self.problem)
    }
}

impl std::error::Error for InvalidConfig {}
