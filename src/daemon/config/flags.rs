//! The command line of `tarnetd`.

use std::path::PathBuf;

/// Connects this machine to the Tarnet overlay network.
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(name = "tarnetd", version, about, long_about = None)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Flags {
    /// Read settings from FILE (default: tarnetd.toml in the configuration folder)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep keys, zones and the DHT store in DIR
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Read service files from DIR
    #[arg(long, value_name = "DIR")]
    pub services_dir: Option<PathBuf>,
    /// Serve the control socket at PATH
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Dial this peer instead of the configured ones (may be repeated): `tcp://host:7946#PEERID`
    #[arg(long, value_name = "URI")]
    pub bootstrap: Vec<String>,
    /// Do not make a TUN interface
    #[arg(long)]
    pub no_tun: bool,
    /// Do not answer DNS, and leave the host's resolver alone
    #[arg(long)]
    pub no_dns: bool,
    /// Do not serve SOCKS5
    #[arg(long)]
    pub no_socks: bool,
    /// Do not expose services
    #[arg(long)]
    pub no_expose: bool,
    /// Neither seek nor announce on the local network
    #[arg(long)]
    pub no_mdns: bool,
    /// Print the effective settings with their comments, and exit
    #[arg(long)]
    pub print_config: bool,
    /// Check settings, services and keys, and exit
    #[arg(long)]
    pub check: bool,
    /// Remove what a killed daemon left on this host (interface, DNS wiring, socket), and exit
    #[arg(long)]
    pub cleanup: bool,
    /// Leave the TUN with the guard at this socket while not running (tarnet-guard.service)
    #[arg(long, hide = true, value_name = "PATH")]
    pub guard: Option<PathBuf>,
    /// Be that guard, or with `--cleanup` remove what it leaves when it stops
    #[arg(long, hide = true, value_name = "PATH")]
    pub be_guard: Option<PathBuf>,
    /// Do what a daemon that is not root has written down for the host's resolver, and exit (tarnet-dns.service)
    #[arg(long, hide = true)]
    pub host_dns: bool,
}
