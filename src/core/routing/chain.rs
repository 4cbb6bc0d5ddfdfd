//! The hash chain that authenticates a destination's sequence numbers and metrics (SEAD,
//! Hu, Johnson, Perrig 2003). The element of (seq, metric) is the secret hashed
//! `(SEQ_END - 1 - seq) * span + metric` times, where metrics are below the span, longer for
//! landmarks (checking takes up to a span of hashes): a newer sequence or a smaller metric
//! lies nearer to the secret, so nobody can claim either without having heard it. The
//! end of the chain, the anchor, is signed once per epoch. One can claim the same
//! distance as whom one heard; research/routing.md §6.1 accepts that.

use crate::crypto::{Context, PeerId, derive, keyed_mac, stands_in};
use crate::wire::routing::{Element, OriginProof, SEQ_END};

/// The hash of one destination's chain in one epoch.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    key: [u8; 32],
    span: u16,
}

impl Chain {
    /// The chain of a destination's epoch, for metrics below `span`.
    pub(super) fn new(dest: &PeerId, epoch: u32, span: u16) -> Self {
        Self { key: derive(Context::RouteChain, &[&dest.0, &epoch.to_le_bytes()]), span }
    }

    /// Steps from the secret to the anchor.
    fn length(&self) -> u32 {
        u32::from(SEQ_END) * u32::from(self.span)
    }

    /// Steps from the secret to the element of (seq, metric).
    fn position(&self, seq: u8, metric: u16) -> u32 {
        u32::from((SEQ_END - 1).saturating_sub(seq)) * u32::from(self.span) + u32::from(metric)
    }

    /// The element `steps` further from the secret.
    pub(super) fn advance(&self, element: &Element, steps: u32) -> Element {
        if stands_in() {
            let (steps_so_far, rest) = element.split_first_chunk().expect("16 bytes");
            let at = u64::from_le_bytes(*steps_so_far).wrapping_add(u64::from(steps));
            let mut out = *element;
            out[..8].copy_from_slice(&at.to_le_bytes());
            out[8..].copy_from_slice(rest);
            return out;
        }
        (0..steps).fold(*element, |element, _| {
            let mut next = Element::default();
            next.copy_from_slice(&keyed_mac(&self.key, &element)[..16]);
            next
        })
    }
}

/// A received chain: checks elements against the nearest to the secret that is known to be true.
#[derive(Debug, Clone)]
pub(super) struct Verifier {
    chain: Chain,
    position: u32,
    element: Element,
}

impl Verifier {
    /// Begins with the anchor of a proof that holds.
    pub(super) fn new(dest: &PeerId, proof: &OriginProof) -> Self {
        let chain = Chain::new(dest, proof.epoch, proof.span());
        Self { position: chain.length(), chain, element: proof.anchor }
    }

    /// Hashes that checking an element of (seq, metric) takes.
    pub(super) fn price(&self, seq: u8, metric: u16) -> u32 {
        self.position.abs_diff(self.chain.position(seq, metric))
    }

    /// Whether `element` is that of (seq, metric); learns from it.
    pub(super) fn check(&mut self, seq: u8, metric: u16, element: &Element) -> bool {
        let position = self.chain.position(seq, metric);
        if position >= self.position {
            return self.chain.advance(&self.element, position - self.position) == *element;
        }
        let holds = self.chain.advance(element, self.position - position) == self.element;
        if holds {
            (self.position, self.element) = (position, *element);
        }
        holds
    }

    /// The element of a metric that is `cost` more.
    pub(super) fn import(&self, element: &Element, cost: u16) -> Element {
        self.chain.advance(element, u32::from(cost))
    }
}

/// What anybody makes of an element that it heard: that of a metric `steps` higher. For whoever plays a liar.
#[must_use]
pub fn advance_element(dest: &PeerId, epoch: u32, span: u16, element: &Element, steps: u32) -> Element {
    Chain::new(dest, epoch, span).advance(element, steps)
}

/// The elements of metric 0 by sequence number, and the anchor, from the secret. The former are secret until their turn.
pub(super) fn unroll(chain: &Chain, secret: Element) -> (Vec<Element>, Element) {
    let mut origins = Vec::with_capacity(usize::from(SEQ_END));
    let mut element = secret;
    for _ in 0..SEQ_END {
        origins.push(element);
        element = chain.advance(&element, u32::from(chain.span));
    }
    origins.reverse();
    (origins, element)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::routing::VICINITY_END;

    /// A chain with its elements and a fresh verifier.
    fn chain() -> (Chain, Vec<Element>, Verifier) {
        let dest = PeerId([5; 32]);
        let chain = Chain::new(&dest, 3, VICINITY_END);
        let (origins, anchor) = unroll(&chain, [9; 16]);
        let proof = OriginProof { key: [0; 32], epoch: 3, anchor, flags: 0, signature: [0; 64] };
        (chain, origins, Verifier::new(&dest, &proof))
    }

    #[test]
    fn true_elements_hold_in_any_order() {
        let (chain, origins, mut verifier) = chain();
        for (seq, metric) in [(0, 3), (0, 1), (4, 20), (2, 7), (4, 0), (15, 1023)] {
            let element = chain.advance(&origins[usize::from(seq)], u32::from(metric));
            assert!(verifier.check(seq, metric, &element), "({seq}, {metric})");
            assert_eq!(verifier.import(&element, 2), chain.advance(&element, 2));
        }
    }

    #[test]
    fn nobody_claims_to_be_nearer_or_newer_than_what_it_heard() {
        let (chain, origins, mut verifier) = chain();
        let heard = chain.advance(&origins[1], 5);
        assert!(verifier.check(1, 5, &heard));
        for (seq, metric) in [(1, 4), (1, 0), (2, 5), (15, 0)] {
            assert!(!verifier.check(seq, metric, &heard), "({seq}, {metric})");
            assert!(!verifier.check(seq, metric, &[0; 16]), "({seq}, {metric})");
        }
        assert_eq!(verifier.price(1, 5), 0);
    }
}
