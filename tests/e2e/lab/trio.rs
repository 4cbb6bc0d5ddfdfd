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
        let [alice, relay, bob] = ["alice", "relay", "bob"].map(|name| lab.machine(name));
        lab.cable(&alice, &relay, 1);
        lab.cable(&relay, &bob, 2);
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
        for machine in [&self.relay, &self.alice, &self.bob] {
            machine.start();
        }
        for machine in [&self.alice, &self.bob] {
            machine.tn(&["wait", "--links", "1", "--timeout", "20s"]);
        }
        self.alice.tn(&["identity", "create", "alice"]);
        self.alice.tn(&["reload"]);
        self.bob.tn(&["tns", "set", "alice", "zone", &self.service_id()]);
        self.bob.tn(&["wait", "--name", "blog.alice", "--timeout", "20s"]);
    }

    /// Alice's identity.
    #[track_caller]
    pub fn service_id(&self) -> String {
        let shown = self.alice.json(&["identity", "show", "alice"]);
        shown["service_id"].as_str().expect("a service id").to_owned()
    }

    /// Bob opens the page with a static program, through DNS and TUN.
    pub fn page(&self) -> super::Said {
        self.bob.run(&["timeout", "20", "busybox", "wget", "-q", "-O", "-", "http://blog.alice/"])
    }
}
