use crate::signature::{Defect, mac::Tag};

/// More than the keys of any rotation; each costs a comparison, not a MAC.
pub(super) const MAX: usize = 16;

/// The signatures of one header, decoded, on the stack.
pub(super) struct Candidates {
    tags: [Tag; MAX],
    len: usize,
}

impl Candidates {
    pub(super) const fn new() -> Self {
        Self {
            tags: [[0; 32]; MAX],
            len: 0,
        }
    }

    /// # Errors
    ///
    /// [`Defect::Encoding`] for no tag, [`Defect::TooManySignatures`] for the seventeenth.
    pub(super) fn push(&mut self, tag: Option<Tag>) -> Result<(), Defect> {
        let tag = tag.ok_or(Defect::Encoding)?;
        let place = self
            .tags
            .get_mut(self.len)
            .ok_or(Defect::TooManySignatures)?;
        *place = tag;
        self.len += 1;
        Ok(())
    }

    pub(super) fn as_slice(&self) -> &[Tag] {
        &self.tags[..self.len]
    }
}
