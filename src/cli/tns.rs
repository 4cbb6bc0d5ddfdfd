//! `tarnet tns`.

use std::path::Path;

use tarnet_api::{self as api, Method, segment};

use crate::args::{RecordKind, Tns};
use crate::commands::{Session, done};
use crate::output::{CliError, json, show, table};

/// Runs the command.
pub async fn run(session: &Session, command: Tns) -> Result<(), CliError> {
    match command {
        Tns::Set { name, kind, value, public, ttl, force } => {
            let ttl_s = ttl.map(|ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX));
            let request = api::RecordRequest { kind: kind_name(kind).into(), value, public, ttl_s, force };
            set(session, &name, &request).await
        }
        Tns::Get { name } => get(session, &name).await,
        Tns::Rm { name } => done(session, Method::DELETE, &label_path(session, &name), &api::Done {}).await,
        Tns::List => {
            let entries = entries(session).await?;
            show(session.json, &entries, |entries| print(entries))
        }
        Tns::Export { file } => export(session, &file).await,
        Tns::Import { file } => import(session, &file).await,
        Tns::Clear => {
            for entry in entries(session).await? {
                let _: api::Done =
                    session.client.call(Method::DELETE, &label_path(session, &entry.label), &api::Done {}).await?;
            }
            if session.json { json(&api::Done {}) } else { Ok(()) }
        }
        Tns::Resolve { name, zone, trace } => resolve(session, name, zone, trace).await,
    }
}

/// The acting identity's zone on the control socket.
fn zone_path(session: &Session) -> String {
    format!("/v1/zones/{}", segment(session.acting()))
}

/// A label's place on the control socket.
fn label_path(session: &Session, label: &str) -> String {
    format!("{}/{}", zone_path(session), segment(label))
}

/// Everything in the acting identity's zone.
async fn entries(session: &Session) -> Result<Vec<api::ZoneEntry>, CliError> {
    Ok(session.client.get(&zone_path(session)).await?)
}

/// Sets a record and says how visible it is.
async fn set(session: &Session, label: &str, request: &api::RecordRequest) -> Result<(), CliError> {
    let entry: api::ZoneEntry = session.client.call(Method::PUT, &label_path(session, label), request).await?;
    show(session.json, &entry, |entry| {
        println!("{} [{}]", entry.label, if entry.public { "public" } else { "private" });
    })
}

/// The records of one label.
async fn get(session: &Session, label: &str) -> Result<(), CliError> {
    let mut entries = entries(session).await?;
    entries.retain(|entry| entry.label.eq_ignore_ascii_case(label));
    if entries.is_empty() {
        return Err(CliError::NotFound(format!("the zone has no label '{label}'")));
    }
    show(session.json, &entries, |entries| print(entries))
}

/// Records as text.
fn print(entries: &[api::ZoneEntry]) {
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| {
            let visible = if entry.public { "public" } else { "private" };
            let by = if entry.by_expose { "expose" } else { "" };
            vec![
                entry.label.clone(),
                entry.kind.clone(),
                entry.value.clone(),
                format!("{} s", entry.ttl_s),
                visible.into(),
                by.into(),
            ]
        })
        .collect();
    table(&["LABEL", "TYPE", "VALUE", "TTL", "VISIBLE", "BY"], &rows);
}

/// Writes the zone as JSON.
async fn export(session: &Session, file: &Path) -> Result<(), CliError> {
    let entries = entries(session).await?;
    let text = serde_json::to_string_pretty(&entries).map_err(|error| CliError::Failed(error.to_string()))?;
    std::fs::write(file, text + "\n").map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))?;
    if session.json { json(&api::Done {}) } else { Ok(()) }
}

/// Sets every record of an exported file.
async fn import(session: &Session, file: &Path) -> Result<(), CliError> {
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
    let entries: Vec<api::ZoneEntry> = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    for entry in entries.into_iter().filter(|entry| !entry.by_expose) {
        let request = api::RecordRequest {
            kind: entry.kind,
            value: entry.value,
            public: entry.public,
            ttl_s: Some(entry.ttl_s),
            force: true,
        };
        let _: api::ZoneEntry = session.client.call(Method::PUT, &label_path(session, &entry.label), &request).await?;
    }
    if session.json { json(&api::Done {}) } else { Ok(()) }
}

/// Looks a name up.
async fn resolve(session: &Session, name: String, zone: Option<String>, trace: bool) -> Result<(), CliError> {
    let request = api::ResolveRequest { name, identity: session.identity.clone(), zone, trace };
    let resolution: api::Resolution = session.client.call(Method::POST, "/v1/resolve", &request).await?;
    show(session.json, &resolution, |resolution| {
        for (number, step) in resolution.trace.iter().enumerate() {
            let key = if step.key.is_empty() { "own zone" } else { &step.key };
            println!("{}. {} in {} ({key}): {}, {} us", number + 1, step.label, step.zone, step.found, step.us);
        }
        for record in &resolution.records {
            println!("{} {} {} ({} s, from {})", resolution.name, record.kind, record.value, record.ttl_s, record.zone);
        }
    })
}

/// A type's name.
const fn kind_name(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Identity => "identity",
        RecordKind::Zone => "zone",
        RecordKind::Alias => "alias",
        RecordKind::Text => "text",
        RecordKind::Content => "content",
    }
}
