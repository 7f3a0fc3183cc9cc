//! Encoders as nodes of ONNX: an LSTM operator a layer; a Scan operator for the states of a QRNN
//! layer, whose gates are products and activations.

use super::graph::{Attribute, Dim, Graph, INT32};
use crate::autodiff::Parameters;
use crate::error::{Error, Result};
use crate::nn::{AwdLstmSettings, EncoderSettings, QrnnSettings};

/// The values of a parameter.
///
/// # Errors
/// The model has no such parameter.
pub fn values(parameters: &Parameters, name: &str) -> Result<Vec<f32>> {
    let id = parameters.find(name).ok_or_else(|| Error::data(format!("the model has no '{name}'")))?;
    Ok(parameters.value(id).read::<f32>().to_vec())
}

/// Rows of four gates in the order of ONNX: input, output, forget, cell; here input, forget, cell,
/// output.
fn gates(values: &[f32]) -> Vec<f32> {
    let part = values.len() / 4;
    [0, 3, 1, 2].iter().flat_map(|&gate| values[gate * part..][..part].iter().copied()).collect()
}

/// Nodes of an encoder.
pub struct Encoded {
    /// `[T, B, E]`
    pub y: String,
    /// Constant, `[V, E]`.
    pub embedding: String,
    /// What it ends with, in the order of [`slots`].
    pub ends: Vec<String>,
}

/// The names of the state that an encoder begins with, and their sizes.
pub fn slots(settings: &EncoderSettings) -> Vec<(String, Vec<Dim>)> {
    let batch = Dim::Named("batch");
    match settings {
        EncoderSettings::AwdLstm(sizes) => {
            let of = |l: usize| {
                ["h", "c"].map(|k| (format!("{k}{l}"), vec![Dim::Size(1), batch, Dim::Size(units(sizes, l))]))
            };
            (0..sizes.layers).flat_map(of).collect()
        }
        EncoderSettings::Qrnn(sizes) => {
            let states = (0..sizes.layers).map(|l| (format!("c{l}"), vec![batch, Dim::Size(sizes.layer_sizes(l).1)]));
            states.chain([("last".into(), vec![batch, Dim::Size(sizes.embedding)])]).collect()
        }
    }
}

/// Embedding and layers: `tokens` `[B, T]` to `[T, B, E]`. `lengths`: of the texts, where there are
/// any. `goes_on`: whether it begins with the inputs that [`slots`] names, else with zeros.
///
/// # Errors
/// A parameter that is missing.
pub fn encoder(
    graph: &mut Graph,
    settings: &EncoderSettings,
    parameters: &Parameters,
    tokens: &str,
    lengths: Option<&str>,
    goes_on: bool,
) -> Result<Encoded> {
    let shape = [settings.vocabulary(), settings.width()];
    let embedding = graph.floats("embedding", &shape, &values(parameters, "encoder.weight")?);
    let words = graph.node("Gather", &[&embedding, tokens], &[Attribute::Int("axis", 0)]);
    let x = graph.node("Transpose", &[&words], &[Attribute::Ints("perm", &[1, 0, 2])]);
    let state: Vec<String> =
        if goes_on { slots(settings).into_iter().map(|(name, _)| name).collect() } else { Vec::new() };
    let (y, ends) = match settings {
        EncoderSettings::AwdLstm(sizes) => lstm(graph, sizes, parameters, x, lengths, &state)?,
        // what stands after the end of a text changes nothing before it
        EncoderSettings::Qrnn(sizes) => qrnn(graph, sizes, parameters, x, tokens, &state)?,
    };
    Ok(Encoded { y, embedding, ends })
}

fn units(sizes: &AwdLstmSettings, l: usize) -> usize {
    if l + 1 == sizes.layers { sizes.embedding } else { sizes.hidden }
}

type Layers = (String, Vec<String>);

fn lstm(
    graph: &mut Graph,
    sizes: &AwdLstmSettings,
    parameters: &Parameters,
    mut x: String,
    lengths: Option<&str>,
    state: &[String],
) -> Result<Layers> {
    let lengths = lengths.map(|lengths| graph.node("Cast", &[lengths], &[Attribute::Int("to", INT32)]));
    let axis = graph.ints(&[1], &[1]);
    let mut ends = Vec::new();
    for l in 0..sizes.layers {
        let input = if l == 0 { sizes.embedding } else { sizes.hidden };
        let units = units(sizes, l);
        let of = |name: &str| values(parameters, &format!("rnns.{l}.{name}_l0")).map(|v| gates(&v));
        let w = graph.floats("w", &[1, 4 * units, input], &of("weight_ih")?);
        let r = graph.floats("r", &[1, 4 * units, units], &of("weight_hh")?);
        let b = graph.floats("b", &[1, 8 * units], &[of("bias_ih")?, of("bias_hh")?].concat());
        let [y, h, c] = ["y", "h", "c"].map(|what| graph.name(what));
        let lengths = lengths.as_deref().unwrap_or("");
        let [h0, c0] = [2 * l, 2 * l + 1].map(|k| state.get(k).map_or("", String::as_str));
        let hidden = [Attribute::Int("hidden_size", units as i64)];
        graph.node_with("LSTM", &[&x, &w, &r, &b, lengths, h0, c0], &[&y, &h, &c], &hidden);
        // the direction, of which there is one
        x = graph.node("Squeeze", &[&y, &axis], &[]);
        ends.extend([h, c]);
    }
    Ok((x, ends))
}

