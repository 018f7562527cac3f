//! Connections that take places and give nothing: idle ones, readers that do not read, crowds.

use super::*;
use crate::{downstream::Downstream, process::Stream};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A signed event gets its answer within this time, whatever strangers do.
const SOON: Duration = Duration::from_secs(1);

const TOKEN: &str = "an operator token of many bytes";

/// A request with a long answer.
const PIPELINED: &str = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";

/// One crowd at a time, with as many sockets of this process as that takes.
fn crowd() -> MutexGuard<'static, ()> {
    static CROWD: Mutex<()> = Mutex::new(());
    let guard = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    limit_handles(std::process::id(), "16384:");
    guard
}

/// Sets the limit of a process on open files: soft, hard, or both.
fn limit_handles(process: u32, limit: &str) {
    let limit = format!("--nofile={limit}");
    foreign::run("prlimit", &[&limit, "--pid", &process.to_string()], b"");
}

/// A command that runs the gateway with this limit on open files.
fn limited_command(limit: &str) -> Command {
    let plain = command();
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nofile={limit}"))
        .arg(plain.get_program());
    for (variable, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command
}

/// A gateway in memory with this limit on open files.
fn limited(limit: &str) -> Server {
    limited_with(limit, &[])
}

fn limited_with(limit: &str, flags: &[&str]) -> Server {
    let mut command = limited_command(limit);
    command.args(["--listen", "127.0.0.1:0", "--secret", SECRET]);
    command
        .args(["--allow-private", "--store", "memory:"])
        .args(flags);
    Server::start(command)
}

fn open_files(server: &Server) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.id()));
    files.unwrap().count()
}

/// Connects from an address of the loopback network, with a small buffer for what it will not read.
fn connect_from(from: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    use rustix::net::{
        AddressFamily, SocketType, bind, connect, socket, sockopt::set_socket_recv_buffer_size,
    };
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_recv_buffer_size(&socket, 2048)?;
    bind(&socket, &SocketAddr::from((from, 0)))?;
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// A crowd that connects all at once.
fn connect_all(count: usize, connect: impl Fn() -> TcpStream + Sync) -> Vec<TcpStream> {
    thread::scope(|scope| {
        let some = || (0..count / 50).map(|_| connect()).collect::<Vec<_>>();
        let all: Vec<_> = (0..50).map(|_| scope.spawn(some)).collect();
        all.into_iter()
            .flat_map(|some| some.join().unwrap())
            .collect()
    })
}

/// The time in which a signed event is accepted over a connection of its own: the median of several, because this
/// machine has other work too.
fn usual_of(server: &Server, events: usize, name: &str) -> Duration {
    let mut times: Vec<_> = (0..events)
        .map(|n| {
            let event = event(&format!("{name}_{n}"));
            let signature = openssl_hex(SECRET, event.as_bytes());
            let began = Instant::now();
            let answer = exchange(
                &mut TcpStream::connect(server.address).unwrap(),
                &format!("x-cognigy-signature: {signature}\r\n"),
                &event,
            );
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            began.elapsed()
        })
        .collect();
    times.sort();
    times[events / 2]
}

/// Sends an event over this connection and reads the answer.
fn exchange(stream: &mut TcpStream, headers: &str, body: &str) -> String {
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    ask(stream, &head)
}

/// Sends a request over this connection and reads the answer.
fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => answer.extend_from_slice(&piece[..read]),
            _ => return String::from_utf8(answer).unwrap(),
        }
        let text = str::from_utf8(&answer).unwrap_or_default();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if length.is_none_or(|length| body.len() >= length.parse().unwrap()) {
            return text.to_owned();
        }
    }
}

/// Sends a signed event over this connection.
fn signed(stream: &mut TcpStream, id: &str) -> String {
    let event = event(id);
    let signature = openssl_hex(SECRET, event.as_bytes());
    let header = format!("x-cognigy-signature: {signature}\r\n");
    exchange(stream, &header, &event)
}

