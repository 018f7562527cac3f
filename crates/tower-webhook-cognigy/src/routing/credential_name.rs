use std::{fmt, sync::Arc};
use tower_webhook::InvalidConfig;

/// The name of a credential, which the application knows and a definition does not: an extension of the requests that
/// need it, so that a layer of the client attaches the credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialName(Arc<str>);

impl CredentialName {
    /// A name of 1 to 128 characters, none of which is a control character or white space.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if it is something else, such as the credential itself with its `Bearer`.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, InvalidConfig> {
        let name = name.into();
        let unusual = |char: char| char.is_control() || char.is_whitespace();
        if !(1..=128).contains(&name.chars().count()) || name.contains(unusual) {
            let problem =
                "must be a name of 1 to 128 characters without spaces: not the credential itself";
            return Err(InvalidConfig::new("credential", problem));
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
