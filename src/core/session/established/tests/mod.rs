//! Two sessions against each other through a network that loses, delays, repeats, reorders and marks.

#[path = "../../../attacks/channel.rs"]
mod attacks;
mod carriers;
mod channels;
mod fuzz;
mod goodput;
mod hostile;
mod messages;
mod net;
mod several;
