//! Prediction with a classifier of the paper's size: the latency of one short text, what limits it,
//! and many texts of different lengths.

use rayon::prelude::*;

use super::clock::{Effort, Stopwatch, recorded, seconds, time};
use super::format::Format;
use super::report::{Row, Work};
use super::session::Bench;
use super::step::Sizes;
use super::verify;
use crate::answer::ensemble::Ensemble;
use crate::autodiff::Parameters;
use crate::device::cpu::isa::{Kernel, dispatch};
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::models::{Architecture, Loaded, ModelConfig};
use crate::nn::{Classifier, DocumentBatch, EncoderSettings, Noise};
use crate::ops::batch_norm::Mode;
use crate::ops::softmax_cross_entropy::softmax;
use crate::random::{Key, Site, Stream};
use crate::tensor::DType;
use crate::text::Direction;
use crate::text::{Document, Source, TokenizerKind, Vocabulary};
use crate::train::Stage;
use crate::train::plan::{PlanOptions, plan};
use crate::train::recipe::Recipe;

/// Words of a short text.
const SHORT: usize = 20;
const CLASSES: usize = 2;

/// Words of IMDb's test reviews, by the share of reviews that have at most so many (`ulmfit data
/// check`).
const REVIEWS: [(f64, f64); 7] =
    [(0.0, 4.0), (0.05, 62.0), (0.25, 126.0), (0.5, 172.0), (0.75, 277.0), (0.95, 582.0), (1.0, 2278.0)];
/// So many of them are predicted. That takes minutes: only where the row is asked for by its name.
const REVIEWED: usize = 1000;

/// Words of each of `n` reviews, in a mixed order.
fn review_lengths(n: usize) -> Vec<usize> {
    let length = |i: usize| {
        let share = (i as f64 + 0.5) / n as f64;
        let upper = REVIEWS.iter().position(|&(s, _)| s >= share).unwrap_or(REVIEWS.len() - 1).max(1);
        let ((s0, w0), (s1, w1)) = (REVIEWS[upper - 1], REVIEWS[upper]);
        // between two of them in proportion: the long tail is thin
        (w0 * (w1 / w0).powf((share - s0) / (s1 - s0))) as usize
    };
    // 383 and n have no factor in common
    (0..n).map(|i| length(i * 383 % n)).collect()
}

pub fn run(bench: &mut Bench) -> Result<()> {
    let sizes = if bench.reduced { Sizes::REDUCED } else { Sizes::PAPER };
    for &format in bench.formats {
        measure(bench, format, sizes, "")?;
        measure(bench, format, sizes.qrnn(), "qrnn_")?;
    }
    Ok(())
}

