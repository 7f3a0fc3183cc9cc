//! The sites of a model's random numbers (see [`Site`]): every dropout and every start value has a
//! number of its own.

use crate::random::{Site, Sites};

/// Rows of the embedding matrix, (V, 1).
pub const EMBEDDING_ROW: Site = Site::new(1);
/// Embedded input, locked over time, (B, E).
pub const INPUT: Site = Site::new(2);
/// Decoder input of the language model, locked over time, (B, E).
pub const OUTPUT: Site = Site::new(3);
/// Input of the `k`-th linear layer of a head, (B, features).
pub const HEAD: Sites = Sites::new("block of a head", (16, 16), (0x0100, 0x0100));
/// Output of layer `l` of an encoder, locked over time, (B, H).
pub const HIDDEN: Sites = Sites::new("layer", (32, 32), (0x1000, 0x1000));
/// Recurrent weight of layer `l`: hidden-to-hidden of an LSTM, (4H, H); the gates' matrix of a
/// QRNN, (3H, columns).
pub const WEIGHT: Sites = Sites::new("layer", (64, 32), (0x2000, 0x1000));
/// Zoneout of layer `l`, (T·B, H).
pub const ZONEOUT: Sites = Sites::new("layer", (0, 0), (0x3000, 0x1000));
/// Start values of the `k`-th parameter.
pub(super) const INITIAL: Sites = Sites::new("parameter", (96, 96), (0x8000, 0x7FFF));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::ParameterId;
    use crate::nn::{AwdLstmSettings, LanguageModel, LanguageModelSettings};
    use crate::random::{Key, Mask};
    use crate::tensor::DType;

    #[test]
    fn no_number_is_given_twice() {
        let single = [EMBEDDING_ROW, INPUT, OUTPUT, Site::WINDOW, Site::ORDER, Site::NEGATIVES, Site::SPLIT];
        let more = [Site::GENERATE, Site::SYNTHETIC].into_iter().chain(Site::CUSTOM);
        let all = [HEAD, HIDDEN, WEIGHT, ZONEOUT, INITIAL].into_iter().flat_map(|sites| sites.numbers());
        let mut seen = std::collections::HashSet::new();
        for number in single.into_iter().chain(more).map(Site::number).chain(all) {
            assert!(seen.insert(number), "the site {number} is given twice");
        }
    }

    #[test]
    fn hundreds_of_parameters_and_layers_have_numbers_of_their_own() {
        let encoder = AwdLstmSettings { vocabulary: 3, embedding: 2, hidden: 2, layers: 100, pad: None };
        let settings = LanguageModelSettings { encoder: encoder.into(), decoder_bias: false, splits: Vec::new() };
        let (model, parameters) = LanguageModel::new(settings, DType::F64).unwrap();
        model.initialise(&parameters, Key([1, 2])).unwrap();
        // by their range: rows of the embedding ±0.1, the rest ±1/√2
        let start = |id| parameters.value(id).to_f64()[0] / if id == ParameterId(0) { 0.1 } else { 0.5f64.sqrt() };
        let mut values: Vec<f64> = parameters.ids().map(start).collect();
        values.sort_by(f64::total_cmp);
        assert!(values.len() > 400 && values.windows(2).all(|w| w[1] - w[0] > 1e-9), "{values:?}");
        let lanes = |site: Site| Mask::new(Key([1, 2]), 3, site, 4, 0.5).lanes(0, 0);
        let masks = (0..40).flat_map(|l| [HIDDEN, WEIGHT].map(|sites| lanes(sites.site(l).unwrap())));
        let mut seen = std::collections::HashSet::new();
        assert!(masks.into_iter().all(|lanes| seen.insert(lanes)) && seen.len() == 80);
    }
}
