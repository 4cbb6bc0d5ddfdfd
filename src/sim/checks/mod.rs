//! What must hold of the whole network. Each check looks from outside at what nodes report
//! of themselves, and says in words what is wrong.

pub mod bounds;
pub mod loops;