/// The number of a counter on the metrics page.
fn counted(server: &Server, line: &str) -> u64 {
    let page = get(server, "/metrics").body;
    let found = page.lines().find_map(|shown| shown.strip_prefix(line));
    found.map_or(0, |count| count.trim().parse().unwrap())
}

#[test]
fn six_thousand_idle_connections_keep_nobody_waiting() {
    let _one = crowd();
    let mut server = gateway(&[]);
    let idle = connect_all(6000, || TcpStream::connect(server.address).unwrap());
    let usual = usual_of(&server, 10, "idle");
    assert!(usual < SOON, "{usual:?}");
    drop(idle);

    let pushed_out = r#"tower_webhook_gateway_pushed_out_total{reason="share"}"#;
    assert!(counted(&server, pushed_out) > 4000);
    let warned = server.wait_for(Stream::Err, "had to make room");
    assert!(warned.matches("had to make room").count() < 5, "{warned}");
}

#[test]
fn readers_that_do_not_read_keep_nobody_waiting() {
    let _one = crowd();
    let server = gateway(&[]);
    let crowd = connect_all(5000, || {
        let stream = connect_from([127, 0, 0, 1], server.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    });
    // All of them send as much as is taken, again and again, and never read.
    let requests = PIPELINED.repeat(200);
    let stop = Arc::new(AtomicBool::new(false));
    let sending = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                for mut stream in &crowd {
                    let _ = stream.write(requests.as_bytes());
                }
                thread::sleep(Duration::from_millis(50));
            }
            crowd
        }
    });
    // After the first of them the whole crowd has come in.
    usual_of(&server, 1, "coming");
    let usual = usual_of(&server, 10, "pipelined");
    stop.store(true, Ordering::Relaxed);
    let _crowd = sending.join().unwrap();
    assert!(usual < SOON, "{usual:?}");
}