/// Layers of a QRNN (docs/SPEC.md §1.5): `c_t = f_t⊙z_t + (1−f_t)⊙c_{t−1}`, `y_t = o_t⊙c_t`.
fn qrnn(
    graph: &mut Graph,
    sizes: &QrnnSettings,
    parameters: &Parameters,
    mut x: String,
    tokens: &str,
    state: &[String],
) -> Result<Layers> {
    let [zero, one, all_but_last] = [0, 1, -1].map(|value| graph.ints(&[1], &[value]));
    let shape = graph.node("Shape", &[tokens], &[]);
    let batch = graph.node("Slice", &[&shape, &zero, &one], &[]);
    let nothing = |graph: &mut Graph, lengths: &[&str], size: usize| {
        let size = graph.ints(&[1], &[size as i64]);
        let shape: Vec<&str> = lengths.iter().copied().chain([size.as_str()]).collect();
        let shape = graph.node("Concat", &shape, &[Attribute::Int("axis", 0)]);
        graph.node("ConstantOfShape", &[&shape], &[])
    };
    let last = graph.ints(&[], &[-1]);
    let last = graph.node("Gather", &[&x, &last], &[Attribute::Int("axis", 0)]);
    // the step before beside each step
    let before = match state.last() {
        Some(last) => graph.node("Unsqueeze", &[last, &zero], &[]),
        None => nothing(graph, &[&one, &batch], sizes.embedding),
    };
    let before = graph.node("Concat", &[&before, &x], &[Attribute::Int("axis", 0)]);
    let before = graph.node("Slice", &[&before, &zero, &all_but_last, &zero], &[]);
    x = graph.node("Concat", &[&x, &before], &[Attribute::Int("axis", 2)]);
    let whole = graph.floats("one", &[1], &[1.0]);
    let mut ends = Vec::new();
    for l in 0..sizes.layers {
        let (columns, units) = sizes.layer_sizes(l);
        let rows = values(parameters, &format!("rnns.{l}.linear.weight"))?;
        let weight: Vec<f32> = (0..columns).flat_map(|c| rows.iter().skip(c).step_by(columns).copied()).collect();
        let weight = graph.floats("weight", &[columns, 3 * units], &weight);
        let bias = graph.floats("bias", &[3 * units], &values(parameters, &format!("rnns.{l}.linear.bias"))?);
        let gates = graph.node("MatMul", &[&x, &weight], &[]);
        let gates = graph.node("Add", &[&gates, &bias], &[]);
        let parts = graph.ints(&[3], &[units as i64; 3]);
        let [z, f, o] = ["z", "f", "o"].map(|what| graph.name(what));
        graph.node_with("Split", &[&gates, &parts], &[&z, &f, &o], &[Attribute::Int("axis", 2)]);
        let z = graph.node("Tanh", &[&z], &[]);
        let [mut f, o] = [f, o].map(|gate| graph.node("Sigmoid", &[&gate], &[]));
        if sizes.zoneout > 0.0 {
            let share = graph.floats("zoneout", &[1], &[(1.0 - sizes.zoneout) as f32]);
            f = graph.node("Mul", &[&f, &share], &[]);
        }
        let new = graph.node("Mul", &[&f, &z], &[]);
        let kept = graph.node("Sub", &[&whole, &f], &[]);
        let begin = match state.get(l) {
            Some(begin) => begin.clone(),
            None => nothing(graph, &[&batch], units),
        };
        let (end, states) = scan(graph, &begin, &new, &kept);
        x = graph.node("Mul", &[&o, &states], &[]);
        ends.push(end);
    }
    ends.push(last);
    Ok((x, ends))
}

/// `c_t = new_t + kept_t⊙c_{t−1}` over all steps: the last state, and all of them.
fn scan(graph: &mut Graph, begin: &str, new: &str, kept: &str) -> (String, String) {
    let inputs = ["c", "new", "kept"].map(|what| graph.name(what));
    let body = graph.inner(&inputs, |graph| {
        let [c, new, kept] = &inputs;
        let rest = graph.node("Mul", &[kept, c], &[]);
        let next = graph.node("Add", &[new, &rest], &[]);
        let shown = graph.node("Identity", &[&next], &[]);
        vec![next, shown]
    });
    let [end, states] = ["c_end", "c_all"].map(|what| graph.name(what));
    let attributes = [Attribute::Int("num_scan_inputs", 2), Attribute::Body("body", &body)];
    graph.node_with("Scan", &[begin, new, kept], &[&end, &states], &attributes);
    (end, states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_in_the_order_of_onnx() {
        assert_eq!(gates(&[0.0, 1.0, 2.0, 3.0]), [0.0, 3.0, 1.0, 2.0]);
    }
}
