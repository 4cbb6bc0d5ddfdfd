//! The circuits that lead to an owner, for whoever asks how far away it is.

use super::{Acting, Session, Sessions};
use crate::session::{CarrierId, Owner};

impl Sessions {
    /// The circuits that carry our session to an owner.
    pub fn carriers_to(&self, acting: Acting, owner: Owner) -> impl Iterator<Item = CarrierId> {
        let session: Option<&Session> = self.by_target.get(&(acting, owner)).and_then(|id| self.sessions.get(id));
        session.into_iter().flat_map(|session| session.carriers.iter().copied())
    }
}
