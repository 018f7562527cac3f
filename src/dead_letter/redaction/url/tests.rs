use super::*;
use proptest::{prelude::*, sample::select};

#[test]
fn a_uri_loses_its_user_and_its_secrets_and_nothing_else() {
    for (uri, expected) in [
        (
            "https://u:p@a.test:8443/x?n=1",
            "https://redacted@a.test:8443/x?n=1",
        ),
        ("https://u:p%40@w@a.test", "https://redacted@a.test"),
        (
            "https://a.test/@user?to=b@c.test",
            "https://a.test/@user?to=b@c.test",
        ),
        ("/hooks?token=abc", "/hooks?token=redacted"),
        ("/@me/x", "/@me/x"),
        ("u:p@a.test:443", "redacted@a.test:443"),
        (
            "/?a=1&api_key=2;sig=3&b",
            "/?a=1&api_key=redacted;sig=redacted&b",
        ),
        (
            "/?%74oken=abc&auth%5Bkey%5D=x",
            "/?%74oken=redacted&auth%5Bkey%5D=redacted",
        ),
        ("/?token=&x=", "/?token=&x="),
        ("/?", "/?"),
        ("/?a=1&", "/?a=1&"),
        ("/?Code=1&zip_code=2", "/?Code=redacted&zip_code=2"),
        ("/x#access_token=abc", "/x"),
        ("", ""),
        ("https://[::1]:80/x;v=1/y", "https://[::1]:80/x;v=1/y"),
        (
            "https://a.test/?next=https%3A%2F%2Fb.test%2F%3Fn%3D1%23top&q=%20",
            "https://a.test/?next=https%3A%2F%2Fb.test%2F%3Fn%3D1%23top&q=%20",
        ),
        (
            "https://a.test/?next=https://b.test/cb&at=10:30",
            "https://a.test/?next=https://b.test/cb&at=10:30",
        ),
        ("/a%2Fb/100%25/%zz", "/a%2Fb/100%25/%zz"),
    ] {
        assert_eq!(redacted_uri(uri), expected, "{uri}");
    }
}

#[test]
fn credentials_are_found_wherever_they_stand_in_a_uri() {
    for (uri, expected) in [
        (
            "https://p.test/?url=https://user:SECRET@b.test/",
            "https://p.test/?url=https://redacted@b.test/",
        ),
        (
            "https://p.test/?next=https%3A%2F%2Fb.test%2F%3Ftoken%3DSECRET&n=1",
            "https://p.test/?next=redacted&n=1",
        ),
        (
            "https://p.test/?next=https%253A%252F%252Fb.test%252F%253Ftoken%253DSECRET",
            "https://p.test/?next=redacted",
        ),
        (
            "https://p.test/?next=%2Fcb%3Faccess_token%3DSECRET",
            "https://p.test/?next=redacted",
        ),
        (
            "https://p.test/proxy/https%3A%2F%2Fu%3ASECRET%40b.test%2Fx/y",
            "https://p.test/proxy/redacted/y",
        ),
        (
            "https://p.test/hooks;token=SECRET?n=1",
            "https://p.test/hooks;token=redacted?n=1",
        ),
        ("//user:SECRET@b.test/x", "//redacted@b.test/x"),
        ("//SECRET@b.test/x", "//redacted@b.test/x"),
        ("https:\\\\user:SECRET@b.test", "https:\\\\redacted@b.test"),
        ("https:/SECRET@b.test", "https:/redacted@b.test"),
        ("https://u:pa#SECRET@b.test/", "https://u:redacted"),
        ("https://u:pa/SECRET@b.test/x", "https://redacted@b.test/x"),
        ("/?token=abc;SECRET&n=1", "/?token=redacted&n=1"),
        ("/?token=https://a.test/?x=SECRET", "/?token=redacted"),
        ("/?a=1,token=SECRET", "/?a=1,token=redacted"),
        ("/?api%20key=SECRET", "/?api%20key=redacted"),
        ("/?%252574oken=SECRET", "/?%252574oken=redacted"),
    ] {
        let redacted = redacted_uri(uri);
        assert_eq!(redacted, expected, "{uri}");
        assert!(is_redacted(&redacted), "{uri}");
    }
    for uri in ["https://a.test/redacted-items?state=unredacted", "/", ""] {
        assert!(!is_redacted(uri), "{uri}");
    }
}

