//! The usual case: alice and bob share no link, relay joins them. Alice publishes a web
//! server as `blog`, bob has added her zone.

use super::serve::{self, Body};
use super::{Lab, Machine};

/// What alice's page says.
const PAGE: &str = "<h1>Hello from alice, 7c1f-a0e6-91d2</h1>\n";

/// Three machines in a row.
pub struct Trio {
    /// Publishes.
    pub alice: Machine,
    /// Carries.
    pub relay: Machine,
    /// Visits.
    pub bob: Machine,
}

impl Trio {
    /// The page that alice serves.
    pub const PAGE: &str = PAGE;

    /// The machines and cables, with settings and the service, daemons not yet started.
    pub fn cabled(lab: &Lab) -> Self {
        Self::between(lab, Lab::cable)
    }

    /// The same with cables of another kind.
    pub fn between(lab: &Lab, cable: impl Fn(&Lab, &Machine, &Machine, u8)) -> Self {
        let [alice, relay, bob] = ["alice", "relay", "bob"].map(|name| lab.machine(name));
        cable(lab, &alice, &relay, 1);
        cable(lab, &relay, &bob, 2);
        alice.config("[bootstrap]\npeers = [\"tcp://10.77.1.2:7946\"]\n");
        bob.config("[bootstrap]\npeers = [\"tcp://10.77.2.1:7946\"]\n");
        alice.service("blog", "local = \"127.0.0.1:4001\"\nport = 80\nidentity = \"alice\"\nsubdomain = \"blog\"\n");
        serve::web(&alice, "127.0.0.1:4001", &[("/", Body::Text(PAGE.into()))]);
        Self { alice, relay, bob }
    }

    /// All of it, up and resolved.
    pub fn up(lab: &Lab) -> Self {
        let trio = Self::cabled(lab);
        trio.start();
        trio
    }

    /// Starts the daemons, links them, makes the identity and the zone.
    #[track_caller]
    pub fn start(&self) {
        self.relay.start();
        Self::named(&self.alice, &self.bob, "blog.alice");
    }

    /// Starts two daemons, makes alice's identity, and gives it to bob, who then can resolve `name`.
    #[track_caller]
    pub fn named(alice: &Machine, bob: &Machine, name: &str) {
        for machine in [alice, bob] {
            machine.start();
        }
        for machine in [alice, bob] {
            machine.tn(&["wait", "--links", "1", "--timeout", "20s"]);
        }
        alice.tn(&["identity", "create", "alice"]);
        alice.tn(&["reload"]);
        bob.tn(&["tns", "set", "alice", "zone", &Self::identity(alice)]);
        bob.tn(&["wait", "--name", name, "--timeout", "20s"]);
    }

    /// Alice's identity.
    #[track_caller]
    pub fn service_id(&self) -> String {
        Self::identity(&self.alice)
    }

    /// The ServiceId of a machine's `alice`.
    #[track_caller]
    fn identity(machine: &Machine) -> String {
        let shown = machine.json(&["identity", "show", "alice"]);
        shown["service_id"].as_str().expect("a service id").to_owned()
    }

    /// Bob opens the page with a static program, through DNS and TUN.
    pub fn page(&self) -> super::Said {
        self.bob.run(&["timeout", "20", "busybox", "wget", "-q", "-O", "-", "http://blog.alice/"])
    }
}
