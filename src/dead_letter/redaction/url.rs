//! Removes credentials from URIs.
//!
//! If it is not certain what is a credential, it removes too much: operators read the result.

use super::REDACTED;
use crate::{credentials::names_a_credential, percent};

/// Whole names of parameters that hold credentials, in addition to the names that
/// [`names_a_credential`] knows.
const PARAMETERS: &[&str] = &["code", "pass", "pwd", "sig"];

/// Returns a URI without user, password, fragment and the values that are credentials.
pub(super) fn redacted_uri(uri: &str) -> String {
    let (uri, _) = uri.split_once('#').unwrap_or((uri, ""));
    redacted(uri, false)
}

/// Whether something was removed from a URI.
pub(in crate::dead_letter) fn is_redacted(uri: &str) -> bool {
    let ends = |c: char| {
        matches!(
            c,
            '/' | '\\' | '?' | '&' | ';' | '=' | '@' | ':' | ',' | '|'
        )
    };
    uri.split(ends).any(|part| part == REDACTED)
}

/// `decoded`: this is a value of another URI, decoded.
fn redacted(uri: &str, decoded: bool) -> String {
    let uri = without_users(uri, decoded);
    let (path, query) = match uri.split_once('?') {
        None => (&*uri, None),
        Some((path, query)) => (path, Some(query)),
    };
    let mut redacted = without_values(path, &['/', '='], decoded);
    if let Some(query) = query {
        redacted.push('?');
        redacted.push_str(&without_values(query, &['='], decoded));
    }
    redacted
}

pub(super) const fn ends_an_authority(c: char) -> bool {
    matches!(c, '/' | '\\' | '?' | '#')
}

/// The position of the next authority: after `:/`, `://` or more slashes, or after `//` at the beginning.
pub(super) fn authority_after(word: &str, from: usize) -> Option<usize> {
    let slash = |c: char| matches!(c, '/' | '\\');
    let mut from = from;
    loop {
        let at = from + word[from..].find(slash)?;
        let rest = &word[at..];
        let slashes = rest.len() - rest.trim_start_matches(slash).len();
        from = at + slashes;
        let inside = |c: char| c.is_alphanumeric() || "._~-%+@*!$".contains(c);
        match word[..at].chars().next_back() {
            Some(':') => return Some(from),
            Some(before) if inside(before) => {}
            _ if slashes > 1 => return Some(from),
            _ => {}
        }
    }
}

/// A URI without its users and passwords, nor those of URLs in it.
fn without_users(word: &str, decoded: bool) -> String {
    let mut redacted = String::with_capacity(word.len());
    let (mut copied, mut from, mut any) = (0, 0, false);
    while let Some(begin) = authority_after(word, from) {
        any = true;
        let rest = &word[begin..];
        let authority = &rest[..rest.find(ends_an_authority).unwrap_or(rest.len())];
        from = begin + authority.len();
        if let Some(user) = authority.rfind('@') {
            redacted.push_str(&word[copied..begin]);
            redacted.push_str(REDACTED);
            copied = begin + user;
        } else if has_odd_port(authority) {
            // A password in which a slash was not encoded: it is not certain where it ends.
            redacted.push_str(&word[copied..begin]);
            redacted.push_str(REDACTED);
            copied = word.len();
            break;
        }
    }
    redacted.push_str(&word[copied..]);
    if decoded
        && !any
        && !redacted.starts_with('/')
        && let Some(at) = redacted.rfind('@')
        && redacted[..at].contains(':')
    {
        return format!("{REDACTED}{}", &redacted[at..]);
    }
    without_passwords(&redacted)
}

/// Whether there is something after a host name that is not a port.
fn has_odd_port(authority: &str) -> bool {
    let host = authority.rfind(']').map_or(0, |end| end + 1);
    let odd = |part: &str| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let port = rest.len() < part.len();
        !(part.is_empty() || port && (rest.is_empty() || rest.starts_with([',', '|'])))
    };
    authority[host..].split(':').skip(1).any(odd)
}

/// Returns a word without any `user:password@`.
fn without_passwords(word: &str) -> String {
    let mut redacted = String::with_capacity(word.len());
    for part in word.split_inclusive(['/', '\\', '?', '#', '&', '=']) {
        match part.rfind('@') {
            Some(at) if part[..at].contains(':') => {
                redacted.push_str(REDACTED);
                redacted.push_str(&part[at..]);
            }
            _ => redacted.push_str(part),
        }
    }
    redacted
}

