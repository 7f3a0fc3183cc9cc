//! Fixtures of whole models: two windows of the language model over either encoder, one step of the
//! classifier.

use super::fixture::{ANY, Fixture, transpose};
use super::losses::tensor;
use super::sequence::{back, gradient};
use crate::autodiff::{Graph, ParameterId, Parameters, Var};
use crate::error::{Error, Result};
use crate::nn::{
    Answers, AwdLstmSettings, Classified, Classifier, ClassifierSettings, DocumentBatch, EncoderSettings, GivenMasks,
    LanguageModel, LanguageModelSettings, LossSettings, Noise, QrnnSettings, State, sites,
};
use crate::ops::activation_regularisation::{Regularisation, TarGuard, activation_regularisation};
use crate::ops::batch_norm::{Mode, batch_norm};
use crate::ops::concat_pool::{Masking, concat_pool};
use crate::ops::dropout::dropout;
use crate::ops::linear::linear;
use crate::ops::mask::Dropout;
use crate::ops::relu::relu;
use crate::ops::softmax_cross_entropy::softmax_cross_entropy;
use crate::tensor::{DType, Tensor};

/// The encoder, from the shapes of its parameters.
fn encoder_settings(f: &mut Fixture, pad: Option<u32>) -> Result<EncoderSettings> {
    let emb = f.real("param.emb", &[ANY, ANY])?;
    let (vocabulary, embedding, layers) = (emb.dims()[0], emb.dims()[1], f.size("layers")?);
    let settings: EncoderSettings = if f.names("param.rnn0.").contains(&"param.rnn0.w".into()) {
        let hidden = f.real("param.rnn0.w", &[ANY, 2 * embedding])?.dims()[0] / 3;
        let zoneout = f.number("p_zoneout")?;
        QrnnSettings { vocabulary, embedding, hidden, layers, pad, zoneout }.into()
    } else {
        let hidden = f.real("param.rnn0.w_hh", &[ANY, ANY])?.dims()[1];
        AwdLstmSettings { vocabulary, embedding, hidden, layers, pad }.into()
    };
    settings.check()?;
    Ok(settings)
}

/// Our names of the encoder's parameters, and the fixture's.
fn encoder_names(encoder: &EncoderSettings) -> Vec<(String, String)> {
    let of_layer: &[(&str, &str)] = match encoder {
        EncoderSettings::AwdLstm(_) => {
            &[("weight_ih_l0", "w_ih"), ("weight_hh_l0", "w_hh"), ("bias_ih_l0", "b_ih"), ("bias_hh_l0", "b_hh")]
        }
        EncoderSettings::Qrnn(_) => &[("linear.weight", "w"), ("linear.bias", "b")],
    };
    let mut names = vec![("encoder.weight".to_string(), "emb".to_string())];
    for l in 0..encoder.layer_names().len() {
        names.extend(of_layer.iter().map(|(ours, theirs)| (format!("rnns.{l}.{ours}"), format!("rnn{l}.{theirs}"))));
    }
    names
}

fn id(f: &Fixture, parameters: &Parameters, name: &str) -> Result<ParameterId> {
    parameters.find(name).ok_or_else(|| f.error(format!("needs a parameter '{name}', which the model does not have")))
}

fn load(f: &mut Fixture, parameters: &Parameters, names: &[(String, String)]) -> Result<()> {
    for (ours, theirs) in names {
        let id = id(f, parameters, ours)?;
        let value = f.real(&format!("param.{theirs}"), parameters.shape(id).dims())?;
        parameters.value(id).copy_from(&value);
    }
    Ok(())
}

fn compare_gradients(f: &mut Fixture, parameters: &Parameters, names: &[(String, String)], prefix: &str) -> Result<()> {
    for (ours, theirs) in names {
        let id = id(f, parameters, ours)?;
        f.compare(&format!("{prefix}{theirs}"), parameters.gradient(id))?;
    }
    Ok(())
}

/// Columns `from..from + n` of `[B, T]`, time-major.
pub(super) fn columns(tokens: &Tensor, from: usize, n: usize) -> Result<Tensor> {
    let (b, t) = (tokens.dims()[0], tokens.dims()[1]);
    let all = tokens.read::<u32>();
    let values: Vec<u32> =
        (from..from + n).flat_map(|at| (0..b).map(move |b| (b, at))).map(|(b, at)| all[b * t + at]).collect();
    Tensor::from_slice([n, b], &values)
}

