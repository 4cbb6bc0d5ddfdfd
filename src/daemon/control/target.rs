//! What a user may name as the target of a connection.

use tarnet_core::crypto::{PeerId, ServiceId};

use crate::handle::Target;

/// A PeerId is 64 hex digits, a ServiceId 52 characters of base32; anything else is a name.
#[must_use]
pub fn parse(text: &str) -> Target {
    if let Ok(peer) = text.parse::<PeerId>() {
        return Target::Peer(peer);
    }
    text.parse::<ServiceId>().map_or_else(|_| Target::Name(text.to_owned()), Target::Service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_told_apart() {
        let (peer, service) = (PeerId([7; 32]), ServiceId([9; 32]));
        assert_eq!(parse(&peer.to_string()), Target::Peer(peer));
        assert_eq!(parse(&service.to_string().to_lowercase()), Target::Service(service));
        assert_eq!(parse("blog.alice"), Target::Name("blog.alice".into()));
    }
}
