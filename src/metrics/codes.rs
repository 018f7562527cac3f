//! The codes that end an attempt, as a closed set of label values.

/// The codes are numbered: gRPC codes first, then HTTP statuses, then none.
const GRPC: usize = 17;
const HTTP: usize = 500;

/// The number of codes.
pub(super) const CODES: usize = GRPC + HTTP + 1;

/// The index of a code. A number that is neither a gRPC code (0 to 16) nor an HTTP status (100 to
/// 599) has the index of none.
pub(super) fn index(code: Option<u16>) -> usize {
    match code {
        Some(code @ 0..=16) => usize::from(code),
        Some(code @ 100..=599) => usize::from(code) - 100 + GRPC,
        _ => CODES - 1,
    }
}

/// The code at an index.
pub(super) fn code(index: usize) -> Option<u16> {
    let code = match index {
        0..GRPC => index,
        _ if index < CODES - 1 => index - GRPC + 100,
        _ => return None,
    };
    u16::try_from(code).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_place_and_no_other_number_has() {
        for number in 0..=u16::MAX {
            let expected = matches!(number, 0..=16 | 100..=599).then_some(number);
            assert_eq!(code(index(Some(number))), expected);
        }
        assert_eq!(code(index(None)), None);
        assert!((0..CODES).all(|place| index(code(place)) == place));
    }
}
