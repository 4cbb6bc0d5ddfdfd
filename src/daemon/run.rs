//! The daemon's life: flags, settings, state, node, front ends, ready; then signals until
//! it is told to stop, and everything in reverse.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::banner::{Facts, banner};
use crate::callers::Callers;
use crate::config::{Config, Environment, Flags, Paths, Settings, Switch};
use crate::control::{Context, ControlSocket};
use crate::dns::host::{self, HostDns};
use crate::doctor::Doctor;
use crate::engine::{DEFAULT_IDENTITY, Engine, Parts};
use crate::expose::Exposer;
use crate::guard::{self, Keeper, Reached, Wanted};
use crate::handle::NodeHandle;
use crate::notify::{Notifier, Service, pulse};
use crate::resolve::{ResolveSocket, Resolver};
use crate::shell::FrontEnds;
use crate::store::State;
use crate::transport::mdns::Mdns;
use crate::transport::{Clock, Dialler, Transport, listen};
use crate::tun::book::AddressBook;
use crate::tun::{self, Parking, TunConfig, TunHandle};
use crate::{dns, runtime, socks, start};

/// Reloads that may wait.
const RELOADS_LEN_MAX: usize = 4;

/// Runs `tarnetd`. Exit codes: 0 stopped or done, 1 failed, 2 usage or settings.
#[must_use]
pub fn main() -> ExitCode {
    let service = Service::take();
    let flags = Flags::parse();
    let env = Environment::of_process();
    let settings = Paths::find(&flags, &env).map_err(anyhow::Error::from).and_then(|paths| {
        let settings = Settings::load(&flags, &env, &paths)?;
        let config = settings.config()?;
        Ok((paths, settings, config))
    });
    let (paths, settings, config) = match settings {
        Ok(all) => all,
        Err(error) => {
            eprintln!("tarnetd: {error:#}");
            return ExitCode::from(2);
        }
    };
    if flags.print_config {
        print!("{}", settings.print());
        return ExitCode::SUCCESS;
    }
    log(&config.log.level);
    if config.node.network_key.as_ref().is_some_and(|key| key.stretched) {
        tracing::warn!(
            "node.network_key is not 64 hex digits: it is stretched, and only as good as the text; `openssl rand -hex 32` makes a good one"
        );
    }
    raise_descriptors();
    crate::memory::set();
    let runtime = match runtime::build(flags.be_guard.is_some()) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tarnetd: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        if flags.host_dns {
            return host::obey(config.dns.mode).await;
        }
        if flags.cleanup {
            return cleanup(&config, &paths, flags.be_guard.is_some()).await;
        }
        if flags.check {
            return check(&paths, &config);
        }
        if let Some(path) = &flags.be_guard {
            return Ok(guard::serve(path, &service.notifier).await?);
        }
        run(config, paths, service, flags.guard).await
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tarnetd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Raises the soft limit of descriptors to the hard one: each flow of SOCKS5 and expose takes one, and the usual
/// 1,024 is for programs that call `select(2)`.
fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open descriptors stays as it is");
    }
}

