//! Numbers about the whole: distances in the graph, means, percentiles, memory.

use std::collections::VecDeque;

/// The cables that work, between nodes that live.
pub struct Graph {
    neighbours: Vec<Vec<usize>>,
}

impl Graph {
    /// From its edges.
    pub fn new(nodes: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut neighbours = vec![Vec::new(); nodes];
        for (a, b) in edges {
            neighbours[a].push(b);
            neighbours[b].push(a);
        }
        Self { neighbours }
    }

    /// For each node, the lowest number of any that it is connected with.
    #[must_use]
    pub fn islands(&self) -> Vec<usize> {
        let mut island = vec![usize::MAX; self.neighbours.len()];
        for start in 0..self.neighbours.len() {
            let mut left = if island[start] == usize::MAX { vec![start] } else { Vec::new() };
            while let Some(node) = left.pop() {
                if island[node] == usize::MAX {
                    island[node] = start;
                    left.extend(&self.neighbours[node]);
                }
            }
        }
        island
    }

    /// Edges between a node and every other on the shortest way; `None` where there is no way.
    #[must_use]
    pub fn distances(&self, from: usize) -> Vec<Option<u32>> {
        let mut distances = vec![None; self.neighbours.len()];
        distances[from] = Some(0);
        let mut queue = VecDeque::from([(from, 0)]);
        while let Some((node, distance)) = queue.pop_front() {
            for &next in &self.neighbours[node] {
                if distances[next].is_none() {
                    distances[next] = Some(distance + 1);
                    queue.push_back((next, distance + 1));
                }
            }
        }
        distances
    }
}

/// The mean, 0 of nothing, to three digits.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    round(values.iter().sum::<f64>() / f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX)))
}

/// The value that `percent` of all do not exceed; 0 of nothing.
#[must_use]
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    round(sorted.get(rank).copied().unwrap_or(0.0))
}

/// To three digits after the point, so that reports stay readable.
#[must_use]
pub fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The most memory that this process has had, bytes; 0 where the system does not tell.
#[must_use]
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_on_a_line_with_an_island() {
        let graph = Graph::new(4, [(0, 1), (1, 2)]);
        assert_eq!(graph.distances(0), [Some(0), Some(1), Some(2), None]);
        assert_eq!(graph.islands(), [0, 0, 0, 3]);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((percentile(&values, 99), percentile(&values, 50), percentile(&[], 99)), (99.0, 50.0, 0.0));
        assert_eq!(mean(&values), 50.5);
    }
}
