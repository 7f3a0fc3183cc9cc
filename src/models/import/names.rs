//! Names of other programs for the tensors of an AWD-LSTM or a QRNN and its heads, and what they
//! imply for the model: its kind, its sizes.

use std::collections::{BTreeMap, BTreeSet};

use super::torch::{Array, Named};
use crate::ops::concat_pool::Masking;

/// The kind of model in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// fastai 1 or 2: the two name the tensors alike.
    Fastai,
    /// The authors' scripts (fastai 0.7).
    Scripts,
    /// awd-lstm-lm (Merity et al. 2018).
    Awd,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Fastai => "fastai",
            Kind::Scripts => "scripts",
            Kind::Awd => "awd",
        }
    }
}

/// The tensors of a model under this program's names, with its sizes.
#[derive(Debug)]
pub struct Found {
    pub kind: Kind,
    /// `encoder.weight`, `rnns.N.*`, `decoder.bias`, `head.N.*`.
    pub tensors: BTreeMap<String, Array>,
    pub vocabulary: usize,
    pub embedding: usize,
    pub hidden: usize,
    pub layers: usize,
    /// A QRNN, else an LSTM.
    pub qrnn: bool,
    /// Widths of a classifier's head, from the pooled vector to the classes; empty for a language
    /// model.
    pub head: Vec<usize>,
    /// Whose head it is, by its names: pooling and padding follow from it.
    pub masking: Masking,
    /// Whether the file has a decoder.
    pub decoder: bool,
}

/// Names of a layer's tensors, here as there.
const OF_LAYER: [&str; 4] = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"];

struct Tensors {
    all: BTreeMap<String, Array>,
    /// The names that were looked at.
    seen: BTreeSet<String>,
}

impl Tensors {
    fn get(&mut self, name: &str) -> Option<Array> {
        let found = self.all.get(name).cloned()?;
        self.seen.insert(name.to_string());
        Some(found)
    }

    /// The first of several names that is there.
    fn first(&mut self, names: &[String]) -> Result<(String, Array), String> {
        for name in names {
            if let Some(found) = self.get(name) {
                return Ok((name.clone(), found));
            }
        }
        Err(format!("has no tensor '{}'", names[0]))
    }

    /// Marks what need not be read.
    fn ignore(&mut self, wanted: impl Fn(&str) -> bool) {
        self.seen.extend(self.all.keys().filter(|name| wanted(name)).cloned());
    }
}

fn shaped(name: &str, found: Array, expected: &[usize]) -> Result<Array, String> {
    match found.shape == expected {
        true => Ok(found),
        false => Err(format!("has a tensor '{name}' of {:?}, but the others ask for {expected:?}", found.shape)),
    }
}

