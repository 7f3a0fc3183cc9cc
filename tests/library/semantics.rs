//! The meaning of the models, beyond their gradients: weight drop, freezing, padding, tying,
//! transfer, independence of predictions from their batch, and the same bits on any number of
//! threads.

use ulmfit::autodiff::{Graph, ParameterId, Parameters, Var};
use ulmfit::nn::weights::transfer;
use ulmfit::nn::{
    AwdLstmSettings, Classified, Classifier, ClassifierSettings, DocumentBatch, DropRates, Encoder, LanguageModel,
    LanguageModelSettings, LossSettings, Noise, WindowLoss, sites,
};
use ulmfit::ops::activation_regularisation::TarGuard;
use ulmfit::ops::batch_norm::Mode;
use ulmfit::ops::concat_pool::Masking;
use ulmfit::ops::softmax_cross_entropy::softmax_cross_entropy;
use ulmfit::ops::tied_softmax::tied_softmax;
use ulmfit::optim::{Adam, AdamSettings, GradientNorm, Optimiser, StepRates, clip_scale};
use ulmfit::random::{Key, Mask, Site, Stream};
use ulmfit::tensor::{DType, Device, Tensor};

fn key(seed: u64) -> Key {
    Key::apart(seed)
}

const NO_PENALTY: LossSettings =
    LossSettings { alpha: 0.0, beta: 0.0, ar_on_dropped: false, tar_guard: TarGuard::Time };

fn encoder(vocabulary: usize, pad: Option<u32>) -> AwdLstmSettings {
    AwdLstmSettings { vocabulary, embedding: 6, hidden: 7, layers: 3, pad }
}

fn language_model(encoder: AwdLstmSettings, dtype: DType) -> (LanguageModel, Parameters) {
    let settings = LanguageModelSettings { encoder: encoder.into(), decoder_bias: true, splits: vec![] };
    let (model, parameters) = LanguageModel::new(settings, dtype).unwrap();
    model.initialise(&parameters, key(1)).unwrap();
    (model, parameters)
}

fn classifier_settings(encoder: AwdLstmSettings, masking: Masking) -> ClassifierSettings {
    ClassifierSettings {
        encoder: encoder.into(),
        head: vec![5],
        classes: 3,
        linear_bias: true,
        norm_bias: 0.0,
        masking,
        bptt: 4,
        max_steps: 12,
        strict_cap: false,
        answers: ulmfit::nn::Answers::Class,
        pair: false,
        auxiliary: None,
    }
}

fn classifier(settings: ClassifierSettings, dtype: DType) -> (Classifier, Parameters) {
    let (model, parameters) = Classifier::new(settings, dtype).unwrap();
    model.initialise(&parameters, key(2)).unwrap();
    (model, parameters)
}

/// `n` words, none of them a special token.
fn words(seed: u64, vocabulary: usize, n: usize) -> Vec<u32> {
    let mut stream = Stream::new(key(seed), Site::CUSTOM[0], 0, 0);
    (0..n).map(|_| 2 + stream.below(vocabulary as u32 - 2)).collect()
}

fn window_tensors(seed: u64, vocabulary: usize, t: usize, b: usize) -> (Tensor, Tensor) {
    let tensor = |seed| Tensor::from_slice([t, b], &words(seed, vocabulary, t * b)).unwrap();
    (tensor(2 * seed), tensor(2 * seed + 1))
}

fn graph(dtype: DType) -> Graph {
    Graph::new(Device::Cpu, dtype, None)
}

fn id(parameters: &Parameters, name: &str) -> ParameterId {
    parameters.find(name).unwrap_or_else(|| panic!("no parameter '{name}'"))
}

fn values(parameters: &Parameters, name: &str) -> Vec<f64> {
    parameters.value(id(parameters, name)).to_f64()
}

fn gradient(parameters: &Parameters, name: &str) -> Vec<f64> {
    parameters.gradient(id(parameters, name)).to_f64()
}

/// Exact values of all parameters (f32 and f64 convert to f64 exactly; the sign of a zero counts).
fn bits(parameters: &Parameters) -> Vec<Vec<u64>> {
    parameters.ids().map(|id| parameters.value(id).to_f64().into_iter().map(f64::to_bits).collect()).collect()
}

fn assert_near(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    let size = a.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= 1e-12 * size, "[{i}]: {a} and {b}");
    }
}

// weight drop

