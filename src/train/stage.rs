//! The stages of the method.

/// A stage; each has random streams of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Stage {
    Pretrain = 1,
    FinetuneLm = 2,
    Classifier = 3,
}

impl Stage {
    pub const ALL: [Stage; 3] = [Stage::Pretrain, Stage::FinetuneLm, Stage::Classifier];

    /// At the head of a progress line, in results and directories.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Pretrain => "pretrain",
            Stage::FinetuneLm => "finetune-lm",
            Stage::Classifier => "classifier",
        }
    }

    /// The command that runs it.
    pub fn command(self) -> &'static str {
        if self == Stage::Classifier { "train-classifier" } else { self.name() }
    }

    /// Section of its rows in a recipe, table in a configuration file, prefix of its flags.
    pub fn section(self) -> &'static str {
        match self {
            Stage::Pretrain => "pretrain",
            Stage::FinetuneLm => "finetune",
            Stage::Classifier => "classifier",
        }
    }
}

/// Its number in the keys of random streams.
impl From<Stage> for u32 {
    fn from(stage: Stage) -> Self {
        stage as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::NO_STAGE;

    #[test]
    fn no_stage_has_the_number_of_what_is_none() {
        assert!(Stage::ALL.into_iter().all(|stage| u32::from(stage) != NO_STAGE));
    }
}
