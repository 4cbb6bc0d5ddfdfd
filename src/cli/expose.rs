//! `tarnet expose`: services as files of `services.d`. The daemon says where a file belongs and
//! whether it would be understood; we write it as whoever runs us, for the packaged daemon may
//! write nothing in `/etc`, and then it reads its folder again.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tarnet_api::{self as api, Method};

use crate::args::{Expose, ExposeAdd};
use crate::commands::Session;
use crate::output::{CliError, show, table};

/// Runs one of them.
pub async fn run(session: &Session, command: Expose) -> Result<(), CliError> {
    match command {
        Expose::List => list(session).await,
        Expose::Add(add) => self::add(session, &add).await,
        Expose::Rm { name } => remove(session, &name).await,
    }
}

/// `tarnet expose list`.
async fn list(session: &Session) -> Result<(), CliError> {
    let services: Vec<api::Service> = session.client.get("/v1/services").await?;
    show(session.json, &services, |services| {
        let rows: Vec<_> = services
            .iter()
            .map(|service| {
                let at = if service.subdomain.is_empty() { "@" } else { &service.subdomain };
                vec![
                    service.name.clone(),
                    service.identity.clone(),
                    if service.publish { at.to_owned() } else { format!("({at})") },
                    service.port.clone(),
                    service.protocol.clone(),
                    service.local.clone(),
                    service.state.clone(),
                    who(service),
                ]
            })
            .collect();
        table(&["SERVICE", "IDENTITY", "LABEL", "PORT", "PROTOCOL", "LOCAL", "STATE", "CONNECTIONS"], &rows);
    })
}

/// Connections, and who they are where it is proven.
fn who(service: &api::Service) -> String {
    match service.callers.as_slice() {
        [] => service.connections.to_string(),
        callers => format!("{}: {}", service.connections, callers.join(", ")),
    }
}

/// `tarnet expose add`.
async fn add(session: &Session, add: &ExposeAdd) -> Result<(), CliError> {
    let text = text(add, session.identity.as_deref())?;
    let request = api::ServiceRequest { name: add.name.clone(), text: text.clone() };
    let place: api::ServicePlace = session.client.call(Method::POST, "/v1/services", &request).await?;
    let file = PathBuf::from(place.file);
    if !add.replace && file.exists() {
        let error = format!("there is a service '{}' in {}", add.name, file.display());
        return Err(CliError::Refused(error, "--replace writes it anew; `tarnet expose rm` removes it".into()));
    }
    write(&file, &text, add.replace).map_err(|error| refused(&file, "written", &error))?;
    session.client.call::<api::Reloaded>(Method::POST, "/v1/reload", &api::Done {}).await?;
    let services: Vec<api::Service> = session.client.get("/v1/services").await?;
    let service = services.into_iter().find(|service| service.name == add.name);
    let service = service.ok_or_else(|| CliError::Failed(format!("{} was not read", file.display())))?;
    show(session.json, &service, |service| {
        println!("{}: {} ({})", service.name, service.state, service.file);
    })
}

/// `tarnet expose rm`.
async fn remove(session: &Session, name: &str) -> Result<(), CliError> {
    let services: Vec<api::Service> = session.client.get("/v1/services").await?;
    let service = services.into_iter().find(|service| service.name == name);
    let service = service.ok_or_else(|| CliError::NotFound(format!("there is no service '{name}'")))?;
    let file = PathBuf::from(&service.file);
    std::fs::remove_file(&file).map_err(|error| refused(&file, "removed", &error))?;
    session.client.call::<api::Reloaded>(Method::POST, "/v1/reload", &api::Done {}).await?;
    show(session.json, &api::Done {}, |_| println!("{name}: removed"))
}