#[test]
fn gradients_of_dropped_weights_are_zero_exactly_where_the_mask_is() {
    let (model, mut parameters) = language_model(encoder(20, Some(1)), DType::F64);
    let mut g = graph(DType::F64);
    let rates = DropRates { weight: 0.5, ..DropRates::default() };
    let dropout = Noise::of(key(3), 7, rates);
    let (tokens, targets) = window_tensors(1, 20, 5, 4);
    let mut state = model.encoder.zeros(Device::Cpu, 4, DType::F64).unwrap();
    let out = model.window(&mut g, &parameters, &tokens, &targets, None, &mut state, &dropout, &NO_PENALTY).unwrap();
    g.backward(out.total, &mut parameters).unwrap();
    for l in 0..3u8 {
        let h = encoder(20, Some(1)).layer_sizes(usize::from(l)).1;
        let mask = Mask::new(key(3), 7, sites::WEIGHT.site(usize::from(l)).unwrap(), 0, 0.5);
        let found = gradient(&parameters, &format!("rnns.{l}.weight_hh_l0"));
        let mut kept = 0;
        for (i, d) in found.iter().enumerate() {
            let keeps = mask.keeps((i / h) as u32, (i % h) as u32);
            kept += usize::from(keeps);
            assert_eq!(*d != 0.0, keeps, "layer {l}, element {i}: gradient {d}");
        }
        assert!(kept > found.len() / 4 && kept < found.len() * 3 / 4, "{kept} of {}", found.len());
    }
}

/// Outputs of the encoder, `[T, B, E]`, from a zero state.
fn encode(parameters: &Parameters, model: &LanguageModel, dropout: &Noise) -> Vec<f64> {
    let mut g = graph(DType::F64);
    let (tokens, _) = window_tensors(4, 20, 3, 2);
    let mut state = model.encoder.zeros(Device::Cpu, 2, DType::F64).unwrap();
    let y = model.encoder.run(&mut g, parameters, &tokens, &mut state, dropout).unwrap();
    g.tensor(y).to_f64()
}

#[test]
fn the_first_step_does_not_see_the_recurrent_weight_and_the_second_does() {
    let (model, parameters) = language_model(encoder(20, None), DType::F64);
    let rates = DropRates { weight: 0.5, ..DropRates::default() };
    let plain = encode(&parameters, &model, &Noise::Off);
    let dropped = |step| encode(&parameters, &model, &Noise::of(key(3), step, rates));
    let (one, other) = (dropped(1), dropped(2));
    let step = plain.len() / 3;
    for (what, changed) in [("dropped", &one), ("another mask", &other)] {
        assert_eq!(changed[..step], plain[..step], "{what}");
        assert!(changed[step..2 * step].iter().zip(&plain[step..]).all(|(a, b)| a != b), "{what}");
    }
    assert_ne!(one[step..], other[step..], "every step of a training draws a mask of its own");
    // the weight itself, undropped
    let weight = parameters.value(id(&parameters, "rnns.0.weight_hh_l0"));
    weight.set_f64(&weight.to_f64().iter().map(|w| 1.5 * w).collect::<Vec<_>>());
    let scaled = encode(&parameters, &model, &Noise::Off);
    assert_eq!(scaled[..step], plain[..step]);
    assert!(scaled[step..2 * step].iter().zip(&plain[step..]).all(|(a, b)| a != b));
}

// freezing

fn all_rates() -> DropRates {
    DropRates { embedding: 0.1, input: 0.2, weight: 0.3, hidden: 0.2, output: 0.2 }
}

fn train_window(
    model: &LanguageModel,
    g: &mut Graph,
    parameters: &Parameters,
    state: &mut ulmfit::nn::State,
    step: u32,
) -> WindowLoss {
    let b = state.get(0).dims()[0];
    let vocabulary = model.settings.encoder.vocabulary();
    let (tokens, targets) = window_tensors(10 + u64::from(step), vocabulary, 30 - step as usize, b);
    let dropout = Noise::of(key(5), step, all_rates());
    let losses = LossSettings { alpha: 2.0, beta: 1.0, ar_on_dropped: true, tar_guard: TarGuard::Time };
    model.window(g, parameters, &tokens, &targets, None, state, &dropout, &losses).unwrap()
}

