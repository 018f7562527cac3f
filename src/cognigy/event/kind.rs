use std::fmt;

/// The type of an [`Envelope`](super::Envelope): S4's four, and whatever else comes.
///
/// An open enum: a verified event of a type that this crate does not know is still an event, and
/// refusing it would make the sender repeat it. [`Envelope::require_known_type`] is the strict form.
///
/// [`Envelope::require_known_type`]: super::Envelope::require_known_type
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventType {
    /// `DIALOG_ENDED`.
    DialogEnded,
    /// `DIALOG_STARTED`.
    DialogStarted,
    /// `PROFILE_UPDATED`: the payload has a `profile`.
    ProfileUpdated,
    /// `USER_INPUT_RECEIVED`: the payload has an `input`.
    UserInputReceived,
    /// A type outside S4's four, as it is spelled. It comes from the sender: no metric label.
    Unknown(Box<str>),
}

impl EventType {
    /// As it is spelled on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::DialogEnded => "DIALOG_ENDED",
            Self::DialogStarted => "DIALOG_STARTED",
            Self::ProfileUpdated => "PROFILE_UPDATED",
            Self::UserInputReceived => "USER_INPUT_RECEIVED",
            Self::Unknown(name) => name,
        }
    }

    /// Whether it is one of S4's four.
    pub const fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

impl From<&str> for EventType {
    fn from(name: &str) -> Self {
        match name {
            "DIALOG_ENDED" => Self::DialogEnded,
            "DIALOG_STARTED" => Self::DialogStarted,
            "PROFILE_UPDATED" => Self::ProfileUpdated,
            "USER_INPUT_RECEIVED" => Self::UserInputReceived,
            other => Self::Unknown(other.into()),
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
