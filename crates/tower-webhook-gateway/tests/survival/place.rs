//! Where a gateway lives through its starts: one folder, one store, one address.

use crate::{SECRET, foreign, gateway, load, process};
use process::Server;
use serde_json::Value;
use std::{
    collections::HashMap,
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

pub const TOKEN: &str = "an operator token for the tests";

/// Short waits, and a breaker that plays its part without taking it over.
const FLAGS: [&str; 10] = [
    "--base-delay-ms",
    "10",
    "--max-delay-ms",
    "100",
    "--attempt-timeout-ms",
    "2000",
    "--breaker-failures",
    "30",
    "--breaker-open-ms",
    "200",
];

pub struct Place {
    folder: tempfile::TempDir,
    address: SocketAddr,
    downstream: String,
    before: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
}

/// A dead letter, by what the operator is shown of it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub reason: String,
}

impl Place {
    pub fn new(downstream: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())),
            downstream: downstream.to_owned(),
            before: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Started by this command, whose last argument is the program.
    pub fn started_by(mut self, before: &[&str]) -> Self {
        self.before = before.iter().map(OsString::from).collect();
        self
    }

    pub fn with(mut self, variable: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((variable, value.into()));
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn database(&self) -> PathBuf {
        self.folder().join("gateway.db")
    }

    pub fn ledger(&self) -> PathBuf {
        self.folder().join("ledger")
    }

    /// A steady sender for the gateway of this place.
    pub fn settings(&self) -> load::Settings {
        load::Settings {
            to: self.address,
            senders: 16,
            pause: Duration::from_millis(10),
            most: u64::MAX,
        }
    }

    /// The command of the gateway.
    pub fn command(&self) -> Command {
        let plain = gateway::command();
        let mut command = match self.before.split_first() {
            None => plain,
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(plain.get_program());
                for (name, value) in plain.get_envs() {
                    match value {
                        Some(value) => command.env(name, value),
                        None => command.env_remove(name),
                    };
                }
                command
            }
        };
        command
            .stdin(std::process::Stdio::null())
            .args(["--listen", &self.address.to_string()])
            .args(["--secret", SECRET, "--allow-private"])
            .args(["--downstream", &self.downstream])
            .arg("--store")
            .arg(format!("sqlite:{}", self.database().display()))
            .args(FLAGS)
            .env("RUST_LOG", "error");
        command.args(["--operator-token", TOKEN]);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    pub fn start(&self) -> Server {
        Server::start(self.command())
    }

    /// All dead letters, by the event that each holds.
    pub fn entries(server: &Server) -> HashMap<u64, Entry> {
        let mut entries = HashMap::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/dead-letters?limit=100{cursor}");
            let page = operate(server, "GET", &path, None).json();
            for item in page["items"].as_array().expect("items") {
                let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
                let entry = Entry {
                    reason: text("reason"),
                };
                let twice = entries.insert(load::number(&text("eventId")), entry);
                assert!(twice.is_none(), "two entries of one event: {item}");
            }
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return entries,
            }
        }
    }
}

/// A request of the operator.
pub fn operate(server: &Server, method: &str, path: &str, body: Option<&Value>) -> foreign::Curled {
    let token = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", token.as_str()),
        ("content-type", "application/json"),
    ];
    let body = body.map(ToString::to_string);
    let body = body.as_ref().map(String::as_bytes);
    foreign::curl(&server.url(path), &headers, body, &["-X", method])
}

/// A port that nobody has, and that no outgoing connection is given while the gateway is away: a
/// sender that connects to such a port may meet itself.
fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut ports = std::iter::repeat_with(|| fastrand::u16(10_000..30_000));
    ports.find(free).expect("some port is free")
}
