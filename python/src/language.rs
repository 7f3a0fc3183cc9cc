//! What a language model says of texts, by the way that `ulmfit score` and `ulmfit generate` go.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use ulmfit::answer::language::{self, Sampling};
use ulmfit::cli::Command;
use ulmfit::error::{Error, Result};
use ulmfit::models::{self, base::Base};

use crate::work::{go_on, off_lock};

/// Tokens, loss, perplexity and bits per byte of a text.
type Score = (u64, Option<f64>, Option<f64>, Option<f64>);

/// A language model.
#[pyclass(frozen)]
pub struct Speaker(Arc<Mutex<language::Speaker>>);

#[pymethods]
impl Speaker {
    /// `model`: a folder or a packed file; or, with `named`, the name of a model in the program.
    /// `flags`: the global flags.
    #[new]
    fn new(py: Python<'_>, model: PathBuf, named: bool, flags: Vec<String>) -> PyResult<Self> {
        let loaded = off_lock(
            py,
            None,
            |_| Ok(()),
            move |_| {
                let (command, global) = crate::command("score", model, flags)?;
                let Command::Score(args) = command else {
                    return Err(Error::usage("the flags are not those of score"));
                };
                let model = if named { boxed(&args.model.to_string_lossy())? } else { None };
                let model = model.map_or_else(|| models::load_language_model(&args.model), Ok)?;
                language::Speaker::new(model, global.graph())
            },
        )?;
        Ok(Speaker(Arc::new(Mutex::new(loaded))))
    }

    /// Of every text by itself.
    #[pyo3(signature = (texts, threads=None))]
    fn score(&self, py: Python<'_>, texts: Vec<String>, threads: Option<usize>) -> PyResult<Vec<Score>> {
        self.ask(py, threads, move |speaker| {
            let score = |text: &String| {
                go_on()?;
                let s = speaker.score(text)?;
                Ok((s.tokens, s.loss, s.perplexity, s.bits_per_byte))
            };
            texts.iter().map(score).collect()
        })
    }

    /// Continues a text.
    #[pyo3(signature = (prompt, length, temperature, top_k, seed, threads=None))]
    #[allow(clippy::too_many_arguments)]
    fn generate(
        &self,
        py: Python<'_>,
        prompt: String,
        length: usize,
        temperature: f64,
        top_k: Option<usize>,
        seed: u64,
        threads: Option<usize>,
    ) -> PyResult<String> {
        self.ask(py, threads, move |speaker| {
            if !(temperature.is_finite() && temperature > 0.0) {
                return Err(Error::usage(format!("temperature {temperature}: it must be above 0")));
            }
            if length == 0 || top_k == Some(0) {
                return Err(Error::usage("length and top_k must be 1 or more"));
            }
            speaker.generate(&prompt, Sampling { length, temperature, top_k, seed })
        })
    }
}

impl Speaker {
    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        threads: Option<usize>,
        question: impl FnOnce(&mut language::Speaker) -> Result<T> + Send + 'static,
    ) -> PyResult<T> {
        let speaker = self.0.clone();
        off_lock(
            py,
            threads,
            |_| Ok(()),
            move |_| {
                let broken = |_| Error::data("an earlier call broke off within this model: load it again");
                question(&mut *speaker.lock().map_err(broken)?)
            },
        )
    }
}

/// A model in the program.
fn boxed(name: &str) -> Result<Option<models::Loaded<ulmfit::nn::LanguageModel>>> {
    let Ok(base) = name.parse::<Base>();
    match base {
        Base::Named(_) => base.load(None),
        Base::None | Base::Path(_) => Err(Error::usage(format!("'{name}' is no model in the program"))
            .hint("english or tiny; LanguageModel.load takes a folder")),
    }
}