/// A path or query without the values that are credentials. Values and names end with `ends`.
fn without_values(part: &str, ends: &[char], decoded: bool) -> String {
    let mut redacted = String::with_capacity(part.len());
    let (mut before, mut taken) = (None, false);
    for piece in part.split_inclusive(['&', ';']) {
        let bare = piece.trim_end_matches(['&', ';']);
        // The value continues, because a semicolon in it was not encoded.
        let goes_on = taken && before == Some(';') && !bare.is_empty() && !bare.contains('=');
        if !goes_on {
            redacted.extend(before);
            let value = value_of_a_credential(bare, true);
            taken = value.is_some();
            let kept = &bare[..value.unwrap_or(bare.len())];
            if decoded {
                redacted.push_str(kept);
            } else {
                push_decodable(&mut redacted, kept, ends);
            }
            if taken {
                redacted.push_str(REDACTED);
            }
        }
        before = piece[bare.len()..].chars().next_back();
    }
    redacted.extend(before);
    redacted
}

/// The position of the value of the first `name=value` that is a credential. In plain text, `code` is more likely a
/// status code than a `parameter`.
pub(super) fn value_of_a_credential(piece: &str, parameter: bool) -> Option<usize> {
    let in_names = |c: char| c.is_alphanumeric() || "_-.[]%~+".contains(c);
    piece.match_indices('=').find_map(|(at, _)| {
        let name = piece[..at].trim_end_matches(['"', '\'']);
        let begin = name.trim_end_matches(in_names).len();
        let known = at + 1 < piece.len() && parameter_is_a_credential(&name[begin..], parameter);
        known.then_some(at + 1)
    })
}

fn parameter_is_a_credential(name: &str, parameter: bool) -> bool {
    let name = percent::decoded(name);
    let is = |known: &&str| name.eq_ignore_ascii_case(known);
    let status = !parameter && is(&"code");
    PARAMETERS.iter().any(is) && !status || names_a_credential(&name) || is_encoded(&name)
}

/// Appends `piece`, without values that are encoded URLs with credentials.
fn push_decodable(redacted: &mut String, piece: &str, ends: &[char]) {
    for segment in piece.split_inclusive(ends) {
        let value = segment.trim_end_matches(ends);
        if hides(value) {
            redacted.push_str(REDACTED);
        } else {
            // A part may be encoded by itself.
            let ends = ['/', '\\', '?', ',', '|'];
            for segment in value.split_inclusive(ends) {
                let value = segment.trim_end_matches(ends);
                redacted.push_str(if hides(value) { REDACTED } else { value });
                redacted.push_str(&segment[value.len()..]);
            }
        }
        redacted.push_str(&segment[value.len()..]);
    }
}

/// Whether a value holds a credential when it is decoded, or is then encoded still.
fn hides(value: &str) -> bool {
    let decoded = percent::decoded(value);
    let (bare, fragment) = decoded.split_once('#').unwrap_or((&decoded, ""));
    is_encoded(value)
        && (is_encoded(&decoded) || fragment.contains('=') || redacted(bare, true) != bare)
}

/// Whether a text has an encoded character.
pub(super) fn is_encoded(text: &str) -> bool {
    let escape = |it: &[u8]| it[0] == b'%' && it[1..].iter().all(u8::is_ascii_hexdigit);
    text.as_bytes().windows(3).any(escape)
}

#[cfg(test)]
pub(super) mod tests {
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
            ("https://u:pa#SECRET@b.test/", "https://redacted"),
            ("https://u:pa/SECRET@b.test/x", "https://redacted"),
            ("/?token=abc;SECRET&n=1", "/?token=redacted&n=1"),
            ("/?token=https://a.test/?x=SECRET", "/?token=redacted"),
            ("/?a=1,token=SECRET", "/?a=1,token=redacted"),
            ("/?api%20key=SECRET", "/?api%20key=redacted"),
            ("/?%2574oken=SECRET", "/?redacted=redacted"),
        ] {
            let redacted = redacted_uri(uri);
            assert_eq!(redacted, expected, "{uri}");
            assert!(is_redacted(&redacted), "{uri}");
        }
        for uri in ["https://a.test/redacted-items?state=unredacted", "/", ""] {
            assert!(!is_redacted(uri), "{uri}");
        }
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
    pub(in super::super) fn planted() -> impl Strategy<Value = String> {
        let scheme = select(vec![
            "https://",
            "postgres://",
            "//",
            "https:\\\\",
            "HTTPS:///",
        ]);
        let user = (odd(), odd(), odd()).prop_map(|(user, before, after)| {
            format!("u{user}:{before}SECRET{after}@b.test:80/x?n=1")
        });
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
        (scheme, prop_oneof![user, alone, value])
            .prop_map(|(scheme, rest)| scheme.to_owned() + &rest)
    }

    /// The same as a value of another, encoded so many times.
    pub(in super::super) fn nested() -> impl Strategy<Value = String> {
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
        fn any_uri_is_taken(text in prop_oneof![".{0,64}", "[a-c:/@?=&;%#\\\\ ,.2F]{0,64}"]) {
            let redacted = redacted_uri(&text);
            prop_assert_eq!(redacted_uri(&redacted), redacted);
        }
    }
}
