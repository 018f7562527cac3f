//! What the stored forms of a response and of a request have in common: the version byte, and header
//! fields as length-prefixed bytes.

use crate::StoreErrorKind;
use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The last version number that a form may have: no text begins with this byte or a smaller one.
const LAST_VERSION: u8 = 8;

/// Reads the version byte, then with `read` what follows it, which is `None` if it is damaged.
pub(crate) fn versioned<T>(
    mut bytes: Bytes,
    known: u8,
    read: impl FnOnce(Bytes) -> Option<T>,
) -> Result<T, StoreErrorKind> {
    match bytes.try_get_u8() {
        Ok(found) if found == known => read(bytes).ok_or(StoreErrorKind::Corrupt),
        Ok(found) if found > known && found <= LAST_VERSION => Err(StoreErrorKind::NewerSchema {
            found: found.into(),
            known: known.into(),
        }),
        _ => Err(StoreErrorKind::Corrupt),
    }
}

/// A bit in the length of a value: the value is marked as sensitive.
const SENSITIVE: u32 = 1 << 31;

/// The fields that fit the form, with the lengths of their names and values.
fn fields<'a>(
    map: impl Iterator<Item = Field<'a>>,
) -> impl Iterator<Item = (u16, &'a HeaderName, u32, &'a HeaderValue)> {
    map.filter_map(|(name, value)| {
        // Always fits: `http` limits a name to 64 KiB, and no value has 2 GiB.
        let name_len = u16::try_from(name.as_str().len()).ok()?;
        let value_len = u32::try_from(value.len()).ok()?;
        (value_len < SENSITIVE).then_some((name_len, name, value_len, value))
    })
}

pub(crate) type Field<'a> = (&'a HeaderName, &'a HeaderValue);

pub(crate) fn fields_len<'a>(map: impl Iterator<Item = Field<'a>>) -> usize {
    4 + fields(map)
        .map(|(_, name, _, value)| 2 + name.as_str().len() + 4 + value.len())
        .sum::<usize>()
}

pub(crate) fn put_fields<'a>(out: &mut Vec<u8>, map: impl Iterator<Item = Field<'a>>) {
    let count_at = out.len();
    out.put_u32(0);
    let mut count = 0_u32;
    for (name_len, name, value_len, value) in fields(map) {
        out.put_u16(name_len);
        out.put_slice(name.as_str().as_bytes());
        let mark = if value.is_sensitive() { SENSITIVE } else { 0 };
        out.put_u32(value_len | mark);
        out.put_slice(value.as_bytes());
        count += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
}

pub(crate) fn get_headers(bytes: &mut Bytes) -> Option<HeaderMap> {
    let count = bytes.try_get_u32().ok()?;
    let mut headers = HeaderMap::new();
    for _ in 0..count {
        let name_len = usize::from(bytes.try_get_u16().ok()?);
        let name = HeaderName::from_bytes(&take(bytes, name_len)?).ok()?;
        let value_len = bytes.try_get_u32().ok()?;
        let is_sensitive = value_len & SENSITIVE != 0;
        let value_len = usize::try_from(value_len & !SENSITIVE).ok()?;
        let mut value = HeaderValue::from_maybe_shared(take(bytes, value_len)?).ok()?;
        value.set_sensitive(is_sensitive);
        headers.try_append(name, value).ok()?;
    }
    Some(headers)
}

pub(crate) fn take(bytes: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= bytes.len()).then(|| bytes.split_to(len))
}