/// Two windows with all dropouts and carried state, then the same in evaluation.
pub(super) fn language_model(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    let encoder = encoder_settings(f, None)?;
    let v = encoder.vocabulary();
    let (model, declared) =
        LanguageModel::declare(LanguageModelSettings { encoder, decoder_bias: true, splits: vec![] })?;
    let mut parameters = declared.build_on(f.device, f.dtype)?;
    let mut names = encoder_names(&encoder);
    names.push(("decoder.bias".into(), "dec_bias".into()));
    load(f, &parameters, &names)?;
    let stream = f.words("stream", &[ANY, ANY])?;
    let (b, bptt) = (stream.dims()[0], f.size("bptt")?);
    if stream.dims()[1] != 2 * bptt + 1 || bptt == 0 {
        return Err(
            f.error(format!("tensor 'stream' must hold two windows of {bptt} and one more, found {}", stream.shape()))
        );
    }
    let losses = LossSettings {
        alpha: f.number("alpha")?,
        beta: f.number("beta")?,
        ar_on_dropped: true,
        tar_guard: TarGuard::Time,
    };
    let mut state = model.encoder.zeros(f.device, b, f.dtype)?;
    for w in 1..=2 {
        let p = format!("w{w}.");
        let (tokens, targets) = (columns(&stream, (w - 1) * bptt, bptt)?, columns(&stream, (w - 1) * bptt + 1, bptt)?);
        let masks = masks(f, &encoder, [bptt, b], &p)?;
        compare_state(f, &state, &format!("{p}%_in"))?;
        g.reset();
        parameters.clear_gradients();
        let dropout = Noise::Given(&masks);
        let out = model.window(g, &parameters, &tokens, &targets, None, &mut state, &dropout, &losses)?;
        compare_state(f, &state, &format!("{p}%_out"))?;
        let (raw, dropped) = (g.detach(out.raw), g.detach(out.dropped));
        f.compare(&format!("{p}raw_out"), &transpose(&raw)?)?;
        f.compare(&format!("{p}dropped_out"), &transpose(&dropped)?)?;
        f.compare(&format!("{p}loss"), &g.detach(out.total))?;
        f.compare(&format!("{p}loss_ce"), &g.detach(out.cross_entropy))?;
        g.backward(out.total, &mut parameters)?;
        parameters.zero_missing_gradients();
        compare_gradients(f, &parameters, &names, &format!("{p}grad."))?;

        // tensors that a training step never makes: AR and TAR apart, the logits, and their
        // gradient
        for (name, alpha, beta) in [("loss_ar", losses.alpha, 0.0), ("loss_tar", 0.0, losses.beta)] {
            let [raw, dropped] = [&raw, &dropped].map(|t| g.constant(t.clone()));
            let part = Regularisation { alpha, beta, guard: TarGuard::Time };
            let part = activation_regularisation(g, &[raw], &[dropped], part)?;
            f.compare(&format!("{p}{name}"), g.tensor(part))?;
        }
        let logits = logits(f, g, &parameters, dropped)?;
        f.compare(&format!("{p}logits"), &transpose(&logits)?)?;
        let flat = g.variable(logits.reshape([bptt * b, v])?);
        let targets = g.constant(targets.reshape([bptt * b])?);
        let loss = softmax_cross_entropy(g, flat, targets)?;
        g.backward(loss, &mut Parameters::builder().build(f.dtype)?)?;
        f.compare(&format!("{p}grad_logits"), &transpose(&gradient(g, flat)?.reshape([bptt, b, v])?)?)?;
    }
    g.set_recording(false);
    let (mut state, mut again) =
        (model.encoder.zeros(f.device, b, f.dtype)?, model.encoder.zeros(f.device, b, f.dtype)?);
    for w in 1..=2 {
        let (tokens, targets) = (columns(&stream, (w - 1) * bptt, bptt)?, columns(&stream, (w - 1) * bptt + 1, bptt)?);
        g.reset();
        let losses = model.evaluate(g, &parameters, &tokens, &targets, &mut state)?.row_losses;
        let mean = g.zeros([1], f.dtype)?;
        mean.set_f64(&[losses.to_f64().iter().sum::<f64>() / losses.len() as f64]);
        f.compare(&format!("eval.w{w}.loss_ce"), &mean)?;
        let raw = model.encoder.run(g, &parameters, &tokens, &mut again, &Noise::Off)?;
        let raw = g.detach(raw);
        let logits = logits(f, g, &parameters, raw)?;
        f.compare(&format!("eval.w{w}.logits"), &transpose(&logits)?)?;
    }
    g.set_recording(true);
    Ok(())
}

