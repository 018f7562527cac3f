//! Programs under test: the examples and the gateway, as a user runs them.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// A start on a busy machine, in an unoptimised build.
const START: Duration = Duration::from_secs(30);

/// A program that listens. Killed when it is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What it writes to stdout after the line that says where it listens, and to stderr.
    output: Mutex<mpsc::Receiver<(Stream, String)>>,
    seen: Vec<(Stream, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// The built example of this name.
pub fn example(name: &str) -> PathBuf {
    let tests = env::current_exe().expect("a test knows where it is");
    let profile = tests
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/test");
    let path = profile.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --examples --all-features`, or ./tests/run",
        path.display()
    );
    path
}

/// A command that runs an example.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(example(name));
    command.stdin(Stdio::null());
    command
}

impl Server {
    /// Starts `command` and waits for `listening on http://ADDR`.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, output) = mpsc::channel();
        follow(
            child.stdout.take().expect("piped"),
            Stream::Out,
            sender.clone(),
        );
        follow(child.stderr.take().expect("piped"), Stream::Err, sender);

        let mut seen = Vec::new();
        let until = Instant::now() + START;
        let address = loop {
            let left = until.saturating_duration_since(Instant::now());
            match output.recv_timeout(left) {
                Ok((Stream::Out, line)) => match line.strip_prefix("listening on http://") {
                    Some(address) => break address.trim().parse().expect("an address"),
                    None => panic!("stdout says {line:?} before it says where it listens"),
                },
                Ok(line) => seen.push(line),
                Err(_) => {
                    let _ = child.kill();
                    panic!("it does not say where it listens: {seen:?}");
                }
            }
        };
        Self {
            child,
            address,
            output: Mutex::new(output),
            seen,
        }
    }

    /// `http://ADDR` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and the end of the program.
    pub fn terminate(&mut self, within: Duration) -> ExitStatus {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .expect("kill is everywhere");
        assert!(status.success(), "it runs");
        self.wait(within)
    }

    /// Waits for the end of the program.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status;
            }
            assert!(Instant::now() < until, "it did not end within {within:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything written so far to one of its outputs, but the line that says where it listens.
    pub fn written(&mut self, stream: Stream) -> String {
        let output = self.output.get_mut().expect("nobody panics with it");
        self.seen.extend(output.try_iter());
        let lines = self.seen.iter().filter(|(from, _)| *from == stream);
        lines
            .map(|(_, line)| line.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Waits until one of its outputs has `text`.
    pub fn wait_for(&mut self, stream: Stream, text: &str) -> String {
        let until = Instant::now() + START;
        loop {
            let written = self.written(stream);
            if written.contains(text) {
                return written;
            }
            assert!(Instant::now() < until, "no {text:?} in {written}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(output: impl Read + Send + 'static, from: Stream, to: mpsc::Sender<(Stream, String)>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if to.send((from, line)).is_err() {
                return;
            }
        }
    });
}
