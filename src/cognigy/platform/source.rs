use std::fmt;

/// Who an [output](super::WebhookDelivery) comes from. Open: the platform may add more.
///
/// `bot` is what the Webhook Endpoint documents; the others are in the platform's typings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// `agent`: a person in a handover.
    Agent,
    /// `bot`: the flow.
    Bot,
    /// `engagement`.
    Engagement,
    /// `user`.
    User,
    /// Any other, as it is spelled. It comes from the sender: no metric label.
    Unknown(Box<str>),
}

impl Source {
    /// As it is spelled on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Agent => "agent",
            Self::Bot => "bot",
            Self::Engagement => "engagement",
            Self::User => "user",
            Self::Unknown(name) => name,
        }
    }
}

impl From<&str> for Source {
    fn from(name: &str) -> Self {
        match name {
            "agent" => Self::Agent,
            "bot" => Self::Bot,
            "engagement" => Self::Engagement,
            "user" => Self::User,
            other => Self::Unknown(other.into()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
