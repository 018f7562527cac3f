//! Removes credentials from URLs, and from texts that contain URLs.
//!
//! If it is not certain what is a credential, it removes too much: operators read the result.

use crate::{credentials::names_a_credential, percent};
use std::borrow::Cow;

/// Replaces a value that was removed.
pub(super) const REDACTED: &str = "redacted";

/// Whole names of parameters that hold credentials, in addition to the names that
/// [`names_a_credential`] knows.
const PARAMETERS: &[&str] = &["code", "pass", "pwd", "sig"];

/// How many times a value is decoded that was encoded more than once.
const MOST_DECODED: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The whole text is one URI.
    Uri,
    /// A word of a text.
    Text,
    /// A word of a decoded value.
    Decoded,
}

/// Returns a URI without user, password, fragment and the values that are credentials.
pub(super) fn redacted_uri(uri: &str) -> String {
    let (uri, _) = uri.split_once('#').unwrap_or((uri, ""));
    redacted_word(uri, Place::Uri)
}

/// Returns a text in which every word that may be a URL, or a part of one, is a [`redacted_uri`].
pub(super) fn redacted_text(text: &str) -> String {
    redacted_words(text, Place::Text)
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

/// Returns a text in which every URL ends after its origin.
pub(in crate::dead_letter) fn origins_alone(text: &str) -> String {
    let text = redacted_text(text);
    let mut kept = String::with_capacity(text.len());
    for piece in text.split_inclusive(between_words) {
        let word = piece.trim_end_matches(closes);
        let path = authority_after(word, 0).and_then(|begin| {
            let end = word[begin..].find(ends_an_authority)?;
            Some(begin + end)
        });
        kept.push_str(&word[..path.unwrap_or(word.len())]);
        kept.push_str(&piece[word.len()..]);
    }
    kept
}

/// Whether a character cannot be in a URL. Quotes, brackets and commas can, also in a password.
fn between_words(c: char) -> bool {
    c.is_whitespace() || matches!(c, '<' | '>')
}

/// Characters at the end of a word that belong to the sentence rather than to the URL.
fn closes(c: char) -> bool {
    between_words(c)
        || matches!(
            c,
            ')' | ']' | '}' | '\'' | '"' | '`' | ',' | '.' | ':' | ';' | '!' | '|'
        )
}

const fn ends_an_authority(c: char) -> bool {
    matches!(c, '/' | '\\' | '?' | '#')
}

fn redacted_words(text: &str, place: Place) -> String {
    let mut redacted = String::with_capacity(text.len());
    for piece in text.split_inclusive(between_words) {
        let word = piece.trim_end_matches(closes);
        redacted.push_str(&redacted_word(word, place));
        redacted.push_str(&piece[word.len()..]);
    }
    redacted
}

fn redacted_word(word: &str, place: Place) -> String {
    if !word.contains(['/', '\\', '@', '=', '%']) {
        return word.to_owned();
    }
    let word = without_users(word, place);
    let word = match word.split_once('#') {
        Some((word, _)) if place != Place::Uri && authority_after(word, 0).is_some() => word,
        _ => &word,
    };
    match word.split_once('?') {
        None => without_values(word, place, Part::Path),
        Some((path, query)) => {
            let mut redacted = without_values(path, place, Part::Path);
            redacted.push('?');
            redacted.push_str(&without_values(query, place, Part::Query));
            redacted
        }
    }
}

/// The position of the next authority: after `:/`, `://` or more slashes, or after `//` at the beginning.
fn authority_after(word: &str, from: usize) -> Option<usize> {
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

/// A word without the users and passwords of its URLs.
fn without_users(word: &str, place: Place) -> String {
    let mut redacted = String::with_capacity(word.len());
    let (mut copied, mut from, mut any) = (0, 0, false);
    while let Some(begin) = authority_after(word, from) {
        any = true;
        let rest = &word[begin..];
        let authority = &rest[..rest.find(ends_an_authority).unwrap_or(rest.len())];
        let end = begin + authority.len();
        from = end;
        let mut user = authority.rfind('@');
        if let (None, Some(port)) = (user, odd_port(authority)) {
            // A password, or the beginning of one, in which a slash was not encoded.
            let next = word[end..].find("://").unwrap_or(word.len() - end);
            user = word[begin..end + next].rfind('@');
            if user.is_none() {
                redacted.push_str(&word[copied..begin + port]);
                redacted.push_str(REDACTED);
                copied = end;
            }
        }
        if let Some(user) = user {
            redacted.push_str(&word[copied..begin]);
            redacted.push_str(REDACTED);
            copied = begin + user;
            from = from.max(copied);
        }
    }
    redacted.push_str(&word[copied..]);
    if place != Place::Uri
        && !any
        && !redacted.starts_with('/')
        && let Some(at) = redacted.rfind('@')
        && redacted[..at].contains(':')
    {
        return format!("{REDACTED}{}", &redacted[at..]);
    }
    without_passwords(&redacted)
}

/// The position of text after the host name that is not a port.
fn odd_port(authority: &str) -> Option<usize> {
    let host = authority.rfind(']').map_or(0, |end| end + 1);
    let begin = host + authority[host..].find(':')? + 1;
    let odd = |part: &str| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let port = rest.len() < part.len();
        !(part.is_empty() || port && (rest.is_empty() || rest.starts_with([',', '|'])))
    };
    authority[begin..].split(':').any(odd).then_some(begin)
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Query,
}

fn without_values(word: &str, place: Place, part: Part) -> String {
    let mut redacted = String::with_capacity(word.len());
    let (mut before, mut taken) = (None, false);
    for piece in word.split_inclusive(['&', ';']) {
        let bare = piece.trim_end_matches(['&', ';']);
        // The value continues, because a semicolon in it was not encoded.
        let goes_on = taken && before == Some(';') && !bare.is_empty() && !bare.contains('=');
        if !goes_on {
            redacted.extend(before);
            let parameter = place == Place::Uri || part == Part::Query || before.is_some();
            let value = value_of_a_credential(bare, parameter);
            taken = value.is_some();
            if let Some(value) = value {
                push_decodable(&mut redacted, &bare[..value], place, part);
                redacted.push_str(REDACTED);
            } else {
                push_decodable(&mut redacted, bare, place, part);
            }
        }
        before = piece[bare.len()..].chars().next_back();
    }
    redacted.extend(before);
    redacted
}

/// The position of the value of the first `name=value` that is a credential.
fn value_of_a_credential(piece: &str, parameter: bool) -> Option<usize> {
    let in_names = |c: char| c.is_alphanumeric() || "_-.[]%~+".contains(c);
    piece.match_indices('=').find_map(|(at, _)| {
        let name = piece[..at].trim_end_matches(['"', '\'']);
        let begin = name.trim_end_matches(in_names).len();
        let known = at + 1 < piece.len() && parameter_is_a_credential(&name[begin..], parameter);
        known.then_some(at + 1)
    })
}

fn parameter_is_a_credential(name: &str, parameter: bool) -> bool {
    let name = fully_decoded(name).unwrap_or_default();
    let whole = PARAMETERS
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known));
    // In plain text, `code` is more likely a status code.
    let status = !parameter && name.eq_ignore_ascii_case("code");
    (whole && !status) || names_a_credential(&name)
}

