//! Hello blocks: where a node is and how it is reached, for whoever knows its PeerId. The block's signer is a
//! pseudonym; inside, the node itself signs, so a storage node learns nothing and nobody else can write one.
//!
//! ```text
//! node key scheme 1, public key | flags 1 | addresses 1 + n * (2 + text) | descriptor 2 + n | signature
//! ```

use bytes::{BufMut, Bytes};

use super::limits::{HELLO_ADDRESS_LEN, HELLO_ADDRESSES, HELLO_DESCRIPTOR_LEN};
use crate::crypto::{Context, DhtKey, PeerId, PublicKey, Purpose, Scheme, SigningKey, derive, derive_into};
use crate::time::UnixTime;
use crate::wire::block::{Block, Header, Invalid, Kind, open, seal};
use crate::wire::{Error, Reader, put_vec16};

/// Flag: relays circuits for others.
pub const HELLO_RELAY: u8 = 1;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The node.
    pub peer: PeerId,
    /// Its key: the PeerId is its hash.
    pub node: PublicKey,
    /// [`HELLO_RELAY`]; unknown bits are kept.
    pub flags: u8,
    /// Transport URIs, at most 8 of at most 256 bytes.
    pub addresses: Vec<String>,
    /// The node's session descriptor, at most 4 KiB; opaque here.
    pub descriptor: Bytes,
    /// Which of its Hellos it is.
    pub sequence: u64,
    /// When it ends.
    pub expiry: UnixTime,
}

/// Where a node's Hello is stored.
#[must_use]
pub fn hello_key(peer: &PeerId) -> DhtKey {
    let mut key = [0; 64];
    derive_into(Context::HelloKey, &[&peer.0], &mut key);
    DhtKey(key)
}

/// The key that signs a node's Hello blocks: its own secret, of no other use.
#[must_use]
pub fn hello_signer(node: &SigningKey) -> SigningKey {
    SigningKey::from_seed(&node.derive_secret(Context::HelloSigner, &[]))
}

/// Seals and signs a Hello; its `peer` and `node` are those of the signing key.
///
/// # Errors
/// [`Invalid::Rules`]: too many or too long addresses, or a descriptor over 4 KiB.
pub fn seal_hello(node: &SigningKey, hello: &Hello) -> Result<Block, Invalid> {
    let long = hello.addresses.iter().any(|address| address.len() > HELLO_ADDRESS_LEN);
    if long || hello.addresses.len() > HELLO_ADDRESSES || hello.descriptor.len() > HELLO_DESCRIPTOR_LEN {
        return Err(Invalid::Rules("hello with too many or too long fields"));
    }
    let (public, peer, signer) = (node.public(), node.public().peer_id(), hello_signer(node));
    let key = hello_key(&peer);
    let (sequence, expiry) = (hello.sequence, hello.expiry);
    let header = Header { kind: Kind::Hello, key: &key, signer: signer.public(), sequence, expiry };
    let mut body = vec![public.scheme().code()];
    body.put_slice(&public.to_bytes());
    body.put_u8(hello.flags);
    body.put_u8(u8::try_from(hello.addresses.len()).unwrap_or(u8::MAX));
    hello.addresses.iter().for_each(|address| put_vec16(&mut body, address.as_bytes()));
    put_vec16(&mut body, &hello.descriptor);
    let signature =
        sign_fields(&signer.public().to_bytes(), sequence, expiry, &body, |fields| node.sign(Purpose::Hello, fields));
    body.put_slice(&signature);
    let ciphertext = seal(&encryption_key(&peer), &header, &body)?;
    Block::create(Kind::Hello, key, &signer, sequence, expiry, ciphertext)
}

/// The Hello of a node in a verified block; `None` when it is not that node's.
#[must_use]
pub fn open_hello(peer: &PeerId, block: &Block) -> Option<Hello> {
    if block.kind != Kind::Hello || block.key != hello_key(peer) {
        return None;
    }
    let plaintext = open(&encryption_key(peer), block)?;
    let (hello, signature) = decode(&plaintext, peer, block).ok()?;
    let body = &plaintext[..plaintext.len() - signature.len()];
    let signer = block.signer.to_bytes();
    let valid = sign_fields(&signer, block.sequence, block.expiry, body, |fields| {
        hello.node.verify(Purpose::Hello, fields, signature)
    });
    (valid.is_ok() && hello.node.peer_id() == *peer).then_some(hello)
}

/// The key that seals a node's Hello.
fn encryption_key(peer: &PeerId) -> [u8; 32] {
    derive(Context::HelloEncryption, &[&peer.0])
}

