use super::{
    fields::Grammar,
    generic::{Generic, Layout, MAX_PIECES, Piece, Recipe},
};
use crate::{
    InvalidConfig,
    signature::{
        Encoding, Secret, Secrets, Tolerance,
        keyring::{Keyring, mac_key},
        secret,
    },
};
use http::HeaderName;
use std::{borrow::Cow, sync::Arc};
use zeroize::Zeroizing;

/// Settings of a [`Generic`] scheme.
#[derive(Clone, Debug)]
#[must_use]
pub struct GenericBuilder {
    recipe: Recipe,
    key_rule: KeyRule,
}

impl GenericBuilder {
    pub(super) fn new(recipe: Recipe) -> Self {
        Self {
            recipe,
            key_rule: KeyRule::default(),
        }
    }

    /// The name for logs and metrics. Default: `generic`.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.recipe.name = name;
        self
    }

    /// What stands before the signature, such as `sha256=`. Default: nothing.
    pub fn prefix(mut self, prefix: impl Into<Cow<'static, str>>) -> Self {
        let separator = match self.recipe.layout {
            Layout::Plain { separator, .. } => separator,
            Layout::Fields(_) => None,
        };
        self.recipe.layout = Layout::Plain {
            prefix: prefix.into(),
            separator,
        };
        self
    }

    /// Several signatures, after the prefix, with this between them: a sender that rotates.
    /// Default: one.
    pub fn separator(mut self, between: char) -> Self {
        let prefix = match self.recipe.layout {
            Layout::Plain { prefix, .. } => prefix,
            Layout::Fields(_) => Cow::Borrowed(""),
        };
        self.recipe.layout = Layout::Plain {
            prefix,
            separator: Some(between),
        };
        self
    }

    /// The header is a list of fields as in Stripe's `t=..,v1=..`, with the timestamp in it:
    /// what stands between them, the name of the timestamp and the name of the signature, which
    /// may occur more than once. It takes the place of [`prefix`](Self::prefix) and
    /// [`separator`](Self::separator).
    pub fn fields(
        mut self,
        between: char,
        timestamp: impl Into<Cow<'static, str>>,
        signature: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.recipe.layout = Layout::Fields(Grammar {
            separator: between,
            timestamp: timestamp.into(),
            signature: signature.into(),
        });
        self
    }

    /// How the signature is written. Default: [`Encoding::Hex`].
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.recipe.encoding = encoding;
        self
    }

    /// The header of [`Piece::Id`]. Default: none.
    pub fn id_header(mut self, name: HeaderName) -> Self {
        self.recipe.id = Some(name);
        self
    }

    /// The header of [`Piece::Timestamp`]. Default: none.
    pub fn timestamp_header(mut self, name: HeaderName) -> Self {
        self.recipe.timestamp = Some(name);
        self
    }

    /// What is signed, in this order. Default: the body.
    pub fn content(mut self, pieces: impl IntoIterator<Item = Piece>) -> Self {
        self.recipe.content = pieces.into_iter().collect();
        self
    }

    /// How far the timestamp may lie from our clock. Default: 300 seconds both ways.
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.recipe.tolerance = tolerance.into();
        self
    }

    /// What the text of a secret means. Default: [`KeyRule::Raw`].
    pub const fn key_rule(mut self, rule: KeyRule) -> Self {
        self.key_rule = rule;
        self
    }

    /// The scheme, under these secrets.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `content` when it has no or two bodies, more than eight pieces, an id
    /// or timestamp that no header gives, two pieces of varying length with nothing between them,
    /// or when it leaves out an id or timestamp that a header gives (it would look protected, and
    /// anyone could change it); for `timestamp_header` when the fields have the timestamp already;
    /// for `separator` when it can be part of a signature or name; for `secrets` as
    /// [`Keys::replace`](crate::signature::Keys::replace).
    pub fn build(self, secrets: impl Into<Secrets>) -> Result<Generic, InvalidConfig> {
        let Self { recipe, key_rule } = self;
        check(&recipe)?;
        let keys = Keyring::new(secrets, move |secret, backend| {
            mac_key(&key_rule.decode(secret)?, backend)
        })?;
        Ok(Generic {
            recipe: Arc::new(recipe),
            keys,
        })
    }
}

