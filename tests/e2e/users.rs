//! Two users of one machine, each with an identity of its own, and a third with none.

use super::lab::{Lab, Machine, Said, in_lab, serve, users};

/// The users.
const ANNA: u32 = 2_001;
const BERT: u32 = 2_002;
const NOBODY: u32 = 2_003;

/// bob's machine with its users, and alice's with the services of three identities, each of which tells its caller
/// who called.
struct World {
    alice: Machine,
    bob: Machine,
}

/// An identity's ServiceId.
fn id(machine: &Machine, name: &str) -> String {
    machine.json(&["identity", "show", name])["service_id"].as_str().expect("a service id").to_owned()
}

impl World {
    /// Both machines, linked, with identities, services and petnames.
    fn up(lab: &Lab) -> Self {
        let [alice, bob] = ["alice", "bob"].map(|name| lab.machine(name));
        lab.cable(&alice, &bob, 1);
        let users = format!("[tun]\nusers = {{ \"{ANNA}\" = \"anna\", \"{BERT}\" = \"bert\" }}\n");
        bob.config(&format!("[bootstrap]\npeers = [\"tcp://10.77.1.1:7946\"]\n{users}"));
        for (at, name) in ["alice", "carol", "dave"].iter().enumerate() {
            let address = format!("127.0.0.1:401{at}");
            serve::who(&alice, &address, name);
            let file = format!(
                "local = \"{address}\"\nport = 80\nidentity = \"{name}\"\nsubdomain = \"who\"\nproxy_protocol = true\n"
            );
            alice.service(name, &file);
        }
        lab.as_packaged(&bob);
        lab.install_module();
        let world = Self { alice, bob };
        world.name_each_other();
        world
    }

    /// Starts both; everybody gets petnames of their own, and `friend` is somebody else to each.
    fn name_each_other(&self) {
        self.alice.start();
        self.bob.start();
        self.bob.tn(&["wait", "--links", "1", "--timeout", "30s"]);
        for name in ["alice", "carol", "dave"] {
            self.alice.tn(&["identity", "create", name, "--scheme", "ed25519"]);
        }
        self.alice.tn(&["reload"]);
        for name in ["anna", "bert"] {
            self.bob.tn(&["identity", "create", name, "--scheme", "ed25519"]);
        }
        let petnames = [
            ("default", "alice", "alice"),
            ("anna", "alice", "alice"),
            ("anna", "carol", "carol"),
            ("anna", "friend", "carol"),
            ("bert", "dave", "dave"),
            ("bert", "friend", "dave"),
        ];
        for (identity, petname, whose) in petnames {
            let zone = id(&self.alice, whose);
            self.bob.tn(&["tns", "set", petname, "zone", &zone, "--identity", identity]);
            let name = format!("who.{petname}");
            self.bob.tn(&["wait", "--name", &name, "--identity", identity, "--timeout", "30s"]);
        }
    }
}

/// Says that this laboratory has one user only, if so.
fn alone(test: &str) -> bool {
    let alone = !users::possible();
    if alone {
        eprintln!("SKIPPED e2e::users::{test}: a user namespace of an ordinary user has one user only");
    }
    alone
}

/// A page came.
#[track_caller]
fn is_page(said: &Said, page: &str) {
    assert_eq!((said.code, said.out.trim_end()), (0, page), "{}", said.err);
}

/// Fetches `http://NAME/` with these words before the address.
fn curl<'a>(before: &[&'a str], url: &'a str) -> Vec<&'a str> {
    [before, &["-sS", "--max-time", "20", url]].concat()
}

