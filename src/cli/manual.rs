//! The manual pages and the shells' completions, both from the command definitions. They
//! need no daemon.

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use serde::Serialize;

use crate::args::{Args, Program};
use crate::output::{CliError, json};

/// Section of the manual for user commands. `man(1)`
const USER_COMMANDS: &str = "1";
/// Section of the manual for daemons. `man(1)`
const DAEMONS: &str = "8";

/// What `tarnet completions --json` prints.
#[derive(Serialize)]
struct Completions<'a> {
    /// The program that is completed.
    program: &'a str,
    /// The shell's name.
    shell: String,
    /// What the shell has to read.
    script: String,
}

/// What `tarnet man --json` prints.
#[derive(Serialize)]
struct Pages {
    /// The files that were written.
    files: Vec<PathBuf>,
}

/// `tarnet completions`: prints what the shell has to read.
pub fn completions(as_json: bool, shell: Shell, program: Program, daemon: Command) -> Result<(), CliError> {
    let (mut command, name) = match program {
        Program::Tarnet => (Args::command(), "tarnet"),
        Program::Tarnetd => (daemon, "tarnetd"),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let script = String::from_utf8(script).map_err(|error| CliError::Failed(error.to_string()))?;
    if as_json {
        return json(&Completions { program: name, shell: shell.to_string(), script });
    }
    print!("{script}");
    Ok(())
}

/// `tarnet man`: writes one page for each command, and the daemon's.
pub fn pages(as_json: bool, folder: &Path, daemon: Command) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut files = Vec::new();
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    page_tree(&command, folder, &mut files).map_err(failed)?;
    files.push(page(daemon, DAEMONS, folder).map_err(failed)?);
    if as_json { json(&Pages { files }) } else { Ok(()) }
}

/// The pages of a command and of all below it.
fn page_tree(command: &Command, folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        page_tree(below, folder, files)?;
    }
    files.push(page(command.clone(), USER_COMMANDS, folder)?);
    Ok(())
}

/// One page.
fn page(command: Command, section: &str, folder: &Path) -> std::io::Result<PathBuf> {
    let source = format!("tarnet {}", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command).section(section).source(source).manual("Tarnet").generate_to(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command that stands for the daemon's.
    fn daemon() -> Command {
        Command::new("tarnetd").about("Connects this machine")
    }

    #[test]
    fn every_command_has_a_page() {
        let folder = std::env::temp_dir().join(format!("tarnet-man-{}", std::process::id()));
        pages(false, &folder, daemon()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let (top, set, own) = (read("tarnet.1"), read("tarnet-tns-set.1"), read("tarnetd.8"));
        let count = std::fs::read_dir(&folder).unwrap().count();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(top.contains("tarnet\\-identity(1)") && top.contains("Exit status"), "{top}");
        assert!(set.contains("\\-\\-public") && set.starts_with(".ie"), "{set}");
        assert!(own.contains("Connects this machine"), "{own}");
        assert!(count > 30, "{count} pages");
    }

    #[test]
    fn a_shell_learns_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "tarnet", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("falcon_ed25519") && script.contains("identity"), "{shell}: {script}");
        }
    }
}
