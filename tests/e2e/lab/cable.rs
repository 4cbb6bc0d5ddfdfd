//! Cables between machines: plain, shared by many (a switch), and lossy.

use super::{Lab, Machine, sh, watch};

impl Lab {
    /// A cable: `a` is 10.77.N.1, `b` is 10.77.N.2.
    pub fn cable(&self, a: &Machine, b: &Machine, n: u8) {
        let (a, b) = (a.name(), b.name());
        sh(&format!(
            "ip link add to-{b} netns {a} type veth peer name to-{a} netns {b}
             ip -n {a} addr add 10.77.{n}.1/24 dev to-{b}; ip -n {b} addr add 10.77.{n}.2/24 dev to-{a}
             ip -n {a} link set to-{b} up; ip -n {b} link set to-{a} up"
        ));
    }

    /// A cable that loses `per_mille` of the packets in each direction: a machine in its middle
    /// forwards and drops. `a` is 10.77.N.1, `b` is 10.77.M.2 with M = N + 100.
    pub fn lossy_cable(&self, a: &Machine, b: &Machine, n: u8, per_mille: u16) {
        let middle = self.machine(&format!("loss{n}"));
        let m = n + 100;
        self.cable(a, &middle, n);
        self.cable(&middle, b, m);
        let (a, b, r) = (a.name(), b.name(), middle.name());
        sh(&format!(
            "ip netns exec {r} sysctl -qw net.ipv4.ip_forward=1
             ip -n {a} route add 10.77.{m}.0/24 via 10.77.{n}.2; ip -n {b} route add 10.77.{n}.0/24 via 10.77.{m}.1
             ip netns exec {r} nft -f - <<'T'
table inet loss {{
  counter lost {{ }}
  chain passing {{
    type filter hook forward priority 0; policy accept;
    numgen random mod 1000 < {per_mille} counter name lost drop
  }}
}}
T"
        ));
    }

    /// Makes the cable between two machines slow, both ways: so many Mbit/s, and a queue of that time. The bucket holds
    /// a millisecond: one that is shallower than a busy processor's timers are late loses what no wire loses.
    pub fn slow(&self, a: &Machine, b: &Machine, mbit: u32, queue: &str) {
        let burst = (mbit * 125).max(16 * 1024);
        for (from, to) in [(a, b), (b, a)] {
            let (from, to) = (from.name(), to.name());
            sh(&format!("tc -n {from} qdisc add dev to-{to} root tbf rate {mbit}mbit burst {burst} latency {queue}"));
        }
    }

    /// Packets that lossy cable `n` has lost so far.
    pub fn lost(&self, n: u8) -> u64 {
        watch::counted(&format!("loss{n}"), "inet loss lost")
    }

    /// A switch that machines share, with addresses from `address` (prefix of a /16 or /24), or
    /// none but the link-local IPv6 one where it is empty. Each machine gets `lan0`.
    pub fn switch(&self, machines: &[&Machine], addresses: &[&str]) {
        self.lan(0, machines, addresses);
    }

    /// The same for network `n` of several, in which each machine gets `lan` and that number.
    pub fn lan(&self, n: u8, machines: &[&Machine], addresses: &[&str]) {
        let hub = self.machine(&format!("switch{n}"));
        sh(&format!("ip -n {0} link add br0 type bridge mcast_snooping 0; ip -n {0} link set br0 up", hub.name()));
        for (at, machine) in machines.iter().enumerate() {
            let (hub, name) = (hub.name(), machine.name());
            sh(&format!(
                "ip link add lan{n} netns {name} type veth peer name port{at} netns {hub}
                 ip -n {hub} link set port{at} master br0 up; ip -n {name} link set lan{n} up"
            ));
            if let Some(address) = addresses.get(at) {
                sh(&format!("ip -n {name} addr add {address} dev lan{n}"));
            }
        }
    }
}