/// Looks through the tensors of a file.
///
/// # Errors
/// The end of a sentence about the file: a tensor that is missing, of a shape that does not fit,
/// not finite, or of no model that is known.
pub fn find(named: Named) -> Result<Found, String> {
    let mut all = BTreeMap::new();
    for (name, array) in named {
        if let Some(at) = array.values.iter().position(|v| !v.is_finite()) {
            return Err(format!("has a tensor '{name}' with a value that is not finite, at element {at}"));
        }
        if all.insert(name.clone(), array).is_some() {
            return Err(format!("has two tensors '{name}'"));
        }
    }
    let mut t = Tensors { all, seen: BTreeSet::new() };
    let encoders = t.all.keys().filter(|name| *name == "encoder.weight" || name.ends_with(".encoder.weight"));
    let embedding = encoders.min_by_key(|name| name.len()).cloned();
    let embedding = embedding.ok_or("has no tensor 'encoder.weight', which every AWD-LSTM has")?;
    let prefix = embedding.strip_suffix("encoder.weight").unwrap_or_default().to_string();
    let words = t.get(&embedding).ok_or("has no embedding")?;
    let [vocabulary, width] = words.shape[..] else {
        return Err(format!("has a tensor '{embedding}' of {:?}, but it must be a matrix", words.shape));
    };

    let mut tensors = BTreeMap::from([("encoder.weight".to_string(), words.clone())]);
    let start = format!("{prefix}rnns.");
    let number = |name: &String| name.strip_prefix(&start)?.split('.').next()?.parse::<usize>().ok();
    let layers = t.all.keys().filter_map(number).max().map_or(0, |last| last + 1);
    if !(1..=64).contains(&layers) {
        return Err(format!("has {layers} layers '{start}N'; an AWD-LSTM has one or more"));
    }
    let qrnn = t.all.keys().any(|name| name.starts_with(&start) && name.contains(".linear."));
    if t.all.keys().any(|name| name.ends_with("_reverse")) {
        return Err("holds a bidirectional LSTM, which ULMFiT does not have".into());
    }
    let raw = if qrnn { "layers.0.linear.weight_raw" } else { "weight_hh_l0_raw" };
    let raw_outside = t.all.contains_key(&format!("{start}0.{raw}"));
    let hidden = match qrnn {
        true => qrnn_layers(&mut t, &mut tensors, &start, layers, width)?,
        false => lstm_layers(&mut t, &mut tensors, &start, layers, width)?,
    };
    let dropped = |name: &str| {
        let copy = ["encoder_dp.emb.weight", "encoder_with_dropout.embed.weight"];
        copy.iter().any(|end| name.strip_suffix(end).is_some_and(|p| p == prefix))
            || (name.starts_with(&start) && (name.ends_with("weight_hh_l0") || is_gates(name)))
            || name.ends_with("num_batches_tracked")
    };
    t.ignore(dropped);

    let scripts = t.all.keys().any(|name| name.contains("encoder_with_dropout"))
        || t.all.keys().any(|name| name.ends_with(".lin.weight"));
    let (head, masking) = head(&mut t, &mut tensors, 3 * width)?;
    let mut decoder = false;
    for before in ["1.", ""] {
        let (weight, bias) = (format!("{before}decoder.weight"), format!("{before}decoder.bias"));
        if let Some(tied) = t.get(&weight) {
            decoder = true;
            if shaped(&weight, tied, &words.shape)?.values != words.values {
                return Err(format!(
                    "has a decoder '{weight}' of its own; the models here share it with the embedding"
                ));
            }
        }
        if let Some(found) = t.get(&bias) {
            tensors.insert("decoder.bias".into(), shaped(&bias, found, &[vocabulary])?);
        }
    }
    let kind = match (prefix.as_str(), decoder) {
        _ if scripts => Kind::Scripts,
        ("", true) => Kind::Awd,
        _ if raw_outside => Kind::Fastai,
        _ => Kind::Scripts,
    };
    if let Some(name) = t.all.keys().find(|name| !t.seen.contains(*name)) {
        return Err(format!("has a tensor '{name}', which no model that is known has"));
    }
    Ok(Found { kind, tensors, vocabulary, embedding: width, hidden, layers, qrnn, head, masking, decoder })
}

/// Takes the layers of an LSTM, and gives the units of all but the last one.
fn lstm_layers(
    t: &mut Tensors,
    to: &mut BTreeMap<String, Array>,
    start: &str,
    layers: usize,
    width: usize,
) -> Result<usize, String> {
    let mut hidden = width;
    for l in 0..layers {
        let (input, output) = (if l == 0 { width } else { hidden }, if l + 1 == layers { Some(width) } else { None });
        for name in OF_LAYER {
            let (layer, module) = (format!("{start}{l}.{name}"), format!("{start}{l}.module.{name}"));
            let candidates = match name {
                // the weights before dropout: those beside them are of the last batch
                "weight_hh_l0" => vec![format!("{layer}_raw"), format!("{module}_raw"), module, layer],
                _ => vec![module, layer],
            };
            let (found_name, found) = t.first(&candidates)?;
            // the first matrix tells the units
            if l == 0 && name == "weight_ih_l0" {
                let rows = found.shape.first().copied().unwrap_or(0);
                let units = output.unwrap_or(rows / 4);
                if rows == 0 || rows % 4 != 0 {
                    return Err(format!(
                        "has a tensor '{found_name}' of {:?}: its rows are not four gates",
                        found.shape
                    ));
                }
                hidden = units;
            }
            let units = output.unwrap_or(hidden);
            let expected: &[usize] = match name {
                "weight_ih_l0" => &[4 * units, input],
                "weight_hh_l0" => &[4 * units, units],
                _ => &[4 * units],
            };
            to.insert(format!("rnns.{l}.{name}"), shaped(&found_name, found, expected)?);
        }
    }
    Ok(hidden)
}

