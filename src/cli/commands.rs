//! Each command to its room.

use tarnet_api::{self as api, Client, Method};

use crate::args::{Args, Command, Dns, Peers};
use crate::output::{CliError, json, show, table};
use crate::{dht, doctor, expose, identity, manual, pipe, socket, status, tarify, tns, wait};

/// What every command needs.
pub struct Session {
    /// The daemon.
    pub client: Client,
    /// Print JSON.
    pub json: bool,
    /// The acting identity, if one was named.
    pub identity: Option<String>,
}

impl Session {
    /// The acting identity's name; `@` is whichever is the caller's own.
    pub fn acting(&self) -> &str {
        self.identity.as_deref().unwrap_or("@")
    }
}

/// Runs the command. `daemon` is the command line of `tarnetd`.
pub async fn run(args: Args, daemon: clap::Command) -> Result<(), CliError> {
    let session = Session { client: Client::new(&socket::find(args.socket)), json: args.json, identity: args.identity };
    match args.command {
        Command::Status => status::status(&session).await,
        Command::Peers { command } => peers(&session, command.unwrap_or(Peers::List)).await,
        Command::Routes => status::routes(&session).await,
        Command::Identity { command } => identity::run(&session, command).await,
        Command::Tns { command } => tns::run(&session, command).await,
        Command::Dht { command } => dht::run(&session, command).await,
        Command::Listen { name, port, mode } => pipe::listen(&session, &name, &port, mode).await,
        Command::Connect { target, port, mode } => pipe::connect(&session, &target, &port, mode).await,
        Command::Ping { target, count } => ping(&session, &target, count).await,
        Command::Expose { command } => expose::run(&session, command).await,
        Command::Tarify { command } => tarify::run(&session, &command).await,
        Command::Bench { target } => bench(&session, target).await,
        Command::Wait { links, route, name, timeout } => wait::wait(&session, links, route, name, timeout).await,
        Command::Dns { command: Dns::Status } => status::dns(&session).await,
        Command::Doctor => doctor::run(&session).await,
        Command::Reload => reload(&session).await,
        Command::Completions { shell, program } => manual::completions(session.json, shell, program, daemon),
        Command::Man { folder } => manual::pages(session.json, &folder, daemon),
    }
}

/// `tarnet peers`.
async fn peers(session: &Session, command: Peers) -> Result<(), CliError> {
    match command {
        Peers::List => {
            let peers: Vec<api::Peer> = session.client.get("/v1/peers").await?;
            show(session.json, &peers, |peers| {
                let rows: Vec<_> = peers
                    .iter()
                    .map(|peer| {
                        vec![
                            peer.state.clone(),
                            peer.source.clone(),
                            peer.address.clone(),
                            peer.peer_id.clone(),
                            peer.error.clone(),
                        ]
                    })
                    .collect();
                table(&["STATE", "SOURCE", "ADDRESS", "PEER", "ERROR"], &rows);
            })
        }
        Peers::Add { uri } => done(session, Method::POST, "/v1/peers", &api::PeerRequest { uri }).await,
        Peers::Forget { peer } => {
            done(session, Method::DELETE, &format!("/v1/peers/{}", api::segment(&peer)), &api::Done {}).await
        }
    }
}

/// A change with nothing to print but `{}`.
pub async fn done(session: &Session, method: Method, path: &str, body: &impl serde::Serialize) -> Result<(), CliError> {
    let done: api::Done = session.client.call(method, path, body).await?;
    if session.json { json(&done) } else { Ok(()) }
}

/// `tarnet ping`: one round trip a second, a line each.
async fn ping(session: &Session, target: &str, count: u32) -> Result<(), CliError> {
    let request =
        api::ConnectRequest { target: target.into(), identity: session.identity.clone(), ..Default::default() };
    for seq in 1..=count {
        let started = tokio::time::Instant::now();
        let mut pong: api::Pong = session.client.call(Method::POST, "/v1/ping", &request).await?;
        pong.seq = seq;
        show(session.json, &pong, |pong| {
            println!("{target}: seq={} time={:.3} ms hops={}", pong.seq, pong.rtt_ms, pong.hops);
        })?;
        if seq < count {
            tokio::time::sleep_until(started + std::time::Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

/// `tarnet bench`.
async fn bench(session: &Session, target: String) -> Result<(), CliError> {
    let request = api::ConnectRequest { target, identity: session.identity.clone(), ..Default::default() };
    let bench: api::Bench = session.client.call(Method::POST, "/v1/bench", &request).await?;
    show(session.json, &bench, |bench| {
        println!("{:.0} Mbit/s ({} in {:.2} s)", bench.mbit_per_s, crate::output::bytes(bench.bytes), bench.seconds);
        println!("round trip {:.3} ms (median), {:.3} ms (99 %)", bench.rtt_ms.p50, bench.rtt_ms.p99);
    })
}

/// `tarnet reload`.
async fn reload(session: &Session) -> Result<(), CliError> {
    let reloaded: api::Reloaded = session.client.call(Method::POST, "/v1/reload", &api::Done {}).await?;
    show(session.json, &reloaded, |reloaded| {
        for warning in &reloaded.warnings {
            eprintln!("warning: {warning}");
        }
    })
}