/// Logs one line each to stderr: UTC time, level, module.
fn log(level: &str) {
    let filter = tracing_subscriber::EnvFilter::builder()
        .parse(
            std::env::var("TARNET_LOG").unwrap_or_else(|_| format!("warn,tarnet_daemon={level},tarnet_core={level}")),
        )
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// `--cleanup`: takes back what a daemon, or a guard, has left on this host.
async fn cleanup(config: &Config, paths: &Paths, guard: bool) -> anyhow::Result<()> {
    // After a crash, systemd says so here, all stays for the next run: what keeps packets and names in the house.
    if std::env::var("SERVICE_RESULT").is_ok_and(|result| result != "success") {
        return Ok(());
    }
    // The guard has told the host's resolver nothing.
    if !guard {
        let wiring = tun::planned(&paths.state_dir)
            .map(|addresses| host::Wiring::new(&config.tun.name, &config.dns.suffix, &addresses, true));
        host::cleanup(wiring, &paths.state_dir, &paper(paths)).await?;
    }
    tun::cleanup(&paths.state_dir, &config.tun.name).await?;
    if !guard {
        let _ = std::fs::remove_file(&paths.socket);
        let _ = std::fs::remove_file(paths.socket.with_file_name("resolve.sock"));
    }
    Ok(())
}

/// `--check`: settings were read; keys and services are looked at.
fn check(paths: &Paths, config: &Config) -> anyhow::Result<()> {
    crate::store::check(&paths.state_dir)?;
    let bad = Exposer::check(paths.services(config));
    for error in &bad {
        eprintln!("tarnetd: {error}");
    }
    if bad.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("{} service files are wrong", bad.len())) }
}

/// Where a daemon that is not root writes what it wants of the host's resolver.
fn paper(paths: &Paths) -> std::path::PathBuf {
    paths.socket.with_file_name("dns.want")
}

/// Everything that runs beside the node, to be stopped in this order.
struct Running {
    host: Option<Arc<HostDns>>,
    tun: Result<Arc<TunHandle>, String>,
    keeper: Option<Keeper>,
    mdns: Option<Mdns>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    engine: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
    engine_stop: watch::Sender<bool>,
    state: State,
    notifier: Notifier,
    /// The time of systemd's watchdog.
    watchdog: Option<std::time::Duration>,
}

/// Why the daemon ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// For good, as far as we know.
    Stop,
    /// The next run follows at once: what outlives us stays in place for it.
    Restart,
}

/// Starts everything, waits for the end, stops everything.
async fn run(config: Config, paths: Paths, service: Service, guard: Option<PathBuf>) -> anyhow::Result<()> {
    let clock = Clock::start();
    let state = State::open(&paths.state_dir)?;
    let control =
        ControlSocket::bind(&paths.socket).with_context(|| format!("control socket {}", paths.socket.display()))?;
    let loaded = start::load(&config, &state.keys, &state.disk, clock.now()).await?;
    let me = loaded.node.me();
    let address = loaded.identities.iter().find(|(name, _)| name == DEFAULT_IDENTITY);
    let address = address.map(|(_, key)| key.public().service_id().to_string()).unwrap_or_default();

    let (transport, conns) = Transport::new(clock);
    let transport = transport.with_download_limit(config.node.download_limit);
    let rng = tarnet_core::rng::Rng::from_seed(crate::seed());
    let dialler = Dialler::new(transport.clone(), config.node.max_outbound, rng);
    let listeners = listen::bind_all(&config.tcp.listen)?;
    let port = listeners.first().and_then(|listener| listener.local_addr().ok()).map(|address| address.port());
    let budget = listen::accepted_budget(config.node.max_inbound);
    let accepting =
        listeners.into_iter().map(|listener| listen::serve(listener, transport.clone(), Arc::clone(&budget))).collect();
    for uri in &config.bootstrap.peers {
        dialler.add(uri, loaded.peers.remembered(uri))?;
    }
    let (node, requests) = NodeHandle::new();
    let (engine_stop, engine_stopped) = watch::channel(false);
    let (stop, stopped) = watch::channel(false);
    let parts = Parts {
        node: loaded.node,
        clock,
        dialler: dialler.clone(),
        keys: state.keys.clone(),
        disk: state.disk.clone(),
        requests,
        conns,
        peers: loaded.peers,
        pool: crate::channel::Pool::within_limit(config.node.memory_limit),
    };
    drop((tokio::spawn(crate::memory::trim()), tokio::spawn(crate::lookout::run(runtime::workers()))));
    let engine = tokio::spawn(Engine::run(parts, loaded.identities, engine_stopped));
    let mdns = start_mdns(&config, me, port, &dialler);
    let Service { notifier, watchdog, parked } = service;
    let reached = reach_guard(guard.as_deref()).await;
    let mut parking = Parking { notifier: notifier.clone(), parked, guard: reached };
    let tun = start_tun(&config, &node, &paths, &mut parking, stopped.clone()).await?;
    let keeper =
        guard.and_then(|path| start_keeper(path, parking.guard.take(), tun.as_ref().ok()?, &config.dns.suffix));
    let host = tun.as_ref().ok().filter(|_| config.dns.enabled).map(|tun| start_host(&config, &node, &paths, tun));
    let running = Running { host, tun, keeper, mdns, accepting, engine, stop, engine_stop, state, notifier, watchdog };
    front_ends(config, paths, &address, &me.to_string(), node, running, control, stopped).await
}

