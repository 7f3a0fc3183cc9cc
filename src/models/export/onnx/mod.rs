//! ONNX files, opset 17: a text needs no chunks, because a layer is one operator over all of its
//! steps; the pooling of a classifier over its last tokens; batch norms folded into the layers that
//! follow them.

mod encoder;
mod graph;

use self::encoder::{encoder, slots, values};
use self::graph::{Attribute, Dim, FLOAT, Graph, INT64};
use crate::error::{Error, Result};
use crate::models::Loaded;
use crate::nn::{Answers, Classifier, LanguageModel};
use crate::ops::batch_norm::EPSILON;
use crate::text::Direction;

/// A language model: `tokens` i64 `[B, T]` and the encoder's state (`h0`, `c0`, .. or `c0`, ..,
/// `last`; zeros at the beginning) to `logits` `[B, T, V]` and the state that goes on (`h0_next`,
/// ..).
///
/// # Errors
/// An adaptive softmax; a file that would be too large.
pub fn language_model(model: &Loaded<LanguageModel>, metadata: &[(&str, String)]) -> Result<Vec<u8>> {
    let (settings, parameters) = (&model.network.settings, &model.parameters);
    if !settings.splits.is_empty() {
        return Err(Error::usage("a language model with an adaptive softmax cannot be exported")
            .hint("its encoder can: --to safetensors"));
    }
    let mut graph = Graph::default();
    let (batch, time) = (Dim::Named("batch"), Dim::Named("time"));
    graph.input("tokens", INT64, &[batch, time]);
    let state = slots(&settings.encoder);
    state.iter().for_each(|(name, dims)| graph.input(name, FLOAT, dims));
    let found = encoder(&mut graph, &settings.encoder, parameters, "tokens", None, true)?;
    let y = graph.node("Transpose", &[&found.y], &[Attribute::Ints("perm", &[1, 0, 2])]);
    let decoder = graph.node("Transpose", &[&found.embedding], &[Attribute::Ints("perm", &[1, 0])]);
    let mut logits = graph.node("MatMul", &[&y, &decoder], &[]);
    let words = settings.encoder.vocabulary();
    if settings.decoder_bias {
        let bias = graph.floats("bias", &[words], &values(parameters, "decoder.bias")?);
        logits = graph.node("Add", &[&logits, &bias], &[]);
    }
    graph.output(&logits, "logits", &[batch, time, Dim::Size(words)]);
    for ((name, dims), end) in state.iter().zip(&found.ends) {
        graph.output(end, &format!("{name}_next"), dims);
    }
    graph.file(metadata)
}

/// Classifiers that answer together: `tokens` i64 `[B, T]`, padded at the end with anything, and
/// `lengths` i64 `[B]` to `logits` and `probabilities` `[B, C]`. Of several networks the
/// probabilities are their mean, and the logits its logarithm; where some read forward and some
/// backward, the texts are given as they stand.
///
/// # Errors
/// A model of pairs, of numbers or of tags; a file that would be too large.
pub fn classifier(models: &[&Loaded<Classifier>], metadata: &[(&str, String)]) -> Result<Vec<u8>> {
    let mut graph = Graph::default();
    let (batch, time) = (Dim::Named("batch"), Dim::Named("time"));
    graph.input("tokens", INT64, &[batch, time]);
    graph.input("lengths", INT64, &[batch]);
    let first = models[0];
    let mixed = models.iter().any(|model| model.config.direction != first.config.direction);
    let mut all = Vec::new();
    for model in models {
        let turned = mixed && model.config.direction == Direction::Backward;
        let tokens = match turned {
            true => {
                let axes = [Attribute::Int("batch_axis", 0), Attribute::Int("time_axis", 1)];
                graph.node("ReverseSequence", &["tokens", "lengths"], &axes)
            }
            false => "tokens".to_string(),
        };
        all.push(network(&mut graph, model, &tokens)?);
    }
    let [logits, probabilities] = match all.as_slice() {
        [one] => one.clone(),
        several => {
            let of_each: Vec<&str> = several.iter().map(|[_, p]| p.as_str()).collect();
            let mean = graph.node("Mean", &of_each, &[]);
            [graph.node("Log", &[&mean], &[]), mean]
        }
    };
    let dims = [batch, Dim::Size(first.network.settings.classes)];
    graph.output(&logits, "logits", &dims);
    graph.output(&probabilities, "probabilities", &dims);
    graph.file(metadata)
}