/// The rows of one encoder; their names begin with `prefix`.
fn measure(bench: &mut Bench, format: Format, sizes: Sizes, prefix: &str) -> Result<()> {
    let named = |name: &str| format!("{prefix}{name}");
    let rows = ["predict_short", "predict_short_reading", "predict_batch", "predict_reviews"];
    if !rows.iter().any(|name| bench.wants(&named(name))) {
        return Ok(());
    }
    let recipe = sizes.recipe()?;
    let (model, f64_model) = (loaded(&recipe, sizes, format.tensors)?, classifier(&recipe, sizes, DType::F64)?);
    for id in f64_model.1.ids() {
        f64_model.1.value(id).set_f64(&model.parameters.value(id).to_f64());
    }
    let vocabulary = model.vocabulary.clone();
    let mut random = Stream::new(Key([7, 9]), Site::CUSTOM[2], 0, 0);
    let mut text = |words: usize| {
        let ids: Vec<u32> = (0..words).map(|_| 3 + random.below(sizes.vocabulary as u32 - 3)).collect();
        ids.iter().filter_map(|&id| vocabulary.word(id)).collect::<Vec<_>>().join(" ")
    };
    let source = |texts: &[Document]| Source::of_texts("bench", texts.to_vec());
    let short = Document::new(text(SHORT));
    let alone = source(std::slice::from_ref(&short));
    let (count, longest) = if bench.reduced || format.is_counted() { (9, 25) } else { (128, 400) };
    let lengths: Vec<usize> = (0..count).map(|i| SHORT + (longest - SHORT) * (i * 37 % count) / count).collect();
    let many: Vec<Document> = lengths.iter().map(|&n| Document::new(text(n))).collect();

    let mut ensemble = Ensemble::new(vec![model], format.graph())?;
    let answer = ensemble.predict(&alone)?.swap_remove(0).probabilities;
    let right = in_f64(Format::F64, &f64_model, &vocabulary, &short)?;
    let naive = format.naive().map(|naive| in_f64(naive, &f64_model, &vocabulary, &short)).transpose()?;
    let tolerance = verify::tolerance(naive.map(|naive| verify::error(&naive, &right)));
    let error = verify::compare("predict: the probabilities of a short text", &answer, &right, tolerance)?;
    drop(f64_model);
    // some of the texts alone: the same bits as among the others
    let of_all = ensemble.predict(&source(&many))?;
    for (i, text) in many.iter().enumerate().step_by(20) {
        if ensemble.predict(&source(std::slice::from_ref(text)))?[0].probabilities != of_all[i].probabilities {
            let message = format!("predict: text {i} alone has other probabilities than among {count} texts");
            return Err(Error::CheckFailed { message });
        }
    }

    // one token opens a document
    let work = |tokens: usize| Ok::<_, Error>(Work { flop: flop_per_token(&recipe)? * tokens as u64, bytes: 0 });
    let shape = format!("V{} {SHORT} words", sizes.vocabulary);
    if bench.wants(&named("predict_short")) {
        let timing = time(bench.effort(Effort::SHORT, format), || {
            let watch = Stopwatch::begin(format)?;
            ensemble.predict(&alone)?;
            watch.end()
        })?;
        let recording = recorded(format, || ensemble.predict(&alone))?;
        let names = ["predict", &named("predict_short"), "forward"];
        let row = Row::new(names, shape, format, timing, work(SHORT + 1)?);
        bench
            .row(row.counting(1.0, "texts/s").verified(error).recorded(recording.as_ref().filter(|_| !format.int8)))?;
    }

    let reads = named("predict_short_reading");
    if format.device == Device::Cpu && bench.wants(&reads) {
        bench.row(reading(bench, &reads, format, &weights_of(&recipe, sizes))?)?;
    }

    let mut together = |bench: &mut Bench, name: &str, effort, lengths: &[usize], texts: &Source, shape| {
        let tokens = lengths.iter().map(|n| n + 1).sum();
        let timing = time(bench.effort(effort, format), || {
            let watch = Stopwatch::begin(format)?;
            ensemble.predict(texts)?;
            watch.end()
        })?;
        let shape: String = shape;
        let row = Row::new(["predict", &named(name), "forward"], shape, format, timing, work(tokens)?);
        let recording = recorded(format, || ensemble.predict(texts))?;
        bench.row(
            row.counting(tokens as f64, "tokens/s")
                .verified(error)
                .recorded(recording.as_ref().filter(|_| !format.int8)),
        )
    };
    if bench.wants(&named("predict_batch")) {
        let shape = format!("V{} {count} texts of {SHORT} to {longest} words", sizes.vocabulary);
        together(bench, "predict_batch", Effort::LONG, &lengths, &source(&many), shape)?;
    }
    if bench.only == Some(&*named("predict_reviews")) {
        let lengths = review_lengths(if bench.reduced { 5 } else { REVIEWED });
        let texts: Vec<Document> = lengths.iter().map(|&n| Document::new(text(n))).collect();
        let shape = format!("V{} {} reviews", sizes.vocabulary, texts.len());
        together(bench, "predict_reviews", Effort { least: 1, ..Effort::LONG }, &lengths, &source(&texts), shape)?;
    }
    Ok(())
}

/// Elements of every layer's weights: those that a text reads once, and those that every step
/// reads.
fn weights_of(recipe: &Recipe, sizes: Sizes) -> Vec<[usize; 2]> {
    let encoder = recipe.classifier_architecture(sizes.vocabulary, CLASSES).encoder;
    let layer = |l| match encoder {
        EncoderSettings::AwdLstm(encoder) => {
            let (input, h) = encoder.layer_sizes(l);
            [4 * h * input, 4 * h * h]
        }
        EncoderSettings::Qrnn(encoder) => {
            let (columns, h) = encoder.layer_sizes(l);
            [3 * h * columns, 0]
        }
    };
    (0..encoder.layer_names().len()).map(layer).collect()
}

