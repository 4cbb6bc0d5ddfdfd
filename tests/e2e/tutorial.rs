//! The tutorial of README.md, executed as it stands: each block ```` ```sh NAME ```` runs on the
//! machine of that name, with the programs on its PATH and a home of its own.

use std::fs;
use std::path::Path;

use super::lab::{Lab, Machine, Said, in_lab};

/// The blocks in order: who runs it, and what.
fn blocks(text: &str) -> Vec<(String, String)> {
    let fenced = text.split("```sh ").skip(1);
    fenced
        .map(|block| {
            let (name, rest) = block.split_once('\n').expect("a block has lines");
            let (script, _) = rest.split_once("\n```").expect("a block ends");
            (name.to_owned(), script.to_owned())
        })
        .collect()
}

/// Runs a block on a machine as its user would: stops at the first command that fails.
fn run(lab: &Lab, machine: &Machine, script: &str) -> Said {
    let home = machine.path("home");
    let programs = Path::new(env!("CARGO_BIN_EXE_tarnet")).parent().expect("it lies in a folder");
    fs::create_dir_all(home.join("run")).expect("a folder of the laboratory");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a PATH"));
    // What the block leaves in the background must not hold our pipes.
    let mut command = machine.command(&["sh", "-ec", script]);
    command.env_remove("TARNET_SOCKET").env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
    command.env("HOME", &home).env("XDG_RUNTIME_DIR", home.join("run")).env("PATH", path);
    command.env("SHARED", lab.folder()).stdin(std::process::Stdio::null());
    machine.run_command(command)
}

#[test]
fn tutorial_of_the_readme_works_as_written() {
    in_lab(|lab| {
        let [alice, bob] = ["alice", "bob"].map(|name| {
            let mut machine = lab.machine(name);
            machine.own_etc();
            machine.etc("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
            machine
        });
        lab.switch(&[&alice, &bob], &["192.168.7.1/24", "192.168.7.2/24"]);
        let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a README");
        let blocks = blocks(&readme);
        assert!(blocks.len() >= 5, "the tutorial has {} blocks", blocks.len());
        let mut out = String::new();
        for (name, script) in &blocks {
            let machine = if name == "alice" { &alice } else { &bob };
            let said = run(lab, machine, script);
            assert_eq!(said.code, 0, "{name}:\n{script}\n{}{}", said.out, said.err);
            out.push_str(&said.out);
        }
        // SOCKS5, tarify, connect, and DNS with TUN.
        assert_eq!(out.matches("Hello from alice").count(), 4, "{out}");
        assert!(out.contains("hops=1"), "{out}");
        assert!(out.contains("mode        direct\nstate       up"), "{out}");
    });
}