/// `x·embᵀ + bias`, `[T, B, V]`.
fn logits(f: &Fixture, g: &mut Graph, parameters: &Parameters, x: Tensor) -> Result<Tensor> {
    let [w, b] = ["encoder.weight", "decoder.bias"].map(|name| id(f, parameters, name));
    let (w, b) = (parameters.value(w?).clone(), parameters.value(b?).clone());
    let [x, w, b] = [x, w, b].map(|t| g.constant(t));
    let logits = linear(g, x, w, Some(b))?;
    Ok(g.detach(logits))
}

/// The masks of a window.
fn masks(f: &mut Fixture, encoder: &EncoderSettings, [steps, b]: [usize; 2], prefix: &str) -> Result<GivenMasks> {
    let (v, e, h) = (encoder.vocabulary(), encoder.width(), encoder.hidden());
    let layers = encoder.layer_names().len();
    let mut masks = GivenMasks::default();
    masks.insert(sites::EMBEDDING_ROW, f.real(&format!("{prefix}mask.emb_row"), &[v, 1])?);
    masks.insert(sites::INPUT, f.real(&format!("{prefix}mask.input"), &[b, 1, e])?.reshape([b, e])?);
    for l in 0..layers {
        let (name, shape) = match encoder {
            EncoderSettings::AwdLstm(sizes) => ("w_hh", [4 * sizes.layer_sizes(l).1, sizes.layer_sizes(l).1]),
            EncoderSettings::Qrnn(sizes) => {
                let (columns, output) = sizes.layer_sizes(l);
                let keeps = f.real(&format!("{prefix}mask.zoneout{l}"), &[b, steps, output])?;
                masks.insert(sites::ZONEOUT.site(l)?, transpose(&keeps)?);
                ("w", [3 * output, columns])
            }
        };
        masks.insert(sites::WEIGHT.site(l)?, f.real(&format!("{prefix}mask.rnn{l}.{name}"), &shape)?);
        if l + 1 < layers {
            let mask = f.real(&format!("{prefix}mask.hidden{l}"), &[b, 1, h])?.reshape([b, h])?;
            masks.insert(sites::HIDDEN.site(l)?, mask);
        }
    }
    masks.insert(sites::OUTPUT, f.real(&format!("{prefix}mask.output"), &[b, 1, e])?.reshape([b, e])?);
    Ok(masks)
}

/// Compares what is carried with `pattern`, in which `%` is the kind of a state, followed by its
/// layer.
fn compare_state(f: &mut Fixture, state: &State, pattern: &str) -> Result<()> {
    for (at, slot) in state.slots().iter().enumerate() {
        let (kind, layer) = slot.name.split_at(slot.name.find(|c: char| c.is_ascii_digit()).unwrap_or(slot.name.len()));
        f.compare(&format!("{}{layer}", pattern.replace('%', kind)), state.get(at))?;
    }
    Ok(())
}

/// A classifier fixture's data, rows in the order in which the classifier runs them: by length,
/// descending.
struct Documents {
    tokens: Vec<Vec<u32>>,
    lengths: Vec<usize>,
    /// Row of the fixture of each of our rows.
    order: Vec<usize>,
    labels: Tensor,
    masks: [Tensor; 2],
    steps: usize,
}