#[test]
fn a_reader_that_does_not_read_is_closed() {
    let server = gateway(&[]);
    let before = open_files(&server);
    let requests = PIPELINED.repeat(200);
    let mut reader = connect_from([127, 0, 0, 1], server.address).unwrap();
    reader.set_nonblocking(true).unwrap();
    // As much as is taken: in the end the answer to it is stuck.
    let mut taken = Instant::now();
    while taken.elapsed() < Duration::from_secs(2) {
        match reader.write(requests.as_bytes()) {
            Ok(_) => taken = Instant::now(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(open_files(&server) > before);
    // It still does not read.
    eventually("it is closed", || {
        (open_files(&server) <= before).then_some(())
    });
}

#[test]
fn a_crowd_with_an_address_each_locks_nobody_out_and_leaves_known_senders_alone() {
    // 160 places.
    let server = limited("512");
    let mut known = TcpStream::connect(server.address).unwrap();
    assert!(signed(&mut known, "first").starts_with("HTTP/1.1 200"));
    let _crowd: Vec<_> = (0..600_u16)
        .map(|peer| {
            let [high, low] = peer.to_be_bytes();
            connect_from([127, 1, high, low], server.address).unwrap()
        })
        .collect();
    let usual = usual_of(&server, 5, "crowd");
    assert!(usual < SOON, "{usual:?}");
    // A sender that posts many at once has more connections than any of them.
    let connect = |_| TcpStream::connect(server.address).unwrap();
    let mut at_once: Vec<_> = (0..20).map(connect).collect();
    for (number, stream) in at_once.iter_mut().enumerate() {
        let answer = signed(stream, &format!("at once {number}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{number}: {answer}");
    }
    let again = signed(&mut known, "second");
    assert!(again.starts_with("HTTP/1.1 200"), "{again}");
    let pushed_out = r#"tower_webhook_gateway_pushed_out_total{reason="places"}"#;
    assert!(counted(&server, pushed_out) > 400);
}

#[test]
fn a_peer_behind_a_trusted_proxy_has_its_share_of_requests() {
    let running = |server: &Server, peer: &str, count: usize| -> Vec<TcpStream> {
        let head = format!(
            "POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {peer}\r\n\
             content-length: 10\r\nx-cognigy-signature: {}\r\n\r\n",
            openssl_hex(SECRET, b"")
        );
        let begin = |_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        };
        (0..count).map(begin).collect()
    };
    let health = |server: &Server, peer: &str| {
        let forwarded = [("x-forwarded-for", peer)];
        curl(&server.url("/health"), &forwarded, None, &[])
    };
    // 160 places: a share is 40.
    let server = limited_with("512", &["--trusted-proxy", "127.0.0.0/8"]);
    let mut held = running(&server, "198.51.100.7", 40);
    let refused = eventually("a share is taken", || {
        let answer = health(&server, "1.1.1.1, 198.51.100.7");
        // On a busy machine some of the first may have ended before the last began.
        held.extend(running(&server, "198.51.100.7", 1));
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(health(&server, "198.51.100.8").status, 200);
    assert_eq!(health(&server, "198.51.100.7, 198.51.100.8").status, 200);

    // Nobody else is believed.
    let server = limited("512");
    let _running = running(&server, "198.51.100.7", 39);
    assert_eq!(health(&server, "198.51.100.7").status, 200);
}

#[test]
fn too_few_file_handles_are_refused_at_the_start() {
    let mut command = limited_command("300");
    command.args(["--listen", "127.0.0.1:0", "--store", "memory:"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("the limit on open files"), "{said}");
}

#[test]
fn a_busy_table_leaves_file_handles_for_deliveries() {
    let _one = crowd();
    let seen = Downstream::start();
    let flags = ["--downstream", &seen.url(), "--operator-token", TOKEN];
    let server = limited_with("1024", &flags);
    let mut client = TcpStream::connect(server.address).unwrap();
    // Known, and nothing is delivered yet over a connection that could be used again.
    let operator = "GET /dead-letters HTTP/1.1\r\nhost: x\r\nauthorization: Bearer";
    let listed = ask(&mut client, &format!("{operator} {TOKEN}\r\n\r\n"));
    assert!(listed.starts_with("HTTP/1.1 200"), "{listed}");
    let _idle = connect_all(1100, || TcpStream::connect(server.address).unwrap());
    for n in 0..20 {
        let answer = signed(&mut client, &format!("evt_{n}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    eventually("all are delivered", || {
        (seen.got().len() >= 20).then_some(())
    });
    let health = get(&server, "/health").json();
    assert_eq!(health["metrics"]["dead_letter_size"], 0, "{health}");
    assert_eq!(health["metrics"]["success_rate"], 1.0, "{health}");
    assert_eq!(health["breakers"][0]["trips"], 0, "{health}");
}

#[test]
fn a_delivery_without_a_file_handle_waits_and_blames_nobody() {
    let seen = Downstream::start();
    let server = gateway(&[
        "--downstream",
        &seen.url(),
        "--base-delay-ms",
        "1",
        "--max-delay-ms",
        "200",
    ]);
    let mut client = TcpStream::connect(server.address).unwrap();
    let health = |client: &mut TcpStream| -> serde_json::Value {
        let answer = ask(client, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    };
    health(&mut client);
    // The standard streams have these three.
    limit_handles(server.id(), "3:");
    for n in 0..5 {
        let answer = signed(&mut client, &format!("evt_{n}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // More of them than a delivery has attempts.
    let refused = eventually("deliveries are refused here", || {
        let health = health(&mut client);
        let refused = health["metrics"]["attempts"]["outcomes"]["refused"].as_u64();
        (refused >= Some(30)).then_some(health)
    });
    assert_eq!(refused["metrics"]["dead_letter_size"], 0, "{refused}");
    limit_handles(server.id(), "1024:");
    eventually("all are delivered", || {
        (seen.got().len() >= 5).then_some(())
    });
    for (headers, _) in seen.got() {
        assert_eq!(headers["x-webhook-attempt"], "1");
    }
    let after = health(&mut client);
    assert_eq!(after["metrics"]["dead_letter_size"], 0, "{after}");
    assert_eq!(after["breakers"][0]["state"], "closed", "{after}");
    assert_eq!(after["breakers"][0]["trips"], 0, "{after}");
}