/// The matrix of the gates, or a copy of it that was dropped.
fn is_gates(name: &str) -> bool {
    name.ends_with(".linear.weight") || name.ends_with(".linear.module.weight")
}

/// Takes the layers of a QRNN, and gives the units of all but the last one. awd-lstm-lm and the
/// scripts have a module `linear` in a layer, fastai one in the only layer of a layer; around each
/// is one that drops weights.
fn qrnn_layers(
    t: &mut Tensors,
    to: &mut BTreeMap<String, Array>,
    start: &str,
    layers: usize,
    width: usize,
) -> Result<usize, String> {
    let mut hidden = width;
    for l in 0..layers {
        let places = [format!("{start}{l}.linear"), format!("{start}{l}.layers.0.linear")];
        let of = |parts: &[&str]| -> Vec<String> {
            parts.iter().flat_map(|part| places.iter().map(move |place| format!("{place}.{part}"))).collect()
        };
        let (name, weight) = t.first(&of(&["weight_raw", "module.weight_raw", "module.weight", "weight"]))?;
        if l == 0 && layers > 1 {
            let rows = weight.shape.first().copied().unwrap_or(0);
            if rows == 0 || rows % 3 != 0 {
                return Err(format!("has a tensor '{name}' of {:?}: its rows are not three gates", weight.shape));
            }
            hidden = rows / 3;
        }
        // the first layer sees the step before, too
        let columns = if l == 0 { 2 * width } else { hidden };
        let units = if l + 1 == layers { width } else { hidden };
        to.insert(format!("rnns.{l}.linear.weight"), shaped(&name, weight, &[3 * units, columns])?);
        let (name, bias) = t.first(&of(&["module.bias", "bias"]))?;
        to.insert(format!("rnns.{l}.linear.bias"), shaped(&name, bias, &[3 * units])?);
    }
    Ok(hidden)
}

