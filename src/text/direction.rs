//! In which direction texts are read.

/// Reading direction of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Direction {
    Forward = 0,
    Backward = 1,
}

impl Direction {
    /// As on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        }
    }
}

/// Its number in the keys of random streams.
impl From<Direction> for u32 {
    fn from(direction: Direction) -> Self {
        direction as u32
    }
}