/// Announces us on the local network, where that is possible.
fn start_mdns(config: &Config, me: tarnet_core::crypto::PeerId, port: Option<u16>, dialler: &Dialler) -> Option<Mdns> {
    if !config.bootstrap.mdns {
        return None;
    }
    match Mdns::start(me, port, std::slice::from_ref(&config.tun.name), dialler.clone()) {
        Ok(mdns) => Some(mdns),
        Err(error) => {
            tracing::warn!(%error, "mDNS is off");
            None
        }
    }
}

/// Brings the TUN up; without the capability `auto` goes on without it and says so.
async fn start_tun(
    config: &Config,
    node: &NodeHandle,
    paths: &Paths,
    parking: &mut Parking,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Result<Arc<TunHandle>, String>> {
    if config.tun.enabled == Switch::Off {
        std::mem::take(parking).release().await;
        return Ok(Err("off: tun.enabled = false".into()));
    }
    let settings = TunConfig {
        name: config.tun.name.clone(),
        ipv4: config.tun.ipv4.map(|prefix| prefix.to_string()).unwrap_or_default(),
        ipv6: config.tun.ipv6.map(|prefix| prefix.to_string()).unwrap_or_default(),
        mtu: config.tun.mtu,
        identity: config.tun.identity.clone(),
        users: config.tun.users.clone(),
        forwarded: config.tun.forwarded.clone(),
    };
    let responder = dns::DnsConfig {
        suffix: config.dns.suffix.clone(),
        listen: if config.dns.enabled { config.dns.listen.clone() } else { Vec::new() },
        ttl_s: u32::try_from(config.dns.ttl.as_secs()).unwrap_or(u32::MAX),
    };
    match tun::start(settings, node.clone(), responder, &paths.state_dir, parking, stopped).await {
        Ok(handle) => Ok(Ok(Arc::new(handle))),
        Err(error) if config.tun.enabled == Switch::Auto && error.is_missing_capability() => {
            tracing::info!("TUN and DNS are off: {error}; give the daemon CAP_NET_ADMIN and /dev/net/tun to have them");
            Ok(Err(format!("off: {error}")))
        }
        Err(error) => Err(error).context("TUN"),
    }
}

/// The guard, if there is to be one and it is there. From now on it leaves the device to us.
async fn reach_guard(path: Option<&Path>) -> Option<Reached> {
    let path = path?;
    Reached::connect(path).await.inspect_err(|error| tracing::info!(%error, "the guard is not there yet")).ok()
}

/// Has the guard hold the device beside us.
fn start_keeper(path: PathBuf, reached: Option<Reached>, tun: &TunHandle, suffix: &str) -> Option<Keeper> {
    let device = tun.descriptor().inspect_err(|error| tracing::warn!(%error, "the guard gets no device")).ok()?;
    let addresses = *tun.book().addresses();
    let responder = Arc::clone(tun.responder());
    Some(Keeper::start(path, reached, Wanted { device, addresses, suffix: suffix.into(), responder }))
}

/// Tells the host's resolver of the responder.
fn start_host(config: &Config, node: &NodeHandle, paths: &Paths, tun: &TunHandle) -> Arc<HostDns> {
    let addresses = tun.book().addresses();
    let setup = host::Setup {
        configured: config.dns.mode,
        wiring: host::Wiring::new(tun.name(), &config.dns.suffix, addresses, tun.ipv6().is_some()),
        identity: config.tun.identity.clone(),
        node: node.clone(),
        responder: Arc::clone(tun.responder()),
    };
    Arc::new(HostDns::start(setup, &paper(paths)))
}

/// Starts what users meet, says that we are ready, and waits for the end.
#[allow(clippy::too_many_arguments, reason = "one caller; each is moved in")]
async fn front_ends(
    config: Config,
    paths: Paths,
    address: &str,
    peer_id: &str,
    node: NodeHandle,
    running: Running,
    control: ControlSocket,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let book = running.tun.as_ref().ok().map(|tun| tun.book().clone());
    let socks = start_socks(&config, &node, book.clone())?;
    let exposer = match config.expose.enabled {
        true => Some(Exposer::start(node.clone(), paths.services(&config).to_owned()).await),
        false => None,
    };
    let callers = Arc::new(Callers::new(&config.tun));
    let resolver = Resolver {
        node: node.clone(),
        book,
        ipv6: running.tun.as_ref().is_ok_and(|tun| tun.ipv6().is_some()),
        callers: Arc::clone(&callers),
        socks: socks.clone(),
        suffix: config.dns.suffix.to_ascii_lowercase(),
    };
    match ResolveSocket::bind(&paths.socket.with_file_name("resolve.sock")) {
        Ok(socket) => drop(tokio::spawn(resolver.serve(socket, stopped.clone()))),
        Err(error) => tracing::warn!(%error, "the resolve socket is off: tarify will not work"),
    }
    if config.bench.allow {
        tokio::spawn(crate::control::serve_bench(node.clone(), DEFAULT_IDENTITY.into()));
        tokio::spawn(crate::control::serve_bench(node.clone(), "peer".into()));
    }
    let (reload, reloads) = mpsc::channel(RELOADS_LEN_MAX);
    let shell = Arc::new(FrontEnds {
        tun: running.tun.clone(),
        tun_identity: config.tun.identity.clone(),
        exposer: exposer.clone(),
        socks: socks.clone(),
        host: running.host.clone(),
        suffix: config.dns.suffix.clone(),
    });
    let doctor = Doctor {
        config: config.clone(),
        paths: paths.clone(),
        tun: running.tun.clone(),
        exposer: exposer.clone(),
        guard: running.keeper.as_ref().map(Keeper::flag),
    };
    let (doctor, caller) = (Arc::new(doctor), callers.of(None));
    let search_domains = search_domains();
    let context = Context { node: node.clone(), shell, reload, search_domains, doctor, callers, caller };
    tokio::spawn(control.serve(Arc::new(context), stopped));

    let (tun, dns) = (tun_line(&running.tun), dns_line(running.host.as_deref()).await);
    print!("{}", banner(&config, &paths, &Facts { address, peer_id, tun, dns, socks }));
    let _ = std::io::Write::flush(&mut std::io::stdout());
    running.notifier.ready();
    let line = status_line(running.tun.clone());
    tokio::spawn(pulse(running.notifier.clone(), running.watchdog, node, line));
    let end = wait(exposer.as_ref(), reloads, &running.notifier).await?;
    running.notifier.stopping();
    let kept = end == End::Restart || running.keeper.as_ref().is_some_and(Keeper::holds);
    if let (true, Ok(tun)) = (kept, &running.tun) {
        tun.keep();
    }
    stop(running, end).await;
    Ok(())
}

/// The TUN in the banner.
fn tun_line(tun: &Result<Arc<TunHandle>, String>) -> String {
    match tun {
        Ok(tun) => format!("{} {} mtu {}", tun.name(), tun.ipv4(), tun.mtu()),
        Err(why) => why.clone(),
    }
}

/// The host's resolver in the banner, once it knows of us: who waits for our readiness uses names at once.
async fn dns_line(host: Option<&HostDns>) -> String {
    let Some(host) = host else { return "off".into() };
    host.published().await;
    let status = host.status();
    format!("{}: {}", status.mode, status.state)
}

/// What `systemctl status` shows.
fn status_line(tun: Result<Arc<TunHandle>, String>) -> impl Fn(tarnet_api::Status) -> String {
    move |status| {
        let (flows, tun) = match &tun {
            Ok(tun) => (tun.flows(), tun.state()),
            Err(why) => (0, why.clone()),
        };
        let (links, routes) = (status.links.len(), status.routes);
        let clock = if status.clock.is_empty() { "" } else { "; this machine's clock seems to be wrong" };
        format!("{links} links, {routes} routes, {flows} flows; TUN {tun}{clock}")
    }
}

/// Serves SOCKS5; says on which addresses. The tasks end with the runtime.
fn start_socks(config: &Config, node: &NodeHandle, book: Option<AddressBook>) -> anyhow::Result<Vec<String>> {
    let book: Arc<dyn socks::AddressBook> = match book {
        Some(book) => Arc::new(book),
        None => Arc::new(socks::NoAddresses),
    };
    let front = socks::Front::new(node.clone(), book, config);
    let mut serving = Vec::new();
    for listener in listen::bind_all(&config.socks.listen).context("socks.listen")? {
        serving.push(listener.local_addr()?.to_string());
        front.serve(listener);
    }
    Ok(serving)
}

/// Serves reloads until a signal says stop.
async fn wait(
    exposer: Option<&Exposer>,
    mut reloads: mpsc::Receiver<oneshot::Sender<Vec<String>>>,
    notifier: &Notifier,
) -> anyhow::Result<End> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // `RestartKillSignal=` of the unit: systemd tells a restart from a stop.
    let mut restart = signal(SignalKind::user_defined2())?;
    loop {
        let reply = tokio::select! {
            _ = hangup.recv() => None,
            Some(reply) = reloads.recv() => Some(reply),
            _ = terminate.recv() => return Ok(End::Stop),
            _ = interrupt.recv() => return Ok(End::Stop),
            _ = restart.recv() => return Ok(End::Restart),
        };
        notifier.reloading();
        let warnings = match exposer {
            Some(exposer) => exposer.reload().await.iter().map(ToString::to_string).collect(),
            None => Vec::new(),
        };
        notifier.ready();
        if let Some(reply) = reply {
            let _ = reply.send(warnings);
        }
    }
}

/// Stops the front ends, then the node, then the disk.
async fn stop(running: Running, end: End) {
    let Running { host, tun, keeper, mdns, accepting, engine, stop, engine_stop, state, .. } = running;
    // While the responder still answers: the host must not be without a resolver for a moment.
    match host {
        Some(host) if end == End::Restart => host.keep().await,
        Some(host) => host.stop().await,
        None => {}
    }
    let _ = stop.send(true);
    for task in &accepting {
        task.abort();
    }
    if let Some(mdns) = mdns {
        mdns.stop().await;
    }
    if let Ok(tun) = tun {
        tun.stopped().await;
    }
    // From here on the guard answers.
    drop(keeper);
    let _ = engine_stop.send(true);
    let _ = engine.await;
    // The disk's thread writes what is queued once the last user of it is gone.
    let _ = tokio::task::spawn_blocking(move || state.close()).await;
}

/// The host's own search domains, which petnames must not shadow. `resolv.conf(5)`
fn search_domains() -> Vec<String> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix("search ").or_else(|| line.strip_prefix("domain ")));
    lines.flat_map(str::split_whitespace).map(|domain| domain.trim_end_matches('.').to_ascii_lowercase()).collect()
}
