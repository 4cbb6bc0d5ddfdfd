//! Names as DNS asks for them, in the one form that the rest knows: lower case, no
//! trailing dot, no suffix. `blog.alice`, `blog.alice.tarnet.alt` and `Blog.Alice.` are one.

use hickory_proto::rr::Name;

/// A name inside or outside our suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The suffix itself.
    Suffix,
    /// A name under the suffix: ours for certain. Its canonical form.
    Suffixed(String),
    /// Any other name, in canonical form: ours if its last label is.
    Bare(String),
    /// The root, or labels that no name of ours can have.
    Foreign,
}

/// Sorts a name by our suffix, whose labels are given in lower case.
#[must_use]
pub fn sort(name: &Name, suffix: &[String]) -> Asked {
    let mut labels = Vec::new();
    for label in name.iter() {
        match std::str::from_utf8(label) {
            // A dot inside a label would be read as two labels.
            Ok(text) if !text.contains('.') && !text.chars().any(char::is_control) => labels.push(text.to_lowercase()),
            _ => return Asked::Foreign,
        }
    }
    match labels.strip_suffix(suffix) {
        Some([]) => Asked::Suffix,
        Some(inner) => Asked::Suffixed(inner.join(".")),
        None if labels.is_empty() => Asked::Foreign,
        None => Asked::Bare(labels.join(".")),
    }
}

/// The labels of a suffix as configured.
#[must_use]
pub fn suffix_labels(suffix: &str) -> Vec<String> {
    suffix.split('.').filter(|label| !label.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_name_are_one() {
        let suffix = suffix_labels("tarnet.alt.");
        let sort = |text: &str| sort(&Name::from_ascii(text).unwrap(), &suffix);
        assert_eq!(sort("Blog.Alice."), Asked::Bare("blog.alice".into()));
        assert_eq!(sort("bLOG.alice.TarNet.alt"), Asked::Suffixed("blog.alice".into()));
        assert_eq!(sort("tarnet.ALT."), Asked::Suffix);
        assert_eq!(sort("alt."), Asked::Bare("alt".into()));
        assert_eq!(sort("."), Asked::Foreign);
        assert_eq!(sort(r"a\.b.alice"), Asked::Foreign);
    }
}