/// The blocks of a classifier's head, each a batch norm and a linear layer: `1.layers.N.{bn,lin}`
/// of the scripts, `1.layers.N` in a row of fastai 1, `1.layers.N.M` of fastai 2.
fn head(t: &mut Tensors, to: &mut BTreeMap<String, Array>, pooled: usize) -> Result<(Vec<usize>, Masking), String> {
    let module = |name: &String| Some(name.strip_prefix("1.layers.")?.rsplit_once('.')?.0.to_string());
    let modules: BTreeSet<String> = t.all.keys().filter_map(module).collect();
    let mut modules: Vec<String> = modules.into_iter().collect();
    let place = |name: &String| -> Vec<usize> {
        name.split('.').map(|part| part.parse().unwrap_or(if part == "bn" { 0 } else { 1 })).collect()
    };
    modules.sort_by_key(place);
    let masking = match modules.first() {
        Some(name) if name.ends_with(".bn") || name.ends_with(".lin") => Masking::Version07,
        Some(name) if !name.contains('.') => Masking::Version1,
        _ => Masking::Version2,
    };
    let mut widths = Vec::new();
    for (i, pair) in modules.chunks(2).enumerate() {
        let [norm, linear] = pair else {
            return Err(format!("has a head that ends with '1.layers.{}'", pair[0]));
        };
        let input = widths.last().copied().unwrap_or(pooled);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            let (name, found) = t.first(&[format!("1.layers.{norm}.{part}")])?;
            to.insert(format!("head.{i}.norm.{part}"), shaped(&name, found, &[input])?);
        }
        let (name, weight) = t.first(&[format!("1.layers.{linear}.weight")])?;
        let output = weight.shape.first().copied().unwrap_or(0);
        to.insert(format!("head.{i}.linear.weight"), shaped(&name, weight, &[output, input])?);
        let name = format!("1.layers.{linear}.bias");
        if let Some(bias) = t.get(&name) {
            to.insert(format!("head.{i}.linear.bias"), shaped(&name, bias, &[output])?);
        }
        if widths.is_empty() {
            widths.push(input);
        }
        widths.push(output);
    }
    let with_bias = (0..modules.len() / 2).filter(|i| to.contains_key(&format!("head.{i}.linear.bias"))).count();
    match with_bias == 0 || with_bias == modules.len() / 2 {
        true => Ok((widths, masking)),
        false => Err("has a head of which some layers have a bias and others have none".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 4] = [7, 4, 6, 3];

    /// A QRNN with the matrix of the gates under one name (and a copy that was dropped under
    /// another), and the bias under a third.
    fn qrnn(prefix: &str, raw: &str, dropped: &str, bias: &str) -> Named {
        let [vocabulary, width, hidden, layers] = SIZES;
        let mut next = 0.0;
        let mut array = |shape: &[usize]| {
            let values = (0..shape.iter().product()).map(|_| {
                next += 1.0;
                next
            });
            Array { shape: shape.to_vec(), values: values.collect() }
        };
        let words = array(&[vocabulary, width]);
        let mut all = vec![(format!("{prefix}encoder.weight"), words)];
        for l in 0..layers {
            let columns = if l == 0 { 2 * width } else { hidden };
            let units = if l + 1 == layers { width } else { hidden };
            let weight = array(&[3 * units, columns]);
            let zeros = Array { shape: weight.shape.clone(), values: vec![0.0; weight.values.len()] };
            all.push((format!("{prefix}rnns.{l}.{raw}"), weight));
            if !dropped.is_empty() {
                all.push((format!("{prefix}rnns.{l}.{dropped}"), zeros));
            }
            all.push((format!("{prefix}rnns.{l}.{bias}"), array(&[3 * units])));
        }
        all
    }

    #[test]
    fn a_qrnn_is_found_under_the_names_of_each_program() {
        let own = find(qrnn("", "linear.weight", "", "linear.bias")).unwrap();
        let cases = [
            ("", "linear.module.weight_raw", "linear.module.weight", "linear.module.bias", Kind::Scripts),
            ("0.", "linear.module.weight_raw", "", "linear.module.bias", Kind::Scripts),
            (
                "0.",
                "layers.0.linear.weight_raw",
                "layers.0.linear.module.weight",
                "layers.0.linear.module.bias",
                Kind::Fastai,
            ),
        ];
        for (prefix, raw, dropped, bias, kind) in cases {
            let found = find(qrnn(prefix, raw, dropped, bias)).unwrap();
            assert_eq!([found.vocabulary, found.embedding, found.hidden, found.layers], SIZES);
            assert!(found.qrnn && found.kind == kind, "{raw}: {:?}", found.kind);
            assert_eq!(found.tensors, own.tensors, "{raw}");
        }
        // awd-lstm-lm saves its tied decoder
        let mut awd = qrnn("", "linear.module.weight_raw", "", "linear.module.bias");
        awd.push(("decoder.weight".into(), awd[0].1.clone()));
        assert_eq!(find(awd.clone()).unwrap().kind, Kind::Awd);
        awd[1].1.shape = vec![9, 16];
        assert!(find(awd).unwrap_err().contains("'rnns.0.linear.module.weight_raw' of [9, 16]"));
    }
}
