//! `tarnet identity`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use bytes::Bytes;
use tarnet_api::{self as api, Method, segment};

use crate::args::{Identity, Privacy, Scheme};
use crate::commands::{Session, done};
use crate::output::{CliError, json, show, table};

/// Runs the command.
pub async fn run(session: &Session, command: Identity) -> Result<(), CliError> {
    match command {
        Identity::Create { name, scheme, privacy, intro_points, outbound_hops } => {
            let request = api::IdentityRequest {
                name,
                scheme: Some(scheme_name(scheme).into()),
                privacy: Some(privacy_name(privacy).into()),
                intro_points,
                outbound_hops,
            };
            let identity = session.client.call(Method::POST, "/v1/identities", &request).await?;
            show(session.json, &identity, |identity: &api::Identity| {
                println!("Created identity '{}': {}", identity.name, identity.service_id);
                print_settings(identity);
            })
        }
        Identity::List => list(session).await,
        Identity::Show { name } => {
            let identity = session.client.get(&path(&name)).await?;
            show(session.json, &identity, |identity: &api::Identity| {
                println!("Identity '{}': {}", identity.name, identity.service_id);
                print_settings(identity);
            })
        }
        Identity::Update { name, privacy, intro_points, outbound_hops } => {
            let privacy = privacy.map(|privacy| privacy_name(privacy).to_owned());
            let request =
                api::IdentityRequest { name: name.clone(), scheme: None, privacy, intro_points, outbound_hops };
            let identity = session.client.call(Method::PUT, &path(&name), &request).await?;
            show(session.json, &identity, |identity: &api::Identity| {
                println!("Updated identity '{}':", identity.name);
                print_settings(identity);
            })
        }
        Identity::Delete { name } => done(session, Method::DELETE, &path(&name), &api::Done {}).await,
        Identity::Export { name, file } => export(session, &name, &file).await,
        Identity::Import { name, file } => {
            let key = std::fs::read(&file).map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))?;
            let body = session.client.raw(Method::POST, &format!("{}/key", path(&name)), key.into()).await?;
            let identity: api::Identity =
                serde_json::from_slice(&body).map_err(|error| CliError::Failed(error.to_string()))?;
            show(session.json, &identity, |identity| {
                println!("Imported identity '{}': {}", identity.name, identity.service_id);
            })
        }
    }
}

/// An identity's place on the control socket.
fn path(name: &str) -> String {
    format!("/v1/identities/{}", segment(name))
}

/// All identities.
async fn list(session: &Session) -> Result<(), CliError> {
    let identities: Vec<api::Identity> = session.client.get("/v1/identities").await?;
    show(session.json, &identities, |identities| {
        let rows: Vec<_> = identities
            .iter()
            .map(|identity| {
                vec![
                    identity.name.clone(),
                    identity.service_id.clone(),
                    identity.scheme.clone(),
                    identity.privacy.clone(),
                ]
            })
            .collect();
        table(&["NAME", "SERVICE ID", "SCHEME", "PRIVACY"], &rows);
    })
}

/// The lines that `create`, `show` and `update` share.
fn print_settings(identity: &api::Identity) {
    let mut privacy = identity.privacy.clone();
    if let Some(first) = privacy.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    println!("Scheme: {}", identity.scheme);
    println!("Privacy: {privacy}");
    println!("Outbound hops: {}", identity.outbound_hops);
}

/// Writes the secret key to a new file that only its owner can read.
async fn export(session: &Session, name: &str, file: &std::path::Path) -> Result<(), CliError> {
    let key: Bytes = session.client.raw(Method::GET, &format!("{}/key", path(name)), Bytes::new()).await?;
    let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", file.display()));
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    out.write_all(&key).and_then(|()| out.sync_all()).map_err(failed)?;
    if session.json { json(&api::Done {}) } else { Ok(()) }
}

/// A scheme's name.
const fn scheme_name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Ed25519 => "ed25519",
        Scheme::FalconEd25519 => "falcon_ed25519",
    }
}

/// A privacy level's name.
const fn privacy_name(privacy: Privacy) -> &'static str {
    match privacy {
        Privacy::Public => "public",
        Privacy::Hidden => "hidden",
    }
}