/// The nodes of a classifier: its logits and probabilities.
fn network(graph: &mut Graph, model: &Loaded<Classifier>, tokens: &str) -> Result<[String; 2]> {
    let (settings, parameters) = (&model.network.settings, &model.parameters);
    if settings.pair || settings.answers == Answers::Number || settings.answers.is_of_words() {
        return Err(Error::usage("--to onnx: a model of pairs, of numbers or of tags cannot be written as ONNX yet")
            .hint("--to pytorch can"));
    }
    let found = encoder(graph, &settings.encoder, parameters, tokens, Some("lengths"), false)?;
    let mut x = pooled(graph, &found.y, settings.bptt, settings.max_steps, settings.strict_cap);
    let layers = settings.head.len() + 1;
    let mut input = 3 * settings.encoder.width();
    for k in 0..layers {
        let of = |name: &str| values(parameters, &format!("head.{k}.{name}"));
        let output = settings.head.get(k).copied().unwrap_or(settings.classes);
        let bias = if settings.linear_bias { of("linear.bias")? } else { vec![0.0; output] };
        let norm = [of("norm.weight")?, of("norm.bias")?, of("norm.running_mean")?, of("norm.running_var")?];
        let (weight, bias) = folded(&of("linear.weight")?, &bias, &norm);
        let weight = graph.floats("weight", &[output, input], &weight);
        let bias = graph.floats("bias", &[output], &bias);
        x = graph.node("Gemm", &[&x, &weight, &bias], &[Attribute::Int("transB", 1)]);
        if k + 1 < layers {
            x = graph.node("Relu", &[&x], &[]);
        }
        input = output;
    }
    let probabilities = match settings.answers {
        Answers::Labels => graph.node("Sigmoid", &[&x], &[]),
        Answers::Class | Answers::Number | Answers::Tags { .. } => {
            graph.node("Softmax", &[&x], &[Attribute::Int("axis", 1)])
        }
    };
    Ok([x, probabilities])
}

