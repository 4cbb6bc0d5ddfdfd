//! Two networks that become one (row 7): a network is cut in two halves that settle; then one cable joins them again.
//! Phases: `split`, the halves by themselves; `merging`, pairs inside the halves from the moment they are joined;
//! `split-merge`, all pairs and names of the other half once there was time to heal.

use std::time::Duration;

use tarnet_core::node::Event;

use crate::report::{Names, Phase};
use crate::scenario::Run;
use crate::workload::{names, pairs};

/// Machines of each half that publish a name.
const OWNERS: usize = 16;
/// Machines of the other half that ask for it.
const ASKERS: usize = 4;
/// Of all pairs, those that are tried while the halves merge: one in so many.
const MERGING_PART: usize = 4;
/// Time for names to be stored in their half.
const STORE_TIME: Duration = Duration::from_secs(20);
/// Time for the answer to a question; the node's own limit is shorter.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Questions about one name by one machine.
const TRIES_MAX: u32 = 3;

/// A name, and whose.
struct Published {
    owner: usize,
    name: String,
}

/// The halves while they are apart.
struct Halves {
    /// Whether a machine is in the near one.
    near: Vec<bool>,
    /// The cable that will join them.
    cable: Option<usize>,
    names: Vec<Published>,
}

impl Run {
    /// All three phases.
    pub(crate) fn split_merge(&mut self, phases: &mut Vec<Phase>) -> Result<(), String> {
        let (near, between) = self.halve();
        let heal = self.options.heal.replace(self.options.settle);
        phases.push(self.phase("split", |run| {
            between.iter().for_each(|cable| run.network.cut(*cable));
            Ok(())
        })?);
        let mut halves = Halves { cable: self.joint(&near, &between), near, names: Vec::new() };
        self.publish(&mut halves)?;
        let asked = (self.options.pairs / MERGING_PART).max(1);
        self.chosen = Some(pairs::choose(&self.network, asked, &mut self.rng));
        let joined = self.network.now().instant;
        self.options.heal = Some(Duration::ZERO);
        phases.push(self.phase("merging", |run| {
            halves.cable.into_iter().for_each(|cable| run.network.mend(cable));
            Ok(())
        })?);
        let left = heal.unwrap_or(self.options.settle).saturating_sub(self.network.now().instant - joined);
        self.options.heal = Some(left);
        let mut phase = self.phase("split-merge", |_| Ok(()))?;
        phase.names = self.ask(&halves);
        phases.push(phase);
        self.options.heal = heal;
        Ok(())
    }

    /// Which machines are in the half around the first, and the cables between it and the other.
    fn halve(&self) -> (Vec<bool>, Vec<usize>) {
        let hosts = self.network.hosts();
        let start = (0..hosts.len()).find(|&host| hosts[host].is_alive()).unwrap_or(0);
        let distances = self.network.graph().distances(start);
        let mut by_distance: Vec<(u32, usize)> =
            distances.iter().enumerate().filter_map(|(host, distance)| Some(((*distance)?, host))).collect();
        by_distance.sort_unstable();
        by_distance.truncate(by_distance.len() / 2);
        let mut near = vec![false; hosts.len()];
        by_distance.into_iter().for_each(|(_, host)| near[host] = true);
        let cables = self.network.cables();
        let parts = |cable: &usize| !self.network.is_cut(*cable) && near[cables[*cable][0]] != near[cables[*cable][1]];
        let between = (0..cables.len()).filter(parts).collect();
        (near, between)
    }

    /// The cable that joins the most: what was far may have fallen into islands.
    fn joint(&mut self, near: &[bool], between: &[usize]) -> Option<usize> {
        let start = near.iter().position(|near| *near)?;
        between.iter().copied().rev().max_by_key(|cable| self.reached_with(*cable, start).iter().flatten().count())
    }

    /// How far each machine would be from one, were a cable mended.
    fn reached_with(&mut self, cable: usize, start: usize) -> Vec<Option<u32>> {
        self.network.mend(cable);
        let distances = self.network.graph().distances(start);
        self.network.cut(cable);
        distances
    }

    /// Has some machines of each half publish a name, where there is a DHT.
    fn publish(&mut self, halves: &mut Halves) -> Result<(), String> {
        if !self.options.profile.kept().dht {
            return Ok(());
        }
        let start = halves.near.iter().position(|near| *near).unwrap_or(0);
        let Some(cable) = halves.cable else { return Ok(()) };
        let reached = self.reached_with(cable, start);
        for side in [true, false] {
            let members = (0..halves.near.len()).filter(|&host| halves.near[host] == side && reached[host].is_some());
            let members: Vec<usize> = members.collect();
            for &owner in members.iter().step_by(members.len().div_ceil(OWNERS).max(1)) {
                let name = names::publish(&mut self.network, owner, "halves");
                let name = name.map_err(|error| format!("machine {owner} cannot publish a name: {error}"))?;
                halves.names.push(Published { owner, name });
            }
        }
        self.network.run_for(STORE_TIME);
        Ok(())
    }

    /// Has machines of the other half ask for each name.
    fn ask(&mut self, halves: &Halves) -> Option<Names> {
        if halves.names.is_empty() {
            return None;
        }
        let mut names = Names { asked: 0, resolved: 0, first_try: 0 };
        for published in &halves.names {
            let others = |other: &&Published| halves.near[other.owner] != halves.near[published.owner];
            let askers: Vec<usize> = halves.names.iter().filter(others).map(|other| other.owner).collect();
            for _ in 0..ASKERS.min(askers.len()) {
                let pick = self.rng.public_below(u64::try_from(askers.len()).unwrap_or(1));
                let asker = usize::try_from(pick).ok().and_then(|pick| askers.get(pick)).copied()?;
                names.asked += 1;
                let tries = (1..=TRIES_MAX).find(|_| self.resolves(asker, &published.name));
                names.resolved += usize::from(tries.is_some());
                names.first_try += usize::from(tries == Some(1));
            }
        }
        Some(names)
    }

    /// Whether a machine finds what a name stands for.
    fn resolves(&mut self, host: usize, name: &str) -> bool {
        let (want, acting) = (self.network.next_want(), self.network.hosts()[host].service);
        self.network.with_node(host, |node, now| node.resolve(now, want, acting, None, name));
        let answer = names::wait(&mut self.network, want, ANSWER_TIME);
        matches!(answer, Some((_, Event::Resolved { result: Ok(_), .. })))
    }
}
