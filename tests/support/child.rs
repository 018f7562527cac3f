//! Tests that run as a process of their own: to be one of several on a file, to be killed, to meet a full disk.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Where a child finds the file that it works on.
const FILE: &str = "TEST_FILE";

/// Runs one test of this binary as a process of its own, which works on `file`.
pub fn child(test: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    working_on(file, command)
}

/// Has a command that runs a test work on `file`.
pub fn working_on(file: &Path, mut command: Command) -> Command {
    command
        .env(FILE, file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// The file that a child works on; `None` where the test runs among the others.
pub fn childs_file() -> Option<PathBuf> {
    std::env::var_os(FILE).map(PathBuf::from)
}

/// Tells a line to the parent.
pub fn say(line: &str) {
    // One write: a line is whole or not there.
    let line = format!("\n{line}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

/// Ends a child whatever becomes of the test.
pub struct Ends(pub Child);

impl Ends {
    pub fn spawn(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// What it tells, line by line until it ends.
    pub fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        let told = BufReader::new(self.0.stdout.take().unwrap());
        told.lines().map_while(Result::ok)
    }

    /// Waits for its end, which has to be a good one.
    pub fn succeeds(&mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

/// What children tell in lines that begin with `with`, when they have come to a good end.
pub fn told_by(children: Vec<Ends>, with: &str) -> Vec<String> {
    let mut told = Vec::new();
    for mut child in children {
        let lines = child.lines();
        told.extend(lines.filter_map(|line| line.strip_prefix(with).map(str::to_owned)));
        child.succeeds();
    }
    told
}

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a child until it has told `lines` that count, and kills it (SIGKILL).
pub fn killed_after(lines: usize, command: Command, mut counts: impl FnMut(&str) -> bool) {
    let mut life = Ends::spawn(command);
    let mut heard = 0;
    for line in life.lines() {
        if counts(&line) {
            heard += 1;
            if heard == lines {
                // What it still said before it died is in the pipe, and counts.
                life.0.kill().unwrap();
            }
        }
    }
    assert!(
        heard >= lines,
        "the child ended by itself after {heard} lines"
    );
    life.0.wait().unwrap();
}

/// The same as [`child`] with no more than so many of the shell's blocks to a file, until the limit is lifted: an I/O
/// error in the middle of a write.
pub fn limited(blocks: u32, test: &str, file: &Path) -> Command {
    let limited = child(test, file);
    // An ignored signal stays ignored across `exec`; the write then fails instead.
    let script = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .arg(limited.get_program())
        .args(limited.get_args());
    working_on(file, command)
}

/// Runs a limited child, lifts its limit at this refusal, and returns what it kept before and after.
///
/// It says `kept WHAT`, and `refused WHY`, which is handed to `refused`.
pub fn meets_its_limit(
    command: Command,
    refusals: usize,
    mut refused: impl FnMut(&str),
) -> Vec<String> {
    let mut process = Ends::spawn(command);
    let (mut kept, mut seen, mut recovered) = (Vec::new(), 0, false);
    for line in process.lines() {
        if let Some(what) = line.strip_prefix("kept ") {
            kept.push(what.to_owned());
            recovered |= seen > 0;
        } else if let Some(why) = line.strip_prefix("refused ") {
            seen += 1;
            refused(why);
            if seen == refusals {
                lift_limit(&process);
            }
        }
    }
    process.succeeds();
    assert!(seen >= refusals, "the limit was never reached");
    assert!(recovered, "it never worked again");
    kept
}

fn lift_limit(of: &Ends) {
    let lifted = Command::new("prlimit")
        .args(["--fsize=unlimited:", "--pid", &of.0.id().to_string()])
        .status();
    // Nothing else can lift another process's limit.
    assert!(
        lifted.as_ref().is_ok_and(std::process::ExitStatus::success),
        "prlimit (package util-linux; ./tests/run installs it) does not work: {lifted:?}"
    );
}
