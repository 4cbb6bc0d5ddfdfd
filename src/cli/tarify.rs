//! `tarnet tarify`: runs a dynamic program with the shim before it. Programs that would
//! never load the shim are refused with advice: static ones, those of another kind of
//! machine, and those that gain privileges.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tarnet_api::{self as api, Error};

use crate::commands::Session;
use crate::output::CliError;

/// Where a package puts the shim.
const PACKAGED: &str = "/usr/lib/tarnet/libtarify.so";

/// Bytes of a program that are read to see what it is: ELF headers stand at the front.
const HEAD_LEN: usize = 64 * 1024;

/// Time for the daemon to say who we are.
const TIME_MAX: Duration = Duration::from_secs(3);

/// Bytes of the line that it says.
const LINE_LEN_MAX: u64 = 512;

/// What to do with programs that cannot load the shim.
const ADVICE: &str = "where the TUN is up it needs no shim; else give it the SOCKS5 proxy, user name = identity";

/// Replaces this process by the program.
pub async fn run(session: &Session, command: &[OsString]) -> Result<(), CliError> {
    let (name, args) = command.split_first().ok_or_else(|| CliError::Usage("give a program".into()))?;
    let program = find(name)?;
    loadable(&program)?;
    let shim = shim()?;
    let resolve = session.client.socket().with_file_name("resolve.sock");
    let here = place(session, &resolve).await?;
    let mut preload = shim.into_os_string();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    let mut next = std::process::Command::new(&program);
    next.arg0(name).args(args).env("LD_PRELOAD", preload).env("TARIFY_RESOLVE", resolve);
    next.env("TARIFY_IDENTITY", &here.acting).env_remove("TARIFY_SOCKS");
    // An address of the TUN stands for a name and is opened as the identity of this user's flows: another goes by SOCKS.
    if here.flows.as_ref() != Some(&here.acting) {
        let hint = "set [socks] listen, or bring the TUN up";
        let proxy =
            here.proxy.ok_or_else(|| CliError::Refused("the daemon has no SOCKS5 proxy".into(), hint.into()))?;
        next.env("TARIFY_SOCKS", proxy);
    }
    Err(CliError::Failed(format!("{}: {}", program.display(), next.exec())))
}

/// What the daemon offers to this user.
struct Place {
    /// The identity to act as.
    acting: String,
    /// The identity of this user's flows through the TUN, where it is up.
    flows: Option<String>,
    /// The SOCKS5 proxy.
    proxy: Option<String>,
}

/// Asks the daemon: by the control socket, or where that is not open to this user by the one that is open to all.
async fn place(session: &Session, resolve: &Path) -> Result<Place, CliError> {
    let status = match session.client.get::<api::Status>("/v1/status").await {
        Ok(status) => status,
        Err(error @ Error::NoDaemon { .. }) => {
            let here = introduce(resolve).ok_or(error)?;
            return match &session.identity {
                Some(named) if *named != here.acting => Err(no_identity(named)),
                Some(_) | None => Ok(here),
            };
        }
        Err(error) => return Err(error.into()),
    };
    let acting = match &session.identity {
        Some(named) if *named != status.acting && !status.identities.iter().any(|known| known.name == *named) => {
            return Err(no_identity(named));
        }
        Some(named) => named.clone(),
        None => status.acting,
    };
    let flows = (status.tun.state == "up").then_some(status.tun.identity);
    Ok(Place { acting, flows, proxy: status.socks.into_iter().next() })
}

/// There is no such identity, or it is not this user's.
fn no_identity(name: &str) -> CliError {
    CliError::NotFound(format!("there is no identity '{name}'"))
}

/// Asks the resolve socket who we are there; `None` when it does not say.
fn introduce(resolve: &Path) -> Option<Place> {
    let mut stream = UnixStream::connect(resolve).ok()?;
    stream.set_read_timeout(Some(TIME_MAX)).ok()?;
    stream.write_all(b"self\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_LEN_MAX)).read_line(&mut line).ok()?;
    let mut words = line.strip_prefix("self ")?.split_whitespace();
    let mut word = || words.next().map(|word| (word != "-").then(|| word.to_owned()));
    let (acting, flows, proxy) = (word()??, word()?, word()?);
    Some(Place { acting, flows, proxy })
}

/// The program's file, by `PATH` as a shell finds it.
fn find(name: &OsStr) -> Result<PathBuf, CliError> {
    let executable =
        |path: &Path| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return if executable(&path) {
            Ok(path)
        } else {
            Err(CliError::NotFound(format!("{}: not a program", path.display())))
        };
    }
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&dirs).map(|dir| dir.join(name)).find(|path| executable(path));
    found.ok_or_else(|| CliError::NotFound(format!("{}: no such program", name.display())))
}