impl Documents {
    fn read(f: &mut Fixture, features: usize, hidden: usize) -> Result<Self> {
        let padded = f.words("tokens_tail_pad", &[ANY, ANY])?;
        let (b, steps) = (padded.dims()[0], padded.dims()[1]);
        let lengths: Vec<usize> = f.words("lengths", &[b])?.read::<u32>().iter().map(|&n| n as usize).collect();
        if lengths.iter().any(|n| !(1..=steps).contains(n)) {
            return Err(f.error(format!("tensor 'lengths' must be from 1 to {steps}")));
        }
        let padded = padded.read::<u32>();
        let tokens: Vec<Vec<u32>> = (0..b).map(|row| padded[row * steps..][..lengths[row]].to_vec()).collect();
        // the same documents in fastai's layout: whole chunks of padding first, the rest at the end
        let (bptt, pad) = (f.size("bptt")?, f.size("pad")? as u32);
        let mut fastai = vec![pad; b * steps];
        for (row, document) in tokens.iter().enumerate() {
            let from = (steps - document.len()) / bptt.max(1) * bptt;
            fastai[row * steps + from..][..document.len()].copy_from_slice(document);
        }
        f.compare_exactly("tokens_fastai_pad", &fastai)?;
        let mut order: Vec<usize> = (0..b).collect();
        order.sort_by_key(|&row| (std::cmp::Reverse(lengths[row]), row));
        let labels = f.words("labels", &[b])?;
        let labels: Vec<u32> = order.iter().map(|&row| labels.read::<u32>()[row]).collect();
        let masks = [f.real("mask.drop1", &[b, features])?, f.real("mask.drop2", &[b, hidden])?];
        let [first, second] = masks.map(|mask| sort_rows(&mask, &order));
        Ok(Documents {
            tokens,
            lengths,
            labels: Tensor::from_slice([b], &labels)?,
            masks: [first?, second?],
            order,
            steps,
        })
    }

    /// A tensor of our rows in the fixture's order.
    fn restore(&self, tensor: &Tensor) -> Result<Tensor> {
        let mut back = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(ours, &theirs)| back[theirs] = ours);
        sort_rows(tensor, &back)
    }
}

/// Row `i` of the result is row `order[i]`.
fn sort_rows(tensor: &Tensor, order: &[usize]) -> Result<Tensor> {
    let width = tensor.len() / order.len().max(1);
    let values = tensor.to_f64();
    let sorted: Vec<f64> = order.iter().flat_map(|&row| values[row * width..][..width].iter().copied()).collect();
    self::tensor(tensor.device(), tensor.dims(), tensor.dtype(), &sorted)
}

const HEAD_NAMES: [(&str, &str); 8] = [
    ("head.0.norm.weight", "bn1.weight"),
    ("head.0.norm.bias", "bn1.bias"),
    ("head.0.linear.weight", "lin1.weight"),
    ("head.0.linear.bias", "lin1.bias"),
    ("head.1.norm.weight", "bn2.weight"),
    ("head.1.norm.bias", "bn2.bias"),
    ("head.1.linear.weight", "lin2.weight"),
    ("head.1.linear.bias", "lin2.bias"),
];