#[test]
fn a_frozen_group_gets_no_gradient_and_no_update() {
    let (model, mut parameters) = language_model(encoder(20, Some(1)), DType::F32);
    let mut g = graph(DType::F32);
    let adam = AdamSettings { beta2: 0.99, eps: 1e-8, decoupled: true };
    let mut optimiser = Adam::new(&parameters, adam).unwrap();
    let rates = StepRates { lr: &[0.01], momentum: 0.8, weight_decay: &[0.1], gradient_scale: 1.0 };
    let mut state = model.encoder.zeros(Device::Cpu, 4, DType::F32).unwrap();
    parameters.set_frozen(0, true);
    parameters.set_frozen(2, true);
    let mut before = bits(&parameters);
    for step in 0..3 {
        g.reset();
        parameters.clear_gradients();
        let out = train_window(&model, &mut g, &parameters, &mut state, step);
        g.backward(out.total, &mut parameters).unwrap();
        for id in parameters.ids() {
            assert_eq!(parameters.has_gradient(id), parameters.is_trainable(id), "{}", parameters.name(id));
        }
        optimiser.step(&mut parameters, &rates).unwrap();
        let after = bits(&parameters);
        for id in parameters.ids() {
            let same = before[id.index()] == after[id.index()];
            assert_eq!(same, parameters.is_frozen(parameters.group(id)), "{}", parameters.name(id));
        }
        before = after;
    }
    // thawed, it learns
    parameters.set_frozen(0, false);
    g.reset();
    parameters.clear_gradients();
    let out = train_window(&model, &mut g, &parameters, &mut state, 3);
    g.backward(out.total, &mut parameters).unwrap();
    optimiser.step(&mut parameters, &rates).unwrap();
    let weight = id(&parameters, "rnns.0.weight_hh_l0");
    assert_ne!(bits(&parameters)[weight.index()], before[weight.index()]);
}

fn classify(
    model: &Classifier,
    g: &mut Graph,
    parameters: &Parameters,
    documents: &[Vec<u32>],
    norm: Mode,
) -> (Var, Classified) {
    let batch = DocumentBatch::new(documents.iter().map(Vec::as_slice).collect()).unwrap();
    let dropout = Noise::of(key(6), 1, all_rates());
    let noise = dropout.with_head(&[0.2, 0.1]);
    let out = model.forward(g, parameters, &batch, norm, &noise, &noise).unwrap();
    let labels: Vec<u32> = out.rows.iter().map(|r| r % 3).collect();
    let labels = g.constant(Tensor::from_slice([labels.len()], &labels).unwrap());
    (softmax_cross_entropy(g, out.logits, labels).unwrap(), out)
}

#[test]
fn frozen_layers_leave_nothing_on_the_tape() {
    let (model, mut parameters) = classifier(classifier_settings(encoder(20, Some(1)), Masking::Version2), DType::F32);
    let documents: Vec<Vec<u32>> = [9, 14, 3, 7].iter().map(|&n| words(n, 20, n as usize)).collect();
    let mut g = graph(DType::F32);
    let (_, out) = classify(&model, &mut g, &parameters, &documents, Mode::Train);
    assert!(out.chunks.iter().all(|&y| g.needs_gradient(y)));
    let whole = g.recorded();
    for group in 0..parameters.groups() - 1 {
        parameters.set_frozen(group, true);
    }
    g.reset();
    let (loss, out) = classify(&model, &mut g, &parameters, &documents, Mode::Train);
    assert!(out.chunks.iter().chain([&out.pooled]).all(|&y| !g.needs_gradient(y)));
    // norm, dropout, linear, ReLU, norm, dropout, linear, loss
    assert_eq!(g.recorded(), 8);
    assert!(whole > 20, "{whole}");
    g.backward(loss, &mut parameters).unwrap();
    assert!(
        parameters
            .ids()
            .all(|id| parameters.has_gradient(id) == parameters.name(id).starts_with("head.")
                || parameters.is_buffer(id))
    );
    // with the last layer thawed, of each chunk its LSTM alone is added, and the pooling
    parameters.set_frozen(parameters.groups() - 2, false);
    g.reset();
    let (_, out) = classify(&model, &mut g, &parameters, &documents, Mode::Train);
    assert_eq!(g.recorded(), 8 + 1 + out.chunks.len());
}

#[test]
fn an_evaluation_records_nothing() {
    let (model, parameters) = language_model(encoder(20, None), DType::F32);
    let mut g = graph(DType::F32);
    g.set_recording(false);
    let (tokens, targets) = window_tensors(1, 20, 5, 4);
    let mut state = model.encoder.zeros(Device::Cpu, 4, DType::F32).unwrap();
    model.evaluate(&mut g, &parameters, &tokens, &targets, &mut state).unwrap();
    assert_eq!(g.recorded(), 0);
}

