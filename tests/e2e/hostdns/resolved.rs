//! A real systemd-resolved on a real bus.

use std::path::Path;

use super::super::lab::{Lab, in_lab, sh, until, wait_for};
use super::host::{ELSEWHERE, Host, LAN, OURS, SETTLE_MAX, hold_tun, is_synthetic};
use super::packages::unpacked;

/// The packages.
const PACKAGES: &[&str] = &["systemd-resolved", "libnss-resolve"];

/// How `resolv.conf` comes to resolved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Its stub.
    Stub,
    /// Its module in nsswitch.conf; the file names the network's server.
    Module,
    /// Neither: the file goes past it.
    Past,
}

/// A host with resolved, whose network has a server.
fn host(lab: &Lab, way: Way) -> Host {
    let root = unpacked(PACKAGES);
    let mut host = Host::new(lab, false);
    let etc = host.machine.path("etc");
    sh(&format!("cp {}/etc/systemd/resolved.conf {}/systemd/", root.display(), etc.display()));
    sh(&format!("rm -f {}/resolv.conf; mkdir -p /run/systemd/resolve", etc.display()));
    let target = if way == Way::Stub { "stub-resolv.conf" } else { "resolv.conf" };
    std::os::unix::fs::symlink(format!("../run/systemd/resolve/{target}"), etc.join("resolv.conf")).expect("a link");
    if way == Way::Module {
        host.machine.etc("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files resolve [!UNAVAIL=return] dns\n");
        host.machine.overlay(&root.join("usr/lib"), "/usr/lib");
    }
    host.bus(&root);
    start(&mut host, &root);
    host.machine.run(&[&ctl(&root), "dns", "wan0", LAN]);
    // It may still be learning of the link.
    until(10, "resolved asks the network", || host.getent("www.example.org") == ELSEWHERE);
    host
}

/// Starts resolved and waits until it answers.
fn start(host: &mut Host, root: &Path) {
    host.run(&[&root.join("lib/systemd/systemd-resolved").display().to_string()], &[("SYSTEMD_LOG_LEVEL", "info")]);
    until(20, "resolved answers", || host.machine.run(&[&ctl(root), "status"]).code == 0);
}

/// Its command.
fn ctl(root: &Path) -> String {
    root.join("usr/bin/resolvectl").display().to_string()
}

/// What resolved knows, our link aside.
fn known(host: &Host) -> String {
    let shown = host.machine.run(&[&ctl(&unpacked(PACKAGES)), "status", "wan0"]).out;
    // Which server answered last, and which addresses are usable by now, is history, not a setting.
    let passing = |line: &&str| ["Current DNS Server", "Current Scopes"].iter().any(|word| line.contains(word));
    let lasting = shown.lines().filter(|line| !passing(line));
    let file = host.machine.run(&["cat", "/etc/resolv.conf"]).out;
    format!("{}\n{file}", lasting.collect::<Vec<_>>().join("\n"))
}

#[test]
fn resolved_routes_our_names_in_every_state() {
    unpacked(PACKAGES);
    in_lab(|lab| {
        let mut host = host(lab, Way::Stub);
        let root = unpacked(PACKAGES);
        host.others();
        let (etc, before) = (host.etc(), known(&host));
        host.tarnet();
        host.wait_state("resolved", "up");
        assert_eq!(host.machine.status()["dns"]["mode"], "resolved");
        assert_eq!(host.reason("because"), "resolv.conf names systemd-resolved's stub");
        host.works(true);

        // A name that is added is known at once, and one that is removed is not.
        host.machine.tn(&["tns", "set", "friend", "zone", "alice"]);
        assert!(is_synthetic(&host.getent("blog.friend")));
        host.closed();

        // resolved restarts.
        host.end_last();
        start(&mut host, &root);
        host.wait_state("resolved", "up");
        host.works(true);

        // The link goes down and comes back.
        sh("ip -n bob link set tarnet0 down && ip -n bob link set tarnet0 up");
        host.works(true);

        // The daemon is killed; the descriptor is held, as systemd's store does.
        let held = hold_tun(host.machine.pid());
        host.machine.kill();
        host.shut(OURS);
        host.others();
        drop(held);
        host.tarnet();
        host.wait_state("resolved", "up");
        host.works(true);

        // Stopped: everything is as before, the search domain included, so that a bare label makes no question.
        host.machine.stop();
        let _ = wait_for(SETTLE_MAX, || (known(&host) == before).then_some(()));
        assert_eq!(known(&host), before, "what resolved knows after a stop");
        host.shut(&["alice"]);
        host.others();
        host.etc_is(&etc);
        host.cleanup();
        host.etc_is(&etc);
    });
}

