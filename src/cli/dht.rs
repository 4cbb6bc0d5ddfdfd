//! `tarnet dht`.

use std::io::Write;

use bytes::Bytes;
use tarnet_api::{self as api, Method, segment};

use crate::args::Dht;
use crate::commands::Session;
use crate::output::{CliError, show};

/// Runs the command.
pub async fn run(session: &Session, command: Dht) -> Result<(), CliError> {
    match command {
        Dht::Put { value, file } => {
            let value = match (value, file) {
                (Some(value), _) => value.into_bytes(),
                (None, Some(file)) => {
                    std::fs::read(&file).map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))?
                }
                (None, None) => return Err(CliError::Usage("give a value or a file".into())),
            };
            let body = session.client.raw(Method::POST, "/v1/dht/content", value.into()).await?;
            let hash: api::Hash = serde_json::from_slice(&body).map_err(|error| CliError::Failed(error.to_string()))?;
            show(session.json, &hash, |hash| println!("{}", hash.hash))
        }
        Dht::Get { hash } => get(session, &hash).await,
        Dht::PutSigned { value, ttl } => {
            let ttl_s = ttl.map(|ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX));
            let request = api::SignedRequest { identity: session.identity.clone(), value, ttl_s };
            let hash: api::Hash = session.client.call(Method::POST, "/v1/dht/signed", &request).await?;
            show(session.json, &hash, |hash| println!("{}", hash.hash))
        }
        Dht::GetSigned { hash } => {
            let values: Vec<api::SignedValue> =
                session.client.get(&format!("/v1/dht/signed/{}", segment(&hash))).await?;
            show(session.json, &values, |values| {
                for value in values {
                    println!("{} {}", value.signer, value.value);
                }
            })
        }
        Dht::Hello { peer } => {
            let hello: api::Hello = session.client.get(&format!("/v1/dht/hello/{}", segment(&peer))).await?;
            show(session.json, &hello, |hello| {
                println!("peer        {}", hello.peer_id);
                println!("transports  {}", hello.transports.join(" "));
                println!("addresses   {}", hello.addresses.join(" "));
                println!("expires     {} (Unix time)", hello.expires_unix);
            })
        }
    }
}

/// Prints a content block as it is, or as a JSON object.
async fn get(session: &Session, hash: &str) -> Result<(), CliError> {
    let value: Bytes =
        session.client.raw(Method::GET, &format!("/v1/dht/content/{}", segment(hash)), Bytes::new()).await?;
    if session.json {
        let value = String::from_utf8_lossy(&value).into_owned();
        return crate::output::json(&api::SignedValue { signer: String::new(), value });
    }
    std::io::stdout().write_all(&value).map_err(|error| CliError::Failed(format!("standard output: {error}")))
}
