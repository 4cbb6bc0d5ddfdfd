//! One resolution: where it stands, and what the records of a label mean for it. No look-ups here.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::limits::STEPS_MAX;
use super::{Name, NameError, Record, TimedRecord, ZoneLabel};
use crate::crypto::{DhtKey, ServiceId};
use crate::time::Instant;

/// A resolution, numbered by whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolveId(pub u64);

/// How a name is resolved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResolveOptions {
    /// Past the cache: after a connection failed.
    pub fresh: bool,
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRecord {
    /// The record.
    pub record: Record,
    /// Seconds that it holds.
    pub ttl_s: u32,
}

/// One step of a resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceStep {
    /// The zone asked.
    pub zone: ServiceId,
    /// The label asked for.
    pub label: ZoneLabel,
    /// The DHT key; none when a zone of ours answered.
    pub key: Option<DhtKey>,
    /// What was found, for people.
    pub found: String,
    /// Microseconds that it took.
    pub us: u64,
}

/// What a name resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The zone that held the last records.
    pub zone: ServiceId,
    /// The last records.
    pub records: Vec<AnswerRecord>,
    /// The identity to connect to; none: the name only informs.
    pub service: Option<ServiceId>,
    /// The last label resolved inside the final zone; none for a petname, an apex, a bare ServiceId.
    pub label: Option<ZoneLabel>,
    /// Seconds that the whole chain holds.
    pub ttl_s: u32,
}

/// Why a name did not resolve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The zone says nothing about the label.
    #[error("zone {zone} has no name '{label}'")]
    NoSuchName {
        /// The zone.
        zone: ServiceId,
        /// The label.
        label: ZoneLabel,
    },
    /// The label exists, but no zone stands behind it for what is left of the name.
    #[error("'{label}' is not a zone, so nothing can stand left of it")]
    NotAZone {
        /// The label.
        label: ZoneLabel,
    },
    /// It comes back to where it was, or takes more than 32 steps.
    #[error("the name loops")]
    Loop,
    /// An alias on the way is not a name.
    #[error("an alias on the way is not a name: {0}")]
    BadAlias(NameError),
    /// No answer in time; the look-up goes on behind it.
    #[error("no answer in time")]
    TimedOut,
    /// This node resolves as many names as it can.
    #[error("too many names are being resolved")]
    Busy,
}

/// What a resolution is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// What a name means.
    Name,
    /// Where an identity is served.
    Node,
}

/// What a look-up said about a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// These records; none: nothing.
    Records(Vec<TimedRecord>),
    /// Nobody answered.
    TimedOut,
}

/// What comes after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Look the walk's zone and label up.
    LookUp,
    /// The name means this.
    Name(Result<Answer, ResolveError>),
    /// The identity is served there.
    Node(Result<Bytes, ResolveError>),
}

/// One resolution.
#[derive(Debug)]
pub(super) struct Walk {
    /// What it is for.
    pub goal: Goal,
    /// The zone whose names are petnames.
    acting: ServiceId,
    /// The zone to ask.
    pub zone: ServiceId,
    /// The label to ask for.
    pub label: ZoneLabel,
    /// What stands left of it, leftmost first.
    rest: Vec<ZoneLabel>,
    /// Where it was, to find loops.
    been: BTreeSet<(ServiceId, ZoneLabel, Vec<ZoneLabel>)>,
    /// The last records found, and their zone.
    found: Option<(ServiceId, Vec<AnswerRecord>)>,
    /// Least time to live so far.
    ttl_s: u32,
    /// Only answers cached after this moment count.
    pub fresh_since: Option<Instant>,
    /// When the step began.
    pub step_started: Instant,
    /// When whoever asks is told that no answer came.
    pub deadline: Instant,
    /// The steps so far.
    pub trace: Vec<TraceStep>,
}

impl Walk {
    /// A resolution of a name, about to look its first label up.
    pub fn name(now: Instant, deadline: Instant, acting: ServiceId, name: &Name) -> Self {
        let mut walk = Self {
            goal: Goal::Name,
            acting,
            zone: acting,
            label: ZoneLabel::apex(),
            rest: Vec::new(),
            been: BTreeSet::new(),
            found: None,
            ttl_s: u32::MAX,
            fresh_since: None,
            step_started: now,
            deadline,
            trace: Vec::new(),
        };
        walk.go(name.root().unwrap_or(acting), name.labels().to_vec());
        walk.been.insert((walk.zone, walk.label.clone(), walk.rest.clone()));
        walk
    }

    /// A look-up of where an identity is served.
    pub fn node(now: Instant, deadline: Instant, service: ServiceId) -> Self {
        let walk = Self::name(now, deadline, service, &Name::from(service));
        Self { goal: Goal::Node, label: ZoneLabel::node(), ..walk }
    }

    /// Whether the name has ended in a delegation: the zone's apex may refine it, the zone is the answer otherwise.
    pub fn is_at_end(&self) -> bool {
        self.goal == Goal::Name && self.label.is_apex() && self.rest.is_empty()
    }

    /// Whether it acts as the identity of that zone.
    pub fn is_of(&self, zone: &ServiceId) -> bool {
        self.acting == *zone
    }

