//! End to end: real daemons and real programs in network namespaces. The laboratory is in
//! `e2e/lab`, each other module is one subject.

#[cfg(test)]
#[path = "e2e/mod.rs"]
mod e2e;
