//! How a test gets its namespaces: it runs itself again inside `unshare`. Everything that it
//! makes there (machines, daemons, files under `/run`) is gone when it ends, however it ends,
//! and the host never sees any of it, so tests run side by side.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::Lab;
use super::until::wait_for;

/// Set for the run inside the namespaces.
const INSIDE: &str = "TARNET_E2E_INSIDE";
/// How long one test may take before it is ended as hung; the long forms of some (`TARNET_E2E_TIME_MAX`, seconds) take more.
const TEST_TIME_MAX: Duration = Duration::from_secs(600);

/// Runs `body` in a laboratory of its own. Without the privilege it says SKIPPED and returns;
/// as root or with `CI=true` that is a failure.
pub fn in_lab<F: FnOnce(&Lab)>(body: F) {
    if std::env::var_os(INSIDE).is_some() {
        return Lab::run(body);
    }
    // The name of the closure's type is the path of the test: `e2e::e2e::page::arrives::{{closure}}`.
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let name = path.split_once("::").expect("a test lies in this crate").1;
    let root = nix::unistd::geteuid().is_root();
    if let Err(why) = possible(root) {
        let required = root || std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!required, "namespaces are required here: {why}");
        eprintln!("SKIPPED {name}: {why}");
        return;
    }
    let exe = std::env::current_exe().expect("the test knows its own program");
    let mut command = unshare(root);
    command.arg("--mount-proc").arg(exe).args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let child = command.env(INSIDE, "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let output = outcome(child.expect("unshare runs"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} failed in its laboratory:\n{text}");
    assert!(text.contains("1 passed"), "{name} did not run in its laboratory:\n{text}");
    // What the harness inside says is no result of its own: whoever counts results would count the test twice.
    text.lines().filter(|line| !line.starts_with("test result:")).for_each(|line| println!("{line}"));
}

/// `unshare` with every namespace that a laboratory has.
fn unshare(root: bool) -> Command {
    let mut command = Command::new("unshare");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child"]);
    command
}

/// Whether this machine allows a laboratory; if not, why.
fn possible(root: bool) -> Result<(), String> {
    let tun = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    tun.map_err(|error| format!("/dev/net/tun: {error}"))?;
    let tried = unshare(root).arg("true").output().map_err(|error| format!("unshare: {error}"))?;
    if tried.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned()) }
}

/// Waits for the end of the test, reading what it prints; ends it when it hangs.
fn outcome(mut child: Child) -> Output {
    let stdout = drain(child.stdout.take().expect("it is piped"));
    let stderr = drain(child.stderr.take().expect("it is piped"));
    let limit = std::env::var("TARNET_E2E_TIME_MAX").ok().and_then(|text| text.parse().ok());
    let limit = limit.map_or(TEST_TIME_MAX, Duration::from_secs);
    let ended = wait_for(limit, || child.try_wait().expect("it is our child"));
    let status = ended.unwrap_or_else(|| {
        // The first process of its namespace goes with it, and so do all others in there.
        child.kill().expect("it is our child");
        child.wait().expect("it is our child")
    });
    Output { status, stdout: stdout.join().expect("a reader ends"), stderr: stderr.join().expect("a reader ends") }
}

/// Reads a pipe to its end in a thread.
fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}
