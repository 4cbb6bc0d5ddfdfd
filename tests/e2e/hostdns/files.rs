//! The modes that live in files, with the real programs where there are some.

use super::super::lab::{Lab, in_lab, sh, until};
use super::host::{ELSEWHERE, Host, LAN, OURS, is_synthetic};
use super::packages::unpacked;

/// Real NetworkManager, and the libraries that it brings.
const NETWORK_MANAGER: &[&str] =
    &["network-manager", "dnsmasq-base", "libnm0", "libndp0", "libnetfilter-conntrack3", "libnfnetlink0"];

/// Everything works; then the daemon dies and names stay closed; then it is back, is stopped, and all is as before.
fn life(host: &Host, mode: &str, etc: &str) {
    host.tarnet();
    host.wait_state(mode, "up");
    host.works(true);
    host.machine.kill();
    host.shut(OURS);
    host.tarnet();
    host.wait_state(mode, "up");
    host.works(true);
    host.machine.stop();
    host.etc_is(etc);
    host.others();
    // By hand, after a kill and without a daemon to follow.
    host.machine.start();
    host.wait_state(mode, "up");
    host.machine.kill();
    host.cleanup();
    host.etc_is(etc);
    host.cleanup();
    host.etc_is(etc);
    host.others();
    host.closed();
}

/// A host whose resolver file is its own affair.
fn plain(lab: &Lab) -> Host {
    let host = Host::new(lab, false);
    let file = host.machine.path("etc/resolv.conf");
    let _ = std::fs::remove_file(&file);
    host.machine.etc("resolv.conf", &format!("# by hand\nnameserver {LAN}\noptions timeout:2 attempts:1\n"));
    host
}

#[test]
fn direct_takes_the_place_of_a_file_and_gives_it_back() {
    in_lab(|lab| {
        let host = plain(lab);
        let etc = host.etc();
        life(&host, "direct", &etc);
    });
}

#[test]
fn direct_forwards_over_tcp_and_denies_what_is_nobodys() {
    in_lab(|lab| {
        let host = plain(lab);
        // The C library is told to use TCP; what it is told stays.
        host.machine.etc("resolv.conf", &format!("nameserver {LAN}\noptions use-vc timeout:2 attempts:1\n"));
        host.tarnet();
        host.wait_state("direct", "up");
        assert_eq!(host.reason("forwarding-to"), LAN);
        assert_eq!(host.getent("over-tcp.example.org"), ELSEWHERE);
        // What tells browsers to keep to the host's resolver, and what no network knows.
        for name in ["use-application-dns.net", "else.alt"] {
            assert_eq!(host.getent(name), "", "{name}");
        }
        host.closed();
    });
}

#[test]
fn direct_works_on_a_file_that_is_a_mount_point() {
    in_lab(|lab| {
        let mut host = plain(lab);
        let outside = host.machine.path("outside.conf");
        std::fs::write(&outside, format!("nameserver {LAN}\n")).expect("a file of the laboratory");
        host.machine.mounts(format!("mount --bind {} /etc/resolv.conf", outside.display()));
        // Restored to the byte; its time is that of the writing, since the file stays the same one.
        let said = || std::fs::read_to_string(&outside).expect("it is there");
        let names = || host.machine.run(&["ls", "-a", "/etc"]).out;
        let (before, around) = (said(), names());
        host.tarnet();
        host.wait_state("direct", "up");
        host.works(true);
        assert!(said().contains("tarnetd"));
        assert_eq!(names(), around, "the folder around a mount point may be another's");
        host.machine.kill();
        host.cleanup();
        assert_eq!((said(), names()), (before.clone(), around.clone()));
        host.tarnet();
        host.wait_state("direct", "up");
        host.machine.stop();
        assert_eq!((said(), names()), (before, around));
        host.others();
        host.closed();
    });
}

#[test]
fn direct_learns_from_a_renewed_lease_and_gives_a_fight_up() {
    in_lab(|lab| {
        let host = plain(lab);
        host.tarnet();
        host.wait_state("direct", "up");
        let file = host.machine.path("etc/resolv.conf");
        let ours = || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("tarnetd"));
        let rewrite = |server: &str| {
            let fresh = host.machine.path("etc/fresh");
            std::fs::write(&fresh, format!("nameserver {server}\n")).expect("a file of the laboratory");
            std::fs::rename(&fresh, &file).expect("a file of the laboratory");
        };
        rewrite(LAN);
        until(10, "the file is ours again", ours);
        host.wait_state("direct", "up");
        host.works(true);
        // Nine more in a row are enough.
        for round in 1..10 {
            until(10, "the file is ours again", ours);
            rewrite(&format!("192.0.2.{}", 100 + round));
        }
        host.wait_state("direct", "given up");
        assert!(host.machine.status()["dns"]["state"].as_str().is_some_and(|state| state.contains("rewrote")));
        assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "nameserver 192.0.2.109\n");
        assert!(!host.machine.path("etc/resolv.conf.before-tarnet").exists());
    });
}