#[test]
fn each_user_has_names_and_connections_of_its_own() {
    in_lab(|lab| {
        if alone("each_user_has_names_and_connections_of_its_own") {
            return;
        }
        let world = World::up(lab);
        let bob = &world.bob;
        let tarnet = env!("CARGO_BIN_EXE_tarnet");
        // Plain DNS shows the names of `tun.identity` to everybody, and no others.
        for uid in [ANNA, BERT, NOBODY] {
            let look = |name| bob.user(uid, false).run(&["busybox", "nslookup", name, "198.18.0.2"]);
            assert_eq!(look("who.alice").code, 0, "uid {uid}: {}", look("who.alice").out);
            for name in ["who.carol", "who.dave", "who.friend"] {
                assert_ne!(look(name).code, 0, "uid {uid} sees {name} in plain DNS");
            }
        }
        for (uid, identity, friend, others) in
            [(ANNA, "anna", "carol", "who.dave"), (BERT, "bert", "dave", "who.carol")]
        {
            let (me, user) = (id(bob, identity), bob.user(uid, false));
            let page = format!("{friend} {me}");
            // By the name service module.
            let own = format!("who.{friend}");
            for name in [own.as_str(), "who.friend", "who.friend.", "who.friend.tarnet.alt", "friend"] {
                let hosts = user.hosts(name);
                assert!(hosts.contains("198.1") && hosts.contains("fd"), "uid {uid}: {name}: {hosts}");
            }
            assert_eq!(user.hosts(others), "", "uid {uid} sees {others}");
            is_page(&user.with_module(&curl(&["curl"], "http://who.friend/")), &page);
            // Under tarify, which names no identity and cannot open the control socket.
            is_page(&user.run(&curl(&[tarnet, "tarify", "curl"], "http://who.friend/")), &page);
            // Over SOCKS5, with and without a user name.
            let (named, proxy) = (format!("socks5h://{identity}:x@127.0.0.1:1080"), "socks5h://127.0.0.1:1080");
            for proxy in [named.as_str(), proxy] {
                is_page(&user.run(&curl(&["curl", "--proxy", proxy], "http://who.friend/")), &page);
            }
            for stranger in ["bert", "anna", "default"].iter().filter(|name| **name != identity) {
                let proxy = format!("socks5h://{stranger}:x@127.0.0.1:1080");
                let said = user.run(&curl(&["curl", "--proxy", &proxy], "http://who.friend/"));
                assert_ne!(said.code, 0, "uid {uid} acts as {stranger}: {}", said.out);
            }
        }
        // A static program asks DNS, and connects as its user all the same.
        let page = format!("alice {}", id(bob, "anna"));
        let wget = ["timeout", "20", "busybox", "wget", "-q", "-O", "-", "http://who.alice/"];
        is_page(&bob.user(ANNA, false).run(&wget), &page);
        // Who has no identity is `tun.identity`, by every way.
        let (nobody, page) = (bob.user(NOBODY, false), format!("alice {}", id(bob, "default")));
        is_page(&nobody.run(&wget), &page);
        is_page(&nobody.with_module(&curl(&["curl"], "http://who.alice/")), &page);
        is_page(&nobody.run(&curl(&[tarnet, "tarify", "curl"], "http://who.alice/")), &page);
        is_page(&nobody.run(&curl(&["curl", "--proxy", "socks5h://127.0.0.1:1080"], "http://who.alice/")), &page);
    });
}

#[test]
fn no_user_sees_what_is_anothers() {
    in_lab(|lab| {
        if alone("no_user_sees_what_is_anothers") {
            return;
        }
        let world = World::up(lab);
        let bob = &world.bob;
        names_are_not_shared(bob);
        sees_its_own(bob);
        sees_no_others(bob);
        // A user without an identity sees that the machine is there, and no identity at all.
        let nobody = bob.user(NOBODY, true);
        assert_eq!(nobody.json(&["status"])["identities"], serde_json::json!([]));
        for words in [&["identity", "list"][..], &["tns", "list"], &["tns", "resolve", "who.alice"], &["peers"]] {
            assert_eq!(nobody.tarnet(words).code, 1, "{words:?}");
        }
        // Who is not in the group does not even open it; root sees everything.
        assert_eq!(bob.user(ANNA, false).tarnet(&["status"]).code, 3);
        assert_eq!(bob.json(&["identity", "list"]).as_array().map(Vec::len), Some(3));
    });
}

