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
//! `DESIGN.md` says why, `docs/SPEC.md` what is computed, `docs/guide` how to use and extend it.
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
//! # The three stages
//!
//! Pretrain, fine-tune, classify: each reads texts, and leaves a model folder that the next one
//! starts from. An [`Observer`](train::observer::Observer) hears what happens; `()` does not
//! listen.
//!
//! ```
//! use ulmfit::answer::panel::{Panel, Voices};
//! use ulmfit::autodiff::Graph;
//! use ulmfit::device::Precision;
//! use ulmfit::models::load_language_model;
//! use ulmfit::tensor::{DType, Device};
//! use ulmfit::text::{Direction, Document, Source};
//! use ulmfit::train::Stage;
//! use ulmfit::train::recipe::{Builder, COMMAND_LINE};
//! use ulmfit::train::stages::{
//!     ClassifierSources, Context, LmSources, train_classifier, train_language_model,
//! };
//!
//! // a corpus, texts of the task, and labels for them
//! let general = (0..40).map(|n| Document::new(format!("the {n} cats sat on the mat ; it was dull or good")));
//! let labelled = |n: usize| {
//!     let (label, word) = [("bad", "dull"), ("good", "good")][n % 2];
//!     let mut document = Document::new(format!("film {n} was {word} , {word} and {word} again"));
//!     document.label = Some(label.into());
//!     document
//! };
//! let corpus = Source::of_texts("corpus", general.collect::<Vec<_>>());
//! let train = Source::of_texts("train", (0..40).map(labelled).collect::<Vec<_>>());
//!
//! // the recipe `tiny`, smaller still
//! let mut builder = Builder::new("tiny")?;
//! for (flag, value) in [("emb-size", "16"), ("hidden-size", "24"), ("batch-size", "4"), ("bptt", "12")] {
//!     builder.flag(None, flag, value, COMMAND_LINE)?;
//! }
//! builder.flag(Some(Stage::Classifier), "epochs", "30", COMMAND_LINE)?;
//! builder.flag(Some(Stage::Classifier), "unfreezing", "full", COMMAND_LINE)?;
//! let mut heard = ();
//! let mut context = Context {
//!     recipe: builder.build()?,
//!     device: Device::Cpu,
//!     precision: Precision::Full,
//!     seed: 42,
//!     direction: Direction::Forward,
//!     memory_limit: None,
//!     resume: false,
//!     checkpoint_minutes: None,
//!     checkpoint_steps: None,
//!     observer: &mut heard,
//! };
//!
//! let folder = ulmfit::temporary::TemporaryFolder::new()?;
//! let [general, tuned, classifier] = ["general", "tuned", "classifier"].map(|name| folder.path().join(name));
//! for place in [&general, &tuned, &classifier] {
//!     std::fs::create_dir_all(place).unwrap();
//! }
//! // 1: general text
//! let texts = LmSources { train: vec![corpus], valid: None };
//! train_language_model(&mut context, Stage::Pretrain, &texts, None, &general)?;
//! // 2: the texts of the task, without their labels
//! let base = load_language_model(&general)?;
//! let texts = LmSources { train: vec![train.clone()], valid: None };
//! train_language_model(&mut context, Stage::FinetuneLm, &texts, Some(&base), &tuned)?;
//! // 3: the labels
//! let base = load_language_model(&tuned)?;
//! let data = ClassifierSources { train, valid: None, test: None, labels: None, fold: None };
//! train_classifier(&mut context, &data, &[&base], &classifier)?;
//!
//! let graph = || Graph::new(Device::Cpu, DType::F32, None);
//! let mut model = Panel::load(&classifier, None, Voices::All, graph)?;
//! let new = Document::new("film 99 was good , good and good again");
//! let answers = model.predict(&Source::of_texts("new", vec![new]))?;
//! assert_eq!(model.labels(), ["bad", "good"]);
//! assert!(answers[0].probabilities[1] > 0.5);
//! # Ok::<(), ulmfit::error::Error>(())
//! ```
//!
//! [`train::pipeline`] does all three with folds and both directions, as `ulmfit run`.
//!
//! # A network of your own
//!
//! An encoder, and a head that is made of operations. Here: does the first token come back later?
//!
//! ```
//! use ulmfit::autodiff::{Graph, Parameters};
//! use ulmfit::nn::{DropRates, EncoderSettings, Noise, QrnnSettings};
//! use ulmfit::ops::concat_pool::{Masking, concat_pool};
//! use ulmfit::ops::linear::linear;
//! use ulmfit::ops::softmax_cross_entropy::softmax_cross_entropy;
//! use ulmfit::optim::{Adam, AdamSettings, Optimiser, StepRates};
//! use ulmfit::random::Key;
//! use ulmfit::tensor::{DType, Device, Tensor};
//!
//! let sizes = QrnnSettings { vocabulary: 6, embedding: 8, hidden: 8, layers: 1, pad: None, zoneout: 0.0 };
//! let mut declared = Parameters::builder();
//! let [embedding, layer, head] = ["embedding", "layer", "head"].map(|name| declared.group(name));
//! let encoder = EncoderSettings::from(sizes).declare(&mut declared, embedding, &[layer]);
//! let w = declared.add("head.weight", &[2, 3 * 8], head);
//! let mut parameters = declared.build(DType::F32)?;
//! encoder.initialise(&parameters, Key::apart(1))?;
//!
//! // time-major: 4 steps of 3 texts, and their classes
//! let tokens = Tensor::from_slice([4, 3], &[1u32, 2, 3, 4, 2, 5, 1, 5, 4, 5, 4, 4])?;
//! let classes = Tensor::from_slice([3], &[1u32, 1, 0])?;
//! let mut adam = Adam::new(&parameters, AdamSettings { beta2: 0.99, eps: 1e-8, decoupled: true })?;
//! let rates = StepRates { lr: &[0.02], momentum: 0.9, weight_decay: &[0.0], gradient_scale: 1.0 };
//! let mut g = Graph::new(Device::Cpu, DType::F32, None);
//! let mut losses = Vec::new();
//! for update in 0..60 {
//!     g.reset();
//!     parameters.clear_gradients();
//!     let noise = Noise::of(Key::apart(2), update, DropRates::default());
//!     let mut state = encoder.zeros(Device::Cpu, 3, DType::F32)?;
//!     let h = encoder.run(&mut g, &parameters, &tokens, &mut state, &noise)?;
//!     let lengths = g.constant(Tensor::from_slice([3], &[4u32; 3])?);
//!     let first = g.constant(Tensor::from_slice([3], &[0u32; 3])?);
//!     let pooled = concat_pool(&mut g, &[h], 0, lengths, first, Masking::Version2)?;
//!     let weight = g.parameter(&parameters, w);
//!     let logits = linear(&mut g, pooled, weight, None)?;
//!     let known = g.constant(classes.clone());
//!     let loss = softmax_cross_entropy(&mut g, logits, known)?;
//!     losses.push(g.tensor(loss).to_f64()[0]);
//!     g.backward(loss, &mut parameters)?;
//!     adam.step(&mut parameters, &rates)?;
//! }
//! assert!(losses[59] < 0.1 * losses[0], "{losses:?}");
//! # Ok::<(), ulmfit::error::Error>(())
//! ```
//!
//! An operation of your own: [`autodiff`]; its gradient, checked: [`check::gradient_of`]. Recipes:
//! [`mod@train::recipe`].
//!
//! # What is stable
//!
//! Versions follow semver, by the policy in `CONTRIBUTING.md`: the command line, its JSON and the
//! files are stable; the library's items are not yet.

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

/// The Rust code of the guide, compiled and run as documentation tests.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../docs/guide/src/method.md")]
    pub struct Method;
    #[doc = include_str!("../docs/guide/src/gradients.md")]
    pub struct Gradients;
    #[doc = include_str!("../docs/guide/src/first-operation.md")]
    pub struct FirstOperation;
}