/// The limit of the row before: the time to read the weights of a short text alone, in the
/// order in which its layers need them. Every step needs all of W_hh, and no cache near a core
/// holds one of the paper's size.
fn reading(bench: &Bench, name: &str, format: Format, weights: &[[usize; 2]]) -> Result<Row> {
    struct Sum<'a>(&'a [f32]);
    impl Kernel for Sum<'_> {
        type Output = f32;
        #[inline(always)]
        fn run<const FMA: bool>(self) -> f32 {
            let mut sums = [0.0f32; 128];
            for part in self.0.chunks_exact(sums.len()) {
                sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
            }
            sums.iter().sum::<f32>() + self.0.chunks_exact(sums.len()).remainder().iter().sum::<f32>()
        }
    }
    let steps = SHORT + 1;
    let in_f32 = |n: usize| match format.operands {
        Precision::Bf16 => n / 2,
        Precision::Full if format.int8 => n / 4,
        Precision::Full => n,
    };
    // ones, so that every sum is exact
    let layers: Vec<[Vec<f32>; 2]> = weights.iter().map(|layer| layer.map(|n| vec![1.0f32; in_f32(n)])).collect();
    let threads = rayon::current_num_threads();
    let sum =
        |w: &[f32]| w.par_chunks(w.len().div_ceil(threads).max(1)).map(|w| f64::from(dispatch(Sum(w)))).sum::<f64>();
    let expected: usize = layers.iter().map(|[w_ih, w_hh]| w_ih.len() + steps * w_hh.len()).sum();
    let timing = time(bench.effort(Effort::SHORT, format), || {
        let mut found = 0.0;
        let seconds = seconds(|| {
            found = crate::trace::in_the_pool(|| {
                let layer = |[w_ih, w_hh]: &[Vec<f32>; 2]| sum(w_ih) + (0..steps).map(|_| sum(w_hh)).sum::<f64>();
                layers.iter().map(layer).sum()
            });
        });
        let message = || format!("predict_short_reading: {found} ones were read of {expected}");
        if found == expected as f64 { Ok(seconds) } else { Err(Error::CheckFailed { message: message() }) }
    })?;
    let megabytes = |which: usize| layers.iter().map(|layer| 4e-6 * layer[which].len() as f64).sum::<f64>();
    let shape = format!("{:.0} MB of W_ih, {steps} times {:.0} MB of W_hh", megabytes(0), megabytes(1));
    Ok(Row::moving(["predict", name, ""], shape, timing, 4 * expected as u64))
}

/// Forward operations of the encoder and the head for one token of a document.
fn flop_per_token(recipe: &Recipe) -> Result<u64> {
    let length = 100;
    let threads = rayon::current_num_threads();
    let options = PlanOptions { classes: CLASSES, length: Some(length), threads, precision: Precision::Full };
    let plan = plan(recipe, Stage::Classifier, &options)?;
    Ok(plan.flop.forward / (length * plan.sizes.batch_size) as u64)
}

fn classifier(recipe: &Recipe, sizes: Sizes, dtype: DType) -> Result<(Classifier, Parameters)> {
    Classifier::new(recipe.classifier_architecture(sizes.vocabulary, CLASSES), dtype)
}

/// A model with random weights, as if it had been read from a directory.
fn loaded(recipe: &Recipe, sizes: Sizes, dtype: DType) -> Result<Loaded<Classifier>> {
    let (network, parameters) = classifier(recipe, sizes, dtype)?;
    network.initialise(&parameters, Key::new(42, Stage::Classifier, Direction::Forward))?;
    let kind = TokenizerKind::Whitespace;
    let special = kind.special_tokens().iter().map(|word| (*word).to_string());
    let words = special.chain((0..).map(|i| format!("w{i}"))).take(sizes.vocabulary).collect();
    let vocabulary = Vocabulary::from_words(words, kind)?;
    let labels = (0..CLASSES).map(|c| format!("class {c}")).collect();
    let none = || serde_json::Value::Null;
    let architecture = Architecture::Classifier(network.settings.clone());
    let config =
        ModelConfig::new(architecture, Direction::Forward, 42, labels, &vocabulary, none(), Vec::new(), none(), none());
    Ok(Loaded { network, parameters, vocabulary, config })
}

fn in_f64(
    format: Format,
    (model, parameters): &(Classifier, Parameters),
    words: &Vocabulary,
    text: &Document,
) -> Result<Vec<f64>> {
    let tokenizer = crate::text::Tokenizer::new(words.tokenizer().clone())?;
    let ids = tokenizer.ids(text, words, &mut crate::text::Scratch::default());
    let mut g = format.graph();
    g.set_recording(false);
    let batch = DocumentBatch::new(vec![&ids])?;
    let out = model.forward(&mut g, parameters, &batch, Mode::Eval, &Noise::Off, &Noise::Off)?;
    Ok(softmax(&mut g, out.logits)?.to_f64())
}
