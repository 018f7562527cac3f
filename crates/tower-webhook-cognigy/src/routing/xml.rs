//! Text as XML, and whether a text is well-formed XML 1.0.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use std::fmt::{self, Write};

/// Elements within elements. A receiver that reads by recursion is not given more.
const DEEPEST: usize = 128;

/// Whether XML 1.0 permits this character, in any form.
pub(super) const fn is_char(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Writes text so that it is the same text again when an element or an attribute with it is parsed: line ends
/// and tabs too, which a parser changes if they are not written as references. Characters must be
/// [permitted](is_char).
pub(super) fn write_escaped(out: &mut impl Write, text: &str) -> fmt::Result {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escaped = match byte {
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'&' => "&amp;",
            b'"' => "&quot;",
            b'\'' => "&apos;",
            b'\t' => "&#9;",
            b'\n' => "&#10;",
            b'\r' => "&#13;",
            _ => continue,
        };
        out.write_str(&text[plain..at])?;
        out.write_str(escaped)?;
        plain = at + 1;
    }
    out.write_str(&text[plain..])
}

/// Whether a text is one well-formed document. Says what is wrong without quoting it.
///
/// Stricter than XML in one thing: without a document type, so that the entities of the text are the five that XML has.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    if !text.chars().all(is_char) {
        return Err("it has a character that XML does not permit");
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().enable_all_checks(true);
    let (mut depth, mut roots, mut first) = (0_usize, 0_usize, true);
    loop {
        let event = reader.read_event();
        let event = event.map_err(|_| "its markup is broken, or its tags do not match")?;
        match event {
            Event::Eof if depth > 0 => return Err("an element is not closed"),
            Event::Eof if roots != 1 => return Err("it must have one outermost element"),
            Event::Eof => return Ok(()),
            Event::Start(tag) => {
                roots += usize::from(depth == 0);
                depth += 1;
                if depth > DEEPEST {
                    return Err("its elements are nested too deeply");
                }
                check_tag(&tag)?;
            }
            Event::Empty(tag) => {
                roots += usize::from(depth == 0);
                check_tag(&tag)?;
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Text(text) if depth == 0 => {
                if !text.iter().all(u8::is_ascii_whitespace) {
                    return Err("it has text outside its outermost element");
                }
            }
            Event::CData(_) | Event::GeneralRef(_) if depth == 0 => {
                return Err("it has text outside its outermost element");
            }
            Event::Text(text) => {
                if text.windows(3).any(|bytes| bytes == b"]]>") {
                    return Err("its text has `]]>`");
                }
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|_| "a reference is broken")?;
                if !is_reference(&name) {
                    return Err("it has a reference to what is not defined");
                }
            }
            Event::Decl(_) if !first => return Err("its declaration is not at its beginning"),
            Event::PI(instruction) => {
                if instruction.target().eq_ignore_ascii_case(b"xml")
                    || !is_name(instruction.target())
                {
                    return Err("an instruction has no permitted name");
                }
            }
            Event::DocType(_) => return Err("it must not have a document type"),
            Event::Decl(_) | Event::CData(_) | Event::Comment(_) => {}
        }
        first = false;
    }
}

fn check_tag(tag: &BytesStart<'_>) -> Result<(), &'static str> {
    if !is_name(tag.name().as_ref()) {
        return Err("the name of an element is not permitted");
    }
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| "an attribute is broken, or there twice")?;
        if !is_name(attribute.key.as_ref()) {
            return Err("the name of an attribute is not permitted");
        }
        // The bytes are a part of a text that is UTF-8, cut at ASCII.
        let value = str::from_utf8(&attribute.value).map_err(|_| "an attribute is broken")?;
        if value.contains('<') {
            return Err("an attribute has a `<`");
        }
        let mut rest = value;
        while let Some((_, reference)) = rest.split_once('&') {
            let Some((name, after)) = reference.split_once(';') else {
                return Err("an attribute has a `&` that begins no reference");
            };
            if !is_reference(name) {
                return Err("it has a reference to what is not defined");
            }
            rest = after;
        }
    }
    Ok(())
}

/// Whether `&name;` is one of XML's five, or a permitted character.
fn is_reference(name: &str) -> bool {
    let Some(number) = name.strip_prefix('#') else {
        return matches!(name, "lt" | "gt" | "amp" | "quot" | "apos");
    };
    let (digits, radix) = number
        .strip_prefix('x')
        .map_or((number, 10), |hex| (hex, 16));
    // `from_str_radix` also takes a sign.
    let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let code = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok());
    code.and_then(char::from_u32).is_some_and(is_char)
}

/// Whether this is a name. Of the characters beyond ASCII all are taken that are letters or digits.
fn is_name(name: &[u8]) -> bool {
    let Ok(name) = str::from_utf8(name) else {
        return false;
    };
    let begins = |char: char| char.is_alphabetic() || matches!(char, '_' | ':');
    let mut chars = name.chars();
    chars.next().is_some_and(begins)
        && chars.all(|char| {
            begins(char) || char.is_alphanumeric() || matches!(char, '-' | '.' | '\u{b7}')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_well_formed_document_passes() {
        for text in [
            "<a/>",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- c --><a b='1' c=\"&lt;\">t&#10;&amp;<b>x</b><![CDATA[<]]></a>\n",
            "<ä:b.c-d/>",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(200), "</a>".repeat(200));
        for text in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>text",
            "text<a/>",
            "<a/>&amp;",
            "<a b=1/>",
            "<a b='1' b='2'/>",
            "<a b='<'/>",
            "<a b='&'/>",
            "<a b='&x;'/>",
            "<a>&x;</a>",
            "<a>&#0;</a>",
            "<a>&#+65;</a>",
            "<a>&#xd800;</a>",
            "<a>&</a>",
            "<a>]]></a>",
            "<a>\u{0}</a>",
            "<a>\u{fffe}</a>",
            "<1/>",
            "<a 1='x'/>",
            "<!-- a -- b --><a/>",
            "<!DOCTYPE a><a/>",
            "<a/><?xml version='1.0'?>",
            "<a><![CDATA[x]]</a>",
            &deep,
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
