//! Another program that holds a database: sqlite3.

use std::io::{BufRead, Write};

pub struct Holder(std::process::Child);

impl Holder {
    pub fn start(path: &std::path::Path) -> Self {
        let mut child = std::process::Command::new("sqlite3")
            .arg(path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("sqlite3 is installed by ./tests/run");
        let mut output = std::io::BufReader::new(child.stdout.take().expect("piped"));
        let input = child.stdin.as_mut().expect("piped");
        // Under load the file is seldom free for a moment.
        writeln!(input, "PRAGMA busy_timeout=20000;").expect("it reads");
        writeln!(input, "BEGIN EXCLUSIVE; SELECT 'held';").expect("it reads");
        let mut line = String::new();
        while line != "held\n" {
            line.clear();
            let read = output.read_line(&mut line).expect("it writes");
            assert_ne!(read, 0, "sqlite3 ended");
        }
        Self(child)
    }

    pub fn release(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("it ends");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