// padding and tying

#[test]
fn the_pad_row_gets_no_gradient_through_the_encoder() {
    let documents: Vec<Vec<u32>> = [9, 14, 3, 7].iter().map(|&n| words(n, 20, n as usize)).collect();
    for masking in [Masking::Version07, Masking::Version1, Masking::Version2] {
        for pad in [Some(1), None] {
            let mut settings = classifier_settings(encoder(20, pad), masking);
            settings.max_steps = 100;
            let (model, mut parameters) = classifier(settings, DType::F64);
            let mut g = graph(DType::F64);
            let (loss, _) = classify(&model, &mut g, &parameters, &documents, Mode::Train);
            g.backward(loss, &mut parameters).unwrap();
            let found = gradient(&parameters, "encoder.weight");
            // without a pad id the padding is word 0
            let row = &found[pad.unwrap_or(0) as usize * 6..][..6];
            // padded in front, the state that the text begins with depends on it
            let moves = pad.is_none() && masking != Masking::Version2;
            assert_eq!(row.iter().any(|d| *d != 0.0), moves, "{masking:?} {pad:?}: {row:?}");
        }
    }
    // in a language model, the decoder still sees the pad row as a word that may come
    let (model, mut parameters) = language_model(encoder(20, Some(1)), DType::F64);
    let mut g = graph(DType::F64);
    let tokens = Tensor::from_slice([3, 1], &[1u32, 1, 5]).unwrap();
    let mut state = model.encoder.zeros(Device::Cpu, 1, DType::F64).unwrap();
    let run = |g: &mut Graph, state: &mut ulmfit::nn::State, parameters: &Parameters| {
        model.window(g, parameters, &tokens, &tokens, None, state, &Noise::Off, &NO_PENALTY).unwrap()
    };
    let out = run(&mut g, &mut state, &parameters);
    let raw = g.detach(out.raw);
    g.backward(out.total, &mut parameters).unwrap();
    let whole = gradient(&parameters, "encoder.weight")[6..12].to_vec();
    let decoder = decoder_gradient(&raw, &tokens, &mut parameters);
    assert_near(&whole, &decoder[6..12]);
}

/// Gradient of the embedding matrix as the decoder's weight alone.
fn decoder_gradient(raw: &Tensor, targets: &Tensor, parameters: &mut Parameters) -> Vec<f64> {
    let mut g = graph(DType::F64);
    parameters.clear_gradients();
    let x = g.constant(raw.clone());
    let w = g.parameter(parameters, id(parameters, "encoder.weight"));
    let b = g.parameter(parameters, id(parameters, "decoder.bias"));
    let loss = tied_softmax(&mut g, x, w, Some(b), targets).unwrap().loss;
    g.backward(loss, parameters).unwrap();
    gradient(parameters, "encoder.weight")
}

#[test]
fn a_tied_embedding_learns_from_both_of_its_uses() {
    let (model, mut parameters) = language_model(encoder(20, Some(1)), DType::F64);
    let (tokens, targets) = window_tensors(3, 20, 6, 3);
    let dropout = Noise::of(key(5), 2, DropRates { output: 0.0, ..all_rates() });
    let state = || model.encoder.zeros(Device::Cpu, 3, DType::F64).unwrap();
    let mut g = graph(DType::F64);
    let out = model.window(&mut g, &parameters, &tokens, &targets, None, &mut state(), &dropout, &NO_PENALTY).unwrap();
    let raw = g.detach(out.raw);
    g.backward(out.total, &mut parameters).unwrap();
    let both = gradient(&parameters, "encoder.weight");

    // as the embedding alone: the decoder gets a constant
    g.reset();
    parameters.clear_gradients();
    let raw_again = model.encoder.run(&mut g, &parameters, &tokens, &mut state(), &dropout).unwrap();
    let w = g.constant(parameters.value(id(&parameters, "encoder.weight")).clone());
    let b = g.parameter(&parameters, id(&parameters, "decoder.bias"));
    let loss = tied_softmax(&mut g, raw_again, w, Some(b), &targets).unwrap().loss;
    g.backward(loss, &mut parameters).unwrap();
    let embedding = gradient(&parameters, "encoder.weight");
    let decoder = decoder_gradient(&raw, &targets, &mut parameters);

    let sum: Vec<f64> = embedding.iter().zip(&decoder).map(|(a, b)| a + b).collect();
    assert_near(&both, &sum);
    for part in [&embedding, &decoder] {
        assert!(part.iter().zip(&both).any(|(p, b)| (p - b).abs() > 1e-6), "one use gives all of the gradient");
    }
}

