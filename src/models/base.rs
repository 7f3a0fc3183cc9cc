//! The language model that training starts from: one in the program, or one of the user's.
//!
//! The models in the program are the files `src/models/box/*.ulmfit` ([`super::packed`]);
//! `ulmfit pack` makes them, docs/models.md describes them. An empty file stands for a model that
//! this build does not have.

use std::path::{Path, PathBuf};

use super::{Loaded, load_language_model, packed};
use crate::error::{Error, Result};
use crate::nn::LanguageModel;
use crate::text::Direction;

/// A model in the program: its name and its two directions.
struct Boxed {
    name: &'static str,
    forward: &'static [u8],
    backward: &'static [u8],
}

static BOX: [Boxed; 2] = [
    Boxed {
        name: "english",
        forward: include_bytes!("box/english.ulmfit"),
        backward: include_bytes!("box/english-backward.ulmfit"),
    },
    Boxed {
        name: "tiny",
        forward: include_bytes!("box/tiny.ulmfit"),
        backward: include_bytes!("box/tiny-backward.ulmfit"),
    },
];

impl Boxed {
    fn file(&self, direction: Direction) -> &'static [u8] {
        match direction {
            Direction::Forward => self.forward,
            Direction::Backward => self.backward,
        }
    }
}

/// The model from which training starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Random weights.
    None,
    /// A model in the program, by its name.
    Named(&'static str),
    /// A folder of a language model, a packed file, or a folder with one for each direction:
    /// `pretrain` and `pretrain-backward` (a run's), or `forward` and `backward`.
    Path(PathBuf),
}

impl std::str::FromStr for Base {
    type Err = std::convert::Infallible;

    /// A name counts before a folder of that name, which is `./NAME`.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let named = BOX.iter().find(|model| model.name == text).map(|model| Base::Named(model.name));
        Ok(named.unwrap_or_else(|| if text == "none" { Base::None } else { Base::Path(text.into()) }))
    }
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Base::None => f.write_str("none"),
            Base::Named(name) => f.write_str(name),
            Base::Path(path) => path.display().fmt(f),
        }
    }
}

impl Base {
    /// The model that an English text starts from.
    pub const ENGLISH: Base = Base::Named("english");

    /// Whether there is a model to load in a direction. Of a path it is not asked.
    pub fn is_here(&self, direction: Direction) -> bool {
        match self {
            Base::None => false,
            Base::Named(name) => BOX.iter().any(|model| model.name == *name && !model.file(direction).is_empty()),
            Base::Path(_) => true,
        }
    }

    /// The folder that must not be written into, if it is one.
    pub fn path(&self) -> Option<&Path> {
        if let Base::Path(path) = self { Some(path) } else { None }
    }

    /// Loads the model of a direction; without one, that of a folder whose model has one, and else
    /// the forward one.
    ///
    /// # Errors
    /// This build has no such model; the folder or file holds none, or one of the other direction.
    pub fn load(&self, direction: Option<Direction>) -> Result<Option<Loaded<LanguageModel>>> {
        match self {
            Base::None => Ok(None),
            Base::Named(name) => {
                let direction = direction.unwrap_or(Direction::Forward);
                let file = BOX.iter().find(|model| model.name == *name).map_or(&[][..], |model| model.file(direction));
                if file.is_empty() {
                    let what = if *name == "english" { "English model".to_string() } else { format!("model '{name}'") };
                    let backward = if direction == Direction::Backward { " that reads backward" } else { "" };
                    return Err(Error::usage(format!("--base {name}: this build has no {what}{backward}"))
                        .hint("use --base none, --base tiny, or --base DIR with a language model of your own"));
                }
                packed::read(Path::new(&format!("the model '{name}' in the program")), file).map(Some)
            }
            Base::Path(path) => {
                let of = |direction: Direction| match direction {
                    Direction::Forward => ["pretrain", "forward"],
                    Direction::Backward => ["pretrain-backward", "backward"],
                };
                let within = of(direction.unwrap_or(Direction::Forward));
                let inner = within
                    .map(|name| path.join(name))
                    .into_iter()
                    .find(|inner| super::is_finished(inner).unwrap_or(false));
                let inner = inner.filter(|_| !super::is_finished(path).unwrap_or(false));
                let model = load_language_model(inner.as_deref().unwrap_or(path))?;
                let found = model.config.direction;
                if let Some(wanted) = direction.filter(|&wanted| wanted != found) {
                    let name = |direction| if direction == Direction::Forward { "forward" } else { "backward" };
                    let message = format!("reads {}, but a model that reads {} is needed", name(found), name(wanted));
                    return Err(Error::file(path, message)
                        .hint("give a folder with the folders 'forward' and 'backward', or leave the direction out"));
                }
                Ok(Some(model))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_folders() {
        assert_eq!("english".parse(), Ok(Base::ENGLISH));
        assert_eq!("tiny".parse(), Ok(Base::Named("tiny")));
        assert_eq!("none".parse(), Ok(Base::None));
        assert_eq!("./tiny".parse(), Ok(Base::Path("./tiny".into())));
        assert_eq!(Base::ENGLISH.to_string(), "english");
    }

    /// A model in the program can be loaded; one that is not in it is reported as missing.
    #[test]
    fn every_model_in_the_program_is_whole() {
        for model in &BOX {
            for direction in [Direction::Forward, Direction::Backward] {
                let base = Base::Named(model.name);
                match base.load(Some(direction)) {
                    Ok(loaded) => {
                        assert!(base.is_here(direction));
                        assert_eq!(loaded.unwrap().config.direction, direction);
                    }
                    Err(error) => {
                        assert!(!base.is_here(direction) && model.name != "tiny", "{error}");
                        assert!(error.to_string().contains("this build has no"), "{error}");
                    }
                }
            }
        }
        let bytes: usize = BOX.iter().map(|model| model.forward.len() + model.backward.len()).sum();
        assert!(bytes <= 62_000_000, "the models in the program have {bytes} bytes");
    }
}
