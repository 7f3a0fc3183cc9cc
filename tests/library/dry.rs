//! A dry graph takes what a real one takes, and counts what a real one multiplies: every operation,
//! and whole steps of models.

use ulmfit::autodiff::{Counted, Graph, Parameters, ParametersBuilder, Var};
use ulmfit::device::{PoolStatistics, Precision};
use ulmfit::nn::{
    Answers, AwdLstmSettings, Classifier, ClassifierLosses, ClassifierSettings, DocumentBatch, DropRates,
    EncoderSettings, LabelLoss, LanguageModel, LanguageModelSettings, LossSettings, Noise, QrnnSettings, Truth,
};
use ulmfit::ops::activation_regularisation::TarGuard;
use ulmfit::ops::batch_norm::Mode;
use ulmfit::ops::concat_pool::Masking;
use ulmfit::ops::softmax_cross_entropy::softmax_cross_entropy;
use ulmfit::ops::{self, Case};
use ulmfit::random::Key;
use ulmfit::tensor::{DType, Device, Tensor};
use ulmfit::trace::{Pass, Recorder};

use crate::alone::alone;

/// The traces of the work of a graph.
#[derive(Debug, PartialEq)]
struct Shown {
    /// Requests to the pool and their bytes, after the forward pass and at the end.
    requests: [(u64, u64); 2],
    pool: PoolStatistics,
    /// Bytes in use after the forward pass.
    used: usize,
    counted: Counted,
}

/// Does the same work on a real graph and on a dry one; what is multiplied for real is what a
/// profile records.
fn both(what: &str, precision: Precision, work: impl Fn(&mut Graph, &mut dyn FnMut(&mut Graph))) {
    let show = |mut g: Graph| {
        let (mut forward, mut used) = ((0, 0), 0);
        work(&mut g, &mut |g| (forward, used) = (g.pool().requests(), g.pool().used_bytes()));
        let requests = [forward, g.pool().requests()];
        Shown { requests, pool: g.pool_statistics(), used, counted: g.take_counted() }
    };
    let recorder = Recorder::start().expect("nothing else is recorded");
    let mut real = show(Graph::new(Device::Cpu, DType::F32, None).with_precision(precision));
    for event in recorder.finish().events {
        let side = if event.pass == Pass::Backward { &mut real.counted.backward } else { &mut real.counted.forward };
        *side += event.flop;
    }
    let dry = show(Graph::dry(DType::F32).with_precision(precision));
    assert_eq!(dry, real, "{what}: the dry graph on the left");
}

fn run(g: &mut Graph, case: &Case, recording: bool, after_forward: &mut dyn FnMut(&mut Graph)) {
    g.set_recording(recording);
    let zeros = |g: &Graph, tensor: &Tensor| {
        if g.computes() {
            Tensor::zeros(tensor.shape(), DType::F32).unwrap()
        } else {
            Tensor::dry(tensor.shape(), DType::F32)
        }
    };
    let inputs: Vec<Var> = case
        .inputs
        .iter()
        .map(|input| {
            let tensor = match input.tensor.dtype() {
                DType::U32 => input.tensor.clone(),
                _ => zeros(g, &input.tensor),
            };
            tensor.set_f64(&input.tensor.to_f64());
            if input.differentiable { g.variable(tensor) } else { g.constant(tensor) }
        })
        .collect();
    let outputs = (case.run)(g, &inputs).unwrap();
    after_forward(g);
    if !recording {
        return;
    }
    let seeds: Vec<_> = outputs.iter().map(|&v| (v, zeros(g, g.tensor(v)))).collect();
    let mut parameters = Parameters::builder().build(DType::F32).unwrap();
    g.backward_from(&seeds, &mut parameters).unwrap();
}

#[test]
fn every_operation_is_the_same_dry() {
    // a process records one thing at a time
    alone(concat!(module_path!(), "::every_operation_is_the_same_dry"), || {
        for entry in ops::ALL {
            for case in (entry.cases)() {
                for (precision, recording) in
                    [(Precision::Full, true), (Precision::Bf16, true), (Precision::Full, false)]
                {
                    let what = format!("{} {}, {precision:?}, recording: {recording}", case.operation, case.name);
                    both(&what, precision, |g, after| run(g, &case, recording, after));
                }
            }
        }
    });
}

/// The parameters of a model where a graph computes: zeros will do.
fn parameters(g: &Graph, declared: ParametersBuilder) -> Parameters {
    if g.computes() { declared.build(DType::F32).unwrap() } else { declared.build_dry(DType::F32).unwrap() }
}

const DROPS: DropRates = DropRates { embedding: 0.1, input: 0.2, weight: 0.3, hidden: 0.2, output: 0.2 };
const KEY: Key = Key([1, 2]);

