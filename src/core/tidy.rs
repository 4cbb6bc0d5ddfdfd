//! The house style, held by a test: plain text over the tree's own sources.
//!
//! Checked here: which room of the core imports which, the length of files and functions,
//! unbounded queues, sleeps in tests, leftover markers, and where `unsafe` may stand.
//! What the compiler and clippy already deny (missing docs, unwrap, lossy casts, `await`
//! under a lock) is not repeated. The text is not parsed: it relies on rustfmt's layout.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file, tests included.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// How far above an `unsafe` its reason may stand, lines.
const SAFETY_LINES_MAX: usize = 8;

/// What each room of the core may import from `crate::`, itself aside. Tests of a room may
/// also draw randomness. Tarnet: a layer that cannot name its neighbours can be tested,
/// simulated and replaced without them. Every room may ask `defence`; an attack is part of its room's tests.
const IMPORTS: &[(&str, &[&str])] = &[
    ("defence", &["crypto"]),
    ("time", &[]),
    ("rng", &["time"]),
    ("crypto", &["rng"]),
    ("wire", &["crypto", "time"]),
    ("link", &["wire", "crypto", "time", "rng"]),
    ("routing", &["wire", "crypto", "time", "rng"]),
    ("dht", &["wire", "crypto", "time", "rng"]),
    ("circuit", &["wire", "crypto", "time", "rng"]),
    ("session", &["wire", "crypto", "time", "rng"]),
    ("names", &["wire", "crypto", "time", "rng"]),
    ("hidden", &["wire", "crypto", "time", "rng"]),
    ("node", &["circuit", "crypto", "dht", "hidden", "link", "names", "rng", "routing", "session", "time", "wire"]),
];

/// Where `unsafe` may stand, each because a system call has no safe wrapper there.
const UNSAFE_ROOMS: &[&str] = &[
    "src/tarify/",
    "src/nss/",
    "src/cli/lib.rs",
    "src/cli/tarify.rs",
    "src/daemon/guard/line.rs",
    "src/daemon/memory.rs",
    "src/daemon/notify",
    "src/daemon/tun/",
    "tests/",
];

/// Where every call is one of C's: the reason stands once, in the module's header.
const UNSAFE_THROUGHOUT: &[&str] = &["src/tarify/"];

/// The forms of it that open one.
const UNSAFE: &[&str] =
    &[concat!("un", "safe {"), concat!("un", "safe impl"), concat!("un", "safe fn"), concat!("un", "safe extern")];

/// Queues without a bound.
const UNBOUNDED: &[&str] =
    &[concat!("unbounded", "_channel("), concat!("un", "bounded("), concat!("mpsc::", "channel()")];

/// What must not be left behind.
const MARKERS: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("#[ig", "nore"),
];

/// Where tests may pause: between two looks at a condition; and a node that is slow by design.
const PAUSES: &[&str] = &["tests/e2e/lab/until.rs", "src/daemon/tun/tests/double.rs"];

/// A source file of the tree.
struct Source {
    /// Its path below the root, with `/`.
    path: String,
    /// Its lines.
    lines: Vec<String>,
}

impl Source {
    /// Whether line `at` belongs to tests: the whole file, or what follows `#[cfg(test)]` and `mod`.
    fn in_tests(&self, at: usize) -> bool {
        let file = self.path.starts_with("tests/")
            || self.path.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"));
        let inline = || {
            let mut above = self.lines.iter().take(at).zip(self.lines.iter().skip(1));
            above
                .any(|(attribute, item)| attribute == "#[cfg(test)]" && item.starts_with("mod ") && item.ends_with('{'))
        };
        file || inline()
    }

    /// A complaint about a line.
    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }
}

/// The code of a line: what stands before a comment.
fn code(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

/// Every Rust file under `src` and `tests`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("core lies two folders below the root");
    let mut folders = vec![root.join("src"), root.join("tests")];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder can be listed").path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    assert!(files.len() > 50, "the tree was not found at {}", root.display());
    let read = |path: PathBuf| Source {
        lines: fs::read_to_string(&path).expect("a source is readable").lines().map(str::to_owned).collect(),
        path: path.strip_prefix(root).expect("it lies below").to_string_lossy().into_owned(),
    };
    files.into_iter().map(read).collect()
}

/// Fails with every complaint of `check` over every file.
fn all_keep(check: impl Fn(&Source) -> Vec<String>) {
    let found: Vec<String> = sources().iter().flat_map(check).collect();
    assert!(found.is_empty(), "{} to mend:\n{}", found.len(), found.join("\n"));
}