#[test]
fn direct_says_so_where_etc_cannot_be_written() {
    in_lab(|lab| {
        let mut host = plain(lab);
        host.machine.mounts("mount -o remount,bind,ro /etc".into());
        host.machine.start();
        host.wait_state("direct", "failed: Read-only file system");
        assert_eq!(host.getent("www.example.org"), ELSEWHERE);
    });
}

#[test]
fn off_leaves_the_host_alone() {
    in_lab(|lab| {
        let host = plain(lab);
        host.machine.config("[dns]\nmode = \"off\"\n");
        let etc = host.etc();
        host.tarnet();
        host.wait_state("off", "off");
        assert!(host.machine.lookup("blog.alice").len() == 2);
        host.others();
        host.etc_is(&etc);
    });
}

/// A host with one of the resolvconfs, that knows the network's server from its interface.
fn resolvconf(lab: &Lab, package: &str) -> Host {
    let root = unpacked(&[package]);
    let mut host = Host::new(lab, false);
    let etc = host.machine.path("etc");
    sh(&format!("cp -a {}/etc/. {}/; rm -f {1}/resolv.conf", root.display(), etc.display()));
    // Both are shell scripts that know their places; the laboratory's /sbin and /lib are the host's with these above.
    for (from, to) in [("sbin", "/usr/sbin"), ("lib", "/usr/lib")] {
        host.machine.overlay(&root.join(from), to);
    }
    sh("mkdir -p /run/resolvconf/interface");
    if package == "resolvconf" {
        std::os::unix::fs::symlink("/run/resolvconf/resolv.conf", etc.join("resolv.conf")).expect("a link");
        host.run_once(&["resolvconf", "--enable-updates"]);
    }
    host.run_once(&["sh", "-ec", &format!("printf 'nameserver {LAN}\\n' | resolvconf -a wan0.inet")]);
    host.others();
    host
}

#[test]
fn openresolv_is_told_and_told_back() {
    unpacked(&["openresolv"]);
    in_lab(|lab| {
        let host = resolvconf(lab, "openresolv");
        let file = host.machine.run(&["cat", "/etc/resolv.conf"]).out;
        life_of_records(&host, &file);
    });
}

#[test]
fn debians_resolvconf_is_told_and_told_back() {
    unpacked(&["resolvconf"]);
    in_lab(|lab| {
        let host = resolvconf(lab, "resolvconf");
        let file = host.machine.run(&["cat", "/etc/resolv.conf"]).out;
        life_of_records(&host, &file);
    });
}

/// As [`life`], where a program writes the file: its words come back, its times do not.
fn life_of_records(host: &Host, file: &str) {
    let said = || host.machine.run(&["cat", "/etc/resolv.conf"]).out;
    host.tarnet();
    host.wait_state("resolvconf", "up");
    host.works(true);
    host.machine.kill();
    host.shut(OURS);
    host.tarnet();
    host.wait_state("resolvconf", "up");
    // A lease is renewed: the record is written again, and only ours still counts.
    host.run_once(&["sh", "-ec", &format!("printf 'nameserver {LAN}\\nsearch lan\\n' | resolvconf -a wan0.inet")]);
    host.works(true);
    host.run_once(&["sh", "-ec", &format!("printf 'nameserver {LAN}\\n' | resolvconf -a wan0.inet")]);
    host.machine.stop();
    assert_eq!(said(), file);
    host.machine.start();
    host.wait_state("resolvconf", "up");
    host.machine.kill();
    host.cleanup();
    assert_eq!(said(), file);
    let left = host.machine.run(&["sh", "-c", "ls /etc/resolvconf/update-libc.d /run/resolvconf/*/*tarnet*"]);
    assert_eq!(left.out, "");
    host.others();
    host.closed();
}