/// The shim: beside this program, in `../lib/tarnet`, or in the packaged place.
fn shim() -> Result<PathBuf, CliError> {
    let own = std::env::current_exe().unwrap_or_default();
    let dir = own.parent().unwrap_or(Path::new("/"));
    let places = [dir.join("libtarify.so"), dir.join("../lib/tarnet/libtarify.so"), PathBuf::from(PACKAGED)];
    let found = places.into_iter().find(|path| path.exists());
    let hint = "it is built with `cargo build -p tarify` and belongs beside `tarnet`";
    found.ok_or_else(|| CliError::Refused("libtarify.so is not installed".into(), hint.into()))
}

/// Whether the dynamic linker will load the shim into this program.
fn loadable(program: &Path) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", program.display()));
    let refused = |why: &str| Err(CliError::Refused(format!("{}: {why}", program.display()), ADVICE.into()));
    let meta = program.metadata().map_err(failed)?;
    let gains_uid = meta.mode() & 0o4000 != 0 && meta.uid() != nix::unistd::geteuid().as_raw();
    let gains_gid = meta.mode() & 0o2000 != 0 && meta.gid() != nix::unistd::getegid().as_raw();
    if meta.mode() & 0o6000 != 0 && (gains_uid || gains_gid || !nix::unistd::geteuid().is_root()) {
        return refused("is set-uid or set-gid, and the system ignores LD_PRELOAD for it");
    }
    if has_capabilities(program) {
        return refused("has file capabilities, and the system ignores LD_PRELOAD for it");
    }
    let mut head = Vec::with_capacity(HEAD_LEN);
    let file = std::fs::File::open(program).map_err(failed)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, HEAD_LEN as u64), &mut head).map_err(failed)?;
    if head.starts_with(b"#!") {
        // The interpreter is what loads the shim; it stands in the first line.
        let line = head[2..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let word = line.split(|byte| byte.is_ascii_whitespace()).find(|word| !word.is_empty()).unwrap_or_default();
        return loadable(Path::new(OsStr::from_bytes(word)));
    }
    match kind(&head) {
        Kind::Dynamic => Ok(()),
        Kind::Static => refused("is statically linked and never loads the shim"),
        Kind::Foreign => refused("is for another kind of machine"),
        Kind::Other => refused("is not a program that loads shared libraries"),
    }
}

/// Whether a file grants capabilities to who runs it.
fn has_capabilities(program: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(program.as_os_str().as_bytes()) else { return false };
    capabilities_len(&path) > 0
}

/// Bytes of the file's capability attribute, or negative.
#[allow(unsafe_code)]
fn capabilities_len(path: &std::ffi::CStr) -> isize {
    // SAFETY: both are C strings; a null buffer of length 0 asks for the attribute's size alone.
    unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) }
}

/// What a program's file is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// ELF of this machine, with an interpreter.
    Dynamic,
    /// ELF of this machine without one.
    Static,
    /// ELF of another class or machine.
    Foreign,
    /// Not ELF.
    Other,
}

/// Reads the ELF header and looks for a PT_INTERP program header. System V ABI, chapters 4 and 5.
fn kind(head: &[u8]) -> Kind {
    let own = std::fs::read("/proc/self/exe").unwrap_or_default();
    let ident = |bytes: &[u8]| bytes.get(..6).map(<[u8]>::to_vec);
    let machine = |bytes: &[u8]| bytes.get(18..20).map(<[u8]>::to_vec);
    if !head.starts_with(b"\x7fELF") {
        return Kind::Other;
    }
    if ident(head) != ident(&own) || machine(head) != machine(&own) {
        return Kind::Foreign;
    }
    let wide = head.get(4) == Some(&2);
    let number = |at: usize, len: usize| {
        let bytes = head.get(at..at + len)?;
        let fold = |acc: usize, byte: &u8| acc << 8 | usize::from(*byte);
        Some(if head.get(5) == Some(&2) { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
    };
    let (offset, size, count) = if wide {
        (number(32, 8), number(54, 2), number(56, 2))
    } else {
        (number(28, 4), number(42, 2), number(44, 2))
    };
    let (Some(offset), Some(size), Some(count)) = (offset, size, count) else { return Kind::Other };
    let interpreter = (0..count.min(256)).any(|i| {
        let at = i.checked_mul(size).and_then(|at| at.checked_add(offset)).filter(|at| *at < HEAD_LEN);
        at.and_then(|at| number(at, 4)) == Some(3)
    });
    if interpreter { Kind::Dynamic } else { Kind::Static }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_dynamic_and_text_is_not() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(kind(&own[..own.len().min(HEAD_LEN)]), Kind::Dynamic);
        assert_eq!(kind(b"hello"), Kind::Other);
        assert_eq!(kind(b"\x7fELF"), Kind::Foreign);
    }

    #[test]
    fn without_program_headers_it_is_static_and_for_another_machine_foreign() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let mut head = own[..64].to_vec();
        assert_eq!(kind(&head), Kind::Static);
        head[18] ^= 1;
        assert_eq!(kind(&head), Kind::Foreign);
    }
}
