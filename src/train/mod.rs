//! Training: recipes, the one loop, the three stages, checkpoints, models as directories.
//! Events go to an observer; this room prints nothing.

pub mod assemble;
pub mod checkpoint;
pub mod classifier_task;
pub mod driver;
pub mod experiment;
pub mod interrupt;
pub mod lm_task;
pub mod lr_find;
pub mod observer;
pub mod pipeline;
pub mod plan;
pub mod recipe;
mod resolve;
mod room;
pub mod rss;
mod stage;
pub mod stages;
pub mod trial;

pub use stage::Stage;
