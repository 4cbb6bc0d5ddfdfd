//! The subjects.

mod lab;

mod page;
