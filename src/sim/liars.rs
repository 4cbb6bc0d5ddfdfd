//! Machines that are taken over (rows 8 and 11): routers that claim the best they can and drop everything, storers
//! that drop, deny and forge.

use std::time::Duration;

use crate::network::{Lie, Noise};
use crate::options::ppm;
use crate::scenario::Run;

/// How long nothing but refreshes may be advertised once a network with liars has settled.
const QUIET_TIME: Duration = Duration::from_secs(60);

impl Run {
    /// Has some percent of the nodes lie about their distances.
    pub(crate) fn turn_routers(&mut self, percent: f64) {
        for host in self.some(self.network.hosts().len(), ppm(percent), 0) {
            self.network.turn(host, Lie::Router);
        }
    }

    /// Has some percent of the nodes lie as storers, each kind as often as the others.
    pub(crate) fn turn_storers(&mut self, percent: f64) {
        let kinds = [Lie::Silent, Lie::Denier, Lie::Forger].into_iter().cycle();
        for (host, lie) in self.some(self.network.hosts().len(), ppm(percent), 0).into_iter().zip(kinds) {
            self.network.turn(host, lie);
        }
    }

    /// What honest nodes advertise in a minute.
    pub(crate) fn listen(&mut self) -> Noise {
        self.network.watch();
        self.network.run_for(QUIET_TIME);
        let (noise, changes) = self.network.unwatch();
        changes.iter().for_each(|change| self.say("  changed", &format!("{change:?}")));
        noise
    }
}
