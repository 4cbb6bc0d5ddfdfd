//! TOML text to a flat list of values with their lines, for `tarnetd.toml` and for
//! service files alike. Knows no key; what is a key and what it may hold is the caller's.
//!
//! Missing on purpose: floats, dates, nested arrays. No setting of ours uses them.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes of the longest settings file that is read.
pub const FILE_LEN_MAX: usize = 1024 * 1024;

/// One value as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// A table of texts.
    Map(BTreeMap<String, String>),
}

/// A value, its full dotted key, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `section.key`.
    pub path: String,
    /// What stands there.
    pub value: Raw,
    /// Line in the file, from 1.
    pub line: usize,
}

/// Text that is not settings at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong, for people.
    pub what: String,
}

impl Raw {
    /// What kind of value it is, for messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a table",
        }
    }

    /// The value as TOML writes it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let quoted = |text: &String| toml::Value::String(text.clone()).to_string();
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Text(text) => quoted(text),
            Self::List(items) => format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", ")),
            Self::Map(items) if items.is_empty() => "{}".into(),
            Self::Map(items) => {
                let pairs: Vec<_> = items.iter().map(|(k, v)| format!("{} = {}", quoted(k), quoted(v))).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        }
    }
}

/// Parses `text` into its entries, in the order of the file's lines. Tables are sections,
/// except where `is_map` says that the key itself holds a table.
///
/// # Errors
/// Not TOML, or a kind of value that no setting uses.
pub fn parse(text: &str, is_map: &dyn Fn(&str) -> bool) -> Result<Vec<Entry>, Problem> {
    if text.len() > FILE_LEN_MAX {
        return Err(Problem { line: 1, what: format!("is longer than {FILE_LEN_MAX} bytes") });
    }
    let table = DeTable::parse(text).map_err(|error| Problem {
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        what: error.message().to_owned(),
    })?;
    let mut entries = Vec::new();
    flatten(text, "", table.get_ref(), is_map, &mut entries)?;
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

/// Parses one value as TOML writes it.
#[must_use]
pub fn parse_value(text: &str) -> Option<Raw> {
    let value = DeValue::parse(text).ok()?;
    raw(text, &value).ok()
}

/// The line that byte `at` of `text` stands on, from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// Appends the entries of one table.
fn flatten(
    text: &str,
    prefix: &str,
    table: &DeTable<'_>,
    is_map: &dyn Fn(&str) -> bool,
    entries: &mut Vec<Entry>,
) -> Result<(), Problem> {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        match value.get_ref() {
            DeValue::Table(inner) if !is_map(&path) => flatten(text, &path, inner, is_map, entries)?,
            _ => {
                let line = line_of(text, key.span().start);
                entries.push(Entry { value: raw(text, value)?, path, line });
            }
        }
    }
    Ok(())
}

/// One value of a kind that settings use.
fn raw(text: &str, value: &Spanned<DeValue<'_>>) -> Result<Raw, Problem> {
    let problem = |what: &str| Problem { line: line_of(text, value.span().start), what: what.into() };
    match value.get_ref() {
        DeValue::Boolean(value) => Ok(Raw::Bool(*value)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Raw::Int)
            .map_err(|_| problem("a number that is too large")),
        DeValue::String(value) => Ok(Raw::Text(value.to_string())),
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned).ok_or_else(|| problem("lists hold texts")))
            .collect::<Result<_, _>>()
            .map(Raw::List),
        DeValue::Table(items) => items
            .iter()
            .map(|(key, item)| {
                let item = item.get_ref().as_str().ok_or_else(|| problem("this table holds texts"))?;
                Ok((key.get_ref().to_string(), item.to_owned()))
            })
            .collect::<Result<_, _>>()
            .map(Raw::Map),
        DeValue::Float(_) | DeValue::Datetime(_) => Err(problem("no setting holds such a value")),
    }
}

/// The candidate that looks most like `text`, if any is near: fewer edits than half its length.
#[must_use]
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|candidate| (distance(text, candidate), candidate));
    let (edits, best) = scored.min_by_key(|(edits, _)| *edits)?;
    (edits <= text.len().max(best.len()) / 2).then_some(best)
}

/// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`: optimal string alignment.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut edits = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                let swapped: usize = before[j - 1];
                edits = edits.min(swapped + 1);
            }
            row.push(edits);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_carry_their_lines_in_order() {
        let text = "a = 1\n[s.t]\n\nb = [\"x\",\n\"y\"]\nm = { k = \"v\" }\n";
        let entries = parse(text, &|path| path == "s.t.m").unwrap();
        let seen: Vec<_> = entries.iter().map(|e| (e.path.as_str(), e.line, e.value.to_toml())).collect();
        assert_eq!(
            seen,
            [("a", 1, "1".into()), ("s.t.b", 4, "[\"x\", \"y\"]".into()), ("s.t.m", 6, "{ \"k\" = \"v\" }".into())]
        );
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(parse("a = 1\nb = \n", &|_| false).unwrap_err().line, 2);
        assert_eq!(parse("a = 1\n\nb = 1.5\n", &|_| false).unwrap_err().line, 3);
        assert!(parse("a = [1]", &|_| false).is_err());
        assert!(parse("a = 1\na = 2", &|_| false).is_err());
    }

    #[test]
    fn the_nearest_word_is_found_and_strangers_are_not() {
        assert_eq!(nearest("bukcets", ["off", "buckets"]), Some("buckets"));
        assert_eq!(nearest("opne", ["listen", "open"]), Some("open"));
        assert_eq!(nearest("zzzzzz", ["listen", "open"]), None);
        assert_eq!(distance("ca", "abc"), 3);
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_an_error_and_values_round_trip(text in "\\PC{0,80}", list: Vec<String>) {
            let _ = parse(&text, &|_| false);
            for value in [Raw::Text(text), Raw::List(list)] {
                prop_assert_eq!(parse_value(&value.to_toml()), Some(value));
            }
        }
    }
}
