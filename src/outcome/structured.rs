//! Just enough of structured fields ([RFC 9651](https://www.rfc-editor.org/rfc/rfc9651#section-4.2))
//! to find integers among the parameters of a list: nothing is kept, so nothing is allocated.

/// It is not what RFC 9651 calls a list of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What is still to be read of a field.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Tabs too, in places where the RFC has only spaces.
    pub(super) fn skip_spaces(&mut self) {
        self.take_while(|byte| byte == b' ' || byte == b'\t');
    }

    /// Takes `wanted`, if it is next.
    pub(super) fn take(&mut self, wanted: u8) -> bool {
        let is_next = self.rest.first() == Some(&wanted);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    pub(super) fn expect(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.take(wanted) {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    /// The name of a parameter (§4.2.3.3).
    pub(super) fn key(&mut self) -> Result<&'a [u8], Malformed> {
        let key = self.take_while(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        });
        match key.first() {
            Some(b'a'..=b'z' | b'*') => Ok(key),
            _ => Err(Malformed),
        }
    }

    /// A value of any type (§4.2.3.1). It is returned if it is an integer from zero up, and
    /// otherwise only stepped over.
    pub(super) fn bare_item(&mut self) -> Result<Option<u64>, Malformed> {
        match self.rest.first().ok_or(Malformed)? {
            b'0'..=b'9' => {
                let integer = self.integer()?;
                return Ok((!self.fraction()?).then_some(integer));
            }
            b'-' => {
                self.expect(b'-')?;
                self.integer()?;
                self.fraction()?;
            }
            b'@' => {
                self.expect(b'@')?;
                self.take(b'-');
                self.integer()?;
            }
            b'%' => {
                self.expect(b'%')?;
                self.string()?;
            }
            b'"' => self.string()?,
            b':' => {
                self.expect(b':')?;
                self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.expect(b':')?;
            }
            b'?' => {
                self.expect(b'?')?;
                if !self.take(b'0') {
                    self.expect(b'1')?;
                }
            }
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.take_while(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
            }
            _ => return Err(Malformed),
        }
        Ok(None)
    }

    /// At most 15 digits (§3.3.1), so that they fit whatever they are.
    fn integer(&mut self) -> Result<u64, Malformed> {
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if !(1..=15).contains(&digits.len()) {
            return Err(Malformed);
        }
        let number = |sum, digit: &u8| sum * 10 + u64::from(digit - b'0');
        Ok(digits.iter().fold(0, number))
    }

    /// The end of a decimal, if it is one.
    fn fraction(&mut self) -> Result<bool, Malformed> {
        if !self.take(b'.') {
            return Ok(false);
        }
        self.integer().map(|_| true)
    }

    /// A quoted string (§4.2.5).
    fn string(&mut self) -> Result<(), Malformed> {
        self.expect(b'"')?;
        loop {
            self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
            if self.take(b'"') {
                return Ok(());
            }
            self.expect(b'\\')?;
            if !self.take(b'"') {
                self.expect(b'\\')?;
            }
        }
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !wanted(*byte));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }
}