/// `[last, maximum, mean]` over the chunks that are pooled (docs/SPEC.md §1.6, 1.7): from the first
/// that begins at or after `length − max_steps` (`strict`: after), or from the last one. `[T, B,
/// E]` to `[B, 3E]`.
fn pooled(graph: &mut Graph, y: &str, bptt: usize, max_steps: usize, strict: bool) -> String {
    let most = if strict { max_steps - 1 } else { max_steps };
    let number = |graph: &mut Graph, value: usize| graph.ints(&[1], &[value as i64]);
    let [zero, one, chunk] = [0, 1, bptt].map(|value| number(graph, value));
    let short_of = number(graph, most);
    let round_up = number(graph, bptt - 1);
    let rest = graph.node("Sub", &["lengths", &short_of], &[]);
    let rest = graph.node("Max", &[&rest, &zero], &[]);
    let rest = graph.node("Add", &[&rest, &round_up], &[]);
    let first = graph.node("Div", &[&rest, &chunk], &[]);
    let last_step = graph.node("Sub", &["lengths", &one], &[]);
    let last_chunk = graph.node("Div", &[&last_step, &chunk], &[]);
    let first = graph.node("Min", &[&first, &last_chunk], &[]);
    let start = graph.node("Mul", &[&first, &chunk], &[]);

    // which steps of every row count, [T, B]
    let shape = graph.node("Shape", &["tokens"], &[]);
    let scalar = |graph: &mut Graph, value: i64| graph.ints(&[], &[value]);
    let [from, by, axis] = [0, 1, 1].map(|value| scalar(graph, value));
    let steps = graph.node("Gather", &[&shape, &axis], &[Attribute::Int("axis", 0)]);
    let steps = graph.node("Range", &[&from, &steps, &by], &[]);
    let steps = graph.node("Unsqueeze", &[&steps, &one], &[]);
    let before_end = graph.node("Less", &[&steps, "lengths"], &[]);
    let begun = graph.node("GreaterOrEqual", &[&steps, &start], &[]);
    let counts = graph.node("And", &[&before_end, &begun], &[]);
    let two = number(graph, 2);
    let counts = graph.node("Unsqueeze", &[&counts, &two], &[]);

    let nothing = graph.floats("nothing", &[1], &[0.0]);
    let least = graph.floats("least", &[1], &[f32::NEG_INFINITY]);
    let kept = graph.node("Where", &[&counts, y, &nothing], &[]);
    let sum = graph.node("ReduceSum", &[&kept, &zero], &[Attribute::Int("keepdims", 0)]);
    let number_of = graph.node("Sub", &["lengths", &start], &[]);
    let number_of = graph.node("Cast", &[&number_of], &[Attribute::Int("to", FLOAT)]);
    let number_of = graph.node("Unsqueeze", &[&number_of, &one], &[]);
    let mean = graph.node("Div", &[&sum, &number_of], &[]);
    let candidates = graph.node("Where", &[&counts, y, &least], &[]);
    let maximum =
        graph.node("ReduceMax", &[&candidates], &[Attribute::Ints("axes", &[0]), Attribute::Int("keepdims", 0)]);
    let rows_first = graph.node("Transpose", &[y], &[Attribute::Ints("perm", &[1, 0, 2])]);
    let last_step = graph.node("Unsqueeze", &[&last_step, &one], &[]);
    let last = graph.node("GatherND", &[&rows_first, &last_step], &[Attribute::Int("batch_dims", 1)]);
    graph.node("Concat", &[&last, &maximum, &mean], &[Attribute::Int("axis", 1)])
}

/// A linear layer after a batch norm in evaluation as one linear layer. `norm`: weight, bias, mean
/// and variance of every input.
fn folded(weight: &[f32], bias: &[f32], norm: &[Vec<f32>; 4]) -> (Vec<f32>, Vec<f32>) {
    let [gain, shift, mean, variance] = norm;
    let inputs = gain.len();
    let wide = |v: &f32| f64::from(*v);
    let scale: Vec<f64> = gain.iter().zip(variance).map(|(g, v)| wide(g) / (wide(v) + EPSILON).sqrt()).collect();
    let (mut weights, mut biases) = (Vec::with_capacity(weight.len()), Vec::with_capacity(bias.len()));
    for (row, b) in weight.chunks_exact(inputs).zip(bias) {
        weights.extend(row.iter().zip(&scale).map(|(w, s)| (wide(w) * s) as f32));
        let moved = |i: usize| wide(&row[i]) * (wide(&shift[i]) - wide(&mean[i]) * scale[i]);
        biases.push((wide(b) + (0..inputs).map(moved).sum::<f64>()) as f32);
    }
    (weights, biases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_norm_computes_the_same() {
        let norm = [vec![2.0, 0.5], vec![0.1, -0.2], vec![1.0, -1.0], vec![4.0, 0.25]];
        let (weight, bias) = folded(&[1.0, 2.0, -3.0, 0.5], &[0.5, 0.0], &norm);
        let x = [0.7f64, -0.3];
        for (k, row) in [[1.0, 2.0], [-3.0, 0.5]].iter().enumerate() {
            let expected: f64 = (0..2)
                .map(|i| {
                    let [g, b, m, v] = [0, 1, 2, 3].map(|n: usize| f64::from(norm[n][i]));
                    row[i] * ((x[i] - m) / (v + EPSILON).sqrt() * g + b)
                })
                .sum::<f64>()
                + [0.5, 0.0][k];
            let found = (0..2).map(|i| f64::from(weight[2 * k + i]) * x[i]).sum::<f64>() + f64::from(bias[k]);
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}