#[test]
fn resolved_is_told_again_when_another_manager_has_changed_the_link() {
    unpacked(PACKAGES);
    in_lab(|lab| {
        let host = host(lab, Way::Stub);
        host.tarnet();
        host.wait_state("resolved", "up");
        let ctl = ctl(&unpacked(PACKAGES));
        let domains = || host.machine.run(&[&ctl, "domain", "tarnet0"]).out;
        let ours = domains();
        assert!(ours.contains("tarnet.alt") && ours.contains("~alice"), "{ours}");
        host.run_once(&[&ctl, "revert", "tarnet0"]);
        assert!(!domains().contains("alice"));
        until(90, "our settings are back", || domains() == ours);
        assert!(host.reason("set-again").ends_with("changed by another"), "{}", host.reason("set-again"));
        host.works(true);
    });
}

#[test]
fn resolved_takes_a_thousand_petnames_and_more_than_it_can() {
    unpacked(PACKAGES);
    in_lab(|lab| {
        let host = host(lab, Way::Stub);
        host.tarnet();
        let service =
            host.machine.json(&["identity", "show", "alice"])["service_id"].as_str().expect("an id").to_owned();
        let set = format!(
            "for at in $(seq 1000); do {} tns set friend$at zone {service} >/dev/null || exit 1; done",
            env!("CARGO_BIN_EXE_tarnet")
        );
        let said = host.machine.run(&["sh", "-c", &set]);
        assert_eq!(said.code, 0, "{}", said.err);
        host.wait_state("resolved", "up");
        // More than a link takes: every name comes to us, in every spelling, and others' go where they went.
        until(10, "all names come to us", || host.reason("petnames").contains("every name comes to us"));
        assert_eq!(host.reason("forwards-to"), LAN);
        host.works(true);
        for name in ["blog.friend999", "blog.friend999.tarnet.alt", "friend1000"] {
            assert!(is_synthetic(&host.getent(name)), "{name}");
        }
        host.closed();
        // Few again: only ours come to us.
        let set = format!(
            "for at in $(seq 1000); do {} tns rm friend$at >/dev/null || exit 1; done",
            env!("CARGO_BIN_EXE_tarnet")
        );
        let said = host.machine.run(&["sh", "-c", &set]);
        assert_eq!(said.code, 0, "{}", said.err);
        until(10, "few are routed", || host.reason("petnames").starts_with("1 routed"));
        host.works(true);
    });
}

#[test]
fn resolved_is_told_by_the_module_too() {
    unpacked(PACKAGES);
    in_lab(|lab| {
        let host = host(lab, Way::Module);
        host.tarnet();
        host.wait_state("resolved", "up");
        assert_eq!(host.reason("because"), "nsswitch.conf asks systemd-resolved");
        for name in ["blog.alice", "blog.alice.tarnet.alt", "alice"] {
            assert!(is_synthetic(&host.getent(name)), "{name}");
        }
        host.others();
        host.closed();
    });
}

#[test]
fn resolved_that_nobody_asks_is_left_for_the_file() {
    unpacked(PACKAGES);
    in_lab(|lab| {
        let host = host(lab, Way::Past);
        let etc = host.etc();
        host.tarnet();
        host.wait_state("direct", "up");
        assert_eq!(host.reason("because"), "resolv.conf bypasses resolved's stub");
        host.works(true);
        host.machine.stop();
        host.etc_is(&etc);
        host.others();
        host.closed();
    });
}
