use std::{error::Error, fmt, path::PathBuf, sync::Arc};
use tower_webhook::{BoxError, outcome::Unsendable};

/// Why an event did not become the request of a definition. It has nothing of the event in it, so it is safe to log.
///
/// Its [outcome](tower_webhook::outcome::Outcome::of_error) is that of the failed lookup, such as
/// [`Transient`](tower_webhook::outcome::OutcomeKind::Transient) for one that took too long: try again. Everything else
/// would fail again, and is [`Unsendable`](tower_webhook::outcome::OutcomeKind::Unsendable).
#[derive(Debug)]
pub struct RouteError {
    definition: Option<Arc<str>>,
    kind: RouteErrorKind,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum RouteErrorKind {
    /// The event is not JSON that can be read: a number out of range, or half of a surrogate pair.
    Event,
    /// The event has no key for a required lookup, or one that is no text, number or boolean, or longer than 1024 bytes.
    Key {
        /// The name of the lookup.
        lookup: Arc<str>,
    },
    /// A required lookup failed, or took too long.
    Lookup {
        /// The name of the lookup.
        lookup: Arc<str>,
        /// The cause, whose outcome is that of the error.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A required lookup found nothing for the event's key.
    NotFound {
        /// The name of the lookup.
        lookup: Arc<str>,
    },
    /// The result of the template is not JSON.
    NotJson {
        /// Its line, from 1.
        line: usize,
        /// The column in this line.
        column: usize,
    },
    /// The result of the template is not well-formed XML.
    NotXml {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The template failed.
    Template {
        /// The line of the template, from 1.
        line: Option<usize>,
        /// The piece of the template.
        at: Option<String>,
        /// What failed there, such as a variable that the event does not have.
        what: &'static str,
    },
    /// The result is longer than the definition's `max_payload_size_kb`.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The template takes too many steps or too long, or makes too much text on the way: it is ended.
    TooMuchWork,
}

impl RouteError {
    pub(super) const fn of_event() -> Self {
        Self {
            definition: None,
            kind: RouteErrorKind::Event,
        }
    }

    pub(super) const fn new(definition: Arc<str>, kind: RouteErrorKind) -> Self {
        Self {
            definition: Some(definition),
            kind,
        }
    }

    /// The name of the definition, unless the event itself is at fault.
    pub fn definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    /// What went wrong.
    pub const fn kind(&self) -> &RouteErrorKind {
        &self.kind
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(definition) = &self.definition {
            write!(f, "`{definition}`: ")?;
        }
        match &self.kind {
            RouteErrorKind::Event => f.write_str("the event is not JSON that can be read"),
            RouteErrorKind::Key { lookup } => {
                write!(f, "the event has no key for the lookup `{lookup}`")
            }
            RouteErrorKind::Lookup { lookup, .. } => write!(f, "the lookup `{lookup}` failed"),
            RouteErrorKind::NotFound { lookup } => write!(f, "the lookup `{lookup}` found nothing"),
            // The words of S1.
            RouteErrorKind::NotJson { line, column } => write!(
                f,
                "Rendered template does not produce valid JSON. (line {line}, column {column} of the result)"
            ),
            RouteErrorKind::NotXml { problem } => {
                write!(
                    f,
                    "Rendered template does not produce well-formed XML: {problem}"
                )
            }
            RouteErrorKind::Template { line, at, what } => {
                f.write_str("payload_template")?;
                if let Some(line) = line {
                    write!(f, ", line {line}")?;
                }
                if let Some(at) = at {
                    write!(f, ", `{at}`")?;
                }
                write!(f, ": {what}")
            }
            RouteErrorKind::TooLarge { limit } => {
                write!(f, "the payload is longer than {limit} bytes")
            }
            RouteErrorKind::TooMuchWork => f.write_str("the template takes too much work"),
        }
    }
}

impl Error for RouteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static UNSENDABLE: Unsendable = Unsendable::new();
        match &self.kind {
            RouteErrorKind::Lookup { source, .. } => Some(&**source),
            _ => Some(&UNSENDABLE),
        }
    }
}

/// Why definitions were not loaded. None was: those from before are still there.
#[derive(Debug)]
pub struct LoadError {
    file: Option<PathBuf>,
    field: Option<String>,
    problem: String,
    source: Option<BoxError>,
}

impl LoadError {
    pub(super) fn new(field: Option<String>, problem: impl Into<String>) -> Self {
        Self {
            file: None,
            field: field.filter(|field| !field.is_empty() && field != "."),
            problem: problem.into(),
            source: None,
        }
    }

    pub(super) fn io(problem: &str, error: std::io::Error) -> Self {
        Self {
            source: Some(error.into()),
            ..Self::new(None, problem)
        }
    }

    pub(super) fn at(mut self, file: PathBuf) -> Self {
        self.file.get_or_insert(file);
        self
    }

    /// The file at fault, or the directory.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.file.as_deref()
    }

    /// The path of the field at fault, such as `trigger_conditions[0].threshold`. `None` if the whole is at fault.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
