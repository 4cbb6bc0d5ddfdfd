//! The defences of PROTOCOL.md §9 that a test can switch off, each consulted at the one place
//! where it acts.
//!
//! A release cannot switch any off: there [`on`] is `true`, which the compiler knows. A test
//! switches one off for its thread (`without`) to show that the attack which it stops is real:
//! see `attacks`.

use crate::crypto::Purpose;

/// What stands between an attacker and its aim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defence {
    /// A signature of that purpose is checked.
    Signature(Purpose),
    /// Signed bytes begin with what they are for.
    Purposes,

    /// A link's responder signs the offer that it answers.
    OfferInTranscript,
    /// A peer once seen with the hybrid group is not accepted with less.
    GroupFloor,
    /// Whoever answers a dial must be whom it pinned.
    Pin,
    /// Every frame of a link has its own nonce.
    FrameCounter,
    /// Handshakes per second and source.
    HandshakeRate,
    /// The share of half-open connections that one source may hold.
    HalfOpenShare,
    /// Under many half-open connections, a first message must come again with a cookie.
    HandshakeCookie,
    /// The bound of a link's control queue.
    ControlQueue,
    /// The bound of a link's cell queue.
    CellQueue,
    /// At that bound the longest flow loses.
    LongestFlowLoses,

    /// A route's metric is proven by its destination's hash chain.
    RouteChain,
    /// Only a destination itself is at distance zero.
    MetricZero,
    /// A neighbour's batches are numbered.
    AdvertNumber,
    /// A route is used only if it is feasible: newer than all that were used, or nearer.
    Feasibility,
    /// A probe is answered by neighbours that were asked.
    ProbeAsked,
    /// A routed datagram is answered by the neighbour that it went to.
    AnswerAsked,
    /// What one neighbour may have of a full routing table.
    RouteShare,
    /// What a neighbour may ask per time.
    RequestBudget,

    /// The end of a path proves that it is the one that was meant.
    PathReveal,
    /// A path label is a neighbour's own.
    LabelOfLink,
    /// A set-up passes each hop once.
    SetupOnce,
    /// Set-ups per second and neighbour.
    SetupRate,
    /// The share of paths that one neighbour may bring.
    PathShare,

    /// A first message's keys depend on whose descriptor it was sealed to.
    DescriptorInKeys,
    /// A first message opens one session.
    FirstMessageOnce,
    /// An identity proof signs its session.
    ProofOfSession,
    /// A packet counts once.
    PacketOnce,
    /// Sessions whose initiator was not heard yet are bounded.
    HalfOpenSessions,
    /// What a peer may send on one channel before somebody reads.
    ChannelCredit,

    /// Where and under which key a label is stored depends on its zone.
    KeyedLocations,
    /// Blocks are signed by a pseudonym per label.
    Pseudonyms,
    /// A resolver remembers the highest sequence of a label.
    RememberedSequence,

    /// Answers of the DHT come under random tokens.
    RandomTokens,
    /// A DHT query passes each node once.
    QueryOnce,
    /// The replication that a query may ask for is clamped by every receiver.
    ReplicationClamp,
    /// What the queries of a neighbour may cost per time.
    QueryBudget,
    /// The share of pending queries that one neighbour may hold.
    QueryShare,
    /// The filter of a query cannot keep it from the nearest node.
    AdvisoryFilter,
    /// A full key yields to more work.
    WorkTakesPlace,
    /// A full key yields to nothing but more work.
    WorkKeepsPlace,
    /// The share of a store that one introducing neighbour may fill.
    StoreShare,
}

/// Whether a defence acts: always.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_defence: Defence) -> bool {
    true
}

#[cfg(test)]
thread_local! {
    /// What is switched off for this thread.
    static OFF: std::cell::RefCell<Vec<Defence>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Whether a defence acts: unless this thread's test switched it off.
#[cfg(test)]
pub(crate) fn on(defence: Defence) -> bool {
    OFF.with_borrow(|off| !off.contains(&defence))
}

/// Runs something with a defence switched off, for this thread; on again afterwards, also after a panic.
#[cfg(test)]
pub(crate) fn without<T>(defence: Defence, run: impl FnOnce() -> T) -> T {
    /// Switches the last one on again.
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            OFF.with_borrow_mut(Vec::pop);
        }
    }
    OFF.with_borrow_mut(|off| off.push(defence));
    let _again = Again;
    run()
}

/// Asserts that an attack, which says whether it succeeded, fails, and that this defence is why.
#[cfg(test)]
#[track_caller]
pub(crate) fn stops(defence: Defence, attack: impl Fn() -> bool) {
    assert!(!attack(), "the attack succeeds in spite of {defence:?}");
    assert!(without(defence, attack), "the attack fails even without {defence:?}: another defence or no attack");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defence_is_off_inside_without_only() {
        assert!(on(Defence::Pin));
        let inside = without(Defence::Pin, || {
            (on(Defence::Pin), on(Defence::Purposes), without(Defence::Purposes, || on(Defence::Purposes)))
        });
        assert_eq!(inside, (false, true, false));
        assert!(std::panic::catch_unwind(|| without(Defence::Pin, || panic!("as asked"))).is_err());
        assert!(on(Defence::Pin) && on(Defence::Purposes));
    }
}
