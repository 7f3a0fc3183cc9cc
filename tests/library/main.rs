//! The library as a whole, in the process: what no room's own tests can show.

#[path = "../support/alone.rs"]
mod alone;
#[path = "../support/tasks.rs"]
mod tasks;

mod allocations;
mod dry;
mod house;
mod masks;
mod pictures;
mod resume;
mod semantics;
mod supply;
mod trace;
