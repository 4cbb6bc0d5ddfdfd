//! What the nodes are asked to do, by the calls that the daemon makes.

pub mod content;
pub mod continuity;
pub mod crowd;
pub mod names;
pub mod pairs;
pub mod transfer;
