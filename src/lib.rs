//! ULMFiT (Howard & Ruder 2018) on a numerical engine of its own.
//!
//! The floors, ground first (a room imports only from rooms below it; `tests/library/house.rs` checks that): [`error`] · [`random`],
//! [`trace`], [`files`], [`temporary`] ·
//! [`device`] · `tensor` · `autodiff` · `ops` · `nn` · `optim` · `check` · `text` · [`linear`] · [`models`] · [`answer`] · `train` · `report`, [`mod@bench`] · `cli`.
//! See `DESIGN.md` for why, and `docs/SPEC.md` for what is computed.

pub mod answer;
pub mod autodiff;
pub mod bench;
pub mod check;
pub mod cli;
pub mod device;
pub mod error;
pub mod fetch;
pub mod files;
pub mod linear;
pub mod models;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod random;
pub mod report;
pub mod serve;
pub mod temporary;
pub mod tensor;
pub mod text;
pub mod trace;
pub mod train;
