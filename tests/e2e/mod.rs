//! The subjects.

mod lab;

mod agreement;
mod channels;
mod churn;
mod dht;
mod discovery;
mod doctor;
mod errors;
mod fuzz;
mod idle;
mod kills;
mod names;
mod page;
mod secrets;
mod tutorial;
mod users;
mod volume;
