//! The programs that are measured.

use std::{
    env,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub const SECRET: &str = "a bench secret of thirty-two byte";

/// A running receiver on a fresh database. Killed when it is dropped.
pub struct Receiver {
    pub name: &'static str,
    pub address: SocketAddr,
    child: Child,
    _silent: Option<TcpListener>,
    _folder: tempfile::TempDir,
}

impl Receiver {
    /// The gateway. With `delivering` its built-in echo is the downstream, in
    /// the same process on the same two cores; without, a downstream that never answers, so that
    /// accepting is all there is to do.
    pub fn gateway(delivering: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("gateway.db");
        // Connections to it wait in its queue.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tower-webhook-gateway"));
        if !delivering {
            let address = silent.local_addr().expect("an address");
            command
                .args(["--allow-private", "--downstream"])
                .arg(format!("http://{address}/"));
        }
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--secret", SECRET])
            .arg("--store")
            .arg(format!("sqlite:{}", database.display()))
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("it says where it listens");
        let address = line.trim().trim_start_matches("listening on http://");
        Self {
            name: if delivering {
                "gateway, and delivering"
            } else {
                "gateway"
            },
            address: address.parse().expect("an address"),
            child,
            _silent: Some(silent),
            _folder: folder,
        }
    }

    /// The documents' receiver (`benches/baseline/receiver.py`), if its Python is there.
    pub fn documents(form: Form, testing: bool) -> Option<Self> {
        let python = profile().parent()?.join("bench-python/bin/python");
        if testing || !python.exists() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = port.expect("a free port");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/baseline/receiver.py");
        let mut child = Command::new(python)
            .arg(script)
            .args([
                form.name(),
                &address.port().to_string(),
                &folder.path().join("events.db").display().to_string(),
            ])
            .env("COGNIGY_WEBHOOK_SECRET", SECRET)
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            let ended = child.try_wait().expect("it is ours");
            assert!(
                ended.is_none() && Instant::now() < until,
                "the documents' receiver does not listen: install benches/baseline/requirements.txt anew"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self {
            name: form.title(),
            address,
            child,
            _silent: None,
            _folder: folder,
        })
    }
}

/// How the documents' receiver stores: each of them has an event on the disk before its answer.
#[derive(Clone, Copy)]
pub enum Form {
    /// `SQLAlchemy`, as the documents have it.
    AsWritten,
    /// The same with the least work in Python.
    ByHand,
    /// And with a write-ahead log.
    ByHandWithWal,
}

impl Form {
    pub const ALL: [Self; 3] = [Self::AsWritten, Self::ByHand, Self::ByHandWithWal];

    fn name(self) -> &'static str {
        match self {
            Self::AsWritten => "documents",
            Self::ByHand => "hand",
            Self::ByHandWithWal => "hand-wal",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::AsWritten => "documents' receiver, as written",
            Self::ByHand => "the same by hand",
            Self::ByHandWithWal => "by hand, with a WAL",
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `target/<profile>`: this bench is `target/<profile>/deps/accept-<hash>`.
fn profile() -> PathBuf {
    let bench = env::current_exe().expect("a bench knows where it is");
    bench
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/bench")
        .to_owned()
}