/// One training step of the classifier, with state detached between chunks and without, then its
/// head in evaluation.
pub(super) fn classifier(f: &mut Fixture, g: &mut Graph) -> Result<()> {
    let encoder = encoder_settings(f, Some(f.size("pad")? as u32))?;
    let e = encoder.width();
    let hidden = f.real("param.lin1.weight", &[ANY, 3 * e])?.dims()[0];
    let classes = f.real("param.lin2.weight", &[ANY, hidden])?.dims()[0];
    let documents = Documents::read(f, 3 * e, hidden)?;
    let (b, t) = (documents.lengths.len(), documents.steps);
    let settings = |bptt: usize| ClassifierSettings {
        encoder,
        head: vec![hidden],
        classes,
        linear_bias: true,
        norm_bias: 0.0,
        masking: Masking::Version2,
        bptt,
        max_steps: bptt.max(t),
        strict_cap: false,
        answers: Answers::Class,
        pair: false,
        auxiliary: None,
    };
    let encoder_names = encoder_names(&encoder);
    let mut names = encoder_names.clone();
    names.extend(HEAD_NAMES.map(|(ours, theirs)| (ours.to_string(), theirs.to_string())));

    let step = |f: &mut Fixture, g: &mut Graph, bptt: usize| -> Result<(Parameters, Classified, Var)> {
        let (model, declared) = Classifier::declare(settings(bptt))?;
        let mut parameters = declared.build_on(f.device, f.dtype)?;
        load(f, &parameters, &names)?;
        for k in 0..2 {
            let variance = id(f, &parameters, &format!("head.{k}.norm.running_var"))?;
            parameters.value(variance).set_f64(&vec![1.0; parameters.shape(variance).len()]);
        }
        g.reset();
        let batch = DocumentBatch::new(documents.tokens.iter().map(|d| d.as_slice()).collect())?;
        let mut head = GivenMasks::default();
        for (k, mask) in documents.masks.iter().enumerate() {
            head.insert(sites::HEAD.site(k)?, mask.clone());
        }
        let out = model.forward(g, &parameters, &batch, Mode::Train, &Noise::Off, &Noise::Given(&head))?;
        if out.rows.iter().zip(&documents.order).any(|(&ours, &expected)| ours as usize != expected) {
            return Err(Error::data("the classifier ran its documents in another order than by length"));
        }
        let labels = g.constant(documents.labels.clone());
        let loss = softmax_cross_entropy(g, out.logits, labels)?;
        g.backward(loss, &mut parameters)?;
        parameters.zero_missing_gradients();
        Ok((parameters, out, loss))
    };

    // one chunk holds the whole text: nothing is detached
    let (parameters, _, _) = step(f, g, t)?;
    compare_gradients(f, &parameters, &encoder_names, "grad_full_bptt.")?;

    let (parameters, out, loss) = step(f, g, f.size("bptt")?)?;
    compare_gradients(f, &parameters, &names, "grad.")?;
    f.compare("loss", g.tensor(loss))?;
    f.compare("logits", &documents.restore(g.tensor(out.logits))?)?;
    f.compare("pooled", &documents.restore(g.tensor(out.pooled))?)?;
    compare_running(f, &parameters)?;
    let chunks: Vec<Tensor> = out.chunks.iter().map(|&c| g.detach(c)).collect();
    let outputs = documents.batch_first(&chunks, e);
    f.compare_where("enc_out", &outputs, &documents.real_positions(e))?;

    // the head, step by step
    let pooled = g.detach(out.pooled);
    let fresh = Head::new(f, &parameters)?;
    g.reset();
    let x = g.variable(pooled.clone());
    let parts = fresh.run(g, x, Mode::Train, Some(&documents.masks))?;
    for (name, var) in ["bn1_out", "lin1_out", "bn2_out"].into_iter().zip(parts) {
        f.compare(name, &documents.restore(g.tensor(var))?)?;
    }
    compare_moments(f, "bn1", &pooled.to_f64(), b)?;
    let active: Vec<f64> = g.tensor(parts[1]).to_f64().iter().map(|z| z.max(0.0)).collect();
    compare_moments(f, "bn2", &active, b)?;
    let labels = g.constant(documents.labels.clone());
    let loss = softmax_cross_entropy(g, parts[3], labels)?;
    g.backward(loss, &mut Parameters::builder().build(f.dtype)?)?;
    let d_pooled = gradient(g, x)?;
    f.compare("grad.pooled", &documents.restore(&d_pooled)?)?;

    // the pooling alone, whose inputs' gradients a training step gives back to the pool
    g.reset();
    let vars: Vec<Var> = chunks.iter().map(|c| g.variable(c.clone())).collect();
    let lengths: Vec<u32> = documents.order.iter().map(|&row| documents.lengths[row] as u32).collect();
    let (lengths, first) =
        (g.constant(Tensor::from_slice([b], &lengths)?), g.constant(Tensor::zeros([b], DType::U32)?));
    let y = concat_pool(g, &vars, 0, lengths, first, Masking::Version2)?;
    back(g, &[y], &[d_pooled])?;
    let gradients = vars.iter().map(|&v| gradient(g, v)).collect::<Result<Vec<_>>>()?;
    f.compare_values("grad.enc_out", &documents.batch_first(&gradients, e))?;

    // evaluation, with the running statistics of that one step
    g.reset();
    let x = g.constant(pooled);
    let logits = Head::with_statistics(f, &parameters)?.run(g, x, Mode::Eval, None)?[3];
    f.compare("eval.logits", &documents.restore(g.tensor(logits))?)
}