/// Appends `piece`, without values that are encoded URLs with credentials.
fn push_decodable(redacted: &mut String, piece: &str, place: Place, part: Part) {
    if place == Place::Decoded || !piece.contains('%') {
        redacted.push_str(piece);
        return;
    }
    let ends: &[char] = match part {
        Part::Path => &['/', '='],
        Part::Query => &['='],
    };
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

/// Whether a value, decoded, holds a credential.
fn hides(value: &str) -> bool {
    if !value.contains('%') {
        return false;
    }
    let mut value = Cow::Borrowed(value);
    for _ in 0..MOST_DECODED {
        let next = percent::decoded(&value);
        if next == value {
            return false;
        }
        // A fragment without values is harmless.
        let bare = match next.split_once('#') {
            Some((bare, fragment)) if !fragment.contains('=') => bare,
            _ => &next,
        };
        if redacted_words(bare, Place::Decoded) != bare {
            return true;
        }
        value = Cow::Owned(next.into_owned());
    }
    value.contains('%')
}

/// `None` if it was encoded too many times.
fn fully_decoded(name: &str) -> Option<Cow<'_, str>> {
    let mut name = Cow::Borrowed(name);
    for _ in 0..MOST_DECODED {
        let next = percent::decoded(&name);
        if next == name {
            return Some(name);
        }
        name = Cow::Owned(next.into_owned());
    }
    None
}

#[cfg(test)]
mod tests {
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
}