// from one model to another

#[test]
fn a_transferred_encoder_computes_what_the_language_model_computed() {
    let (model, source) = language_model(encoder(6, Some(1)), DType::F32);
    let (classifier, target) = classifier(classifier_settings(encoder(8, Some(1)), Masking::Version2), DType::F32);
    let head = values(&target, "head.0.linear.weight");
    // words 2..6 of the old vocabulary are 7, 3, 4, 6 of the new one; 2 and 5 are new
    let rows = [Some(0), Some(1), None, Some(3), Some(4), None, Some(5), Some(2)];
    let copied = transfer(&source, &target, &rows).unwrap();
    assert_eq!(copied, 1 + 3 * 4, "the embedding and four tensors a layer");
    assert_eq!(values(&target, "head.0.linear.weight"), head, "the head is left as it was");

    let e = 6;
    let (old, new) = (values(&source, "encoder.weight"), values(&target, "encoder.weight"));
    for word in [2, 5] {
        for k in 0..e {
            let mean = old.iter().skip(k).step_by(e).sum::<f64>() / 6.0;
            assert!((new[word * e + k] - mean).abs() < 1e-7);
        }
    }
    let run = |model: &dyn Encoder, parameters: &Parameters, tokens: [u32; 4]| {
        let mut g = graph(DType::F32);
        let mut state = model.zeros(Device::Cpu, 1, DType::F32).unwrap();
        let tokens = Tensor::from_slice([4, 1], &tokens).unwrap();
        let y = model.run(&mut g, parameters, &tokens, &mut state, &Noise::Off).unwrap();
        g.tensor(y).to_f64()
    };
    assert_eq!(run(&*model.encoder, &source, [2, 3, 4, 5]), run(&*classifier.encoder, &target, [7, 3, 4, 6]));

    // other sizes are refused by name
    let other = AwdLstmSettings { hidden: 9, ..encoder(8, Some(1)) };
    let (_, target) = classifier_of(other);
    let error = transfer(&source, &target, &rows).unwrap_err().to_string();
    assert!(error.contains("rnns.0.weight_ih_l0"), "{error}");
}

fn classifier_of(encoder: AwdLstmSettings) -> (Classifier, Parameters) {
    classifier(classifier_settings(encoder, Masking::Version2), DType::F32)
}

// predictions

/// Logits of documents in evaluation, in the order of `documents`.
fn predict(model: &Classifier, g: &mut Graph, parameters: &Parameters, documents: &[&[u32]]) -> Vec<Vec<u32>> {
    g.reset();
    let batch = DocumentBatch::new(documents.to_vec()).unwrap();
    let out = model.forward(g, parameters, &batch, Mode::Eval, &Noise::Off, &Noise::Off).unwrap();
    let logits = g.tensor(out.logits).read::<f32>();
    let mut all = vec![Vec::new(); documents.len()];
    for (row, logits) in out.rows.iter().zip(logits.chunks_exact(model.settings.classes)) {
        all[*row as usize] = logits.iter().map(|x| x.to_bits()).collect();
    }
    all
}

/// Tail-padded (v2), a document's prediction is a function of the document alone, bit for bit: not
/// of the others in its batch, their order, their number, or how much padding they cause. Documents
/// longer than the cap included, and chunks long enough to be run in parts where documents end
/// within; a recording, which has no parts, finds the same.
#[test]
fn predictions_do_not_depend_on_the_batch() {
    for (bptt, cap, strict_cap) in [(4, 12, false), (4, 12, true), (20, 40, false)] {
        let mut settings = classifier_settings(encoder(40, Some(1)), Masking::Version2);
        (settings.bptt, settings.max_steps, settings.strict_cap) = (bptt, cap, strict_cap);
        let (model, parameters) = classifier(settings, DType::F32);
        let mut g = graph(DType::F32);
        g.set_recording(false);
        let mut random = Stream::new(key(8), Site::CUSTOM[1], bptt as u32, u32::from(strict_cap));
        // around every border of a chunk and of the cap, and far beyond it
        let mut lengths: Vec<usize> = (1..=cap + bptt + 1).collect();
        lengths.extend([2 * cap - 1, 2 * cap, 2 * cap + 1, 5 * cap + 2]);
        let documents: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(i, &n)| words(100 + i as u64, 40, n)).collect();
        let alone: Vec<_> = documents.iter().map(|d| predict(&model, &mut g, &parameters, &[d]).remove(0)).collect();
        assert!(
            alone.windows(2).all(|pair| pair[0] != pair[1]),
            "the documents differ, and so should what is said of them"
        );
        g.set_recording(true);
        let all: Vec<&[u32]> = documents.iter().map(Vec::as_slice).collect();
        assert!(predict(&model, &mut g, &parameters, &all) == alone, "chunks of {bptt}: recorded");
        g.reset();
        g.set_recording(false);
        for round in 0..60 {
            let mut chosen: Vec<usize> = (0..documents.len()).collect();
            random.shuffle(&mut chosen);
            chosen.truncate(1 + random.below(documents.len() as u32) as usize);
            let batch: Vec<&[u32]> = chosen.iter().map(|&d| documents[d].as_slice()).collect();
            let found = predict(&model, &mut g, &parameters, &batch);
            for (&d, found) in chosen.iter().zip(found) {
                let lengths: Vec<usize> = chosen.iter().map(|&d| documents[d].len()).collect();
                assert_eq!(found, alone[d], "round {round}: length {} in a batch of {lengths:?}", documents[d].len());
            }
        }
    }
}

