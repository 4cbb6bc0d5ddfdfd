//! Names: labels, the apex, what is published and what is not.

use super::lab::serve::{self, Body};
use super::lab::{Machine, Trio, in_lab, until};

/// Fetches `http://NAME/` through TUN, SOCKS5 and tarify; the same page must come.
#[track_caller]
fn is_served(machine: &Machine, name: &str, page: &str) {
    let url = format!("http://{name}/");
    let curl = ["curl", "-sS", "--max-time", "20"];
    let ways: [&[&str]; 3] = [&[], &["--proxy", "socks5h://127.0.0.1:1080"], &[env!("CARGO_BIN_EXE_tarnet"), "tarify"]];
    for (at, way) in ways.iter().enumerate() {
        let url = [url.as_str()];
        let words = if at == 2 { [way, &curl[..], &url].concat() } else { [&curl[..], way, &url].concat() };
        let said = machine.run(&words);
        assert_eq!((said.code, said.out.as_str()), (0, page), "{words:?}: {}", said.err);
    }
}

#[test]
fn apex_and_two_labels_on_one_port_reach_their_own_services() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        serve::web(&trio.alice, "127.0.0.1:4002", &[("/", Body::Text("the wiki\n".into()))]);
        serve::web(&trio.alice, "127.0.0.1:4003", &[("/", Body::Text("the apex\n".into()))]);
        let file =
            |port: u16, label: &str| format!("local = \"127.0.0.1:{port}\"\nport = 80\nidentity = \"alice\"\n{label}");
        trio.alice.service("wiki", &file(4002, "subdomain = \"wiki\"\n"));
        trio.alice.service("home", &file(4003, ""));
        trio.start();
        trio.bob.tn(&["wait", "--name", "wiki.alice", "--timeout", "20s"]);
        trio.bob.tn(&["wait", "--name", "alice", "--timeout", "20s"]);
        is_served(&trio.bob, "blog.alice", Trio::PAGE);
        is_served(&trio.bob, "wiki.alice", "the wiki\n");
        is_served(&trio.bob, "alice", "the apex\n");
        // A bare ServiceId carries no label: the listener without one answers.
        let id = trio.service_id();
        is_served(&trio.bob, &id.to_lowercase(), "the apex\n");
        is_served(&trio.bob, &format!("wiki.{id}"), "the wiki\n");
    });
}

#[test]
fn unpublished_service_has_no_name_but_listens() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        serve::web(&trio.alice, "127.0.0.1:4004", &[("/", Body::Text("hidden away\n".into()))]);
        let file =
            "local = \"127.0.0.1:4004\"\nport = 8080\nidentity = \"alice\"\nsubdomain = \"quiet\"\npublish = false\n";
        trio.alice.service("quiet", file);
        trio.start();
        assert_eq!(trio.bob.tarnet(&["tns", "resolve", "quiet.alice"]).code, 4, "it has a name");
        let url = format!("http://{}:8080/", trio.service_id());
        let said = trio.bob.run(&["curl", "-sS", "--max-time", "20", "--proxy", "socks5h://127.0.0.1:1080", &url]);
        assert_eq!((said.code, said.out.as_str()), (0, "hidden away\n"), "{}", said.err);
    });
}

#[test]
fn removed_service_loses_its_name_and_others_stay() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        trio.alice
            .service("extra", "local = \"127.0.0.1:4001\"\nport = 81\nidentity = \"alice\"\nsubdomain = \"extra\"\n");
        trio.start();
        trio.bob.tn(&["wait", "--name", "extra.alice", "--timeout", "20s"]);
        std::fs::remove_file(trio.alice.path("services.d/extra.toml")).expect("the file is there");
        trio.alice.tn(&["reload"]);
        assert!(!trio.alice.tn(&["expose", "list", "--json"]).contains("extra"));
        // Who asks for the first time finds nothing,
        let id = trio.service_id();
        until(10, "the name is withdrawn", || trio.relay.tarnet(&["tns", "resolve", "extra", "--zone", &id]).code == 4);
        // Bob may hold the answer for as long as its time to live said.
        until(90, "the name is gone", || trio.bob.tarnet(&["tns", "resolve", "extra.alice"]).code == 4);
        assert_eq!(trio.page().out, Trio::PAGE);
    });
}

#[test]
fn record_set_by_hand_resolves_with_its_trace() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        trio.alice.tn(&["tns", "set", "motto", "text", "small and whole", "--public", "--identity", "alice"]);
        trio.alice.tn(&["tns", "set", "diary", "text", "for me alone", "--identity", "alice"]);
        trio.bob.tn(&["wait", "--name", "motto.alice", "--timeout", "20s"]);
        let found = trio.bob.json(&["tns", "resolve", "motto.alice", "--trace"]);
        assert_eq!(found["records"][0]["type"], "text");
        assert_eq!(found["records"][0]["value"], "small and whole");
        assert!(found["trace"].as_array().is_some_and(|steps| steps.len() >= 2), "{found}");
        assert_eq!(trio.bob.tarnet(&["tns", "resolve", "diary.alice"]).code, 4, "a private record is public");
        assert_eq!(
            trio.alice.json(&["tns", "resolve", "diary", "--identity", "alice"])["records"][0]["value"],
            "for me alone"
        );
    });
}