/// Anna reaches what is hers in every verb, and her status tells of nothing else.
#[track_caller]
fn sees_its_own(bob: &Machine) {
    let anna = bob.user(ANNA, true);
    assert_eq!(anna.json(&["identity", "list"]).as_array().map(Vec::len), Some(1));
    assert_eq!(anna.json(&["identity", "show", "anna"])["name"], "anna");
    assert_eq!(anna.json(&["tns", "list"]).as_array().map(Vec::len), Some(3));
    for words in [
        &["tns", "set", "note", "text", "mine"][..],
        &["tns", "rm", "note"],
        &["tns", "resolve", "who.friend"],
        &["ping", "who.friend", "-c", "1"],
    ] {
        let said = anna.tarnet(words);
        assert_eq!(said.code, 0, "{words:?}: {}", said.err);
    }
    let request = "printf 'GET / HTTP/1.0\r\n\r\n' | \"$0\" connect who.friend --port 80";
    let said = anna.run(&["sh", "-c", request, env!("CARGO_BIN_EXE_tarnet")]);
    assert!(said.out.ends_with(&format!("carol {}\n", id(bob, "anna"))), "{} {}", said.out, said.err);
    let status = anna.json(&["status"]);
    assert_eq!(status["identities"].as_array().map(Vec::len), Some(1), "{status}");
    assert_eq!((&status["identities"][0]["name"], &status["acting"]), (&"anna".into(), &"anna".into()));
    assert_eq!((&status["links"][0]["peer_id"], &status["links"][0]["address"]), (&"".into(), &"".into()));
    assert!(!status.to_string().contains(&id(bob, "bert")), "{status}");
}

/// Anna reaches nothing that is another's; what exists is answered as what does not.
#[track_caller]
fn sees_no_others(bob: &Machine) {
    let (anna, bert_id) = (bob.user(ANNA, true), id(bob, "bert"));
    bob.tn(&["tns", "set", "diary", "identity", "bert", "--identity", "bert"]);
    for name in ["bert", "default", "no-such"] {
        for words in [
            &["identity", "show", name][..],
            &["tns", "list", "--identity", name],
            &["tns", "get", "dave", "--identity", name],
            &["tns", "set", "x", "text", "y", "--identity", name],
            &["tns", "resolve", "who.dave", "--identity", name],
            &["ping", "who.dave", "-c", "1", "--identity", name],
            &["connect", "who.dave", "--port", "80", "--identity", name],
            &["listen", name, "--port", "9"],
        ] {
            let said = anna.tarnet(words);
            let wanted = format!("tarnet: there is no identity '{name}'");
            let error = said.err.lines().find(|line| line.starts_with("tarnet: "));
            assert_eq!((said.code, error), (4, Some(wanted.as_str())), "{words:?}");
        }
    }
    for zone in [&["tns", "resolve", "diary", "--zone", &bert_id][..], &["tns", "resolve", &format!("diary.{bert_id}")]]
    {
        assert_eq!(anna.tarnet(zone).code, 4, "a private record of another's zone: {zone:?}");
    }
    assert_ne!(anna.tarnet(&["tns", "set", "b", "zone", "bert"]).code, 0, "an identity's name tells its id");
    for words in [
        &["peers"][..],
        &["routes"],
        &["reload"],
        &["identity", "create", "mine"],
        &["identity", "delete", "anna"],
        &["identity", "export", "anna", "/dev/null"],
        &["peers", "add", "tcp://10.77.1.9:7946"],
    ] {
        assert_eq!(anna.tarnet(words).code, 1, "{words:?}");
    }
}

/// A name that anna looked up is not found by its address, by others.
#[track_caller]
fn names_are_not_shared(bob: &Machine) {
    let [anna, bert] = [ANNA, BERT].map(|uid| bob.user(uid, false));
    let hosts = anna.hosts("who.carol");
    let address = hosts.split_whitespace().next().expect("anna's own name");
    let named = |user: &super::lab::users::User<'_>| user.with_module(&["getent", "hosts", address]).out;
    assert!(named(&anna).contains("who.carol"), "{}", named(&anna));
    assert!(!named(&bert).contains("who.carol"), "{}", named(&bert));
    let said = bert.run(&["busybox", "nslookup", address, "198.18.0.2"]);
    assert!(!said.out.contains("who.carol"), "{}", said.out);
}