    /// Goes to the rightmost of these labels in a zone, or to its apex.
    fn go(&mut self, zone: ServiceId, mut labels: Vec<ZoneLabel>) {
        self.zone = zone;
        self.label = labels.pop().unwrap_or_else(ZoneLabel::apex);
        self.rest = labels;
    }

    /// Goes there, unless it was there before.
    fn step(&mut self, zone: ServiceId, labels: Vec<ZoneLabel>) -> Next {
        self.go(zone, labels);
        let fresh = self.been.insert((self.zone, self.label.clone(), self.rest.clone()));
        if fresh && self.been.len() <= STEPS_MAX { Next::LookUp } else { Next::Name(Err(ResolveError::Loop)) }
    }

    /// Takes what the walk's zone says about its label.
    pub fn take(&mut self, said: Said) -> Next {
        let records = match (said, self.goal) {
            (Said::TimedOut, Goal::Node) => return Next::Node(Err(ResolveError::TimedOut)),
            // An apex that does not answer does not make its zone unreachable.
            (Said::TimedOut, Goal::Name) if self.is_at_end() => Vec::new(),
            (Said::TimedOut, Goal::Name) => return Next::Name(Err(ResolveError::TimedOut)),
            (Said::Records(records), _) => records,
        };
        match self.goal {
            Goal::Node => Next::Node(self.take_node(records)),
            Goal::Name => self.take_records(records),
        }
    }

    /// The descriptor among the records of `@node`.
    fn take_node(&self, records: Vec<TimedRecord>) -> Result<Bytes, ResolveError> {
        let node = records.into_iter().find_map(|timed| match timed.record {
            Record::Node(bytes) => Some(bytes),
            Record::Identity(_) | Record::Zone(_) | Record::Alias(_) | Record::Text(_) | Record::Content(_) => None,
        });
        node.ok_or_else(|| self.no_such_name())
    }

    /// What the records of a label mean: an identity ends, a zone delegates, an alias restarts, the rest informs.
    fn take_records(&mut self, records: Vec<TimedRecord>) -> Next {
        if records.is_empty() {
            return if self.is_at_end() { self.end_at_zone() } else { Next::Name(Err(self.no_such_name())) };
        }
        self.ttl_s = records.iter().map(|timed| timed.ttl_s).fold(self.ttl_s, u32::min);
        let of = |record: &TimedRecord| AnswerRecord { record: record.record.clone(), ttl_s: record.ttl_s };
        self.found = Some((self.zone, records.iter().map(of).collect()));
        let (mut identity, mut zone, mut alias) = (None, None, None);
        for timed in records {
            match timed.record {
                Record::Identity(id) => identity = identity.or(Some(id)),
                Record::Zone(id) => zone = zone.or(Some(id)),
                Record::Alias(name) => alias = alias.or(Some(name)),
                Record::Text(_) | Record::Content(_) | Record::Node(_) => {}
            }
        }
        if let (Some(service), true) = (identity, self.rest.is_empty()) {
            return self.end(Some(service));
        }
        if let Some(zone) = zone {
            let rest = std::mem::take(&mut self.rest);
            return self.step(zone, rest);
        }
        if let Some(alias) = alias {
            return self.restart(&alias);
        }
        if !self.rest.is_empty() {
            return Next::Name(Err(ResolveError::NotAZone { label: self.label.clone() }));
        }
        if self.is_at_end() { self.end_at_zone() } else { self.end(None) }
    }

    /// Goes on with an alias: absolute if it ends in a ServiceId, else in the zone that holds it.
    fn restart(&mut self, alias: &str) -> Next {
        let alias = match Name::parse(alias, "") {
            Ok(alias) => alias,
            Err(error) => return Next::Name(Err(ResolveError::BadAlias(error))),
        };
        let mut labels = std::mem::take(&mut self.rest);
        labels.extend_from_slice(alias.labels());
        self.step(alias.root().unwrap_or(self.zone), labels)
    }

    /// The name means the zone's own identity.
    fn end_at_zone(&mut self) -> Next {
        self.end(Some(self.zone))
    }

    /// The name ends here.
    fn end(&mut self, service: Option<ServiceId>) -> Next {
        let petname = self.zone == self.acting && service != Some(self.zone);
        let label = if petname || self.label.is_apex() { None } else { Some(self.label.clone()) };
        let itself = || {
            let record = service.map(|id| AnswerRecord { record: Record::Identity(id), ttl_s: ITSELF_TTL_S });
            (self.zone, record.into_iter().collect())
        };
        let (zone, records) = self.found.take().unwrap_or_else(itself);
        let ttl_s = if self.ttl_s == u32::MAX { ITSELF_TTL_S } else { self.ttl_s };
        Next::Name(Ok(Answer { zone, records, service, label, ttl_s }))
    }

    /// The zone says nothing about the label.
    fn no_such_name(&self) -> ResolveError {
        ResolveError::NoSuchName { zone: self.zone, label: self.label.clone() }
    }
}

/// How long an answer holds that rests on no record, seconds: a ServiceId always means itself, its apex may change.
const ITSELF_TTL_S: u32 = 60;
