use super::{Scanner, Span, scan::Result};
use crate::cognigy::EventError;

/// The spans of the members of an object that matter, by index into their names.
#[derive(Debug)]
pub(in crate::cognigy) struct Members<const N: usize> {
    /// What stands before the names in a path: empty, or ends with a dot.
    within: &'static str,
    names: &'static [&'static str; N],
    spans: [Option<Span>; N],
}

impl<const N: usize> Members<N> {
    pub(in crate::cognigy) const fn new(
        within: &'static str,
        names: &'static [&'static str; N],
    ) -> Self {
        Self {
            within,
            names,
            spans: [None; N],
        }
    }

    /// The index of the member that `key` names, which must not have been read before: of two
    /// values one reader takes the first and another the last, which is how checks are passed by.
    ///
    /// `key` is as it is spelled: escapes are undone here.
    pub(in crate::cognigy) fn find(&self, key: &[u8]) -> Result<Option<usize>> {
        let named = |key: &[u8]| self.names.iter().position(|name| name.as_bytes() == key);
        let index = match named(key) {
            None if key.contains(&b'\\') => named(unescape(key).as_bytes()),
            index => index,
        };
        let Some(index) = index else {
            return Ok(None);
        };
        match self.spans[index] {
            None => Ok(Some(index)),
            Some(_) => Err(EventError::Duplicate {
                field: [self.within, self.names[index]].concat().into(),
            }
            .into()),
        }
    }

    pub(in crate::cognigy) const fn set(&mut self, index: usize, span: Span) {
        self.spans[index] = Some(span);
    }

    pub(in crate::cognigy) const fn get(&self, index: usize) -> Option<Span> {
        self.spans[index]
    }

    /// Reads a value and, where it is an object, notes the members of it that matter.
    pub(in crate::cognigy) fn read(&mut self, scan: &mut Scanner<'_>) -> Result<Span> {
        scan.object_or_value(|scan, key| {
            let index = self.find(key)?;
            let value = scan.value()?;
            if let Some(index) = index {
                self.set(index, value);
            }
            Ok(())
        })
    }
}

/// What a key with escapes says; empty, which is no name of ours, where that is no text.
fn unescape(key: &[u8]) -> String {
    let quoted = [b"\"", key, b"\""].concat();
    serde_json::from_slice(&quoted).unwrap_or_default()
}
