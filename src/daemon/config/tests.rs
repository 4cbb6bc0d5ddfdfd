//! Settings from every source, their errors, and their printed form.

use std::path::Path;
use std::time::Duration;

use tarnet_core::crypto::Group;

use super::keys::KEYS;
use super::*;

/// The settings of one file's text.
fn from_file(text: &str) -> Result<Config, Error> {
    let mut settings = Settings::defaults();
    settings.apply_file(text, Path::new("/etc/t.toml"))?;
    settings.config()
}

/// The message of the error that `text` gives.
fn message(text: &str) -> String {
    from_file(text).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn defaults_are_what_the_contract_says() {
    let config = Settings::defaults().config().unwrap();
    assert!(config.node.open && config.bootstrap.mdns && config.dns.enabled && config.expose.enabled);
    assert_eq!(config.node.memory_limit, 512 << 20);
    assert_eq!((config.node.max_inbound, config.node.max_outbound), (128, 48));
    assert_eq!(config.link.groups, [Group::X25519MlKem768, Group::X25519]);
    assert_eq!(config.tcp.listen.len(), 2);
    assert_eq!(config.tun.ipv4.unwrap().to_string(), "198.18.0.0/15");
    assert_eq!((config.tun.mtu, config.tun.enabled, config.tun.ipv6), (65535, Switch::Auto, None));
    assert_eq!((config.dns.ttl, config.dns.suffix.as_str()), (Duration::from_secs(60), "tarnet.alt"));
    assert_eq!(config.node.network_key, None);
}

#[test]
fn every_key_reads_a_value_other_than_its_default() {
    let hex = "0123456789abcdef".repeat(4);
    let text = format!(
        "[node]\nopen = false\nmax_inbound = 1\nmax_outbound = 0\nnetwork_key = '{hex}'\n\
         [link]\npadding = 'off'\ngroups = ['x25519']\n\
         [bootstrap]\npeers = ['tcp://a:1#{hex}', 'wss://b/t']\nmdns = false\n\
         [transport.tcp]\nlisten = ['127.0.0.1:0']\nadvertise = ['example.org:7946']\n\
         [transport.webrtc]\nenabled = false\nstun = ['stun:a:1']\n[socks]\nlisten = []\nallow_clearnet = true\n\
         [tun]\nenabled = true\nname = 'x'\nipv4 = '10.0.0.0/8'\nipv6 = 'fd00::/48'\nmtu = 1500\nidentity = 'work'\nusers = {{ marty = 'work' }}\n\
         [dns]\nmode = 'off'\nsuffix = '.x.alt.'\nlisten = ['127.0.0.1:5353']\nttl = '2m'\n\
         [expose]\ndir = '/srv'\n[bench]\nallow = true\n[log]\nlevel = 'info,tarnet=debug'\n"
    );
    let config = from_file(&text).unwrap();
    let defaults = Settings::defaults().config().unwrap();
    assert!(config.node.network_key.as_ref().is_some_and(|key| key.bytes[..2] == [0x01, 0x23]));
    assert!(config.bootstrap.peers[0].pin.is_some() && config.bootstrap.peers[1].scheme == Scheme::Wss);
    assert_eq!(config.dns.suffix, "x.alt");
    assert_eq!(config.tun.users["marty"], "work");
    for (ours, default) in [
        (format!("{:?}", config.node), format!("{:?}", defaults.node)),
        (format!("{:?}", config.link), format!("{:?}", defaults.link)),
        (format!("{:?}", config.tcp), format!("{:?}", defaults.tcp)),
        (format!("{:?}", config.webrtc), format!("{:?}", defaults.webrtc)),
        (format!("{:?}", config.socks), format!("{:?}", defaults.socks)),
        (format!("{:?}", config.tun), format!("{:?}", defaults.tun)),
        (format!("{:?}", config.expose), format!("{:?}", defaults.expose)),
        (format!("{:?}", config.bench), format!("{:?}", defaults.bench)),
        (format!("{:?}", config.log), format!("{:?}", defaults.log)),
    ] {
        assert_ne!(ours, default);
    }
}

#[test]
fn unknown_keys_name_file_line_and_the_nearest_key() {
    assert_eq!(message("[node]\n\nopne = true"), "/etc/t.toml:3: unknown key `node.opne`; did you mean `node.open`?");
    assert!(message("[scoks]\nallow_clearnet = true").ends_with("did you mean `socks.allow_clearnet`?"));
    assert!(message("open = true").ends_with("did you mean `node.open`?"));
    assert!(message("[zzz]\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq = 1").ends_with("`zzz.qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq`"));
}

#[test]
fn bad_values_name_file_line_key_and_what_would_do() {
    assert!(message("[link]\npadding = 'bukets'").contains("/etc/t.toml:2: `link.padding`: \"bukets\" is none of"));
    assert!(message("[link]\npadding = 'bukets'").ends_with("did you mean \"buckets\"?"));
    assert!(message("[node]\nmax_inbound = -1").contains("`node.max_inbound`"));
    assert!(message("[tun]\nmtu = 100").ends_with("100 is too small: at least 1280"));
    for text in [
        "[node]\nopen = 'yes'",
        "[node]\nmemory_limit = 5",
        "[node]\nmemory_limit = '1kB'",
        "[link]\ngroups = []",
        "[link]\ngroups = ['x25519', 'x25519']",
        "[bootstrap]\npeers = ['host:1']",
        "[socks]\nlisten = ['localhost']",
        "[tun]\nenabled = 'maybe'",
        "[tun]\nname = 'a b'",
        "[tun]\nipv4 = '198.18.0.1/15'",
        "[tun]\nipv6 = '10.0.0.0/8'",
        "[tun]\nipv4 = '0.0.0.0/0'",
        "[dns]\nttl = '60'",
        "[dns]\nsuffix = 'a..b'",
        "[log]\nlevel = 'loud'",
        "[node]\nupload_limit = 'fast'",
        "[tun]\nidentity = ''",
        "[tun]\nusers = { marty = 'No Name' }",
        "[tun]\nusers = 'marty'",
        "[metrics]\nlisten = 5",
    ] {
        assert!(matches!(from_file(text), Err(Error::BadValue { .. })), "{text}");
    }
}

#[test]
fn rate_limits_are_bytes_per_second_and_not_absurd() {
    let config = from_file("[node]\nupload_limit = '10Mbit'\ndownload_limit = '1MB/s'").unwrap();
    assert_eq!((config.node.upload_limit, config.node.download_limit), (Some(1_250_000), Some(1_000_000)));
    let config = from_file("[node]\nupload_limit = ''").unwrap();
    assert_eq!((config.node.upload_limit, config.node.download_limit), (None, None));
    assert_eq!(from_file("[node]\nmemory_limit = '64MiB'").unwrap().node.memory_limit, 64 << 20);
    assert!(message("[node]\nupload_limit = '1kbit'").contains("at least"));
    let config = from_file("[link]\npadding = 'constant:1Mbit'").unwrap();
    assert_eq!(config.link.padding, crate::config::Padding::Constant(125_000));
    assert!(message("[link]\npadding = 'constant:1kbit'").contains("at least"));
}

#[test]
fn what_is_not_enforced_yet_is_refused() {
    for text in [
        "[transport.ws]\nlisten = ['127.0.0.1:8080']",
        "[transport.ws]\npath = '/x'",
        "[transport.ws]\ntrusted_proxies = ['127.0.0.1']",
        "[transport.ws]\nadvertise = ['wss://x/y']",
        "[metrics]\nlisten = '127.0.0.1:9746'",
    ] {
        assert!(matches!(from_file(text), Err(Error::NotYet { .. })), "{text}");
        assert!(message(text).contains("not yet"));
    }
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let dir = std::env::temp_dir().join(format!("tarnet-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("tarnetd.toml");
    std::fs::write(
        &file,
        "[log]\nlevel = 'warn'\n[bootstrap]\npeers = ['tcp://file:1']\nmdns = true\n[node]\nmax_inbound = 5\n",
    )
    .unwrap();
    let env = Environment::from([
        ("HOME", "/home/u"),
        ("TARNET_LOG_LEVEL", "debug"),
        ("TARNET_BOOTSTRAP_PEERS", "tcp://env:1, tcp://env:2"),
        ("TARNET_BOOTSTRAP_MDNS", "true"),
        ("TARNET_TUN_ENABLED", "false"),
    ]);
    let flags = Flags {
        config: Some(file.clone()),
        no_mdns: true,
        no_dns: true,
        bootstrap: vec!["tcp://flag:1".into()],
        ..Flags::default()
    };
    let paths = Paths::find(&flags, &env).unwrap();
    let config = Settings::load(&flags, &env, &paths).unwrap().config().unwrap();
    assert_eq!((config.log.level.as_str(), config.node.max_inbound, config.bootstrap.mdns), ("debug", 5, false));
    assert_eq!(config.bootstrap.peers[0].to_string(), "tcp://flag:1");
    assert!(!config.dns.enabled && config.tun.enabled == Switch::Off);
    let config = Settings::load(&Flags { bootstrap: vec![], ..flags }, &env, &paths).unwrap().config().unwrap();
    assert_eq!(config.bootstrap.peers.len(), 2);
    let bad = Environment::from([("TARNET_NODE_OPEN", "maybe")]);
    let error = Settings::load(&Flags::default(), &bad, &paths).unwrap_err().to_string();
    assert!(error.starts_with("environment variable TARNET_NODE_OPEN: `node.open`"), "{error}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn printed_settings_parse_to_themselves_and_show_every_comment() {
    let mut settings = Settings::defaults();
    settings.apply_file("[log]\nlevel = 'warn'\n[bootstrap]\npeers = ['tcp://h:1']\n", Path::new("/t")).unwrap();
    let text = settings.print();
    assert_eq!(from_file(&text).unwrap(), settings.config().unwrap());
    assert_eq!(from_file(&Settings::defaults().print()).unwrap(), Settings::defaults().config().unwrap());
    for key in KEYS {
        assert!(text.contains(key.comment) && text.contains(&format!("{} = ", key.parts().1)), "{}", key.path);
    }
    assert!(text.contains("# error, warn") && text.contains("(/t:2)"));
}

#[test]
fn paths_follow_flags_then_variables_then_xdg() {
    let find = |flags: &Flags, env: Environment| Paths::find(flags, &env);
    let paths = find(&Flags::default(), Environment::from([("HOME", "/home/u")])).unwrap();
    assert_eq!(paths.config, Path::new("/home/u/.config/tarnet/tarnetd.toml"));
    assert_eq!(paths.services_dir, Path::new("/home/u/.config/tarnet/services.d"));
    assert_eq!(paths.socket, Path::new("/home/u/.local/share/tarnet/tarnet.sock"));
    let config = from_file("[expose]\ndir = '/srv'").unwrap();
    assert_eq!(paths.services(&config), Path::new("/srv"));
    assert_eq!(paths.services(&from_file("").unwrap()), paths.services_dir);
    let named =
        find(&Flags { services_dir: Some("/n".into()), ..Flags::default() }, Environment::from([("HOME", "/h")]))
            .unwrap();
    assert_eq!(named.services(&config), Path::new("/n"));
    let env = Environment::from([
        ("HOME", "/h"),
        ("XDG_RUNTIME_DIR", "/run/user/1"),
        ("XDG_DATA_HOME", "relative"),
        ("TARNET_CONFIG", "/c"),
    ]);
    let paths = find(&Flags { state_dir: Some("/s".into()), ..Flags::default() }, env).unwrap();
    assert_eq!(paths.socket, Path::new("/run/user/1/tarnet/tarnet.sock"));
    assert_eq!((paths.config.as_path(), paths.state_dir.as_path()), (Path::new("/c"), Path::new("/s")));
    assert!(find(&Flags::default(), Environment::default()).unwrap_err().to_string().contains("--state-dir"));
    let all = Flags {
        config: Some("/c".into()),
        services_dir: Some("/d".into()),
        state_dir: Some("/s".into()),
        socket: None,
        ..Flags::default()
    };
    assert_eq!(find(&all, Environment::default()).unwrap().socket, Path::new("/s/tarnet.sock"));
}

#[test]
fn a_named_file_must_exist_and_the_usual_one_need_not() {
    let env = Environment::from([("HOME", "/nonexistent")]);
    let usual = Paths::find(&Flags::default(), &env).unwrap();
    assert_eq!(Settings::load(&Flags::default(), &env, &usual).unwrap(), Settings::defaults());
    let flags = Flags { config: Some("/nonexistent/x.toml".into()), ..Flags::default() };
    let named = Paths::find(&flags, &env).unwrap();
    assert!(matches!(Settings::load(&flags, &env, &named), Err(Error::Read { .. })));
}

#[test]
fn the_command_line_is_sound() {
    use clap::{CommandFactory, Parser};
    Flags::command().debug_assert();
    let flags = Flags::parse_from(["tarnetd", "--bootstrap", "a", "--bootstrap", "b", "--no-tun"]);
    assert_eq!((flags.bootstrap.len(), flags.no_tun), (2, true));
}

#[test]
fn a_short_network_key_is_stretched_and_a_long_one_taken_as_it_is() {
    let key =
        |text: &str| from_file(&format!("[node]\nnetwork_key = '{text}'")).unwrap().node.network_key.unwrap().bytes;
    assert_eq!(key("secret"), key("secret"));
    assert_ne!(key("secret"), key("Secret"));
    assert_eq!(*key(&"ab".repeat(32)), [0xab; 32]);
    assert!(from_file(&format!("[node]\nnetwork_key = '{}'", "x".repeat(1025))).is_err());
}
