//! A service made and removed by command.

use super::lab::{Trio, in_lab, serve, until};

/// What the shop says.
const SHOP: &str = "open until six\n";

#[test]
fn a_service_comes_and_goes_by_command_and_the_others_stay() {
    in_lab(|lab| {
        let trio = Trio::up(lab);
        let (alice, bob) = (&trio.alice, &trio.bob);
        serve::web(alice, "127.0.0.1:4002", &[("/", serve::Body::Text(SHOP.into()))]);
        let add = ["expose", "add", "shop", "127.0.0.1:4002", "--port", "80", "--identity", "alice"];
        let made = alice.json(&add);
        assert_eq!((made["state"].as_str(), made["subdomain"].as_str()), (Some("listening"), Some("shop")), "{made}");
        let visit = || bob.run(&["timeout", "20", "busybox", "wget", "-q", "-O", "-", "http://shop.alice/"]);
        assert_eq!(visit().out, SHOP);
        assert_eq!(trio.page().out, Trio::PAGE, "the other service of this port");

        // The same again needs a word; what is wrong is said before anything is written.
        let again = alice.tarnet(&add);
        assert_eq!(again.code, 1);
        assert!(again.err.contains("there is a service 'shop'") && again.err.contains("--replace"), "{}", again.err);
        for wrong in [
            ["../shop", "127.0.0.1:4002", "--port", "80"],
            ["other", "127.0.0.1:4002:x", "--port", "80"],
            ["other", "127.0.0.1:4002", "--port", ""],
            ["other", "127.0.0.1:4002", "--label", "-"],
        ] {
            let said = alice.tarnet(&[&["expose", "add"][..], &wrong].concat());
            assert_eq!(said.code, 2, "{wrong:?}: {}", said.err);
        }
        let files = alice.run(&["ls", "-A", &alice.path("services.d").display().to_string()]);
        assert_eq!(files.out, "blog.toml\nshop.toml\n");

        // Changed, then gone.
        let replaced = alice.tarnet(&[&add[..], &["--replace", "--label", "store"]].concat());
        assert_eq!(replaced.code, 0, "{}", replaced.err);
        let page = bob.run(&["timeout", "20", "busybox", "wget", "-q", "-O", "-", "http://store.alice/"]);
        assert_eq!(page.out, SHOP, "{}", page.err);
        alice.tn(&["expose", "rm", "shop"]);
        until(20, "its name is withdrawn", || !alice.tn(&["tns", "list", "--identity", "alice"]).contains("store"));
        let gone = bob.tarnet(&["connect", "store.alice", "--port", "80"]);
        assert_ne!(gone.code, 0, "{}", gone.out);
        assert_eq!(alice.tarnet(&["expose", "rm", "shop"]).code, 4);
        assert_eq!(trio.page().out, Trio::PAGE);
    });
}
