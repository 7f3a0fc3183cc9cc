//! Prediction and evaluation with one classifier or an ensemble (docs/SPEC.md §4.6: class probabilities are averaged).

use std::path::PathBuf;
use std::sync::Arc;

use super::classifier_task::{evaluation_batches, measure, predict};
use super::driver::Measured;
use super::model_dir::Loaded;
use crate::autodiff::Graph;
use crate::error::{Error, Result};
use crate::nn::Classifier;
use crate::text::{BuildOptions, Document, Labels, Source, StoreWriter, TokenStore, Tokenizer, write_store};

/// One classifier, or several whose probabilities are averaged.
pub struct Ensemble {
    models: Vec<Loaded<Classifier>>,
    graph: Graph,
}

/// What an evaluation gives.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub measured: Measured,
    /// One row of class probabilities for each document.
    pub probabilities: Vec<Vec<f64>>,
    /// Class of each document, as an index into the labels.
    pub labels: Vec<u32>,
    /// Documents that were left out: without text, without a label.
    pub skipped_empty: u64,
    pub skipped_unlabelled: u64,
}

/// Documents of a batch in evaluation and prediction. Results do not depend on it.
const BATCH: usize = 64;

impl Ensemble {
    /// On the device of the graph and in its precision. The models must have the same classes in the same order.
    pub fn new(models: Vec<Loaded<Classifier>>, mut graph: Graph) -> Result<Self> {
        for model in &models[1..] {
            if model.config.labels != models[0].config.labels {
                return Err(Error::data(format!(
                    "--ensemble: the two models have other classes: {} and {}",
                    models[0].config.labels.join(", "),
                    model.config.labels.join(", ")
                )));
            }
        }
        let on_device = |model: Loaded<Classifier>| -> Result<_> {
            Ok(Loaded { parameters: model.parameters.to_device(graph.device())?, ..model })
        };
        let models = models.into_iter().map(on_device).collect::<Result<_>>()?;
        graph.promise_constant_parameters();
        Ok(Ensemble { models, graph })
    }

    /// Names of the classes, in the order of the probabilities.
    pub fn labels(&self) -> &[String] {
        &self.models[0].config.labels
    }

    /// Class probabilities of texts, in their order.
    pub fn predict(&mut self, texts: &[Document]) -> Result<Vec<Vec<f64>>> {
        let directory = TemporaryDirectory::new()?;
        self.averaged(|model, k| {
            let tokenizer = Tokenizer::new(model.vocabulary.tokenizer().clone())?;
            let mut writer = StoreWriter::create(&directory.0.join(format!("{k}.tok")), &model.vocabulary)?;
            let mut scratch = crate::text::Scratch::default();
            for text in texts {
                let mut ids = Vec::new();
                tokenizer.tokenize(text, &mut scratch, &mut |token| ids.push(model.vocabulary.id(token)));
                writer.push(&ids, None, 0, text.text.len())?;
            }
            writer.finish(&[], &[])
        })
        .map(|(probabilities, _)| probabilities)
    }

    /// Error, confusion and probabilities on labelled documents.
    pub fn evaluate(&mut self, source: &Source) -> Result<Outcome> {
        let directory = TemporaryDirectory::new()?;
        let options =
            BuildOptions { labels: Labels::Known(self.labels().to_vec()), skip_empty: true, skip_unlabelled: true };
        let classes = self.labels().len();
        let (mut skipped_empty, mut skipped_unlabelled) = (0, 0);
        let (probabilities, labels) = self.averaged(|model, k| {
            let tokenizer = Tokenizer::new(model.vocabulary.tokenizer().clone())?;
            let path = directory.0.join(format!("{k}.tok"));
            let sources = std::slice::from_ref(source);
            let (store, report) =
                write_store(sources, &tokenizer, &model.vocabulary, &options, &path, &mut |_| Ok(()))?;
            (skipped_empty, skipped_unlabelled) = (report.skipped_empty, report.skipped_unlabelled);
            Ok(store)
        })?;
        let measured = measure(&probabilities, &labels, classes);
        Ok(Outcome { measured, probabilities, labels, skipped_empty, skipped_unlabelled })
    }

    /// Probabilities averaged over the models, and the labels of the documents.
    fn averaged(
        &mut self,
        mut store: impl FnMut(&Loaded<Classifier>, usize) -> Result<TokenStore>,
    ) -> Result<(Vec<Vec<f64>>, Vec<u32>)> {
        let mut total: Vec<Vec<f64>> = Vec::new();
        let mut labels = Vec::new();
        let share = 1.0 / self.models.len() as f64;
        for (k, model) in self.models.iter().enumerate() {
            let store = Arc::new(store(model, k)?);
            let direction = model.config.direction;
            let (mut batches, mut documents) = evaluation_batches(store.clone(), None, BATCH, direction)?;
            let found = predict(&model.network, &mut self.graph, &model.parameters, &mut batches, &mut documents)?;
            if k == 0 {
                let label = |&d: &u32| store.label(d as usize).unwrap_or(u32::MAX);
                labels = found.documents.iter().map(label).collect();
                total = found.probabilities.iter().map(|p| vec![0.0; p.len()]).collect();
            }
            for (sum, p) in total.iter_mut().zip(&found.probabilities) {
                sum.iter_mut().zip(p).for_each(|(sum, p)| *sum += share * p);
            }
        }
        Ok((total, labels))
    }
}

/// A directory for token files that is removed again.
pub struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    pub fn new() -> Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ulmfit-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).map_err(|e| Error::io(&path, "create", &e))?;
        Ok(TemporaryDirectory(path))
    }

    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
