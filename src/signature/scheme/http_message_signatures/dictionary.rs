//! Dictionaries of structured fields (RFC 9651 §3.2), read with everything that they hold, and written again.

use crate::signature::{Defect, SignatureError};
use http::{HeaderMap, HeaderName};
use sfv::{
    BareItemFromInput, DictSerializer, KeyRef, Parser, RefBareItem,
    visitor::{DictionaryVisitor, EntryVisitor, InnerListVisitor, ItemVisitor, ParameterVisitor},
};
use std::convert::Infallible;

/// The longest field that is read, in bytes: all its lines together.
const MAX_LENGTH: usize = 8192;

/// The value of a field: its lines, with commas between them.
///
/// # Errors
///
/// There is none, or it is too long.
pub(super) fn lines(headers: &HeaderMap, name: &HeaderName) -> Result<Vec<u8>, SignatureError> {
    let mut joined = Vec::new();
    for (at, line) in headers.get_all(name).iter().enumerate() {
        if joined.len() + line.len() > MAX_LENGTH {
            return Err(SignatureError::malformed(name, Defect::TooLong));
        }
        if at > 0 {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(line.as_bytes());
    }
    match joined.is_empty() {
        false => Ok(joined),
        true if headers.contains_key(name) => Err(SignatureError::malformed(name, Defect::Empty)),
        true => Err(SignatureError::missing(name)),
    }
}

/// A dictionary. What occurs twice in it is in it twice: a reader that took the last of two would not always be asked
/// for the same one as a reader that takes the first.
#[derive(Default)]
pub(super) struct Dictionary<'a>(pub(super) Vec<Member<'a>>);

pub(super) struct Member<'a> {
    pub(super) key: &'a KeyRef,
    pub(super) value: Value<'a>,
    pub(super) parameters: Parameters<'a>,
}

pub(super) enum Value<'a> {
    Item(BareItemFromInput<'a>),
    List(Vec<Item<'a>>),
}

/// An item of an inner list.
pub(super) struct Item<'a> {
    pub(super) value: BareItemFromInput<'a>,
    pub(super) parameters: Parameters<'a>,
}

pub(super) type Parameters<'a> = Vec<(&'a KeyRef, BareItemFromInput<'a>)>;

impl<'a> Dictionary<'a> {
    /// Reads the value of the field `name`.
    pub(super) fn read(name: &HeaderName, value: &'a [u8]) -> Result<Self, SignatureError> {
        Parser::new(value)
            .parse_dictionary_with_visitor(Self::default())
            .map_err(|_| SignatureError::malformed(name, Defect::Syntax))
    }

    /// The member with this key.
    ///
    /// # Errors
    ///
    /// There are two.
    pub(super) fn find(&self, key: &str) -> Result<Option<&Member<'a>>, Defect> {
        let mut found = self.0.iter().filter(|member| member.key.as_str() == key);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Defect::Repeated),
            (found, None) => Ok(found),
        }
    }

    /// Takes out the members with these keys, and writes the others.
    pub(super) fn without(&self, is_out: impl Fn(&str) -> bool) -> String {
        let others = self.0.iter().filter(|member| !is_out(member.key.as_str()));
        others.map(Member::write).collect::<Vec<_>>().join(", ")
    }
}

impl<'a> Member<'a> {
    /// The bytes, if it is a byte sequence in the one spelling that writers use: `text` is the field that it is from.
    pub(super) fn bytes(&self, text: &[u8]) -> Option<&[u8]> {
        let Value::Item(BareItemFromInput::ByteSequence(bytes)) = &self.value else {
            return None;
        };
        // The parser also takes base64 without its padding and with bits behind its last byte.
        let spelt = format!("=:{}:", data_encoding::BASE64.encode(bytes));
        let mut windows = text.windows(spelt.len());
        windows
            .any(|window| window == spelt.as_bytes())
            .then_some(bytes)
    }

    /// The items of an inner list.
    pub(super) fn items(&self) -> Option<&[Item<'a>]> {
        match &self.value {
            Value::Item(_) => None,
            Value::List(items) => Some(items),
        }
    }

    fn write(&self) -> String {
        let mut out = DictSerializer::new();
        let _ = match &self.value {
            Value::Item(value) => out.bare_item(self.key, value),
            Value::List(items) => {
                let mut list = out.inner_list(self.key);
                for item in items {
                    let _ = list
                        .bare_item(&item.value)
                        .parameters(refs(&item.parameters));
                }
                list.finish()
            }
        }
        .parameters(refs(&self.parameters));
        out.finish().unwrap_or_default()
    }

    /// What stands behind `key=`.
    pub(super) fn written_value(&self) -> String {
        self.write().split_off(self.key.as_str().len() + 1)
    }
}

fn refs<'a>(parameters: &'a Parameters<'_>) -> impl Iterator<Item = (&'a KeyRef, RefBareItem<'a>)> {
    parameters
        .iter()
        .map(|(key, value)| (*key, RefBareItem::from(value)))
}

impl<'de> DictionaryVisitor<'de> for Dictionary<'de> {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        self.0.push(Member {
            key,
            value: Value::List(Vec::new()),
            parameters: Vec::new(),
        });
        Ok(self.0.last_mut())
    }

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

impl<'de> EntryVisitor<'de> for &mut Member<'de> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(self)
    }
}

impl<'de> ItemVisitor<'de> for &mut Member<'de> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        value: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        self.value = Value::Item(value);
        Ok(Collect(&mut self.parameters))
    }
}

impl<'de> InnerListVisitor<'de> for &mut Member<'de> {
    type Error = Infallible;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(Inner(match &mut self.value {
            Value::List(items) => Some(items),
            Value::Item(_) => None,
        }))
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, Infallible> {
        Ok(Collect(&mut self.parameters))
    }
}

/// The next item of this inner list.
struct Inner<'x, 'de>(Option<&'x mut Vec<Item<'de>>>);

impl<'de> ItemVisitor<'de> for Inner<'_, 'de> {
    type Out = Option<()>;
    type Error = Infallible;

    fn bare_item(
        self,
        value: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = Option<()>>, Infallible> {
        Ok(self.0.and_then(|items| {
            items.push(Item {
                value,
                parameters: Vec::new(),
            });
            items.last_mut().map(|item| Collect(&mut item.parameters))
        }))
    }
}

struct Collect<'x, 'de>(&'x mut Parameters<'de>);

impl<'de> ParameterVisitor<'de> for Collect<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn parameter(
        &mut self,
        key: &'de KeyRef,
        value: BareItemFromInput<'de>,
    ) -> Result<(), Infallible> {
        self.0.push((key, value));
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}