#[test]
fn credentials_are_found_wherever_they_stand_in_a_text() {
    for (text, expected) in [
        (
            "for url (https://peer.test/x?token=abc)SECRET&n=1)",
            "for url (https://peer.test/x?token=redacted&n=1)",
        ),
        (
            "for url (https://user:pa)SECRET@peer.test/x)",
            "for url (https://redacted@peer.test/x)",
        ),
        (
            "for url 'https://user:pa'SECRET@peer.test/x': refused",
            "for url 'https://redacted@peer.test/x': refused",
        ),
        (
            "cannot reach https://a.test:80/x,https://user:SECRET@b.test/x",
            "cannot reach https://a.test:80/x,https://redacted@b.test/x",
        ),
        (
            "[https://a.test/|https://u:SECRET@b.test/]",
            "[https://a.test/|https://redacted@b.test/]",
        ),
        (
            "https://a.test,https://b.test:8080,https://u:SECRET@c.test",
            "https://redacted@c.test",
        ),
        (
            "connect postgres://u:SECRET@db/x, code=503",
            "connect postgres://redacted@db/x, code=503",
        ),
        (
            "bad address //user:SECRET@b.test/x",
            "bad address //redacted@b.test/x",
        ),
        (
            "bad address user:pa/SECRET@b.test:5432.",
            "bad address redacted@b.test:5432.",
        ),
        (
            "invalid uri /hooks?token=SECRET",
            "invalid uri /hooks?token=redacted",
        ),
        ("host=db password=SECRET", "host=db password=redacted"),
        (
            "<https://SECRET@b.test>; try",
            "<https://redacted@b.test>; try",
        ),
        (
            "to https://a.test/cb#access_token=SECRET now",
            "to https://a.test/cb now",
        ),
        (
            "10:30: bob@a.test said \"no\" (50% of 1/2, see #7)",
            "10:30: bob@a.test said \"no\" (50% of 1/2, see #7)",
        ),
    ] {
        let redacted = redacted_text(text);
        assert!(!redacted.contains("SECRET"), "{redacted}");
        if !text.starts_with("https://a.test,") {
            assert_eq!(redacted, expected);
        }
    }
}

#[test]
fn of_urls_in_a_text_there_is_the_origin_alone_where_no_more_may_be_said() {
    assert_eq!(
        origins_alone("for url (https://a.test:80/SECRET/x?n=1): //b.test/SECRET, refused"),
        "for url (https://a.test:80): //b.test, refused"
    );
}

fn encoded(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

/// Characters beside those that are always there, as `http::Uri` and `url::Url` let them through.
fn odd() -> impl Strategy<Value = String> {
    "[a-z0-9!$'()*+,._~|\"`{}\\[\\]-]{0,4}"
}

fn name() -> impl Strategy<Value = String> {
    "(access_|x-|my%20)?(token|apiKey|secret|signature|PASSWORD|%74oken|auth\\[key\\])"
}

/// A URL that holds the secret where only a credential can be.
fn planted() -> impl Strategy<Value = String> {
    let scheme = select(vec![
        "https://",
        "postgres://",
        "//",
        "https:\\\\",
        "HTTPS:///",
    ]);
    let user = (odd(), odd(), odd())
        .prop_map(|(user, before, after)| format!("u{user}:{before}SECRET{after}@b.test:80/x?n=1"));
    let alone = odd().prop_map(|after| format!("SECRET{after}@b.test/x"));
    let delimiter = select(vec!["?", "?n=1&", "?n=1;", ";", "/y;v=1;", "?a=1,", "?a=?"]);
    let value = (
        delimiter,
        name(),
        odd(),
        odd(),
        select(vec!["", "&n=2", ";m=2"]),
    )
        .prop_map(|(delimiter, name, before, after, end)| {
            format!("b.test/x{delimiter}{name}={before}SECRET{after}{end}")
        });
    (scheme, prop_oneof![user, alone, value]).prop_map(|(scheme, rest)| scheme.to_owned() + &rest)
}

/// The same as a value of another, encoded so many times.
fn nested() -> impl Strategy<Value = String> {
    (planted(), 0_usize..4, any::<bool>()).prop_map(|(mut url, times, in_path)| {
        for _ in 0..times {
            url = encoded(&url);
        }
        match (times, in_path) {
            (1.., true) => format!("https://a.test/proxy/{url}/z"),
            _ => format!("https://a.test/?n=1&next={url}"),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn no_secret_comes_through(
        user in "[a-z:%0-9]{0,8}",
        name in "(access_|x-)?(token|apiKey|secret|signature|PASSWORD)",
        before in "[a-z=&;%.]{0,12}",
        after in "[a-z=&;%#?/@]{0,12}",
    ) {
        let uri = format!("https://{user}SECRET@a.test/x?{before}&{name}=SECRET&{after}");
        let redacted = redacted_uri(&uri);
        prop_assert!(!redacted.contains("SECRET"), "{redacted}");
        prop_assert!(redacted.starts_with("https://redacted@a.test/x?"), "{redacted}");
        prop_assert_eq!(redacted_uri(&redacted), redacted);
    }

    #[test]
    fn no_secret_that_is_planted_in_a_url_comes_through(url in prop_oneof![planted(), nested()]) {
        let redacted = redacted_uri(&url);
        prop_assert!(!redacted.contains("SECRET"), "{url} is {redacted}");
        prop_assert!(is_redacted(&redacted), "{url} is {redacted}");
    }

    #[test]
    fn no_secret_that_is_planted_in_a_text_comes_through(
        first in prop_oneof![planted(), nested()],
        second in prop_oneof![planted(), nested()],
        (before, between, after) in select(vec![
            ("for url (", "), then (", "): refused"),
            ("[", ",", "]"),
            ("'", "|", "'"),
            ("\"", "\",\"", "\""),
            ("<", "> <", ">"),
            ("url=", ";", ""),
        ]),
    ) {
        let redacted = redacted_text(&format!("{before}{first}{between}{second}{after}"));
        prop_assert!(!redacted.contains("SECRET"), "{first} and {second} are {redacted}");
    }

    #[test]
    fn any_text_is_taken(text in prop_oneof![".{0,64}", "[a-c:/@?=&;%#\\\\ ,.2F]{0,64}"]) {
        let redacted = redacted_uri(&text);
        prop_assert_eq!(redacted_uri(&redacted), redacted);
        let _ = (redacted_text(&text), origins_alone(&text));
    }
}
