//! What the host does around the TUN: it has no IPv6, or a route of its own comes in the way.

use std::process::Command;

use super::lab::{Lab, Trio, in_lab, sh, until};

/// Lines of the log that say something of IPv6.
fn about_ipv6(log: &str) -> usize {
    log.lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .filter(|line| line.contains("IPv6") || line.contains("[::"))
        .count()
}

/// The page opens through IPv4 alone, and the log does not repeat itself.
fn works_with_ipv4_alone(trio: &Trio) {
    assert_eq!(trio.bob.status().pointer("/tun/ipv6").and_then(|text| text.as_str()), Some(""));
    let addresses = trio.bob.lookup("blog.alice");
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    assert!(addresses[0].is_ipv4());
    let said = trio.bob.run(&["curl", "-sS", "--max-time", "20", "http://blog.alice/"]);
    assert_eq!(said.out, Trio::PAGE, "{}", said.err);
    let warned = about_ipv6(&trio.bob.log());
    assert!(warned <= 5, "{warned} lines about IPv6:\n{}", trio.bob.log());
    let uptime = |trio: &Trio| trio.bob.status()["uptime_s"].as_u64().expect("a number");
    let start = uptime(trio);
    until(30, "some time passes", || uptime(trio) >= start + 5);
    assert_eq!(about_ipv6(&trio.bob.log()), warned, "it goes on complaining:\n{}", trio.bob.log());
}

#[test]
fn a_host_with_ipv6_switched_off_works_with_ipv4_alone() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        sh("ip netns exec bob sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        trio.start();
        works_with_ipv4_alone(&trio);
    });
}

#[test]
fn a_kernel_without_ipv6_works_with_ipv4_alone() {
    in_lab(|lab: &Lab| {
        let trio = Trio::cabled(lab);
        sh("ip netns exec bob sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        trio.start();
        trio.bob.stop();
        trio.bob.start_by(without_ipv6);
        until(30, "bob resolves again", || trio.bob.lookup("blog.alice").len() == 1);
        works_with_ipv4_alone(&trio);
    });
}

/// The command in a process for which the kernel has no IPv6 sockets, as one that was built or booted without.
fn without_ipv6(mut command: Command) -> Command {
    use std::os::unix::process::CommandExt;

    use nix::libc;
    let statement =
        |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).expect("a small number"), jt, jf, k };
    let number = u32::try_from(libc::SYS_socket).expect("a small number");
    let no_family = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EAFNOSUPPORT).expect("a small number");
    // Load the call's number; unless it is socket(2), allow. Load the family; if it is IPv6, fail.
    let mut filter = vec![
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 3, number),
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 16),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            u32::try_from(libc::AF_INET6).expect("a small number"),
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, no_family),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let length = u16::try_from(filter.len()).expect("a short filter");
        let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
        #[allow(unsafe_code)]
        // SAFETY: two prctl calls with numbers and a pointer to a filter that outlives them.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    #[allow(unsafe_code)]
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(install);
    }
    command
}

#[test]
fn a_route_that_comes_in_the_way_is_named_once_and_seen_in_the_status() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        let state =
            || trio.bob.status().pointer("/tun/state").and_then(|text| text.as_str()).expect("a text").to_owned();
        assert_eq!(state(), "up");
        sh(
            "ip -n bob link add vpn0 type veth peer name vpn1; ip -n bob link set vpn1 up; ip -n bob link set vpn0 up; ip -n bob route add 198.19.5.0/24 dev vpn0",
        );
        until(10, "the status names it", || state() == "up, overlapped by 198.19.5.0/24 dev vpn0");
        // Another change of the routes is no reason to say it again.
        sh("ip -n bob route add 192.0.2.0/24 dev vpn0; ip -n bob addr add fd00:77::1/64 dev vpn0 nodad");
        let ours = trio.bob.status().pointer("/tun/ipv6").and_then(|text| text.as_str()).expect("a text").to_owned();
        sh(&format!("ip -n bob -6 route add {ours}00/120 dev vpn0"));
        until(10, "the status names both", || state().contains(&format!("{ours}00/120 dev vpn0")));
        let warned =
            |log: &str| log.lines().filter(|line| line.contains("WARN") && line.contains("198.19.5.0/24")).count();
        assert_eq!(warned(&trio.bob.log()), 1, "{}", trio.bob.log());
        assert_eq!(trio.page().out, Trio::PAGE, "what is not in the way works");
        sh("ip -n bob link del vpn0");
        until(10, "it is over", || state() == "up");
    });
}
