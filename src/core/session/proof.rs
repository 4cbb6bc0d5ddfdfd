//! The initiator's proof of the identity that it acts as, sent inside the session to the
//! authenticated responder alone. It signs the session's exporter and whom the session is
//! with, so it proves nothing in any other session, not even to the same responder.

use crate::crypto::{PublicKey, Purpose, ServiceId, SigningKey};
use crate::defence::{self, Defence};
use crate::wire::session_handshake::{Owner, Signed};

/// A proof that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the identity proof does not hold")]
pub(super) struct BadProof;

/// What a proof signs.
fn signed<'a>(exporter: &'a [u8], responder: &'a [u8]) -> [&'a [u8]; 2] {
    if defence::on(Defence::ProofOfSession) { [exporter, responder] } else { [&[], &[]] }
}

/// The proof of `identity` for the session with that exporter and responder.
pub(super) fn prove(identity: &SigningKey, exporter: &[u8; 32], responder: Owner) -> Vec<u8> {
    let public = identity.public();
    let signature = identity.sign(Purpose::SessionIdentity, &signed(exporter, &responder.to_bytes()));
    Signed { scheme: public.scheme(), key: public.to_bytes(), signature }.encode()
}

/// Who proved to be the initiator of the session with that exporter and responder.
///
/// # Errors
/// Not a proof, or not one for this session.
pub(super) fn verify(proof: &[u8], exporter: &[u8; 32], responder: Owner) -> Result<ServiceId, BadProof> {
    let signed = Signed::decode(proof).map_err(|_| BadProof)?;
    let key = PublicKey::from_bytes(signed.scheme, &signed.key).map_err(|_| BadProof)?;
    let responder = responder.to_bytes();
    let fields = self::signed(exporter, &responder);
    key.verify(Purpose::SessionIdentity, &fields, &signed.signature).map_err(|_| BadProof)?;
    Ok(key.service_id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{PeerId, Scheme};
    use crate::rng::Rng;

    #[test]
    fn a_proof_holds_for_its_session_and_responder_only() {
        let mut rng = Rng::from_seed([2; 32]);
        let responder = Owner::Service(ServiceId([5; 32]));
        for scheme in [Scheme::Ed25519, Scheme::FalconEd25519] {
            let identity = SigningKey::generate(scheme, &mut rng);
            let proof = prove(&identity, &[1; 32], responder);
            assert_eq!(verify(&proof, &[1; 32], responder), Ok(identity.public().service_id()));
            assert_eq!(verify(&proof, &[2; 32], responder), Err(BadProof));
            assert_eq!(verify(&proof, &[1; 32], Owner::Service(ServiceId([6; 32]))), Err(BadProof));
            assert_eq!(verify(&proof, &[1; 32], Owner::Peer(PeerId([5; 32]))), Err(BadProof));
            for at in (0..proof.len()).step_by(7) {
                let mut bad = proof.clone();
                bad[at] ^= 1;
                assert_eq!(verify(&bad, &[1; 32], responder), Err(BadProof), "byte {at}");
            }
        }
    }
}
