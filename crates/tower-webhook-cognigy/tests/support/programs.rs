//! The programs of the documents, run from their own text: `tests/programs/launcher.py` reads it.
//!
//! The documents are not in this repository. They are in the folder that `TOWER_WEBHOOK_DOCUMENTS` names, or in
//! `../shared/sources` beside the repository. Where there is none, each test says that it has not been done.

use crate::{foreign::python, process::Server};
use serde_json::Value;
use std::{
    env,
    fs::write,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};
use tempfile::TempDir;

/// The documents, and a folder for what the programs write.
pub struct Programs {
    documents: PathBuf,
    folder: TempDir,
}

/// A program that has not been started.
#[derive(Clone)]
pub struct Program<'a> {
    programs: &'a Programs,
    name: &'static str,
    mends: Vec<&'static str>,
    environment: Vec<(&'static str, String)>,
}

impl Programs {
    /// `None` if the documents are not here; tests/run says of the test that it has not passed.
    pub fn here() -> Option<Self> {
        let named = env::var_os("TOWER_WEBHOOK_DOCUMENTS").map(PathBuf::from);
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/sources");
        if named.is_none() && !beside.is_dir() {
            let this = thread::current();
            let name = this.name().unwrap_or_default();
            // Not by the macros, whose output is kept from whoever runs the tests.
            let mut stderr = std::io::stderr();
            let _ = writeln!(
                stderr,
                "NOT CHECKED: test {name}: the documents are not here"
            );
            return None;
        }
        Some(Self {
            documents: named.unwrap_or(beside),
            folder: TempDir::new().expect("a folder"),
        })
    }

    pub const fn program(&self, name: &'static str) -> Program<'_> {
        Program {
            programs: self,
            name,
            mends: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// A server that speaks the protocol of Redis.
    pub fn redis(&self) -> Server {
        Server::start(self.command(&["redis"]))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let python = python();
        assert!(
            python.exists(),
            "the documents' packages are not installed: run ./tests/run once, or set TOWER_WEBHOOK_PYTHON to a \
             Python with tests/clients/requirements.txt"
        );
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tower-webhook-cognigy/tests");
        let mut command = Command::new(python);
        command.arg("-B").arg(tests.join("programs/launcher.py"));
        command.args(arguments).current_dir(self.folder.path());
        command
            .env_clear()
            .env("TOWER_WEBHOOK_DOCUMENTS", &self.documents);
        command.envs(env::var_os("PATH").map(|path| ("PATH", path)));
        // It ends when this does.
        command.stdin(Stdio::piped());
        command
    }
}

impl Program<'_> {
    /// Asks for one of the mends of its manifest.
    pub fn mended(mut self, mend: &'static str) -> Self {
        self.mends.push(mend);
        self
    }

    pub fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Leads it to these hosts instead of those of the internet.
    pub fn behind(self, proxy: &str, root: &str) -> Self {
        let file = self.programs.folder.path().join("root.pem");
        write(&file, root).expect("a file");
        let file = file.to_str().expect("text").to_owned();
        self.env("HTTPS_PROXY", proxy).env("SSL_CERT_FILE", file)
    }

    fn command(&self, how: &[&str]) -> Command {
        let arguments = [how, self.mends.as_slice()].concat();
        let mut command = self.programs.command(&arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Its web application.
    pub fn serve(&self) -> Server {
        Server::start(self.command(&["serve", self.name]))
    }

    /// Its Celery worker.
    pub fn worker(&self) -> Server {
        Server::start(self.command(&["worker", self.name]))
    }

    /// What it writes when it is started as it stands.
    pub fn main(&self) -> String {
        end(self.command(&["main", self.name])).1
    }

    /// What this script in its names answers.
    pub fn script(&self, script: &str) -> Value {
        let (answer, log) = end(self.command(&["script", self.name, script]));
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}\n{log}"))
    }
}

/// What a program writes to its two outputs, if it ends well.
fn end(mut command: Command) -> (String, String) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("python starts");
    let stdin = child.stdin.take();
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let log = text(&output.stderr);
    assert!(output.status.success(), "{}: {log}", output.status);
    (text(&output.stdout), log)
}
