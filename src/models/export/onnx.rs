//! ONNX files, opset 17: an LSTM operator a layer, with the lengths of the texts, so that a text
//! needs no chunks; the pooling of a classifier over its last tokens; batch norms folded into the
//! layers that follow them.

use super::protobuf::Message;
use crate::autodiff::Parameters;
use crate::error::{Error, Result};
use crate::models::Loaded;
use crate::nn::{Answers, Classifier, EncoderSettings, LanguageModel};
use crate::ops::batch_norm::EPSILON;

/// A type, by its number in ONNX's table.
const FLOAT: i64 = 1;
const INT32: i64 = 6;
const INT64: i64 = 7;
const OPSET: i64 = 17;
/// Version of the file format that came with it.
const IR: i64 = 8;

/// A graph that is being made.
#[derive(Default)]
struct Graph {
    nodes: Vec<Message>,
    constants: Vec<Message>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
    /// Nodes and constants so far, for their names.
    count: usize,
}

/// An attribute of a node.
enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
}

impl Graph {
    fn name(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}_{}", self.count)
    }

    fn node_with(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Attribute]) {
        let name = self.name(op);
        let attributes: Vec<Message> = attributes
            .iter()
            .map(|attribute| match *attribute {
                Attribute::Int(name, value) => Message::default().text(1, name).int(3, value).int(20, 2),
                Attribute::Ints(name, values) => Message::default().text(1, name).ints(8, values).int(20, 7),
            })
            .collect();
        let node = Message::default().texts(1, inputs).texts(2, outputs).text(3, &name).text(4, op);
        self.nodes.push(node.messages(5, &attributes));
    }

    /// A node with one output, whose name is returned.
    fn node(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute]) -> String {
        let output = self.name(&op.to_lowercase());
        self.node_with(op, inputs, &[&output], attributes);
        output
    }

    fn constant(&mut self, what: &str, shape: &[usize], kind: i64, raw: &[u8]) -> String {
        let name = self.name(what);
        let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        self.constants.push(Message::default().ints(1, &shape).int(2, kind).text(8, &name).bytes(9, raw));
        name
    }

    fn floats(&mut self, what: &str, shape: &[usize], values: &[f32]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(what, shape, FLOAT, &raw)
    }

    fn ints(&mut self, shape: &[usize], values: &[i64]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant("ints", shape, INT64, &raw)
    }

    /// An input or output; a dimension is a number or a name.
    fn value(name: &str, kind: i64, dims: &[Dim]) -> Message {
        let dims: Vec<Message> = dims
            .iter()
            .map(|dim| match dim {
                Dim::Size(size) => Message::default().int(1, *size as i64),
                Dim::Named(name) => Message::default().text(2, name),
            })
            .collect();
        let shape = Message::default().messages(1, &dims);
        let tensor = Message::default().int(1, kind).message(2, &shape);
        Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
    }

    fn input(&mut self, name: &str, kind: i64, dims: &[Dim]) {
        self.inputs.push(Self::value(name, kind, dims));
    }

    /// Names what a node gives, and makes it an output.
    fn output(&mut self, from: &str, name: &str, dims: &[Dim]) {
        self.node_with("Identity", &[from], &[name], &[]);
        self.outputs.push(Self::value(name, FLOAT, dims));
    }

    fn file(self, metadata: &[(&str, String)]) -> Vec<u8> {
        let graph = Message::default()
            .messages(1, &self.nodes)
            .text(2, "ulmfit")
            .messages(5, &self.constants)
            .messages(11, &self.inputs)
            .messages(12, &self.outputs);
        let opset = Message::default().text(1, "").int(2, OPSET);
        let properties: Vec<Message> =
            metadata.iter().map(|(key, value)| Message::default().text(1, key).text(2, value)).collect();
        Message::default()
            .int(1, IR)
            .text(2, "ulmfit")
            .text(3, env!("CARGO_PKG_VERSION"))
            .message(7, &graph)
            .message(8, &opset)
            .messages(14, &properties)
            .finish()
    }
}

