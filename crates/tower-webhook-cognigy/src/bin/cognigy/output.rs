//! What the command prints, and how it ends.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use std::{
    error::Error,
    fs,
    io::{self, IsTerminal, Read, Write},
    path::Path,
    process::ExitCode,
};
use tower_webhook_cognigy::{ApiError, ApiErrorKind};

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

pub struct Output {
    pub json: bool,
    pub quiet: bool,
}

/// Why the command did not do what was asked for.
pub enum Failure {
    /// A call failed.
    Api(Box<ApiError>),
    /// Some of what was asked for failed; each was told.
    Some { failed: usize, of: usize },
    /// Something is not as it should be.
    Refused(String),
    /// The command or a file is not right.
    Usage(String),
}

impl Failure {
    pub fn usage(why: impl Into<String>) -> Self {
        Self::Usage(why.into())
    }

    pub fn status(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            // Nothing was sent: an argument is not right.
            Self::Api(error) if error.kind() == ApiErrorKind::InvalidRequest => 2,
            Self::Api(_) | Self::Some { .. } | Self::Refused(_) => 1,
        })
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Api(error) => error.kind().as_str(),
            Self::Some { .. } => "some_failed",
            Self::Refused(_) => "refused",
            Self::Usage(_) => "usage",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Api(error) => with_causes(&**error),
            Self::Some { failed, of } => format!("{failed} of {of} failed"),
            Self::Refused(why) | Self::Usage(why) => why.clone(),
        }
    }
}

/// An error and its causes.
pub fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.extend(error.to_string().escape_debug());
        cause = error.source();
    }
    message
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(Box::new(error))
    }
}

impl Output {
    /// Writes one result: as JSON, or as a line for people.
    pub fn result(
        &self,
        json: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let mut line = if self.json {
            let line = serde_json::to_string(json);
            line.map_err(|error| Failure::Refused(format!("the result is no JSON: {error}")))?
        } else {
            text()
        };
        line.push('\n');
        write(line.as_bytes())
    }

    /// Tells why the command failed.
    pub fn fail(&self, failure: &Failure) {
        let message = failure.message();
        // Where stderr is closed, nobody wants to know.
        let _ = if self.json {
            let mut error = json!({"kind": failure.kind(), "message": message});
            if let Failure::Api(api) = failure {
                error["status"] = json!(api.status().map(|status| status.as_u16()));
                error["detail"] = json!(api.detail());
                error["code"] = json!(api.code());
            }
            writeln!(io::stderr(), "{}", json!({"error": error}))
        } else {
            writeln!(io::stderr(), "error: {message}")
        };
    }

    /// A progress bar over so many steps, where stderr is a terminal.
    pub fn progress(&self, steps: usize) -> ProgressBar {
        let shown = !self.quiet && !self.json && io::stderr().is_terminal();
        let target = if shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}");
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
        match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// Text of others as one that a terminal does not obey: lines and tabs stay, other control characters are written as
/// escapes.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            plain.extend(character.escape_debug());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Writes bytes to stdout. A reader that has gone away, as `head` does, ends the command quietly, but not with success:
/// what nobody could read of, such as the rest of many registrations, is not done.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(1),
        result => result.map_err(|error| Failure::Refused(format!("stdout: {error}"))),
    }
}

/// Reads a file, or stdin for `-`.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let bad = |error: &dyn std::fmt::Display| Failure::usage(format!("{name}: {error}"));
    let mut bytes = Vec::new();
    let mut from: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(fs::File::open(path).map_err(|error| bad(&error))?)
    };
    let taken = from.by_ref().take(MAX_FILE + 1).read_to_end(&mut bytes);
    taken.map_err(|error| bad(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(bad(&format!("is longer than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}
