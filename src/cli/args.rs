//! What the user may type. The help texts are the manual.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// What the exit status says.
const EXIT_STATUS: &str = "Exit status: 0 done; 1 refused or failed; 2 usage; 3 no daemon; 4 not found; 5 timed out.";

/// Administers a running Tarnet daemon through its control socket.
#[derive(Debug, Parser)]
#[command(name = "tarnet", version, about, propagate_version = true, after_help = EXIT_STATUS)]
pub struct Args {
    /// Print JSON: one stable object; a stream prints one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// The daemon's control socket [default: $TARNET_SOCKET, the user's own, then /run/tarnet/tarnet.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The acting identity
    #[arg(long, global = true, value_name = "NAME")]
    pub identity: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The node at a glance
    Status,
    /// Links and known peers
    Peers {
        /// What to do; default: list
        #[command(subcommand)]
        command: Option<Peers>,
    },
    /// The distance-vector table
    Routes,
    /// Identities of this node
    Identity {
        /// What to do
        #[command(subcommand)]
        command: Identity,
    },
    /// Names: records of our zones, and resolution
    Tns {
        /// What to do
        #[command(subcommand)]
        command: Tns,
    },
    /// Blocks of the DHT
    Dht {
        /// What to do
        #[command(subcommand)]
        command: Dht,
    },
    /// Wait for one connection and join it to standard input and output
    Listen {
        /// The identity that listens, or `peer` for the machine itself
        #[arg(value_name = "IDENTITY")]
        name: String,
        /// The port, any text of at most 64 bytes
        #[arg(long)]
        port: String,
        /// Delivery mode
        #[arg(long, value_enum, default_value_t = Mode::Ro)]
        mode: Mode,
    },
    /// Connect and join the connection to standard input and output
    Connect {
        /// A TNS name, a ServiceId or a PeerId
        target: String,
        /// The port
        #[arg(long)]
        port: String,
        /// Delivery mode
        #[arg(long, value_enum, default_value_t = Mode::Ro)]
        mode: Mode,
    },
    /// Round trips over the overlay, and the path's length
    Ping {
        /// A TNS name, a ServiceId or a PeerId
        target: String,
        /// How many
        #[arg(short = 'c', long, default_value_t = 4)]
        count: u32,
    },
    /// The services that this node publishes
    Expose {
        /// What to do
        #[command(subcommand)]
        command: Expose,
    },
    /// Run a dynamic program with TNS names
    Tarify {
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Throughput and latency to a node that allows it
    Bench {
        /// A TNS name, a ServiceId or a PeerId
        target: String,
    },
    /// Wait until something is so, for scripts
    Wait {
        /// At least this many links
        #[arg(long)]
        links: Option<usize>,
        /// A route to this peer
        #[arg(long, value_name = "PEERID")]
        route: Option<String>,
        /// This name resolves to an identity
        #[arg(long)]
        name: Option<String>,
        /// Give up after this time, e.g. `30s`
        #[arg(long, default_value = "30s", value_parser = duration)]
        timeout: Duration,
    },
    /// How this host resolves names
    Dns {
        /// What to do
        #[command(subcommand)]
        command: Dns,
    },
    /// Check every piece of this node, and say how to mend each
    Doctor,
    /// Read the configuration and the services again
    Reload,
    /// Print what a shell has to read to complete our commands
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
        /// Whose commands
        #[arg(long, value_enum, default_value_t = Program::Tarnet)]
        program: Program,
    },
    /// Write the manual pages of `tarnet` and `tarnetd` into a folder
    Man {
        /// The folder; made if it is missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// Our programs.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Program {
    /// The command line
    Tarnet,
    /// The daemon
    Tarnetd,
}

/// `tarnet dns`.
#[derive(Debug, Subcommand)]
pub enum Dns {
    /// The mode in which the host is told of us, its state, and why that one
    Status,
}

/// `tarnet peers`.
#[derive(Debug, Subcommand)]
pub enum Peers {
    /// Links and known peers
    List,
    /// Dial an address now and remember it
    Add {
        /// `tcp://host:port`, with `#PEERID` to pin who must answer
        uri: String,
    },
    /// Forget a peer's pin and addresses
    Forget {
        /// The peer
        peer: String,
    },
}

/// `tarnet identity`.
#[derive(Debug, Subcommand)]
pub enum Identity {
    /// Make an identity
    Create {
        /// Its local name
        name: String,
        /// Signature scheme
        #[arg(long, value_enum, default_value_t = Scheme::FalconEd25519)]
        scheme: Scheme,
        /// Whether its machine may be known
        #[arg(long, value_enum, default_value_t = Privacy::Public)]
        privacy: Privacy,
        /// Introduction points of a hidden identity
        #[arg(long)]
        intro_points: Option<u32>,
        /// Hops of its outbound circuits
        #[arg(long)]
        outbound_hops: Option<u32>,
    },
    /// All identities
    List,
    /// One identity
    Show {
        /// Its name
        name: String,
    },
    /// Change an identity's settings
    Update {
        /// Its name
        name: String,
        /// Whether its machine may be known
        #[arg(long, value_enum)]
        privacy: Option<Privacy>,
        /// Introduction points of a hidden identity
        #[arg(long)]
        intro_points: Option<u32>,
        /// Hops of its outbound circuits
        #[arg(long)]
        outbound_hops: Option<u32>,
    },
    /// Delete an identity for good
    Delete {
        /// Its name
        name: String,
    },
    /// Write an identity's secret key to a file (mode 0600)
    Export {
        /// Its name
        name: String,
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Take an identity from an exported file
    Import {
        /// Its local name
        name: String,
        /// The file
        file: PathBuf,
    },
}

/// `tarnet tns`.
#[derive(Debug, Subcommand)]
pub enum Tns {
    /// Set the records of one type under a label of our zone
    Set {
        /// The label, `@` for the apex
        name: String,
        /// The type
        #[arg(value_enum, value_name = "TYPE")]
        kind: RecordKind,
        /// A ServiceId (or an identity's name), a name, text, or a content hash
        value: String,
        /// Publish it; without, only this node sees it
        #[arg(long)]
        public: bool,
        /// How long others may cache it, e.g. `1h`
        #[arg(long, value_parser = duration)]
        ttl: Option<Duration>,
        /// Also a label that shadows a name of the Internet
        #[arg(long)]
        force: bool,
    },
    /// The records of a label of our zone
    Get {
        /// The label
        name: String,
    },
    /// Remove a label of our zone
    Rm {
        /// The label
        name: String,
    },
    /// Everything in our zone
    List,
    /// Write the zone to a file
    Export {
        /// The file
        file: PathBuf,
    },
    /// Add the records of a file to the zone
    Import {
        /// The file
        file: PathBuf,
    },
    /// Remove everything from our zone
    Clear,
    /// Look a name up
    Resolve {
        /// The name
        name: String,
        /// Start in this zone instead of our own
        #[arg(long, value_name = "ID")]
        zone: Option<String>,
        /// Print each step, zone, key and time
        #[arg(long)]
        trace: bool,
    },
}

/// `tarnet dht`.
#[derive(Debug, Subcommand)]
pub enum Dht {
    /// Store a value under its hash
    Put {
        /// The value
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        value: Option<String>,
        /// Read it from this file
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
    /// Find a value by its hash
    Get {
        /// The hash that `put` printed
        hash: String,
    },
    /// Store a value signed by the acting identity. Every node that sees its key can read it
    PutSigned {
        /// The value
        value: String,
        /// How long it lives, e.g. `1h`
        #[arg(long, value_parser = duration)]
        ttl: Option<Duration>,
    },
    /// Find signed values by key
    GetSigned {
        /// The key that `put-signed` printed
        hash: String,
    },
    /// Find a node's Hello
    Hello {
        /// The node
        peer: String,
    },
}

/// `tarnet expose`.
#[derive(Debug, Subcommand)]
pub enum Expose {
    /// The services, their state, who is connected
    List,
    /// Write a service file and have it read
    Add(ExposeAdd),
    /// Remove a service file: its name is withdrawn, and nobody new gets in
    Rm {
        /// The service
        name: String,
    },
}

/// `tarnet expose add`: the keys of a service file.
#[derive(Debug, clap::Args)]
pub struct ExposeAdd {
    /// What to call it: the file's name, and the label unless --label or --apex says another
    pub name: String,
    /// Where it listens on this machine or its network: HOST:PORT or unix:/PATH
    pub local: String,
    /// What it speaks: tcp or udp
    #[arg(long, default_value = "tcp", value_parser = ["tcp", "udp"])]
    pub protocol: String,
    /// The port on the overlay, a number or a name; default: the local port
    #[arg(long)]
    pub port: Option<String>,
    /// The label under which others find it
    #[arg(long, conflicts_with = "apex")]
    pub label: Option<String>,
    /// Find it under the identity's name itself, without a label
    #[arg(long)]
    pub apex: bool,
    /// Listen, but tell nobody
    #[arg(long)]
    pub unlisted: bool,
    /// Who may connect: a ServiceId or a name; again for more. Without, anyone who can reach it
    #[arg(long, value_name = "ID|NAME")]
    pub allow: Vec<String>,
    /// Connections at once
    #[arg(long)]
    pub max_connections: Option<u32>,
    /// Tell the service who calls, in a PROXY v2 header
    #[arg(long)]
    pub proxy_protocol: bool,
    /// Instead of a service of this name that there is
    #[arg(long)]
    pub replace: bool,
}

/// Delivery modes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Mode {
    /// Reliable ordered: a byte stream
    Ro,
    /// Reliable unordered messages, a line each
    Ru,
    /// Unreliable ordered messages: late ones are dropped
    Uo,
    /// Unreliable unordered messages: datagrams
    Uu,
}

impl Mode {
    /// The two letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ro => "ro",
            Self::Ru => "ru",
            Self::Uo => "uo",
            Self::Uu => "uu",
        }
    }

    /// The mode in words.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Ro => "ReliableOrdered",
            Self::Ru => "ReliableUnordered",
            Self::Uo => "UnreliableOrdered",
            Self::Uu => "UnreliableUnordered",
        }
    }
}

/// Signature schemes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Scheme {
    /// Ed25519 alone
    #[value(name = "ed25519")]
    Ed25519,
    /// Falcon-512 and Ed25519 together
    #[value(name = "falcon_ed25519")]
    FalconEd25519,
}

/// Privacy levels.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Privacy {
    /// Who knows the identity can find its machine
    Public,
    /// Nobody can
    Hidden,
}

/// Types of records.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RecordKind {
    /// The label is this identity
    Identity,
    /// The label is this identity's zone
    Zone,
    /// The label is another name
    Alias,
    /// Free text
    Text,
    /// A content block of the DHT
    Content,
}

/// Parses `10s`, `500ms`, `5m`, `2h`, `1d`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not a duration such as 30s or 5m"))?;
    let ms = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("`{unit}` is not one of ms, s, m, h, d")),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(|| format!("`{text}` is too long"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert!(duration("1y").is_err() && duration("").is_err() && duration("99999999999999999999s").is_err());
    }
}