/// Two windows, the second shorter, of which everything learns, then nothing below the last layer;
/// and an evaluated one.
fn language_model(
    settings: &LanguageModelSettings,
    negatives: Option<usize>,
    [t, b]: [usize; 2],
    precision: Precision,
) {
    let what = format!("{settings:?} {negatives:?} {precision:?}");
    both(&what, precision, |g, after| {
        g.promise_unit_loss();
        let (model, declared) = LanguageModel::declare(settings.clone()).unwrap();
        let mut parameters = parameters(g, declared);
        let v = settings.encoder.vocabulary();
        let words = |g: &mut Graph, shape: &[usize]| {
            let words = g.indices(shape).unwrap();
            words.write::<u32>().iter_mut().enumerate().for_each(|(i, word)| *word = (i * i * 977 % v) as u32);
            words
        };
        let losses = LossSettings { alpha: 2.0, beta: 1.0, ar_on_dropped: true, tar_guard: TarGuard::Time };
        let mut state = model.encoder.zeros(Device::Cpu, b, DType::F32).unwrap();
        for (step, t) in [(0, t), (1, t - 1)] {
            g.reset();
            parameters.clear_gradients();
            (0..settings.encoder.layer_names().len() - 1).for_each(|group| parameters.set_frozen(group, step == 1));
            let (tokens, targets) = (words(g, &[t, b]), words(g, &[t, b]));
            let negatives = negatives.map(|n| words(g, &[n]));
            let noise = Noise::of(KEY, step, DROPS);
            let out = model
                .window(g, &parameters, &tokens, &targets, negatives.as_ref(), &mut state, &noise, &losses)
                .unwrap();
            drop((tokens, targets, negatives));
            after(g);
            g.backward(out.total, &mut parameters).unwrap();
            g.pool().set_reserving(false);
        }
        g.reset();
        g.set_recording(false);
        let (tokens, targets) = (words(g, &[t, b]), words(g, &[t, b]));
        model.evaluate(g, &parameters, &tokens, &targets, &mut state).unwrap();
    });
}

#[test]
fn language_models_are_the_same_dry() {
    alone(concat!(module_path!(), "::language_models_are_the_same_dry"), || {
        let small = AwdLstmSettings { vocabulary: 150, embedding: 20, hidden: 36, layers: 3, pad: Some(1) };
        fn with(encoder: impl Into<EncoderSettings>, splits: &[usize], decoder_bias: bool) -> LanguageModelSettings {
            LanguageModelSettings { encoder: encoder.into(), decoder_bias, splits: splits.to_vec() }
        }
        let qrnn = QrnnSettings { vocabulary: 150, embedding: 20, hidden: 36, layers: 3, pad: Some(1), zoneout: 0.1 };
        for precision in [Precision::Full, Precision::Bf16] {
            language_model(&with(small, &[], true), None, [9, 4], precision);
            language_model(&with(small, &[], false), Some(30), [9, 4], precision);
            language_model(&with(small, &[40, 90], true), None, [9, 4], precision);
            language_model(&with(qrnn, &[], true), None, [9, 4], precision);
        }
        // WikiText-103's vocabulary, cut as AWD-LSTM cuts it
        let wide = AwdLstmSettings { vocabulary: 238_462, embedding: 8, hidden: 12, layers: 2, pad: None };
        let splits = ops::adaptive_softmax::splits(wide.vocabulary);
        assert_eq!(splits.len(), 3);
        language_model(&with(wide, &splits, true), None, [5, 8], Precision::Full);
        // the paper's layers and vocabulary, in short windows
        let paper = AwdLstmSettings { vocabulary: 30_000, embedding: 400, hidden: 1150, layers: 3, pad: Some(1) };
        language_model(&with(paper, &[], true), None, [3, 64], Precision::Full);
        let multifit =
            QrnnSettings { vocabulary: 15_000, embedding: 400, hidden: 1550, layers: 4, pad: Some(1), zoneout: 0.0 };
        language_model(&with(multifit, &[], true), None, [3, 50], Precision::Full);
    });
}

