//! The subjects.

mod lab;

mod adverts;
mod agreement;
mod channels;
mod churn;
mod continuity;
mod datagrams;
mod demo;
mod dht;
mod discovery;
mod doctor;
mod errors;
mod expose;
mod flood;
mod flows;
mod fuzz;
mod host;
mod hostdns;
mod idle;
mod kills;
mod lines;
mod many;
mod modes;
mod names;
mod networks;
mod outlive;
mod page;
mod queues;
mod raw;
mod secrets;
mod tutorial;
mod users;
mod volume;
mod who;
