//! The probe against real servers: of every version of TLS, with bad certificates, and that misbehave.

use crate::full::full;
use http::{Request, Uri};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::json;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        pki_types::PrivateKeyDer,
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
};
use tower::ServiceExt;
use tower_webhook::{
    body::BufferedBody,
    outcome::OutcomeKind,
    target::{ForbiddenTarget, TargetRules},
};
use tower_webhook_cognigy::{
    https::HttpsClient,
    probe::{CertificateProblem, Probe, ProbeError, ProbeReport, ProbeStep, TlsVersion},
};

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// An authority that the probe is told to trust.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        Self::named("an authority")
    }

    fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for this host.
    fn issue(&self, host: &str) -> Issued {
        self.issue_with(host, |_| {})
    }

    fn issue_with(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate, key }
    }

    fn probe(&self) -> Probe {
        local().root_certificates(&self.pem).unwrap()
    }
}

/// A probe that may ask servers of this machine.
fn local() -> Probe {
    Probe::new().rules(TargetRules::new().allow_private(true).allow_http(true))
}

struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// A certificate that was issued by itself, by an authority or by none.
fn self_signed(is_ca: IsCa) -> Issued {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = is_ca;
    let certificate = params.self_signed(&key).unwrap();
    Issued { certificate, key }
}

impl Issued {
    fn config(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .unwrap()
    }
}

