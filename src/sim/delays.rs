//! How fast the fastest way between two nodes is: what routes by round-trip time are to be
//! measured by, where cables are not alike.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Cables that work, with their one-way delays.
pub struct Delays {
    neighbours: Vec<Vec<(usize, Duration)>>,
}

impl Delays {
    /// From its edges.
    pub fn new(nodes: usize, edges: impl IntoIterator<Item = (usize, usize, Duration)>) -> Self {
        let mut neighbours = vec![Vec::new(); nodes];
        for (a, b, delay) in edges {
            neighbours[a].push((b, delay));
            neighbours[b].push((a, delay));
        }
        Self { neighbours }
    }

    /// One-way delay of the fastest way; `None` where there is no way.
    #[must_use]
    pub fn fastest(&self, from: usize, to: usize) -> Option<Duration> {
        let mut best = vec![Duration::MAX; self.neighbours.len()];
        let mut heap = BinaryHeap::from([Reverse((Duration::ZERO, from))]);
        best[from] = Duration::ZERO;
        while let Some(Reverse((delay, node))) = heap.pop() {
            if node == to {
                return Some(delay);
            }
            if delay > best[node] {
                continue;
            }
            for &(next, more) in &self.neighbours[node] {
                if delay + more < best[next] {
                    best[next] = delay + more;
                    heap.push(Reverse((delay + more, next)));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_way_may_have_more_links() {
        let ms = Duration::from_millis;
        let delays = Delays::new(5, [(0, 1, ms(40)), (0, 2, ms(5)), (2, 3, ms(5)), (3, 1, ms(5))]);
        assert_eq!(delays.fastest(0, 1), Some(ms(15)));
        assert_eq!(delays.fastest(1, 1), Some(ms(0)));
        assert_eq!(delays.fastest(1, 4), None);
    }
}