#[test]
fn classifiers_are_the_same_dry() {
    alone(concat!(module_path!(), "::classifiers_are_the_same_dry"), || {
        let (vocabulary, embedding, hidden, layers, pad) = (90, 20, 36, 2, Some(1));
        let lstm: EncoderSettings = AwdLstmSettings { vocabulary, embedding, hidden, layers, pad }.into();
        let qrnn = QrnnSettings { vocabulary, embedding, hidden, layers, pad, zoneout: 0.1 }.into();
        for (encoder, masking, precision) in [
            (lstm, Masking::Version07, Precision::Full),
            (lstm, Masking::Version1, Precision::Bf16),
            (lstm, Masking::Version2, Precision::Full),
            (qrnn, Masking::Version1, Precision::Full),
            (qrnn, Masking::Version2, Precision::Bf16),
        ] {
            let settings = ClassifierSettings {
                encoder,
                head: vec![7],
                classes: 3,
                linear_bias: true,
                norm_bias: 0.0,
                masking,
                bptt: 5,
                max_steps: 12,
                strict_cap: false,
                answers: ulmfit::nn::Answers::Class,
                pair: false,
                auxiliary: None,
            };
            both(&format!("{settings:?} {precision:?}"), precision, |g, after| {
                let (model, declared) = Classifier::declare(settings.clone()).unwrap();
                let mut parameters = parameters(g, declared);
                let texts: Vec<Vec<u32>> = [31, 18, 12, 4].iter().map(|&n| (0..n).map(|i| i % 90).collect()).collect();
                let batch = DocumentBatch::new(texts.iter().map(Vec::as_slice).collect()).unwrap();
                for step in 0..2 {
                    g.reset();
                    parameters.clear_gradients();
                    parameters.set_frozen(0, step == 0);
                    let noise = Noise::of(KEY, step, DROPS).with_head(&[0.2, 0.1]);
                    let out = model.forward(g, &parameters, &batch, Mode::Train, &noise, &noise).unwrap();
                    let labels = g.constant(Tensor::from_slice([4], &[0u32, 2, 1, 0]).unwrap());
                    let loss = softmax_cross_entropy(g, out.logits, labels).unwrap();
                    after(g);
                    g.backward(loss, &mut parameters).unwrap();
                    g.pool().set_reserving(false);
                }
                g.reset();
                g.set_recording(false);
                let out = model.forward(g, &parameters, &batch, Mode::Eval, &Noise::Off, &Noise::Off).unwrap();
                ops::softmax_cross_entropy::softmax(g, out.logits).unwrap();
            });
        }
    });
}

/// Every token but the first is a word; one encoder, then two.
#[test]
fn taggers_are_the_same_dry() {
    alone(concat!(module_path!(), "::taggers_are_the_same_dry"), || {
        let (vocabulary, embedding, hidden, layers, pad) = (90, 20, 36, 2, Some(1));
        for (both, precision) in [(false, Precision::Full), (true, Precision::Full), (true, Precision::Bf16)] {
            let settings = ClassifierSettings {
                encoder: AwdLstmSettings { vocabulary, embedding, hidden, layers, pad }.into(),
                head: Vec::new(),
                classes: 5,
                linear_bias: true,
                norm_bias: 0.0,
                masking: Masking::Version2,
                bptt: 5,
                max_steps: 12,
                strict_cap: false,
                answers: Answers::Tags { both },
                pair: false,
                auxiliary: None,
            };
            both_ways(&settings, precision);
        }
    });
}

fn both_ways(settings: &ClassifierSettings, precision: Precision) {
    both(&format!("{settings:?} {precision:?}"), precision, |g, after| {
        let (model, declared) = Classifier::declare(settings.clone()).unwrap();
        let mut parameters = parameters(g, declared);
        let lengths = [17, 12, 4, 2];
        let texts: Vec<Vec<u32>> = lengths.iter().map(|&n| (0..n).map(|i| i % 90).collect()).collect();
        let words = lengths.iter().map(|&n| (1..n).map(|t| [t, t]).collect()).collect();
        let batch = DocumentBatch::new(texts.iter().map(Vec::as_slice).collect()).unwrap().with_words(words).unwrap();
        let tags: Vec<u32> = (0..lengths.iter().sum::<u32>() - 4).map(|word| word % 5).collect();
        let penalties = LossSettings { alpha: 2.0, beta: 1.0, ar_on_dropped: false, tar_guard: TarGuard::Time };
        let losses = ClassifierLosses { penalties, counts: LabelLoss::default(), auxiliary: 0.0 };
        for step in 0..2 {
            g.reset();
            parameters.clear_gradients();
            parameters.set_frozen(0, step == 0);
            let noise = Noise::of(KEY, step, DROPS);
            let truth = Truth::Classes(&tags);
            let loss = model.loss(g, &parameters, &batch, truth, Mode::Train, &noise, &losses).unwrap();
            after(g);
            g.backward(loss.total, &mut parameters).unwrap();
            g.pool().set_reserving(false);
        }
        g.reset();
        g.set_recording(false);
        let out = model.forward(g, &parameters, &batch, Mode::Eval, &Noise::Off, &Noise::Off).unwrap();
        ops::softmax_cross_entropy::softmax(g, out.logits).unwrap();
    });
}
