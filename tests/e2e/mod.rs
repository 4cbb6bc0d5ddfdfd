//! The subjects.

mod lab;

mod agreement;
mod channels;
mod churn;
mod dht;
mod discovery;
mod errors;
mod fuzz;
mod hostdns;
mod idle;
mod kills;
mod names;
mod page;
mod secrets;
mod tutorial;
mod volume;
