//! `tarnet doctor`: a healthy machine, and five that are not.

use serde_json::Value;

use super::lab::{Machine, in_lab, sh, until};

/// A check of a diagnosis by its name.
fn check<'a>(diagnosis: &'a Value, name: &str) -> &'a Value {
    let checks = diagnosis["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check '{name}': {diagnosis}"))
}

/// What the doctor says now.
fn examine(machine: &Machine) -> Value {
    let said = machine.tarnet(&["doctor", "--json"]);
    let diagnosis: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{} {}", said.out, said.err));
    assert_eq!(diagnosis["well"] == true, said.code == 0, "exit {} with {diagnosis}", said.code);
    diagnosis
}

/// Everything is well.
#[track_caller]
fn is_well(machine: &Machine) {
    let said = machine.tarnet(&["doctor"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.lines().all(|line| line.starts_with("ok ")), "{}", said.out);
    assert!(said.out.lines().count() >= 15, "{}", said.out);
}

/// The doctor names the breakage, and what mends it holds `mend`; exit 1, and a line for people.
#[track_caller]
fn is_named(machine: &Machine, name: &str, detail: &str, mend: &str) {
    let diagnosis = examine(machine);
    let found = check(&diagnosis, name);
    assert_eq!((&found["state"], &diagnosis["well"]), (&"fail".into(), &false.into()), "{diagnosis}");
    let holds = |field: &str, text: &str| found[field].as_str().is_some_and(|value| value.contains(text));
    assert!(holds("detail", detail) && holds("mend", mend), "{found}");
    let said = machine.tarnet(&["doctor"]);
    let line = said.out.lines().find(|line| line.starts_with("FAIL") && line.contains(name));
    assert!(said.code == 1 && line.is_some_and(|line| line.contains("mend: ")), "{}{}", said.out, said.err);
}

#[test]
fn five_breakages_are_named_with_what_mends_them() {
    in_lab(|lab| {
        let [hub, ill] = ["hub", "ill"].map(|name| lab.machine(name));
        lab.cable(&hub, &ill, 1);
        ill.config("[bootstrap]\npeers = [\"tcp://10.77.1.1:7946\"]\n");
        hub.start();
        ill.start();
        ill.tn(&["wait", "--links", "1", "--timeout", "20s"]);
        until(10, "whom it dials has answered", || check(&examine(&ill), "bootstrap")["state"] == "ok");
        is_well(&ill);

        let key = ill.path("state/keys/node.key").display().to_string();
        sh(&format!("chmod 0644 {key}"));
        is_named(&ill, "key files", &key, &format!("chmod 0600 {key}"));
        sh(&format!("chmod 0600 {key}"));

        ill.service("bad", "local = \"127.0.0.1:4001\"\nprotocol = \"carrier pigeon\"\n");
        is_named(&ill, "services", "bad.toml", "tarnet reload");
        std::fs::remove_file(ill.path("services.d/bad.toml")).expect("the file is there");

        let resolver = std::fs::read_to_string(ill.path("resolv.conf")).expect("a file of the laboratory");
        std::fs::write(ill.path("resolv.conf"), "nameserver 127.0.0.1\n").expect("a file of the laboratory");
        is_named(&ill, "resolver", "127.0.0.1", "nameserver 198.18.0.2");
        std::fs::write(ill.path("resolv.conf"), resolver).expect("a file of the laboratory");
        is_well(&ill);

        sh("ip -n ill link del tarnet0");
        is_named(&ill, "tun", "tarnet0", "restart");
        ill.stop();

        ill.config("[bootstrap]\npeers = [\"tcp://10.77.1.1:7999\"]\nmdns = false\n");
        ill.start();
        until(10, "it has tried", || check(&examine(&ill), "bootstrap")["state"] == "fail");
        is_named(&ill, "bootstrap", "10.77.1.1:7999", "[bootstrap] peers");
        is_named(&ill, "links", "nobody", "tarnet peers add");

        ill.stop();
        let said = ill.tarnet(&["doctor"]);
        assert!(said.code == 1 && said.out.starts_with("FAIL control socket"), "{}{}", said.out, said.err);
    });
}