/// A server that answers each request with the same bytes, and keeps what it was sent.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(tls: Option<ServerConfig>, answer: &'static str) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        Self::of(requests, move |stream| {
            let (tls, kept) = (tls.clone(), Arc::clone(&kept));
            async move {
                match tls {
                    // A client that does not like the certificate ends the handshake.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, answer, &kept).await;
                        }
                    }
                    None => serve(stream, answer, &kept).await,
                }
            }
        })
        .await
    }

    /// A server that does this with each connection.
    async fn raw<F>(with: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::of(Arc::default(), with).await
    }

    async fn of<F>(
        requests: Arc<Mutex<Vec<String>>>,
        with: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(with(stream));
            }
        });
        Self {
            port,
            requests,
            task,
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn https(&self) -> Uri {
        at("https", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn at(scheme: &str, port: u16) -> Uri {
    let uri = format!("{scheme}://localhost:{port}/hooks?tenant=7");
    uri.parse().unwrap()
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &str,
    requests: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    requests.lock().unwrap().push(request);
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// What a probe says of a server with this certificate.
async fn report_of(probe: &Probe, issued: &Issued) -> ProbeReport {
    let server = Server::start(Some(issued.config(&[&TLS13, &TLS12])), NO_CONTENT).await;
    probe.check(&server.https()).await
}

fn assert_refused(report: &ProbeReport, error: &ProbeError) {
    assert_eq!(report.error(), Some(error));
    assert!(!report.is_reachable() && !report.answers_well());
    assert_eq!((report.status(), report.response_time()), (None, None));
}

#[tokio::test]
async fn a1_and_a2_tls_1_2_and_1_3_are_read_from_the_handshake_and_pass() {
    let authority = Authority::new();
    let issued = authority.issue("localhost");
    for (version, name) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let server = Server::start(Some(issued.config(&[version])), NO_CONTENT).await;
        let report = authority.probe().check(&server.https()).await;
        assert_eq!(report.error(), None);
        assert_eq!(report.tls_version().map(TlsVersion::as_str), Some(name));
        assert!(report.has_accepted_tls() && report.is_reachable() && report.answers_well());
    }
}

#[tokio::test]
async fn a_connection_alone_is_no_request() {
    let authority = Authority::new();
    let config = authority.issue("localhost").config(&[&TLS12]);
    let server = Server::start(Some(config), NO_CONTENT).await;
    let version = authority.probe().connect(&server.https()).await;
    assert_eq!(version, Ok(Some(TlsVersion::Tls12)));
    // That of a check is the only one.
    authority.probe().check(&server.https()).await;
    assert_eq!(server.requests().len(), 1);
    let stranger = Probe::new().rules(TargetRules::new().allow_private(true));
    assert!(stranger.connect(&server.https()).await.is_err());
}

#[tokio::test]
async fn a1_the_probe_is_a_get_with_the_validators_user_agent_and_no_credentials() {
    let authority = Authority::new();
    let config = authority.issue("localhost").config(&[&TLS13]);
    let server = Server::start(Some(config), NO_CONTENT).await;
    authority.probe().check(&server.https()).await;
    let expected = format!(
        "GET /hooks?tenant=7 HTTP/1.1\r\n\
         host: localhost:{}\r\n\
         user-agent: Cognigy-Webhook-Validator/1.0\r\n\
         accept: */*\r\n\
         connection: close\r\n\r\n",
        server.port
    );
    assert_eq!(server.requests(), [expected]);
}

#[tokio::test]
async fn a1_reachable_is_200_to_399_and_a2_reachable_is_any_status() {
    let authority = Authority::new();
    let issued = authority.issue("localhost");
    for (answer, status, answers_well) in [
        ("HTTP/1.1 200 OK\r\n\r\n", 200, true),
        ("HTTP/1.1 399 -\r\n\r\n", 399, true),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", 400, false),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", 503, false),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 405 -\r\n\r\n",
            405,
            false,
        ),
    ] {
        let server = Server::start(Some(issued.config(&[&TLS13])), answer).await;
        let report = authority.probe().check(&server.https()).await;
        assert_eq!(report.status().map(|status| status.as_u16()), Some(status));
        assert!(report.is_reachable() && report.has_accepted_tls());
        assert_eq!(report.answers_well(), answers_well, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_reported_and_not_followed() {
    let answer = "HTTP/1.1 302 Found\r\nlocation: /other\r\n\r\n";
    let server = Server::start(None, answer).await;
    let report = local().check(&at("http", server.port)).await;
    assert_eq!(report.status().map(|status| status.as_u16()), Some(302));
    assert!(report.answers_well());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a2_a_report_is_written_as_the_documents_reachability_result() {
    let authority = Authority::new();
    let report = report_of(&authority.probe(), &authority.issue("localhost")).await;
    let mut json = serde_json::to_value(&report).unwrap();
    let millis = json["response_time_ms"].as_f64().unwrap();
    let exact = report.response_time().unwrap().as_secs_f64() * 1000.0;
    assert!(
        (millis - exact).abs() <= 0.005 + f64::EPSILON,
        "{millis} of {exact}"
    );
    json["response_time_ms"] = json!(0);
    let expected = json!({
        "is_reachable": true, "tls_version": "TLSv1.3", "response_time_ms": 0, "status_code": 204,
    });
    assert_eq!(json, expected);

    let report = report_of(&local(), &authority.issue("localhost")).await;
    let expected = json!({
        "is_reachable": false, "tls_version": "none", "response_time_ms": 0.0, "status_code": 0,
        "error_message": "Connection failed: the certificate was issued by an authority that is not trusted, or a certificate between them was not sent",
    });
    assert_eq!(serde_json::to_value(&report).unwrap(), expected);
}

/// OpenSSL's server, which speaks versions of TLS that rustls has not.
struct OpenSsl {
    server: Child,
    port: u16,
    _files: tempfile::TempDir,
}

impl OpenSsl {
    fn start(issued: &Issued, version: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (certificate, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
        std::fs::write(&certificate, issued.certificate.pem()).unwrap();
        std::fs::write(&key, issued.key.serialize_pem()).unwrap();
        let mut server = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", version])
            .args(["-cipher", "DEFAULT@SECLEVEL=0", "-cert"])
            .arg(certificate)
            .arg("-key")
            .arg(key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl, which `tests/run` installs");
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.strip_prefix("ACCEPT ")?.rsplit_once(':')?;
            port.parse().ok()
        });
        Self {
            server,
            port: port.expect("a port"),
            _files: files,
        }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test]
async fn a2_a_server_with_tls_1_1_alone_is_told_from_one_that_is_not_there() {
    let authority = Authority::new();
    let issued = authority.issue("localhost");
    for version in ["-tls1", "-tls1_1"] {
        let server = OpenSsl::start(&issued, version);
        let report = authority.probe().check(&at("https", server.port)).await;
        assert_refused(&report, &ProbeError::OldTls);
        assert!(!report.has_accepted_tls());
    }
    // The same server with a version that passes.
    let server = OpenSsl::start(&issued, "-tls1_2");
    let report = authority.probe().check(&at("https", server.port)).await;
    assert_eq!(report.tls_version(), Some(&TlsVersion::Tls12));
    assert!(report.is_reachable() && report.has_accepted_tls());
}

#[tokio::test]
async fn an_old_version_is_known_by_its_alert_and_by_its_hello() {
    let alert: &[u8] = b"\x15\x03\x01\x00\x02\x02\x46";
    // TLS 1.1 with a suite of its time, from a server that does not know how newer clients ask.
    let mut hello = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02".to_vec();
    hello.extend([7; 32]);
    hello.extend(b"\x00\xc0\x09\x00");
    for answer in [alert.to_vec(), hello] {
        let server = Server::raw(move |mut stream| {
            let answer = answer.clone();
            async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(&answer).await;
                // Until the client ends the connection: unread bytes would reset it.
                while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
            }
        })
        .await;
        let report = local().check(&server.https()).await;
        assert_refused(&report, &ProbeError::OldTls);
    }
}

#[tokio::test]
async fn each_fault_of_a_certificate_has_its_name() {
    use CertificateProblem::{Expired, NotYetValid, OtherHost, SelfSigned, UnknownIssuer};
    let authority = Authority::new();
    let probe = authority.probe();
    let expired = authority.issue_with("localhost", |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let early = authority.issue_with("localhost", |params| {
        params.not_before = date_time_ymd(2999, 1, 1);
        params.not_after = date_time_ymd(3000, 1, 1);
    });
    let root = IsCa::Ca(BasicConstraints::Unconstrained);
    for (issued, problem) in [
        (expired, Expired),
        (early, NotYetValid),
        (authority.issue("example.com"), OtherHost),
        (
            Authority::named("another").issue("localhost"),
            UnknownIssuer,
        ),
        (self_signed(IsCa::NoCa), SelfSigned),
        (self_signed(root), SelfSigned),
    ] {
        let report = report_of(&probe, &issued).await;
        assert_refused(&report, &ProbeError::Certificate(problem));
        assert!(!report.has_accepted_tls());
        is_refused_by_the_client(&authority, &issued).await;
    }
}

/// What the probe refuses, the client of the APIs refuses too, for good and before anything is sent.
async fn is_refused_by_the_client(authority: &Authority, issued: &Issued) {
    let server = Server::start(Some(issued.config(&[&TLS13, &TLS12])), NO_CONTENT).await;
    let call = client(Some(authority)).oneshot(get(&server.https()));
    let error = call.await.unwrap_err();
    assert_eq!(error.outcome().kind(), OutcomeKind::Permanent, "{error}");
    assert_eq!(server.requests(), [""; 0]);
}

/// The client of the APIs, that may ask servers of this machine.
fn client(authority: Option<&Authority>) -> HttpsClient {
    let rules = TargetRules::new().allow_private(true).allow_http(true);
    let client = HttpsClient::builder().rules(rules);
    let client = match authority {
        Some(authority) => client.root_certificates(authority.pem.as_bytes()).unwrap(),
        None => client,
    };
    client.build()
}

fn get(uri: &Uri) -> Request<BufferedBody> {
    let mut req = Request::new(BufferedBody::default());
    *req.uri_mut() = uri.clone();
    req
}

#[tokio::test]
async fn a_tarpit_is_left_at_the_time_limit_and_a_flood_at_a_bound() {
    let probe = local().time_limit(Duration::from_millis(500)).unwrap();
    let tarpit = Server::raw(|mut stream| async move {
        let mut line = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        // A byte at a time, for as long as there is somebody who reads.
        while stream.write_all(&line).await.is_ok() {
            line = b"y".to_vec();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let began = tokio::time::Instant::now();
    let report = probe.check(&at("http", tarpit.port)).await;
    assert_refused(&report, &ProbeError::Timeout(ProbeStep::Answer));
    assert!(began.elapsed() < Duration::from_secs(5));

    let probe = local().time_limit(Duration::from_secs(60)).unwrap();
    for line in ["x: y\r\n", "y"] {
        let (flood, written) = flooding(b"HTTP/1.1 200 OK\r\nx: ", line).await;
        let report = probe.check(&at("http", flood.port)).await;
        assert!(!report.is_reachable(), "{line:?}: {report:?}");
        let written = written.load(Ordering::SeqCst);
        assert!(written < 32 << 20, "{line:?}: {written}");
    }
}

#[tokio::test]
async fn interim_answers_without_an_end_are_a_fault_and_a_few_are_not() {
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let (flood, _) = flooding(b"", CONTINUE).await;
    let uri = at("http", flood.port);
    let probe = local().time_limit(Duration::from_secs(300)).unwrap();
    assert_refused(&probe.check(&uri).await, &ProbeError::NotHttp);
    let error = client(None).oneshot(get(&uri)).await.unwrap_err();
    assert_eq!(error.outcome().kind(), OutcomeKind::Transient);
    let said = "more than 16 interim answers (1xx) and no other";
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some(said));

    let few = CONTINUE.repeat(16) + NO_CONTENT;
    let few = Server::start(None, few.leak()).await;
    let uri = at("http", few.port);
    assert_eq!(probe.check(&uri).await.status().unwrap(), 204);
    assert_eq!(client(None).oneshot(get(&uri)).await.unwrap().status(), 204);
}

/// A server that answers like this and goes on with the same for ever, and the number of bytes that it has written.
async fn flooding(begin: &'static [u8], line: &'static str) -> (Server, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let server = Server::raw(move |mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(begin).await;
            let many = line.repeat(4096);
            while stream.write_all(many.as_bytes()).await.is_ok() {
                counted.fetch_add(many.len(), Ordering::SeqCst);
            }
        }
    })
    .await;
    (server, written)
}

#[tokio::test]
async fn a_target_without_tls_is_told_apart() {
    let server = Server::raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let report = local().check(&server.https()).await;
    assert_refused(&report, &ProbeError::NotTls);

    // Where `http` is permitted it can be reached, and has no TLS.
    let server = Server::start(None, NO_CONTENT).await;
    let report = local().check(&at("http", server.port)).await;
    assert!(report.is_reachable() && !report.has_accepted_tls());
    assert_eq!(
        serde_json::to_value(&report).unwrap()["tls_version"],
        "none"
    );
}

#[tokio::test]
async fn a_target_that_is_not_there_is_unreachable() {
    let port = Server::start(None, NO_CONTENT).await.port;
    let gone = loop {
        // Until the listener of the dropped server is closed.
        let report = local().check(&at("https", port)).await;
        if report.error() != Some(&ProbeError::Closed) {
            break report;
        }
    };
    let refused = ProbeError::Unreachable(std::io::ErrorKind::ConnectionRefused);
    assert_refused(&gone, &refused);

    let no_name = format!("https://{}.test/", "x".repeat(64));
    let report = local().check(&no_name.parse().unwrap()).await;
    assert_refused(&report, &ProbeError::Unresolved);
}

#[tokio::test]
async fn a_target_that_ends_the_connection_is_told_apart() {
    let authority = Authority::new();
    let config = Arc::new(authority.issue("localhost").config(&[&TLS13]));
    let reset = Server::raw(|stream| async move {
        stream.set_zero_linger().unwrap();
    });
    let closed = Server::raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.shutdown().await;
    });
    let after_handshake = Server::raw(move |stream| {
        let tls = TlsAcceptor::from(Arc::clone(&config));
        async move {
            let mut stream = tls.accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.shutdown().await;
        }
    });
    for (server, has_tls) in [
        (reset.await, false),
        (closed.await, false),
        (after_handshake.await, true),
    ] {
        let report = authority.probe().check(&server.https()).await;
        assert_refused(&report, &ProbeError::Closed);
        assert_eq!(report.has_accepted_tls(), has_tls);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_told_apart() {
    let authority = Authority::new();
    let config = authority.issue("localhost").config(&[&TLS13]);
    let server = Server::start(Some(config), "220 mail.example.com ESMTP\r\n\r\n").await;
    let report = authority.probe().check(&server.https()).await;
    assert_refused(&report, &ProbeError::NotHttp);
    assert!(report.has_accepted_tls());
}

#[tokio::test]
async fn a_target_that_wants_a_client_certificate_is_told_apart() {
    let authority = Authority::new();
    let issued = authority.issue("localhost");
    let mut roots = RootCertStore::empty();
    roots.add(issued.certificate.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let key = PrivateKeyDer::try_from(issued.key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(vec![issued.certificate.der().clone()], key)
        .unwrap();
    let server = Server::start(Some(config), NO_CONTENT).await;
    let report = authority.probe().check(&server.https()).await;
    let Some(ProbeError::Tls(what)) = report.error() else {
        panic!("{report:?}");
    };
    assert!(what.contains("CertificateRequired"), "{what}");
    assert!(report.has_accepted_tls());
}

#[tokio::test(start_paused = true)]
async fn a1_a_probe_takes_five_seconds_unless_it_is_told_otherwise() {
    let (full, _queued) = full().await;
    let url: Uri = format!("https://{}/", full.local_addr().unwrap())
        .parse()
        .unwrap();
    // S2's probe takes ten.
    let ten = local().time_limit(Duration::from_secs(10)).unwrap();
    for (probe, seconds) in [(local(), 5), (ten, 10)] {
        let began = tokio::time::Instant::now();
        let report = probe.check(&url).await;
        assert_refused(&report, &ProbeError::Timeout(ProbeStep::Connect));
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

#[tokio::test]
async fn each_step_of_a_target_that_hangs_ends_at_the_time_limit() {
    let authority = Authority::new();
    let probe = authority.probe();
    let probe = probe.time_limit(Duration::from_secs(1)).unwrap();

    let (full, _queued) = full().await;
    let address = full.local_addr().unwrap();
    let report = probe.check(&at("https", address.port())).await;
    assert_refused(&report, &ProbeError::Timeout(ProbeStep::Connect));

    let silent = Server::raw(|mut stream| async move {
        while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let report = probe.check(&silent.https()).await;
    assert_refused(&report, &ProbeError::Timeout(ProbeStep::Handshake));

    let config = Arc::new(authority.issue("localhost").config(&[&TLS13]));
    let mute = Server::raw(move |stream| {
        let tls = TlsAcceptor::from(Arc::clone(&config));
        async move {
            let mut stream = tls.accept(stream).await.unwrap();
            while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
        }
    })
    .await;
    let report = probe.check(&mute.https()).await;
    assert_refused(&report, &ProbeError::Timeout(ProbeStep::Answer));
    assert!(report.has_accepted_tls(), "the handshake was done");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["error_message"], "Timeout: no answer in time");
}

#[tokio::test]
async fn forbidden_targets_are_not_asked() {
    let dialled = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dialled);
    let server = Server::raw(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    })
    .await;
    let strict = Probe::new();
    let port = server.port;
    for (uri, problem) in [
        (
            format!("http://localhost:{port}/"),
            ForbiddenTarget::NotHttps,
        ),
        // A name, and spellings of an address that only the system's resolver reads.
        (
            format!("https://localhost:{port}/"),
            ForbiddenTarget::NotPublic,
        ),
        (
            format!("https://127.0.0.1:{port}/"),
            ForbiddenTarget::NotPublic,
        ),
        (format!("https://[::1]:{port}/"), ForbiddenTarget::NotPublic),
        (
            format!("https://[::ffff:127.0.0.1]:{port}/"),
            ForbiddenTarget::NotPublic,
        ),
        (
            format!("https://2130706433:{port}/"),
            ForbiddenTarget::NotPublic,
        ),
        (
            format!("https://0x7f000001:{port}/"),
            ForbiddenTarget::NotPublic,
        ),
        (
            format!("https://0177.0.0.1:{port}/"),
            ForbiddenTarget::NotPublic,
        ),
        (format!("https://127.1:{port}/"), ForbiddenTarget::NotPublic),
        (
            format!("https://user:secret@localhost:{port}/"),
            ForbiddenTarget::Credentials,
        ),
    ] {
        let target = uri.parse().unwrap();
        let report = strict.check(&target).await;
        assert_eq!(
            report.error(),
            Some(&ProbeError::Forbidden(problem)),
            "{uri}"
        );
        // Nor by the client of the APIs. What is no name for a certificate either, it counts as not reached.
        let error = HttpsClient::new().oneshot(get(&target)).await.unwrap_err();
        let kind = error.outcome().kind();
        let refused = matches!(kind, OutcomeKind::Unsendable | OutcomeKind::Unreached);
        assert!(refused, "{uri}: {error}");
    }
    assert_eq!(dialled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_address_may_be_the_host_of_a_target() {
    let authority = Authority::new();
    let config = authority.issue("127.0.0.1").config(&[&TLS13]);
    let server = Server::start(Some(config), NO_CONTENT).await;
    let uri = format!("https://127.0.0.1:{}", server.port)
        .parse()
        .unwrap();
    let report = authority.probe().check(&uri).await;
    assert_eq!(report.error(), None);
    assert!(server.requests()[0].starts_with("GET / HTTP/1.1\r\n"));
}

#[test]
fn settings_of_a_probe_that_make_no_sense_are_named() {
    for limit in [Duration::ZERO, Duration::from_secs(301)] {
        let error = Probe::new().time_limit(limit).unwrap_err();
        assert_eq!(error.setting(), "time_limit");
    }
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in ["", "no certificate", broken] {
        let error = Probe::new().root_certificates(pem).unwrap_err();
        assert_eq!(error.setting(), "root_certificates");
    }
}

#[test]
fn versions_of_tls_are_an_open_set() {
    for name in ["TLSv1.1", "TLSv1.2", "TLSv1.3", "TLSv1.4"] {
        let version: TlsVersion = serde_json::from_value(json!(name)).unwrap();
        assert_eq!(version.as_str(), name);
        assert_eq!(serde_json::to_value(&version).unwrap(), json!(name));
    }
}