/// The file's text. Only what was said is written, so that a default stays one.
fn text(add: &ExposeAdd, identity: Option<&str>) -> Result<String, CliError> {
    let mut file = toml::Table::new();
    let mut set = |key: &str, value: toml::Value| file.insert(key.into(), value);
    set("local", add.local.as_str().into());
    if add.protocol != "tcp" {
        set("protocol", add.protocol.as_str().into());
    }
    let local_port = add.local.rsplit_once(':').map(|(_, port)| port);
    let number = |text: &str| text.parse::<u16>().ok().map(i64::from);
    match (&add.port, local_port.and_then(number)) {
        (Some(port), _) => {
            set("port", number(port).map_or_else(|| port.as_str().into(), toml::Value::from));
        }
        (None, Some(port)) => {
            set("port", port.into());
        }
        (None, None) => return Err(CliError::Usage("a Unix socket has no port: say --port".into())),
    }
    if let Some(identity) = identity {
        set("identity", identity.into());
    }
    if add.unlisted {
        set("publish", false.into());
    }
    if !add.apex {
        set("subdomain", add.label.as_deref().unwrap_or(&add.name).into());
    }
    if !add.allow.is_empty() {
        set("allow", add.allow.clone().into());
    }
    if let Some(most) = add.max_connections {
        set("max_connections", i64::from(most).into());
    }
    if add.proxy_protocol {
        set("proxy_protocol", true.into());
    }
    Ok(file.to_string())
}

/// Writes the file whole or not at all; the daemon reads no hidden file. It exists afterwards even if the power
/// fails, as its service may be known to others by then.
fn write(file: &Path, text: &str, replace: bool) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let fresh = folder.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&fresh)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        // A link fails where another has made the file meanwhile.
        if replace { std::fs::rename(&fresh, file) } else { std::fs::hard_link(&fresh, file) }
    })();
    let _ = std::fs::remove_file(&fresh);
    written
}

/// A file that could not be written or removed, and what to do.
fn refused(file: &Path, what: &str, error: &std::io::Error) -> CliError {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => "run it as root, or as whoever owns the folder".into(),
        ErrorKind::AlreadyExists => "somebody has made it just now; --replace writes it anew".into(),
        _ => String::new(),
    };
    CliError::Refused(format!("{} could not be {what}: {error}", file.display()), hint)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn text_of(line: &str) -> String {
        let args = Args::parse_from(format!("tarnet expose add {line}").split_whitespace());
        let Command::Expose { command: Expose::Add(add) } = args.command else { panic!("{line}") };
        text(&add, args.identity.as_deref()).unwrap()
    }

    #[test]
    fn a_file_says_what_was_said_and_no_more() {
        assert_eq!(
            text_of("blog 127.0.0.1:4001 --port 80"),
            "local = \"127.0.0.1:4001\"\nport = 80\nsubdomain = \"blog\"\n"
        );
        assert_eq!(
            text_of("git [::1]:22 --identity alice --apex --unlisted --allow bob --allow eve.bob --max-connections 9"),
            "allow = [\"bob\", \"eve.bob\"]\nidentity = \"alice\"\nlocal = \"[::1]:22\"\nmax_connections = 9\nport = 22\npublish = false\n"
        );
        assert_eq!(
            text_of("dns 10.0.0.1:53 --protocol udp --label ns --port names"),
            "local = \"10.0.0.1:53\"\nport = \"names\"\nprotocol = \"udp\"\nsubdomain = \"ns\"\n"
        );
        // What a shell hands through is one value, whatever stands in it.
        let add = |local: &str| ExposeAdd {
            name: "x".into(),
            local: local.into(),
            protocol: "tcp".into(),
            port: Some("1".into()),
            label: None,
            apex: true,
            unlisted: false,
            allow: Vec::new(),
            max_connections: None,
            proxy_protocol: false,
            replace: false,
        };
        let sly = text(&add("unix:/a\"\nallow = []\n"), None).unwrap();
        assert_eq!(sly.parse::<toml::Table>().unwrap()["local"].as_str(), Some("unix:/a\"\nallow = []\n"));
        assert!(text(&ExposeAdd { port: None, ..add("unix:/a") }, None).is_err());
    }

    #[test]
    fn a_file_that_is_there_is_kept_unless_it_is_to_be_replaced() {
        let folder = std::env::temp_dir().join(format!("tarnet-expose-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let file = folder.join("blog.toml");
        write(&file, "one", false).unwrap();
        assert_eq!(write(&file, "two", false).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
        write(&file, "three", true).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "three");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