/// What the text of a secret means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyRule {
    /// It is base64 (RFC 4648 §4, padded or not) of the key.
    Base64,
    /// It is hexadecimal, in either case, of the key.
    Hex,
    /// It is the key.
    #[default]
    Raw,
}

impl KeyRule {
    fn decode(self, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, InvalidConfig> {
        let text = secret.bytes();
        let (decoded, problem) = match self {
            Self::Base64 => (secret::base64(text), "must be base64 of the key"),
            Self::Hex => (
                data_encoding::HEXLOWER_PERMISSIVE.decode(text).ok(),
                "must be hexadecimal of the key",
            ),
            Self::Raw => (Some(text.to_vec()), ""),
        };
        decoded
            .map(Zeroizing::new)
            .ok_or_else(|| InvalidConfig::new("secrets", problem))
    }
}

fn check(recipe: &Recipe) -> Result<(), InvalidConfig> {
    let content = |problem: &str| Err(InvalidConfig::new("content", problem));
    let count = |piece| recipe.content.iter().filter(|at| **at == piece).count();

    if recipe.content.len() > MAX_PIECES {
        return content("must not have more than eight pieces");
    }
    if count(Piece::Body) != 1 {
        return content("must have the body once");
    }
    if count(Piece::Timestamp) != usize::from(recipe.has_timestamp()) {
        return content("must have the timestamp once if a header gives it, and else not at all");
    }
    if count(Piece::Id) != usize::from(recipe.id.is_some()) {
        return content("must have the id once if a header gives it, and else not at all");
    }
    let varies = |piece: &Piece| match piece {
        Piece::Literal(literal) => literal.is_empty(),
        _ => true,
    };
    if recipe.content.windows(2).any(|two| two.iter().all(varies)) {
        return content("must have a literal between two pieces of varying length");
    }
    let runs_on = |two: &[Piece]| match two {
        [Piece::Timestamp, Piece::Literal(literal)] => {
            literal.starts_with(|char: char| char.is_ascii_digit())
        }
        _ => false,
    };
    if recipe.content.windows(2).any(runs_on) {
        return content("must not have a digit right after the timestamp");
    }
    // The body may hold anything: what comes after it has no sure beginning.
    let mut after_body = recipe
        .content
        .iter()
        .skip_while(|piece| **piece != Piece::Body);
    if after_body.any(|piece| *piece == Piece::Id) {
        return content("must not have the id after the body");
    }

    let separator = match &recipe.layout {
        Layout::Plain { separator, .. } => *separator,
        Layout::Fields(grammar) => {
            if recipe.timestamp.is_some() {
                let problem = "must not be set, because the fields have the timestamp";
                return Err(InvalidConfig::new("timestamp_header", problem));
            }
            let name_is_bad = |name: &str| {
                let bad = |char: char| {
                    !char.is_ascii_graphic() || char == '=' || char == grammar.separator
                };
                name.is_empty() || name.contains(bad)
            };
            if name_is_bad(&grammar.timestamp)
                || name_is_bad(&grammar.signature)
                || grammar.timestamp == grammar.signature
            {
                let problem = "must have two different names of visible ASCII";
                return Err(InvalidConfig::new("fields", problem));
            }
            Some(grammar.separator)
        }
    };
    let in_signature = |char: char| char.is_ascii_alphanumeric() || "+/=".contains(char);
    if separator.is_some_and(|char| !matches!(char, ' '..='~') || in_signature(char)) {
        let problem = "must be ASCII that no signature contains";
        return Err(InvalidConfig::new("separator", problem));
    }
    Ok(())
}