impl Documents {
    /// Chunks `[T_c, B_c, E]` of our rows as `[B, T, E]` of the fixture's; zero where a chunk does
    /// not hold a row.
    fn batch_first(&self, chunks: &[Tensor], e: usize) -> Vec<f64> {
        let mut all = vec![0.0; self.order.len() * self.steps * e];
        let mut from = 0;
        for chunk in chunks {
            let (steps, rows) = (chunk.dims()[0], chunk.dims()[1]);
            let values = chunk.to_f64();
            for t in 0..steps.min(self.steps - from) {
                for row in 0..rows {
                    let to = (self.order[row] * self.steps + from + t) * e;
                    all[to..to + e].copy_from_slice(&values[(t * rows + row) * e..][..e]);
                }
            }
            from += steps;
        }
        all
    }

    /// Whether an element of `[B, T, E]` belongs to a token; what comes after the end is junk by
    /// the fixture's description.
    fn real_positions(&self, e: usize) -> Vec<bool> {
        let position = |row: usize| (0..self.steps * e).map(move |k| k / e < self.lengths[row]);
        (0..self.order.len()).flat_map(position).collect()
    }
}

/// Running statistics after one step from (0, 1).
fn compare_running(f: &mut Fixture, parameters: &Parameters) -> Result<()> {
    for k in 0..2 {
        for name in ["running_mean", "running_var"] {
            let id = id(f, parameters, &format!("head.{k}.norm.{name}"))?;
            f.compare(&format!("stat.bn{}.{name}", k + 1), parameters.value(id))?;
        }
    }
    Ok(())
}

/// Mean and biased variance of the columns of a batch norm's input, `[B, features]`.
fn compare_moments(f: &mut Fixture, name: &str, x: &[f64], b: usize) -> Result<()> {
    let features = x.len() / b;
    let mean_of = |value: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
        (0..features).map(|k| (0..b).map(|row| value(k, x[row * features + k])).sum::<f64>() / b as f64).collect()
    };
    let mean = mean_of(&|_, x| x);
    let variance = mean_of(&|k, x| (x - mean[k]) * (x - mean[k]));
    f.compare_values(&format!("stat.{name}.batch_mean"), &mean)?;
    f.compare_values(&format!("stat.{name}.batch_var"), &variance)
}

/// The two blocks of the head from single operations.
struct Head {
    /// Weight, bias, running mean and variance of the batch norm; weight and bias of the linear
    /// layer.
    blocks: Vec<[Tensor; 6]>,
}

impl Head {
    const NAMES: [&'static str; 6] =
        ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "linear.weight", "linear.bias"];

    fn with_statistics(f: &Fixture, parameters: &Parameters) -> Result<Self> {
        let mut blocks = Vec::new();
        for k in 0..2 {
            let mut block = Vec::new();
            for name in Self::NAMES {
                block.push(parameters.value(id(f, parameters, &format!("head.{k}.{name}"))?).clone());
            }
            blocks.push(block.try_into().expect("a block has six tensors"));
        }
        Ok(Head { blocks })
    }

    /// With running statistics of its own, so that those of the model stay as they are.
    fn new(f: &Fixture, parameters: &Parameters) -> Result<Self> {
        let mut head = Self::with_statistics(f, parameters)?;
        for block in &mut head.blocks {
            for k in [2, 3] {
                block[k] = tensor(block[k].device(), block[k].dims(), block[k].dtype(), &block[k].to_f64())?;
            }
        }
        Ok(head)
    }

    /// Outputs of the first batch norm, first linear layer, second batch norm, and the logits.
    fn run(&self, g: &mut Graph, x: Var, mode: Mode, masks: Option<&[Tensor; 2]>) -> Result<[Var; 4]> {
        let mut x = x;
        let mut parts = Vec::new();
        for (k, block) in self.blocks.iter().enumerate() {
            if k > 0 {
                x = relu(g, x)?;
            }
            let [weight, bias, w, b] = [0, 1, 4, 5].map(|i| g.constant(block[i].clone()));
            x = batch_norm(g, x, weight, bias, &block[2], &block[3], mode)?;
            parts.push(x);
            if let Some(masks) = masks {
                x = dropout(g, x, &Dropout::Given(masks[k].clone()))?;
            }
            x = linear(g, x, w, Some(b))?;
            parts.push(x);
        }
        Ok([parts[0], parts[1], parts[2], parts[3]])
    }
}