#[derive(Clone, Copy)]
enum Dim {
    Size(usize),
    Named(&'static str),
}

fn values(parameters: &Parameters, name: &str) -> Result<Vec<f32>> {
    let id = parameters.find(name).ok_or_else(|| Error::data(format!("the model has no '{name}'")))?;
    Ok(parameters.value(id).read::<f32>().to_vec())
}

/// Rows of four gates in the order of ONNX: input, output, forget, cell; here input, forget, cell,
/// output.
fn gates(values: &[f32]) -> Vec<f32> {
    let part = values.len() / 4;
    [0, 3, 1, 2].iter().flat_map(|&gate| values[gate * part..][..part].iter().copied()).collect()
}

/// Embedding and layers: `tokens` `[B, T]` to `[T, B, E]`. `lengths`: of the texts, where there are
/// any. `state`: names of what a layer begins with, `[1, B, H]` each; returns those of what it ends
/// with.
fn encoder(
    graph: &mut Graph,
    settings: &EncoderSettings,
    parameters: &Parameters,
    lengths: Option<&str>,
    state: &[[String; 2]],
) -> Result<(String, String, Vec<[String; 2]>)> {
    let EncoderSettings::AwdLstm(sizes) = settings else {
        return Err(Error::usage("a QRNN cannot be exported to ONNX: it has no operator for its layers"));
    };
    let embedding = values(parameters, "encoder.weight")?;
    let embedding = graph.floats("embedding", &[sizes.vocabulary, sizes.embedding], &embedding);
    let words = graph.node("Gather", &[&embedding, "tokens"], &[Attribute::Int("axis", 0)]);
    let mut x = graph.node("Transpose", &[&words], &[Attribute::Ints("perm", &[1, 0, 2])]);
    let lengths = lengths.map(|lengths| graph.node("Cast", &[lengths], &[Attribute::Int("to", INT32)]));
    let axis = graph.ints(&[1], &[1]);
    let mut ends = Vec::new();
    for l in 0..sizes.layers {
        let input = if l == 0 { sizes.embedding } else { sizes.hidden };
        let units = if l + 1 == sizes.layers { sizes.embedding } else { sizes.hidden };
        let of = |name: &str| values(parameters, &format!("rnns.{l}.{name}_l0")).map(|v| gates(&v));
        let w = graph.floats("w", &[1, 4 * units, input], &of("weight_ih")?);
        let r = graph.floats("r", &[1, 4 * units, units], &of("weight_hh")?);
        let b = graph.floats("b", &[1, 8 * units], &[of("bias_ih")?, of("bias_hh")?].concat());
        let [y, h, c] = ["y", "h", "c"].map(|what| graph.name(what));
        let lengths = lengths.as_deref().unwrap_or("");
        let [h0, c0] = state.get(l).map_or(["", ""], |[h, c]| [h.as_str(), c.as_str()]);
        let hidden = [Attribute::Int("hidden_size", units as i64)];
        graph.node_with("LSTM", &[&x, &w, &r, &b, lengths, h0, c0], &[&y, &h, &c], &hidden);
        // the direction, of which there is one
        x = graph.node("Squeeze", &[&y, &axis], &[]);
        ends.push([h, c]);
    }
    Ok((x, embedding, ends))
}

/// A language model: `tokens` i64 `[B, T]` and the state of every layer (`h0`, `c0`, .., zeros at
/// the beginning) to `logits` `[B, T, V]` and the state that goes on (`h0_next`, ..).
///
/// # Errors
/// A QRNN, an adaptive softmax.
pub fn language_model(model: &Loaded<LanguageModel>, metadata: &[(&str, String)]) -> Result<Vec<u8>> {
    let (settings, parameters) = (&model.network.settings, &model.parameters);
    if !settings.splits.is_empty() {
        return Err(Error::usage("a language model with an adaptive softmax cannot be exported")
            .hint("its encoder can: --to safetensors"));
    }
    let mut graph = Graph::default();
    let (batch, time) = (Dim::Named("batch"), Dim::Named("time"));
    graph.input("tokens", INT64, &[batch, time]);
    let EncoderSettings::AwdLstm(sizes) = settings.encoder else {
        return Err(Error::usage("a QRNN cannot be exported to ONNX: it has no operator for its layers"));
    };
    let units = |l: usize| if l + 1 == sizes.layers { sizes.embedding } else { sizes.hidden };
    let state: Vec<[String; 2]> = (0..sizes.layers).map(|l| [format!("h{l}"), format!("c{l}")]).collect();
    for (l, names) in state.iter().enumerate() {
        names.iter().for_each(|name| graph.input(name, FLOAT, &[Dim::Size(1), batch, Dim::Size(units(l))]));
    }
    let (y, embedding, ends) = encoder(&mut graph, &settings.encoder, parameters, None, &state)?;
    let y = graph.node("Transpose", &[&y], &[Attribute::Ints("perm", &[1, 0, 2])]);
    let decoder = graph.node("Transpose", &[&embedding], &[Attribute::Ints("perm", &[1, 0])]);
    let mut logits = graph.node("MatMul", &[&y, &decoder], &[]);
    if settings.decoder_bias {
        let bias = graph.floats("bias", &[sizes.vocabulary], &values(parameters, "decoder.bias")?);
        logits = graph.node("Add", &[&logits, &bias], &[]);
    }
    graph.output(&logits, "logits", &[batch, time, Dim::Size(sizes.vocabulary)]);
    for (l, (names, ends)) in state.iter().zip(&ends).enumerate() {
        for (name, end) in names.iter().zip(ends) {
            graph.output(end, &format!("{name}_next"), &[Dim::Size(1), batch, Dim::Size(units(l))]);
        }
    }
    Ok(graph.file(metadata))
}

/// A classifier: `tokens` i64 `[B, T]`, padded at the end with anything, and `lengths` i64 `[B]` to
/// `logits` and `probabilities` `[B, C]`.
///
/// # Errors
/// A QRNN; a model of pairs, of numbers or of tags.
pub fn classifier(model: &Loaded<Classifier>, metadata: &[(&str, String)]) -> Result<Vec<u8>> {
    let (settings, parameters) = (&model.network.settings, &model.parameters);
    if settings.pair || settings.answers == Answers::Number || settings.answers.is_of_words() {
        return Err(Error::usage("--to onnx: a model of pairs, of numbers or of tags cannot be written as ONNX yet")
            .hint("--to pytorch can"));
    }
    let mut graph = Graph::default();
    let (batch, time) = (Dim::Named("batch"), Dim::Named("time"));
    graph.input("tokens", INT64, &[batch, time]);
    graph.input("lengths", INT64, &[batch]);
    let (y, ..) = encoder(&mut graph, &settings.encoder, parameters, Some("lengths"), &[])?;
    let mut x = pooled(&mut graph, &y, settings.bptt, settings.max_steps, settings.strict_cap);
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
    let dims = [batch, Dim::Size(settings.classes)];
    graph.output(&x, "logits", &dims);
    graph.output(&probabilities, "probabilities", &dims);
    Ok(graph.file(metadata))
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
    fn gates_are_in_the_order_of_onnx() {
        assert_eq!(gates(&[0.0, 1.0, 2.0, 3.0]), [0.0, 3.0, 1.0, 2.0]);
    }

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
