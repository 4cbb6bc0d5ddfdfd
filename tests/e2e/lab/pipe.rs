//! `tarnet listen` and `tarnet connect` as running programs with pipes at their ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::Machine;

/// A running `tarnet connect` or `tarnet listen`.
pub struct Pipe {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    errors: std::sync::mpsc::Receiver<String>,
}

impl Pipe {
    /// Starts it with these words after `tarnet`.
    pub fn start(machine: &Machine, words: &[&str]) -> Self {
        let mut command = machine.command(&[&[env!("CARGO_BIN_EXE_tarnet")], words].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = machine.start_command(command);
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (lines, errors) = std::sync::mpsc::sync_channel(64);
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        Self { child, stdin, stdout: BufReader::new(stdout), errors }
    }

    /// Starts `tarnet listen` and returns when it listens.
    pub fn listen(machine: &Machine, words: &[&str]) -> Self {
        let pipe = Self::start(machine, &[&["listen"], words].concat());
        let mut banner = pipe.errors.iter();
        assert!(banner.any(|line| line.starts_with("Listening on")), "{}: listen {words:?} failed", machine.name());
        pipe
    }

    /// Writes to its standard input.
    pub fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(text.as_bytes()).expect("it reads");
        stdin.flush().expect("it reads");
    }

    /// Closes its standard input.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// The next line of its standard output, without its end; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it is open");
        line.trim_end_matches('\n').to_owned()
    }

    /// Waits for its end: exit code, the rest of its output, and its messages.
    pub fn end(mut self) -> (Option<i32>, String, String) {
        self.close();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("it is open");
        let code = self.child.wait().expect("our child").code();
        (code, rest, self.errors.iter().collect::<Vec<_>>().join("\n"))
    }
}
