//! In which direction texts are read.

/// Reading direction of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Direction {
    Forward = 0,
    Backward = 1,
}

/// Its number in the keys of random streams.
impl From<Direction> for u32 {
    fn from(direction: Direction) -> Self {
        direction as u32
    }
}
