use super::*;
use crate::foreign::{Foreign, now, openssl_base64};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

#[test]
fn the_three_forms_of_the_documents_are_taken_and_each_alone_on_request() {
    let body = event("evt");
    let hex = openssl_hex(SECRET, body.as_bytes());
    let base64 = openssl_base64(SECRET, body.as_bytes());
    let timestamped = format!("{},{base64}", now());
    for (kind, taken) in [
        ("any", [true, true, true]),
        ("hex", [true, false, false]),
        ("base64", [false, true, false]),
        ("timestamped", [false, false, true]),
    ] {
        let server = gateway(&["--signature", kind]);
        for (signature, taken) in [&hex, &base64, &timestamped].into_iter().zip(taken) {
            let status = send(&server, signature, body.as_bytes()).status;
            assert_eq!(status, if taken { 200 } else { 401 }, "{kind} {signature}");
        }
    }
}

#[test]
fn standard_webhooks_are_taken_from_other_peoples_packages() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut command = command();
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--store",
        "memory:",
        "--signature",
        "standard",
    ]);
    command.args(["--secret", secret]);
    let server = Server::start(command);
    let mut clients = Foreign::start();
    let body = event("evt");
    let headers = clients.sign("standardwebhooks", secret, "msg_1", &body);
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let url = server.url("/webhooks/cognigy");
    assert_eq!(curl(&url, &headers, Some(body.as_bytes()), &[]).status, 200);
    assert_eq!(
        curl(&url, &headers[..2], Some(body.as_bytes()), &[]).status,
        401
    );
}

#[test]
fn every_secret_of_a_rotation_is_taken_and_no_other() {
    for flags in [
        &["--secret", "the one before this"][..],
        &["--secret", "the one before this,and the one before that"],
    ] {
        let server = gateway(flags);
        let body = event("evt");
        assert_eq!(post(&server, body.as_bytes()).status, 200);
        let with = |secret| {
            send(
                &server,
                &openssl_hex(secret, body.as_bytes()),
                body.as_bytes(),
            )
        };
        assert_eq!(with("the one before this").status, 200);
        assert_eq!(with("the very first of them").status, 401);
    }
}

#[test]
fn what_is_not_signed_is_refused_without_a_word_why() {
    let server = gateway(&[]);
    let body = event("evt");
    let hex = openssl_hex(SECRET, body.as_bytes());
    let base64 = openssl_base64(SECRET, body.as_bytes());
    let stale = format!("{},{base64}", now() - 301);
    let early = format!("{},{base64}", now() + 330);
    let mut answers = Vec::new();
    for signature in [
        "",
        "x",
        &hex[..63],
        &hex.to_uppercase(),
        &format!("{hex}0"),
        &format!("{hex},{hex}"),
        &format!("sha256={hex}"),
        &openssl_hex("another", body.as_bytes()),
        &base64[..43],
        &format!("{base64}="),
        &stale,
        &early,
        &format!("-9223372036854775808,{base64}"),
        &format!("123456789012345678901234567890,{base64}"),
        &format!("+{},{base64}", now()),
        &format!("{}.0,{base64}", now()),
        &format!(",{base64}"),
        &format!("{},", now()),
        "t=1,v1=00",
        "zoë",
    ] {
        let refused = send(&server, signature, body.as_bytes());
        assert_eq!(refused.status, 401, "{signature:?}");
        answers.push(refused.body);
    }
    let headers = [("x-cognigy-signature", hex.as_str()); 2];
    let url = server.url("/webhooks/cognigy");
    let twice = curl(&url, &headers, Some(body.as_bytes()), &[]);
    assert_eq!(twice.status, 401, "two headers");
    answers.push(twice.body);
    answers.push(curl(&url, &[], Some(body.as_bytes()), &[]).body);
    for answer in &answers {
        assert_eq!(
            answer,
            r#"{"type":"about:blank","title":"Unauthorized","status":401}"#
        );
    }
    // None of this has used up the event.
    assert_eq!(
        send(&server, &hex, body.as_bytes()).json()["status"],
        "accepted"
    );
}

#[test]
fn header_bytes_outside_ascii_and_a_huge_header_are_the_callers_fault() {
    let server = gateway(&[]);
    for (signature, refused) in [
        (b"\xff\xfe\x80".to_vec(), &[401][..]),
        (vec![b'a'; 1 << 20], &[401, 431]),
        (vec![b'a'; 16 << 10], &[401, 431]),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let mut request = b"POST /webhooks/cognigy HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\nx-cognigy-signature: ".to_vec();
        request.extend(&signature);
        request.extend(b"\r\n\r\n{}");
        // A server that refuses a huge head need not read all of it.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        // The connection may be reset before the answer is read where the head was not.
        let fine = status.is_some_and(|status: u16| refused.contains(&status))
            || (status.is_none() && refused.len() > 1);
        assert!(fine, "{} bytes: {answer}", signature.len());
    }
    assert_eq!(
        post(&server, event("evt").as_bytes()).status,
        200,
        "it still serves"
    );
}
