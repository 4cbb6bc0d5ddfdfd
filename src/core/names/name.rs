//! Names as people type them, and their canonical form: lower case, IDNA-mapped labels of at
//! most 63 bytes, without trailing dot and suffix; read from right to left, beginning in the
//! acting identity's zone or in the zone whose ServiceId is the last label.

use std::fmt;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use super::limits::{LABEL_LEN_MAX, NAME_LEN_MAX};
use crate::crypto::ServiceId;

/// The label of a zone's apex.
pub const APEX: &str = "@";
/// The reserved label under which an identity says where it is served.
pub const NODE_LABEL: &str = "@node";
/// Characters of a printed ServiceId.
const SERVICE_ID_LEN: usize = 52;

/// Why text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is left of it.
    #[error("the name is empty")]
    Empty,
    /// It, or a label of it, is too long.
    #[error("the name or one of its labels is too long")]
    TooLong,
    /// Two dots stand side by side.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// A character that names do not use.
    #[error("the name holds a character that names do not use")]
    Character,
    /// A ServiceId is the zone to begin with: nothing stands right of it.
    #[error("only the last label of a name may be a ServiceId")]
    AfterServiceId,
}

/// A label in its canonical form, or the apex `@`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneLabel(String);

impl ZoneLabel {
    /// The canonical form of a label that may be set in a zone; `@node` may not.
    ///
    /// # Errors
    /// Text that is not one label, or is a ServiceId.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text == APEX {
            return Ok(Self::apex());
        }
        let mapped = map_idna(text)?;
        if service_id(&mapped).is_some() {
            return Err(NameError::AfterServiceId);
        }
        Self::of_mapped(&mapped)
    }

    /// The apex.
    #[must_use]
    pub fn apex() -> Self {
        Self(APEX.to_owned())
    }

    /// Where an identity says where it is served.
    #[must_use]
    pub fn node() -> Self {
        Self(NODE_LABEL.to_owned())
    }

    /// Whether it is the apex.
    #[must_use]
    pub fn is_apex(&self) -> bool {
        self.0 == APEX
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A label that IDNA has mapped.
    fn of_mapped(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if text.len() > LABEL_LEN_MAX {
            return Err(NameError::TooLong);
        }
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if text == APEX || text.bytes().all(known) { Ok(Self(text.to_owned())) } else { Err(NameError::Character) }
    }
}

impl fmt::Display for ZoneLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The zone to begin in; none: the acting identity's, or the one that holds the alias.
    root: Option<ServiceId>,
    /// The labels, leftmost first; empty only with a root.
    labels: Vec<ZoneLabel>,
}

impl Name {
    /// Parses a name. A trailing dot and `suffix` (`tarnet.alt`; empty: none) are taken off first.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn parse(text: &str, suffix: &str) -> Result<Self, NameError> {
        if text.len() > 4 * NAME_LEN_MAX {
            return Err(NameError::TooLong);
        }
        let mapped = map_idna(text)?;
        let mapped = mapped.strip_suffix('.').unwrap_or(&mapped);
        let bare = strip_suffix(mapped, suffix);
        if bare.is_empty() {
            return Err(NameError::Empty);
        }
        if bare.len() > NAME_LEN_MAX {
            return Err(NameError::TooLong);
        }
        let (left, root) = match bare.rsplit_once('.') {
            Some((left, last)) => service_id(last).map_or((bare, None), |id| (left, Some(id))),
            None => service_id(bare).map_or((bare, None), |id| ("", Some(id))),
        };
        let mut labels = Vec::new();
        if !left.is_empty() || root.is_none() {
            for label in left.split('.') {
                if service_id(label).is_some() {
                    return Err(NameError::AfterServiceId);
                }
                labels.push(ZoneLabel::of_mapped(label)?);
            }
        } else if bare.starts_with('.') {
            return Err(NameError::EmptyLabel);
        }
        Ok(Self { root, labels })
    }

    /// The zone that the name begins in, if its last label is one.
    #[must_use]
    pub fn root(&self) -> Option<ServiceId> {
        self.root
    }

    /// Its labels, leftmost first, without the zone.
    #[must_use]
    pub fn labels(&self) -> &[ZoneLabel] {
        &self.labels
    }
}

