//! Clients that we did not write: they sign what our servers verify, and verify what we sign.

use serde_json::{Value, json};
use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const CLIENT: &str = include_str!("../clients/client.py");

/// The Python packages `standardwebhooks`, `svix` and `stripe`, in one process.
pub struct Foreign {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// The interpreter of the virtual environment that `tests/run` makes.
pub fn python() -> PathBuf {
    if let Some(path) = env::var_os("TOWER_WEBHOOK_PYTHON") {
        return path.into();
    }
    let tests = env::current_exe().expect("a test knows where it is");
    let target = tests
        .ancestors()
        .nth(3)
        .expect("target/<profile>/deps/test");
    target.join("test-clients/bin/python")
}

impl Foreign {
    pub fn start() -> Self {
        let python = python();
        assert!(
            python.exists(),
            "the signing clients are not installed: run ./tests/run once, or set \
             TOWER_WEBHOOK_PYTHON to a Python with tests/clients/requirements.txt"
        );
        let mut child = Command::new(python)
            .args(["-c", CLIENT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        Self {
            input: child.stdin.take().expect("piped"),
            output: BufReader::new(child.stdout.take().expect("piped")),
            child,
        }
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.input, "{request}").expect("the client listens");
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("the client answers");
        serde_json::from_str(&line).expect("the client answers in JSON")
    }

    /// The headers of a message signed now.
    pub fn sign(
        &mut self,
        scheme: &str,
        secret: &str,
        id: &str,
        body: &str,
    ) -> Vec<(String, String)> {
        self.sign_at(scheme, secret, id, body, now())
    }

    pub fn sign_at(
        &mut self,
        scheme: &str,
        secret: &str,
        id: &str,
        body: &str,
        timestamp: u64,
    ) -> Vec<(String, String)> {
        let answer = self.ask(&json!({
            "op": "sign", "scheme": scheme, "secret": secret, "id": id, "body": body,
            "timestamp": timestamp,
        }));
        let headers = answer["headers"].as_object().expect("headers");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        headers
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect()
    }

    /// Whether the client takes a message, and if not, why.
    pub fn verify(
        &mut self,
        scheme: &str,
        secret: &str,
        headers: &http::HeaderMap,
        body: &str,
    ) -> Result<(), String> {
        let headers: serde_json::Map<_, _> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value.to_str().expect("text"))))
            .collect();
        let answer = self.ask(&json!({
            "op": "verify", "scheme": scheme, "secret": secret, "headers": headers, "body": body,
        }));
        match answer["ok"].as_bool() {
            Some(true) => Ok(()),
            _ => Err(answer["why"].to_string()),
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

/// Runs a tool and gives its standard output, without the last line feed.
pub fn run(tool: &str, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(tool)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{tool}: {error}: run ./tests/run once, it installs {tool}")
        });
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input)
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(
        output.status.success(),
        "{tool} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// HMAC-SHA256 in hexadecimal, by openssl.
pub fn openssl_hex(secret: &str, body: &[u8]) -> String {
    let key = format!(
        "hexkey:{}",
        data_encoding::HEXLOWER.encode(secret.as_bytes())
    );
    let args = ["dgst", "-sha256", "-mac", "HMAC", "-macopt", &key];
    let line = run("openssl", &args, body);
    line.rsplit(' ').next().expect("the digest").to_owned()
}

/// HMAC-SHA256 in base64, by openssl.
pub fn openssl_base64(secret: &str, body: &[u8]) -> String {
    let hex = openssl_hex(secret, body);
    let bytes = data_encoding::HEXLOWER
        .decode(hex.as_bytes())
        .expect("hexadecimal");
    run("openssl", &["base64", "-A"], &bytes)
}

/// A response as `curl` saw it.
#[derive(Debug)]
pub struct Curled {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Curled {
    /// The value of a header, if it is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().filter_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = values.next();
        assert!(
            values.next().is_none(),
            "{name} is there twice: {}",
            self.head
        );
        value
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends a request with `curl`; `body` posts.
pub fn curl(url: &str, headers: &[(&str, &str)], body: Option<&[u8]>, more: &[&str]) -> Curled {
    let mut args: Vec<String> = ["-sS", "-i", "--max-time", "30"]
        .map(str::to_owned)
        .to_vec();
    for (name, value) in headers {
        args.extend(["-H".to_owned(), format!("{name}: {value}")]);
    }
    if body.is_some() {
        args.extend(["--data-binary", "@-"].map(str::to_owned));
    }
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    args.push(url.to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = run("curl", &args, body.unwrap_or_default());
    // Informational answers (`100 Continue`) come first.
    let mut rest = output.as_str();
    loop {
        let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {output}"));
        if status >= 200 {
            return Curled {
                status,
                head: head.to_owned(),
                body: body.to_owned(),
            };
        }
        rest = body;
    }
}

/// Posts JSON with `curl`, with the headers of a client that signed it.
pub fn post(url: &str, headers: &[(String, String)], body: &str) -> Curled {
    let mut all = vec![("content-type", "application/json")];
    all.extend(
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    curl(url, &all, Some(body.as_bytes()), &[])
}