/// Signs or verifies: the pseudonym, sequence, expiry and body.
fn sign_fields<T>(signer: &[u8], sequence: u64, expiry: UnixTime, body: &[u8], with: impl FnOnce(&[&[u8]]) -> T) -> T {
    with(&[signer, &sequence.to_le_bytes(), &expiry.0.to_le_bytes(), body])
}

/// Reads a plaintext: the Hello, and its signature.
fn decode<'a>(plaintext: &'a [u8], peer: &PeerId, block: &Block) -> Result<(Hello, &'a [u8]), Error> {
    let mut reader = Reader::new(plaintext);
    let scheme = Scheme::from_code(reader.u8()?).ok_or(Error::Invalid("signature scheme"))?;
    let node =
        PublicKey::from_bytes(scheme, reader.take(scheme.public_len())?).map_err(|_| Error::Invalid("node key"))?;
    let (flags, count) = (reader.u8()?, usize::from(reader.u8()?));
    if count > HELLO_ADDRESSES {
        return Err(Error::Invalid("too many addresses"));
    }
    let addresses = (0..count).map(|_| address(reader.vec16()?)).collect::<Result<_, _>>()?;
    let descriptor = reader.vec16()?;
    if descriptor.len() > HELLO_DESCRIPTOR_LEN {
        return Err(Error::Invalid("descriptor over 4 KiB"));
    }
    let signature = reader.take(scheme.signature_len())?;
    reader.finish()?;
    let (descriptor, sequence, expiry) = (Bytes::copy_from_slice(descriptor), block.sequence, block.expiry);
    Ok((Hello { peer: *peer, node, flags, addresses, descriptor, sequence, expiry }, signature))
}

/// One address.
fn address(bytes: &[u8]) -> Result<String, Error> {
    if bytes.len() > HELLO_ADDRESS_LEN {
        return Err(Error::Invalid("address over 256 bytes"));
    }
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Error::Invalid("address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn hello(node: &SigningKey) -> Hello {
        Hello {
            peer: node.public().peer_id(),
            node: node.public().clone(),
            flags: HELLO_RELAY,
            addresses: vec!["tcp://192.0.2.1:7".into(), "wss://example.org/x".into()],
            descriptor: Bytes::from_static(b"keys"),
            sequence: 4,
            expiry: UnixTime(1000),
        }
    }

    #[test]
    fn hellos_come_back_to_who_knows_the_peer() {
        for scheme in [Scheme::Ed25519, Scheme::FalconEd25519] {
            let node = SigningKey::generate(scheme, &mut Rng::from_seed([1; 32]));
            let hello = hello(&node);
            let block = seal_hello(&node, &hello).unwrap();
            assert_eq!(block.verify(UnixTime(5)), Ok(()));
            assert_ne!(block.signer, hello.node);
            assert_eq!(open_hello(&hello.peer, &block), Some(hello.clone()));
            assert_eq!(open_hello(&PeerId([0; 32]), &block), None);
        }
    }

    #[test]
    fn a_hello_that_the_node_did_not_sign_is_not_taken() {
        let node = SigningKey::from_seed(&[1; 32]);
        let honest = seal_hello(&node, &hello(&node)).unwrap();
        let (peer, mallory) = (node.public().peer_id(), SigningKey::from_seed(&[2; 32]));
        let body = open(&encryption_key(&peer), &honest).unwrap();
        let header = Header { signer: mallory.public(), ..honest.header() };
        let ciphertext = seal(&encryption_key(&peer), &header, &body).unwrap();
        let forged = Block::create(Kind::Hello, honest.key, &mallory, 4, honest.expiry, ciphertext).unwrap();
        assert_eq!(forged.verify(UnixTime(5)), Ok(()));
        assert_eq!(open_hello(&peer, &forged), None);
        for at in 0..body.len() {
            let mut bad = body.clone();
            bad[at] ^= 4;
            let signer = hello_signer(&node);
            let ciphertext = seal(&encryption_key(&peer), &honest.header(), &bad).unwrap();
            let block = Block::create(Kind::Hello, honest.key, &signer, 4, honest.expiry, ciphertext).unwrap();
            assert_eq!(open_hello(&peer, &block), None, "byte {at}");
        }
    }

    #[test]
    fn fields_have_bounds() {
        let node = SigningKey::from_seed(&[1; 32]);
        let many = Hello { addresses: vec![String::new(); 9], ..hello(&node) };
        assert!(seal_hello(&node, &many).is_err());
        let long = Hello { descriptor: vec![0; 4097].into(), ..hello(&node) };
        assert!(seal_hello(&node, &long).is_err());
    }
}