#[test]
fn networkmanager_with_dnsmasq_is_told_and_told_back() {
    unpacked(NETWORK_MANAGER);
    in_lab(|lab| {
        let root = unpacked(NETWORK_MANAGER);
        let mut host = Host::new(lab, true);
        let _ = std::fs::remove_file(host.machine.path("etc/resolv.conf"));
        let folders = "etc/NetworkManager/dnsmasq.d etc/NetworkManager/system-connections";
        sh(&format!("cd {} && mkdir -p {folders}", host.machine.path("").display()));
        host.machine.etc(
            "NetworkManager/NetworkManager.conf",
            "[main]\ndns=dnsmasq\nplugins=keyfile\nauth-polkit=false\n[keyfile]\nunmanaged-devices=interface-name:tarnet*\n",
        );
        let connection = "NetworkManager/system-connections/wan.nmconnection";
        host.machine.etc(
            connection,
            &format!(
                "[connection]\nid=wan\ntype=ethernet\ninterface-name=wan0\n[ipv4]\nmethod=manual\naddress1=192.0.2.2/24,{LAN}\ndns={LAN};\n[ipv6]\nmethod=disabled\n"
            ),
        );
        sh(&format!("chmod 600 {}", host.machine.path("etc").join(connection).display()));
        for (from, to) in [("usr/sbin", "/usr/sbin"), ("usr/lib", "/usr/lib")] {
            host.machine.overlay(&root.join(from), to);
        }
        // NetworkManager keeps what it knows there; the laboratory's is its own. Where /sys cannot be written it
        // does not wait for udev.
        host.machine.mounts("mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/NetworkManager".into());
        host.machine.mounts("mount -t sysfs -o ro sysfs /sys".into());
        host.bus(&root);
        host.run(&["/usr/sbin/NetworkManager", "--debug", "--log-level=INFO"], &[]);
        until(30, "NetworkManager's dnsmasq answers", || host.getent("www.example.org") == ELSEWHERE);
        // NetworkManager writes its resolv.conf again whenever its dnsmasq starts: the same text at another time.
        let etc = |host: &Host| -> Vec<String> {
            let all = host.etc();
            all.lines().filter(|line| !line.starts_with("./resolv.conf f ")).map(str::to_owned).collect()
        };
        let before = etc(&host);
        host.tarnet();
        host.wait_state("networkmanager", "up");
        until(10, "dnsmasq is back", || is_synthetic(&host.getent("blog.alice")));
        host.works(true);
        host.machine.kill();
        host.shut(OURS);
        host.tarnet();
        host.wait_state("networkmanager", "up");
        host.works(true);
        host.machine.stop();
        until(10, "dnsmasq is back", || host.getent("www.example.org") == ELSEWHERE);
        assert_eq!(etc(&host), before);
        host.closed();
    });
}

/// A daemon that is no root, as the packaged one, and its unit, which we play: it runs when the paper has changed.
#[test]
fn a_daemon_without_root_has_it_done_by_the_unit() {
    in_lab(|lab| {
        // Where only one user is mapped there is no other to be.
        if !super::super::lab::has_users() {
            eprintln!("SKIPPED hostdns::files::a_daemon_without_root_has_it_done_by_the_unit: one user only");
            return;
        }
        let mut host = plain(lab);
        let etc = host.etc();
        sh("mkdir -p /run/tarnet && chown 65534:65534 /run/tarnet /run/lab/bob && chmod 755 /run/lab /run/lab/bob");
        host.machine.mounts("mount -t sysfs -o ro sysfs /sys".into());
        host.machine.socket("/run/tarnet/tarnet.sock");
        // Where udev does not run the device node is root's alone; elsewhere it is everybody's.
        sh(
            "mkdir -p /run/lab/dev && mount -t tmpfs -o mode=755 tmpfs /run/lab/dev && mknod -m 666 /run/lab/dev/tun c 10 200",
        );
        host.machine.mounts("mount --bind /run/lab/dev/tun /dev/net/tun".into());
        host.machine.started_by(&[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--no-new-privs",
            "--inh-caps=+net_admin",
            "--ambient-caps=+net_admin",
            "--bounding-set=-all,+net_admin",
        ]);
        let daemon = env!("CARGO_BIN_EXE_tarnetd");
        let config = host.machine.path("tarnetd.toml").display().to_string();
        let unit = format!(
            "last=; while :; do now=$(stat -c %i.%Y /run/tarnet/dns.want 2>/dev/null); \
             [ \"$now\" = \"$last\" ] || {daemon} --config {config} --host-dns; last=$now; busybox usleep 20000; done"
        );
        host.run(&["sh", "-c", &unit], &[]);
        host.tarnet();
        host.wait_state("direct", "up");
        host.works(true);
        host.machine.stop();
        host.etc_is(&etc);
        host.others();
        host.closed();
        // What the daemon would write if somebody else spoke through it.
        for paper in [
            "mode direct\nlink tarnet0\nsuffix tarnet.alt\nserver 192.0.2.66\n",
            "mode direct\nlink lo\nsuffix tarnet.alt\nserver 127.0.0.1\n",
            "mode openresolv\nlink tarnet0\nsuffix tarnet.alt\nserver 198.18.0.2\n",
            "mode direct\nfile /etc/passwd\n",
        ] {
            std::fs::write("/run/tarnet/dns.want", paper).expect("a file of the laboratory");
            let said = host.machine.run(&[daemon, "--config", &config, "--host-dns"]);
            assert_eq!(said.code, 1, "{paper}");
            assert!(said.err.contains("refused"), "{}", said.err);
        }
        host.etc_is(&etc);
    });
}