impl From<ServiceId> for Name {
    /// The bare ServiceId as a name.
    fn from(id: ServiceId) -> Self {
        Self { root: Some(id), labels: Vec::new() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.labels.iter().map(ToString::to_string);
        let all: Vec<_> = labels.chain(self.root.map(|id| id.to_string().to_lowercase())).collect();
        f.write_str(&all.join("."))
    }
}

/// Maps text to lower-case ASCII labels, the ideographic dots to dots.
fn map_idna(text: &str) -> Result<String, NameError> {
    let mapped = Uts46::new().to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore);
    mapped.map(std::borrow::Cow::into_owned).map_err(|_| NameError::Character)
}

/// Takes a whole-label suffix off; the suffix alone leaves nothing.
fn strip_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let suffix = suffix.trim_matches('.');
    if suffix.is_empty() {
        return name;
    }
    match name.len().checked_sub(suffix.len()).and_then(|at| name.split_at_checked(at)) {
        Some((head, tail)) if tail.eq_ignore_ascii_case(suffix) => {
            if head.is_empty() {
                ""
            } else {
                head.strip_suffix('.').unwrap_or(name)
            }
        }
        Some(_) | None => name,
    }
}

/// The ServiceId that a label is.
fn service_id(label: &str) -> Option<ServiceId> {
    if label.len() == SERVICE_ID_LEN { label.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<String, NameError> {
        Name::parse(text, "tarnet.alt").map(|name| name.to_string())
    }

    #[test]
    fn names_have_one_canonical_form() {
        assert_eq!(parse("Blog.ALICE."), Ok("blog.alice".into()));
        assert_eq!(parse("blog.alice.Tarnet.ALT."), Ok("blog.alice".into()));
        assert_eq!(parse("Bücher.alice"), Ok("xn--bcher-kva.alice".into()));
        assert_eq!(parse("blog。alice"), Ok("blog.alice".into()));
        assert_eq!(parse("nottarnet.alt"), Ok("nottarnet.alt".into()));
        assert_eq!(parse("_http.my-host"), Ok("_http.my-host".into()));
        assert_eq!(parse("@"), Ok("@".into()));
    }

    #[test]
    fn a_service_id_as_last_label_is_the_zone_however_it_is_written() {
        let id = ServiceId([0x5a; 32]);
        for text in [id.to_string(), id.to_string().to_lowercase()] {
            let name = Name::parse(&format!("www.{text}"), "").unwrap();
            assert_eq!((name.root(), name.labels().len()), (Some(id), 1));
            assert_eq!(Name::parse(&format!("{text}.tarnet.alt"), "tarnet.alt"), Ok(Name::from(id)));
        }
        assert_eq!(parse(&format!("{id}.alice")), Err(NameError::AfterServiceId));
        assert_eq!(parse(&format!(".{id}")), Err(NameError::EmptyLabel));
        assert_eq!(ZoneLabel::new(&id.to_string()), Err(NameError::AfterServiceId));
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        assert_eq!(parse(""), Err(NameError::Empty));
        assert_eq!(parse("."), Err(NameError::Empty));
        assert_eq!(parse("tarnet.alt"), Err(NameError::Empty));
        assert_eq!(parse("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(parse(&"a".repeat(64)), Err(NameError::TooLong));
        assert_eq!(parse(&"a.".repeat(200)), Err(NameError::TooLong));
        assert_eq!(parse("a b"), Err(NameError::Character));
        assert_eq!(parse("@node.alice"), Err(NameError::Character));
        assert!(ZoneLabel::new("a.b").is_err());
        assert!(ZoneLabel::new(NODE_LABEL).is_err());
        assert_eq!(ZoneLabel::new("Blog").unwrap().as_str(), "blog");
    }

    proptest! {
        #[test]
        fn any_text_gives_a_name_that_parses_to_itself_or_an_error(text in "\\PC{0,80}|[a-zA-Z0-9@._-]{0,80}") {
            if let Ok(name) = Name::parse(&text, "tarnet.alt") {
                prop_assert_eq!(Name::parse(&name.to_string(), ""), Ok(name));
            }
        }
    }
}