// threads

fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Three steps of a language model that is large enough for every parallel path; losses, gradients
/// and parameters, as bits.
fn language_model_steps() -> Vec<Vec<u64>> {
    let encoder = AwdLstmSettings { vocabulary: 700, embedding: 72, hidden: 136, layers: 2, pad: Some(1) };
    let (model, mut parameters) = language_model(encoder, DType::F32);
    let mut g = graph(DType::F32);
    let adam = AdamSettings { beta2: 0.99, eps: 1e-8, decoupled: false };
    let mut optimiser = Adam::new(&parameters, adam).unwrap();
    let mut norm = GradientNorm::new(&parameters).unwrap();
    let mut state = model.encoder.zeros(Device::Cpu, 20, DType::F32).unwrap();
    let mut all = Vec::new();
    for step in 0..3 {
        g.reset();
        parameters.clear_gradients();
        let out = train_window(&model, &mut g, &parameters, &mut state, step);
        let losses = [out.total, out.cross_entropy].map(|v| g.tensor(v).scalar().to_bits());
        g.backward(out.total, &mut parameters).unwrap();
        all.push(losses.to_vec());
        all.extend(parameters.ids().map(|id| parameters.gradient(id).to_f64().into_iter().map(f64::to_bits).collect()));
        let norm = norm.compute(&parameters).unwrap();
        all.push(vec![norm.to_bits()]);
        let scale = clip_scale(norm, Some(0.5 * norm));
        assert!(scale < 1.0, "clipping is part of the step");
        let rates = StepRates { lr: &[0.01], momentum: 0.8, weight_decay: &[1e-3], gradient_scale: scale };
        optimiser.step(&mut parameters, &rates).unwrap();
    }
    all.extend(bits(&parameters));
    all
}

fn classifier_step() -> Vec<Vec<u64>> {
    let encoder = AwdLstmSettings { vocabulary: 300, embedding: 64, hidden: 128, layers: 2, pad: Some(1) };
    let mut settings = classifier_settings(encoder, Masking::Version2);
    (settings.bptt, settings.max_steps) = (16, 48);
    let (model, mut parameters) = classifier(settings, DType::F32);
    let documents: Vec<Vec<u32>> = (0..20).map(|n| words(n, 300, 5 + 4 * n as usize)).collect();
    let mut g = graph(DType::F32);
    let (loss, _) = classify(&model, &mut g, &parameters, &documents, Mode::Train);
    let mut all = vec![vec![g.tensor(loss).scalar().to_bits()]];
    g.backward(loss, &mut parameters).unwrap();
    parameters.zero_missing_gradients();
    all.extend(parameters.ids().map(|id| parameters.gradient(id).to_f64().into_iter().map(f64::to_bits).collect()));
    // the running statistics are among the values
    all.extend(bits(&parameters));
    all
}

#[test]
fn one_thread_and_more_give_the_same_bits() {
    for (what, steps) in [("language model", language_model_steps as fn() -> _), ("classifier", classifier_step)] {
        let one = on_threads(1, steps);
        for threads in [2, 3] {
            let more = on_threads(threads, steps);
            let differs = one.iter().zip(&more).position(|(a, b)| a != b);
            assert_eq!(differs, None, "{what} on {threads} threads: tensor {differs:?} of {}", one.len());
        }
    }
}
