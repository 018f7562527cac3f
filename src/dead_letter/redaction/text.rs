//! Removes URLs from texts, but for their origins. Nothing is decoded: what is encoded is left out.
//!
//! If it is not certain what is a credential, it removes too much: operators read the result.

use super::{
    REDACTED,
    url::{authority_after, ends_an_authority, is_encoded, value_of_a_credential},
};

/// Returns a text in which of every URL only scheme, host and port are left, and no word that may be a part of a URL with
/// a credential.
pub(in crate::dead_letter) fn redacted_text(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    for piece in text.split_inclusive(between_words) {
        let word = piece.trim_end_matches(|c| between_words(c) || closes(c));
        push_redacted(&mut redacted, word);
        redacted.push_str(&piece[word.len()..]);
    }
    redacted
}

/// Whether a character cannot be in a URL. Quotes, brackets and commas can, also in a password.
fn between_words(c: char) -> bool {
    c.is_whitespace() || matches!(c, '<' | '>')
}

/// Characters at the end of a word that belong to the sentence rather than to the URL.
const fn closes(c: char) -> bool {
    matches!(
        c,
        ')' | ']' | '}' | '\'' | '"' | '`' | ',' | '.' | ':' | ';' | '!' | '|'
    )
}

fn push_redacted(redacted: &mut String, word: &str) {
    let begin = authority_after(word, 0);
    let (before, url) = word.split_at(begin.unwrap_or(word.len()));
    if may_hold_a_credential(before) {
        // It may go on in the URL.
        redacted.push_str(REDACTED);
    } else {
        redacted.push_str(before);
        redacted.push_str(host_of(url));
    }
}

/// Whether a word may be a part of a URL with a credential.
fn may_hold_a_credential(word: &str) -> bool {
    let user = word
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'));
    let query = word
        .split_once('?')
        .is_some_and(|(_, query)| !query.is_empty());
    let parameter = word.contains(['&', ';']);
    user || query || is_encoded(word) || value_of_a_credential(word, parameter).is_some()
}

/// The host and the port of what begins with an authority.
fn host_of(word: &str) -> &str {
    let authority = &word[..word.find(ends_an_authority).unwrap_or(word.len())];
    let authority = &authority[authority.rfind('@').map_or(0, |user| user + 1)..];
    let in_hosts = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let in_addresses = |c: char| c.is_ascii_hexdigit() || matches!(c, '[' | ':' | '.');
    let host = match authority.split_once(']') {
        Some((address, _)) if address.chars().all(in_addresses) => address.len() + 1,
        _ => authority.len() - authority.trim_start_matches(in_hosts).len(),
    };
    let port = authority[host..].strip_prefix(':').unwrap_or_default();
    let digits = port.len() - port.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let end = if digits > 0 { host + 1 + digits } else { host };
    match authority[end..].chars().next() {
        None => &authority[..end],
        Some(c) if closes(c) && c != ':' => &authority[..end],
        // It may be a user and a password in which a slash was not encoded, or an encoded URL.
        Some(_) => REDACTED,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::url::tests::{nested, planted},
        *,
    };
    use proptest::{prelude::*, sample::select};

    #[test]
    fn of_urls_in_a_text_there_is_the_origin_alone() {
        for (text, expected) in [
            (
                "for url (https://a.test:80/SECRET/x?n=1): //b.test/SECRET, refused",
                "for url (https://a.test:80): //b.test, refused",
            ),
            (
                "for url (https://peer.test/x?token=abc)SECRET&n=1)",
                "for url (https://peer.test)",
            ),
            (
                "for url (https://user:pa)SECRET@peer.test/x)",
                "for url (https://peer.test)",
            ),
            (
                "for url 'https://user:pa'SECRET@peer.test/x': refused",
                "for url 'https://peer.test': refused",
            ),
            (
                "cannot reach https://a.test:80/x,https://user:SECRET@b.test/x",
                "cannot reach https://a.test:80",
            ),
            (
                "[https://a.test/|https://u:SECRET@b.test/]",
                "[https://a.test]",
            ),
            (
                "https://a.test,https://b.test:8080,https://u:SECRET@c.test",
                "https://a.test",
            ),
            (
                "connect postgres://u:SECRET@db:5432/x, code=503",
                "connect postgres://db:5432, code=503",
            ),
            ("at https://[::1]:80/SECRET.", "at https://[::1]:80."),
            ("bad address //user:SECRET@b.test/x", "bad address //b.test"),
            ("https:\\\\user:SECRET@b.test", "https:\\\\b.test"),
            ("https:/SECRET@b.test", "https:/b.test"),
            ("<https://SECRET@b.test>; try", "<https://b.test>; try"),
            (
                "to https://a.test/cb#access_token=SECRET now",
                "to https://a.test now",
            ),
            // It is not certain where the password ends.
            ("https://u:pa/SECRET@b.test/x", "https://redacted"),
            ("https://u:pa#SECRET@b.test/x", "https://redacted"),
            ("https://u%3ASECRET%40b.test/x", "https://redacted"),
            ("https://[SECRET]/x", "https://redacted"),
            // It begins before the URL.
            ("token=SECRET,https://a.test/x", "redacted"),
            ("u:SECRET@a.test,https://b.test/x", "redacted"),
        ] {
            assert_eq!(redacted_text(text), expected, "{text}");
        }
    }

    #[test]
    fn of_other_words_what_may_be_a_part_of_a_url_is_left_out() {
        for (text, expected) in [
            (
                "bad address user:pa/SECRET@b.test:5432.",
                "bad address redacted.",
            ),
            ("invalid uri /hooks?token=SECRET", "invalid uri redacted"),
            ("/hooks/u:SECRET@b.test/SECRET", "redacted"),
            ("/cb#access_token=SECRET;SECRET", "redacted"),
            ("host=db password=SECRET&n=1, no", "host=db redacted, no"),
            ("n=1&code=SECRET", "redacted"),
            (
                "next=https%3A%2F%2Fu%3ASECRET%40b.test or https%253A%252F%252FSECRET%2540b.test",
                "redacted or redacted",
            ),
            (
                "10:30: bob@a.test said \"no\" (50% of 1/2, see #7): what? code=503",
                "10:30: bob@a.test said \"no\" (50% of 1/2, see #7): what? code=503",
            ),
            (
                "cannot open /etc/ssl/cert.pem: a+b=c",
                "cannot open /etc/ssl/cert.pem: a+b=c",
            ),
        ] {
            assert_eq!(redacted_text(text), expected, "{text}");
        }
    }

    proptest! {

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
            let redacted = redacted_text(&text);
            prop_assert_eq!(redacted_text(&redacted), redacted);
        }
    }
}
