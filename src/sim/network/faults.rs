//! What goes wrong, and is mended again.

use super::reach::address;
use super::{Host, Network};

impl Network {
    /// Switches a machine on, with what its disk holds.
    pub fn start(&mut self, host: usize) {
        if self.hosts[host].is_alive() {
            return;
        }
        let now = self.now();
        self.hosts[host].start(now);
        self.drain(host);
        self.plan_dials(host);
    }

    /// Ends a machine's process without a word. Its kernel closes its connections.
    pub fn kill(&mut self, host: usize) {
        if !self.hosts[host].is_alive() {
            return;
        }
        self.hosts[host].stop();
        for at in 0..self.hosts[host].cables.len() {
            if let Some(conn) = self.cables[self.hosts[host].cables[at]].conn {
                self.die(conn, host);
            }
        }
    }

    /// Another machine takes the place of one, at the same cables: new keys, an empty disk. It is off.
    pub fn replace(&mut self, host: usize) {
        self.kill(host);
        self.gone.insert(self.hosts[host].peer);
        let Host { traffic, reach, .. } = self.hosts[host];
        let cables = std::mem::take(&mut self.hosts[host].cables);
        let rng = self.rng.fork("replaced");
        self.hosts[host] = Host::new(rng, self.kept, reach, address(host));
        (self.hosts[host].traffic, self.hosts[host].cables) = (traffic, cables);
    }

    /// Stops a machine's process: it says nothing, and what comes waits. Its kernel keeps the connections.
    pub fn freeze(&mut self, host: usize) {
        self.hosts[host].frozen = self.hosts[host].is_alive();
    }

    /// Lets a stopped process go on with what waited.
    pub fn thaw(&mut self, host: usize) {
        if !std::mem::take(&mut self.hosts[host].frozen) {
            return;
        }
        for input in std::mem::take(&mut self.hosts[host].waiting) {
            self.feed(host, input);
        }
        self.plan_wake(host);
    }

    /// Closes the connection over a cable; the dialling end dials again.
    pub fn reset(&mut self, cable: usize) {
        if let Some(conn) = self.cables[cable].conn {
            self.close(conn, 0);
        }
    }

    /// Whether both machines of a cable have the other as their neighbour, over a connection that works.
    #[must_use]
    pub fn is_linked(&self, cable: usize) -> bool {
        let [from, to] = self.cables[cable].ends;
        let has = |host: usize, other: usize| {
            let peer = self.hosts[other].peer;
            self.node(host).is_some_and(|node| node.link_status().any(|link| link.peer == peer))
        };
        let works = self.cables[cable].conn.is_some_and(|conn| !self.conns[conn].broken);
        works && has(from, to) && has(to, from)
    }

    /// Cables of the graph, as the pairs of machines that they join. Links that nodes open come behind them.
    #[must_use]
    pub fn cables(&self) -> Vec<[usize; 2]> {
        self.cables.iter().take_while(|cable| cable.pin.is_none()).map(|cable| cable.ends).collect()
    }

    /// Whether a cable is cut.
    #[must_use]
    pub fn is_cut(&self, cable: usize) -> bool {
        self.cables[cable].cut
    }

    /// Cuts a cable: silence, for both ends.
    pub fn cut(&mut self, cable: usize) {
        self.cables[cable].cut = true;
        if let Some(conn) = self.cables[cable].conn {
            self.conns[conn].broken = true;
        }
    }

    /// Mends a cable. Connections that broke with it stay broken; the next dial succeeds.
    pub fn mend(&mut self, cable: usize) {
        self.cables[cable].cut = false;
    }

    /// Makes every cable lose so many segments of a million.
    pub fn set_loss(&mut self, loss_ppm: u32) {
        for cable in &mut self.cables {
            cable.shape.loss_ppm = loss_ppm;
        }
    }
}
