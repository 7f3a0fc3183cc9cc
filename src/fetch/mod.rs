//! Files from published addresses, for `ulmfit get`: the only room that knows a network. Nothing
//! but that command calls it (`tests/library/house.rs`).

mod client;
mod table;
mod transfer;

pub use client::Client;
pub use table::{ENTRIES, Entry, File, find};
pub use transfer::{Fetched, Progress, fetch};