/// Lines whose code holds one of `needles`.
fn lines_with(source: &Source, needles: &[&str], what: &str) -> Vec<String> {
    let lines = source.lines.iter().enumerate();
    lines
        .filter(|(_, line)| needles.iter().any(|needle| line.contains(needle)))
        .map(|(at, _)| source.at(at, what))
        .collect()
}

/// The names after each `crate::` of a line, groups included.
fn imports(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let names = rest.strip_prefix('{').map_or(rest, |group| group.split('}').next().unwrap_or(group));
        let many = rest.starts_with('{');
        let parts = names.split(',').take(if many { usize::MAX } else { 1 });
        found.extend(
            parts.map(|part| part.trim().split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or("")),
        );
    }
    found
}

#[test]
fn rooms_of_the_core_import_only_what_they_may() {
    all_keep(|source| {
        let Some(path) = source.path.strip_prefix("src/core/") else { return Vec::new() };
        let room = path.split(['/', '.']).next().unwrap_or(path);
        if ["lib", "tidy", "attacks", "fuzz"].contains(&room) {
            return Vec::new();
        }
        let Some((_, may)) = IMPORTS.iter().find(|(name, _)| *name == room) else {
            return vec![format!("src/core/{path}: the room `{room}` is not in the table of imports")];
        };
        let mut found = Vec::new();
        for (at, line) in source.lines.iter().enumerate() {
            for name in imports(code(line)) {
                let ours = IMPORTS.iter().any(|(room, _)| *room == name);
                let allowed =
                    name == room || name == "defence" || may.contains(&name) || (name == "rng" && source.in_tests(at));
                if ours && !allowed {
                    found.push(source.at(at, &format!("`{room}` may not import `{name}`")));
                }
            }
        }
        found
    });
}

#[test]
fn files_do_one_thing() {
    all_keep(|source| {
        let count = source.lines.len();
        let long = count > FILE_LINES_MAX;
        long.then(|| format!("{}: {count} lines of {FILE_LINES_MAX}", source.path)).into_iter().collect()
    });
}

#[test]
fn functions_fit_a_screen() {
    all_keep(|source| {
        let mut found = Vec::new();
        for (at, line) in source.lines.iter().enumerate() {
            let text = line.trim_start();
            let indent = &line[..line.len() - text.len()];
            let head = text.split('(').next().unwrap_or(text);
            if !head.split(' ').any(|word| word == "fn") || text.starts_with("//") || text.ends_with(['}', ';']) {
                continue;
            }
            let end = format!("{indent}}}");
            let length = source.lines[at..].iter().position(|line| *line == end).map_or(0, |last| last + 1);
            if length > FUNCTION_LINES_MAX {
                found.push(source.at(at, &format!("a function of {length} lines, {FUNCTION_LINES_MAX} at most")));
            }
        }
        found
    });
}

#[test]
fn queues_are_bounded() {
    all_keep(|source| lines_with(source, UNBOUNDED, "a queue without a bound"));
}

#[test]
fn nothing_is_left_open() {
    all_keep(|source| lines_with(source, MARKERS, "a leftover"));
}

#[test]
fn tests_wait_on_conditions() {
    all_keep(|source| {
        let lines = source.lines.iter().enumerate().filter(|(_, line)| code(line).contains(concat!("sle", "ep(")));
        let real = lines.filter(|(at, _)| source.in_tests(*at) && !PAUSES.contains(&source.path.as_str()));
        real.map(|(at, _)| source.at(at, "a sleep in a test")).collect()
    });
}

#[test]
fn unsafe_stands_where_it_must_with_its_reason() {
    all_keep(|source| {
        let mut found = Vec::new();
        for (at, line) in source.lines.iter().enumerate() {
            let text = code(line);
            if !UNSAFE.iter().any(|form| text.contains(form)) {
                continue;
            }
            let above = &source.lines[at.saturating_sub(SAFETY_LINES_MAX)..=at];
            if !UNSAFE_ROOMS.iter().any(|room| source.path.starts_with(room)) {
                found.push(source.at(at, "`unsafe` outside the rooms that may"));
            } else if !UNSAFE_THROUGHOUT.iter().any(|room| source.path.starts_with(room))
                && !above.iter().any(|line| line.contains("SAFETY") || line.contains("# Safety"))
            {
                found.push(source.at(at, "`unsafe` without a SAFETY comment"));
            }
        }
        found
    });
}
