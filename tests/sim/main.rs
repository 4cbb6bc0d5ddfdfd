//! Scenarios of whole networks of real nodes in virtual time. Every failure prints its seed;
//! `TARNET_SIM_SEED` sets it, so that the failure replays.

mod chains;
mod continuity;
mod far;
mod faults;
mod flows;
mod liars;
mod nats;
mod paths;
mod queues;
mod replay;
mod stretch;
mod world;
