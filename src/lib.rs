//! ULMFiT (Howard & Ruder 2018) on a numerical engine of its own.
//!
//! A module at the root is a room. Rooms stand on floors, and a room imports rooms of lower floors
//! alone (`tests/library/house.rs` checks it). Ground first:
//!
//! | floor | rooms |
//! |---|---|
//! | errors | [`error`] |
//! | ground | [`random`], [`trace`], [`files`], [`temporary`] |
//! | engine | [`device`], then [`tensor`], [`autodiff`], [`ops`], each on a floor of its own |
//! | networks | [`nn`], [`optim`] |
//! | text | [`text`] |
//! | linear model | [`linear`] |
//! | model folders | [`models`] |
//! | use | [`answer`], [`check`] |
//! | training | [`train`] |
//! | outside | [`report`], [`mod@bench`], [`serve`], [`fetch`] |
//! | command line | [`cli`] |
//!
//! See `DESIGN.md` for why, and `docs/SPEC.md` for what is computed.
//!
//! # Asking a model that `ulmfit run` made
//!
//! ```no_run
//! use ulmfit::answer::panel::{Panel, Voices};
//! use ulmfit::autodiff::Graph;
//! use ulmfit::tensor::{DType, Device};
//! use ulmfit::text::{Document, Source};
//!
//! let graph = || Graph::new(Device::Cpu, DType::F32, None);
//! let mut model = Panel::load("train-model".as_ref(), None, Voices::All, graph)?;
//! let texts = Source::of_texts("mine", vec![Document::new("What is the capital of France?")]);
//! for answer in model.predict(&texts)? {
//!     println!("{:?} {:?}", model.labels(), answer.probabilities);
//! }
//! # Ok::<(), ulmfit::error::Error>(())
//! ```
//!
//! An operation of your own: [`autodiff`]. Recipes: [`mod@train::recipe`].

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
