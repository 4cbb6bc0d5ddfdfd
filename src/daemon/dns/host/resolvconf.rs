//! The programs named resolvconf: we give them a record like every other source of name servers,
//! as the only one that counts, and take it back. They write the resolver file.
//!
//! openresolv knows exclusive records. Debian's resolvconf does not: it would list our responder
//! and the host's servers side by side, and what we cannot answer in time would be asked of them.
//! A script in the folder that it runs after each change leaves only ours.

use std::fs;
use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::detect::Flavor;
use super::direct::Tree;
use super::file::ResolvConf;

/// Where the program may lie.
const PROGRAMS: [&str; 4] = ["usr/sbin/resolvconf", "sbin/resolvconf", "usr/bin/resolvconf", "bin/resolvconf"];
/// The resolver file.
const FILE: &str = "etc/resolv.conf";
/// The folders of records of Debian's and of openresolv.
const RECORDS: [(Flavor, &str); 2] =
    [(Flavor::Debian, "run/resolvconf/interface"), (Flavor::Openresolv, "run/resolvconf/interfaces")];
/// Our record. The name puts it first in both orders, with the tunnels.
const RECORD: &str = "tun-tarnet.inet";
/// The folder of Debian's that it runs after each change, our script in it, and where that is written first.
const SCRIPTS: &str = "etc/resolvconf/update-libc.d";
const SCRIPT: &str = "etc/resolvconf/update-libc.d/tarnet";
const FRESH: &str = "etc/resolvconf/.tarnet";
/// Records read at most: one per network interface and protocol.
const RECORDS_MAX: usize = 256;
/// What the script does: only the servers of our record stay in the file.
const SCRIPT_TEXT: &str = "\
#!/bin/sh
# Written by tarnetd: while it answers for this host, no server is asked beside it. Removed when it stops.
record=/run/resolvconf/interface/tun-tarnet.inet file=/run/resolvconf/resolv.conf
[ -f \"$record\" ] || exit 0
{ grep -v '^nameserver' \"$file\"; grep '^nameserver' \"$record\"; } >\"$file.tarnet\" && mv -f \"$file.tarnet\" \"$file\"
exit 0
";

/// Which program answers to the name here, by what it says of itself.
#[must_use]
pub fn flavor(tree: &Tree) -> Option<Flavor> {
    let program = program(tree)?;
    // systemd's resolvectl goes by this name, too: it is no resolvconf, and resolved has its own mode.
    let real = fs::canonicalize(&program).ok()?;
    if real.file_name().is_some_and(|name| name == "resolvectl") {
        return None;
    }
    let text = String::from_utf8_lossy(&fs::read(&program).ok()?).into_owned();
    if text.contains("openresolv") || text.contains("OPENRESOLV") {
        Some(Flavor::Openresolv)
    } else {
        text.contains("/run/resolvconf").then_some(Flavor::Debian)
    }
}

/// The program.
fn program(tree: &Tree) -> Option<PathBuf> {
    PROGRAMS.iter().map(|path| tree.path(path)).find(|path| path.exists())
}

/// What the host's records say without ours: whom we forward to, and what is searched.
///
/// # Errors
/// They cannot be read.
pub fn before(tree: &Tree, flavor: Flavor) -> io::Result<ResolvConf> {
    let folder = RECORDS.iter().find(|(known, _)| *known == flavor).map_or("", |(_, folder)| folder);
    let mut names: Vec<String> = match fs::read_dir(tree.path(folder)) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    names.sort();
    let mut all = ResolvConf::default();
    for name in names.iter().filter(|name| *name != RECORD).take(RECORDS_MAX) {
        let record = ResolvConf::parse(&tree.read(&format!("{folder}/{name}")).unwrap_or_default());
        all.nameservers.extend(record.nameservers);
        all.search.extend(record.search);
    }
    Ok(all)
}

/// Whether the resolver file names our servers and nobody else's.
#[must_use]
pub fn is_applied(tree: &Tree, servers: &[IpAddr]) -> bool {
    let found = tree.read(FILE).map(|text| ResolvConf::parse(&text).nameservers).unwrap_or_default();
    !found.is_empty() && found.iter().all(|server| servers.contains(server))
}

/// Whether our record or our script is there.
#[must_use]
pub fn is_given(tree: &Tree) -> bool {
    RECORDS.iter().any(|(_, folder)| tree.path(&format!("{folder}/{RECORD}")).exists()) || tree.path(SCRIPT).exists()
}

/// Gives our record.
///
/// # Errors
/// There is no such program, or it fails.
pub fn apply(tree: &Tree, flavor: Flavor, servers: &[IpAddr], suffix: &str) -> io::Result<()> {
    let mut record: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    // An exclusive record is all that counts, so it carries the others' domains; Debian's adds them by itself.
    let others = if flavor == Flavor::Openresolv { before(tree, flavor)?.search } else { Vec::new() };
    record.push_str(&format!("search {}\n", [vec![suffix.to_owned()], others].concat().join(" ")));
    match flavor {
        Flavor::Openresolv => run(tree, &["-m", "0", "-x", "-a", RECORD], &record),
        Flavor::Debian => {
            fs::create_dir_all(tree.path(SCRIPTS))?;
            tree.replace(SCRIPT, FRESH, SCRIPT_TEXT, 0o755)?;
            run(tree, &["-a", RECORD], &record)
        }
    }
}

/// Takes our record back; says whether there was one.
///
/// # Errors
/// The program fails.
pub fn restore(tree: &Tree) -> io::Result<bool> {
    let scripted = tree.remove(SCRIPT)?;
    if scripted {
        // Debian's package does not ship the folder: it goes if we made it, which is when nothing else is in it.
        let _ = fs::remove_dir(tree.path(SCRIPTS));
    }
    let given = RECORDS.iter().any(|(_, folder)| tree.path(&format!("{folder}/{RECORD}")).exists());
    if given {
        run(tree, &["-d", RECORD], "")?;
    }
    Ok(given || scripted)
}

/// Runs the program, with `input` on its standard input.
fn run(tree: &Tree, words: &[&str], input: &str) -> io::Result<()> {
    let program =
        program(tree).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no resolvconf here"))?;
    let mut command = Command::new(&program);
    command.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{} {}: {}", program.display(), words.join(" "), said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A root with a program that keeps records as this flavor does, and one record.
    fn tree(test: &str, flavor: Flavor) -> Tree {
        let root = std::env::temp_dir().join(format!("tarnet-resolvconf-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let tree = Tree::new(&root);
        let (word, folder) = match flavor {
            Flavor::Openresolv => ("openresolv", RECORDS[1].1),
            Flavor::Debian => ("/run/resolvconf", RECORDS[0].1),
        };
        for path in ["usr/sbin", "etc", folder] {
            fs::create_dir_all(tree.path(path)).unwrap();
        }
        fs::write(tree.path(&format!("{folder}/eth0.dhcp")), "nameserver 192.0.2.1\nsearch lan\n").unwrap();
        let file = tree.path(&format!("{folder}/{RECORD}"));
        let script = format!(
            "#!/bin/sh\n# {word}\nfor last; do :; done\n[ \"$last\" = {RECORD} ] || exit 3\ncase \"$*\" in\n*-d*) rm {0} ;;\n*-a*) cat > {0} ;;\nesac\n",
            file.display()
        );
        fs::write(tree.path(PROGRAMS[0]), script).unwrap();
        fs::set_permissions(tree.path(PROGRAMS[0]), fs::Permissions::from_mode(0o755)).unwrap();
        tree
    }

    #[test]
    fn both_programs_are_told_apart_and_told_and_untold() {
        for (test, wanted, searched) in
            [("open", Flavor::Openresolv, "tarnet.alt lan"), ("debian", Flavor::Debian, "tarnet.alt")]
        {
            let tree = tree(test, wanted);
            let folder = if wanted == Flavor::Debian { RECORDS[0].1 } else { RECORDS[1].1 };
            assert_eq!(flavor(&tree), Some(wanted));
            apply(&tree, wanted, &["198.18.0.2".parse().unwrap()], "tarnet.alt").unwrap();
            let record = tree.read(&format!("{folder}/{RECORD}")).unwrap();
            assert_eq!(record, format!("nameserver 198.18.0.2\nsearch {searched}\n"));
            assert_eq!(tree.path(SCRIPT).exists(), wanted == Flavor::Debian);
            let others = before(&tree, wanted).unwrap();
            assert_eq!((others.nameservers.len(), others.search.as_slice()), (1, &["lan".to_owned()][..]));
            assert!(restore(&tree).unwrap() && !restore(&tree).unwrap());
            assert!(!tree.path(SCRIPTS).exists() && !tree.path(&format!("{folder}/{RECORD}")).exists());
        }
    }

    #[test]
    fn resolvectl_under_that_name_is_none() {
        let root = std::env::temp_dir().join(format!("tarnet-resolvectl-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/resolvectl"), "openresolv").unwrap();
        std::os::unix::fs::symlink("resolvectl", root.join("usr/bin/resolvconf")).unwrap();
        assert_eq!(flavor(&Tree::new(&root)), None);
        assert!(apply(&Tree::new(&root.join("none")), Flavor::Debian, &[], "x").is_err());
    }
}
