//! What goes wrong, and is mended again.

use super::Network;

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
        for cable in 0..self.cables.len() {
            if let Some(conn) = self.cables[cable].conn.filter(|_| self.cables[cable].ends.contains(&host)) {
                self.die(conn, host);
            }
        }
    }

    /// Cables, as the pairs of machines that they join.
    #[must_use]
    pub fn cables(&self) -> Vec<[usize; 2]> {
        self.cables.iter().map(|cable| cable.ends).collect()
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
