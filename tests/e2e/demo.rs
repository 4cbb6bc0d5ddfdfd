//! `scripts/demo` as it stands, as whoever runs the tests and, where that is root, also as an ordinary user.

use std::path::Path;
use std::process::{Command, Stdio};

use super::lab::{Lab, in_lab, sh};

/// A user without any right, and what it needs of the laboratory: a device that is open to all, as udev ships it.
const ORDINARY: [&str; 6] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", "bash"];

/// Runs the demo behind `words`; it must open the page in all five ways.
fn demo(lab: &Lab, words: &[&str]) {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = Path::new(env!("CARGO_BIN_EXE_tarnet")).parent().expect("it lies in a folder");
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(home.join("scripts/demo")).env("TARNET_BIN", programs).env("TMPDIR", lab.folder());
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}: {text}");
    assert_eq!(text.matches("<h1>Hello from alice, ").count(), 5, "{text}");
    assert!(text.contains("SHA-256 equal"), "{text}");
}

#[test]
fn demo_opens_the_page_in_five_ways() {
    in_lab(|lab| {
        demo(lab, &["bash"]);
        let all_users = std::fs::read_to_string("/proc/self/uid_map").expect("it can be read");
        if all_users.split_whitespace().nth(2) != Some("4294967295") {
            // We are an ordinary user ourselves, in a namespace of its own.
            return;
        }
        let device = lab.folder().join("tun");
        sh(&format!(
            "mknod {0} c 10 200; chmod 666 {0}; mount --bind {0} /dev/net/tun; chmod 1777 {1}",
            device.display(),
            lab.folder().display()
        ));
        demo(lab, &ORDINARY);
    });
}
