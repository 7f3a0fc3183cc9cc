//! The whole language model, dropout on, over two windows with carried state.

use super::model::{CheckedModel, ModelCheck, fill};
use crate::autodiff::{Graph, Parameters};
use crate::device::{DType, Device};
use crate::error::Result;
use crate::nn::{
    AwdLstmSettings, DropRates, EncoderSettings, LanguageModel, LanguageModelSettings, LossSettings, Noise,
    QrnnSettings, State,
};
use crate::ops::activation_regularisation::TarGuard;
use crate::random::{Key, Site, Stream};
use crate::tensor::Tensor;

const V: usize = 17;
const E: usize = 5;
const H: usize = 7;
const T: usize = 6;
const B: usize = 3;
const NEGATIVES: usize = 6;

/// The settings that vary from case to case.
#[derive(Clone, Copy)]
struct Switches {
    name: &'static str,
    /// Whose losses are summed: the first window's, the second's, or both.
    counted: [bool; 2],
    decoder_bias: bool,
    ar_on_dropped: bool,
    sampled: bool,
    splits: &'static [usize],
    /// Else an AWD-LSTM.
    qrnn: bool,
}

const CASES: [Switches; 8] = [
    Switches {
        name: "window=1",
        counted: [true, false],
        decoder_bias: true,
        ar_on_dropped: true,
        sampled: false,
        splits: &[],
        qrnn: false,
    },
    Switches {
        name: "window=2",
        counted: [false, true],
        decoder_bias: true,
        ar_on_dropped: true,
        sampled: false,
        splits: &[],
        qrnn: false,
    },
    Switches {
        name: "windows=1+2",
        counted: [true, true],
        decoder_bias: true,
        ar_on_dropped: true,
        sampled: false,
        splits: &[],
        qrnn: false,
    },
    Switches {
        name: "window=2 ar=raw bias=false",
        counted: [false, true],
        decoder_bias: false,
        ar_on_dropped: false,
        sampled: false,
        splits: &[],
        qrnn: false,
    },
    Switches {
        name: "window=2 softmax=sampled",
        counted: [false, true],
        decoder_bias: true,
        ar_on_dropped: true,
        sampled: true,
        splits: &[],
        qrnn: false,
    },
    Switches {
        name: "window=2 softmax=adaptive",
        counted: [false, true],
        decoder_bias: true,
        ar_on_dropped: true,
        sampled: false,
        splits: &[6, 11],
        qrnn: false,
    },
    Switches {
        name: "windows=1+2 encoder=qrnn",
        counted: [true, true],
        decoder_bias: true,
        ar_on_dropped: true,
        sampled: false,
        splits: &[],
        qrnn: true,
    },
    Switches {
        name: "window=2 encoder=qrnn",
        counted: [false, true],
        decoder_bias: true,
        ar_on_dropped: true,
        sampled: false,
        splits: &[],
        qrnn: true,
    },
];

pub(super) fn checks() -> Vec<ModelCheck> {
    let check = |switches: Switches| {
        let name = format!("V{V} E{E} H{H} L3 T{T} B{B} dropout {}", switches.name);
        ModelCheck::new("language_model", name, move || Ok(Box::new(Windows::new(switches)?)))
    };
    CASES.into_iter().map(check).collect()
}

struct Windows {
    model: LanguageModel,
    parameters: Parameters,
    graph: Graph,
    /// Token ids `[T, B]` of each window, and the next words.
    data: [(Tensor, Tensor); 2],
    /// The state that each window starts from, computed once from the unperturbed parameters.
    carried: [State; 2],
    switches: Switches,
    negatives: Option<Tensor>,
}

impl Windows {
    fn new(switches: Switches) -> Result<Self> {
        let encoder: EncoderSettings = match switches.qrnn {
            true => {
                QrnnSettings { vocabulary: V, embedding: E, hidden: H, layers: 3, pad: Some(1), zoneout: 0.2 }.into()
            }
            false => AwdLstmSettings { vocabulary: V, embedding: E, hidden: H, layers: 3, pad: Some(1) }.into(),
        };
        let settings =
            LanguageModelSettings { encoder, decoder_bias: switches.decoder_bias, splits: switches.splits.to_vec() };
        let (model, parameters) = LanguageModel::new(settings, DType::F64)?;
        let key = Key::apart(11);
        fill(&parameters, key, 0.9);
        // ids from 2: the pad row's gradient is suppressed by design, so it must not be met
        let mut stream = Stream::new(key, Site::CUSTOM[2], 0, 0);
        let tokens: Vec<u32> = (0..(2 * T + 1) * B).map(|_| 2 + stream.below(V as u32 - 2)).collect();
        let window = |from: usize| Tensor::from_slice([T, B], &tokens[from * B..(from + T) * B]);
        let negatives: Vec<u32> = (0..NEGATIVES as u32).map(|k| (5 * k + 3) % V as u32).collect();
        let negatives = switches.sampled.then(|| Tensor::from_slice([NEGATIVES], &negatives)).transpose()?;
        let zero = model.encoder.zeros(Device::Cpu, B, DType::F64)?;
        let mut windows = Windows {
            model,
            parameters,
            graph: Graph::new(Device::Cpu, DType::F64, None),
            data: [(window(0)?, window(1)?), (window(T)?, window(T + 1)?)],
            carried: [zero.clone(), zero],
            switches,
            negatives,
        };
        windows.graph.set_recording(false);
        let mut state = windows.carried[0].clone();
        windows.run(0, &mut state)?;
        windows.carried[1] = state;
        Ok(windows)
    }

    /// Loss of a window that starts from `state`.
    fn run(&mut self, window: usize, state: &mut State) -> Result<crate::autodiff::Var> {
        let key = Key::apart(12);
        let rates = DropRates { embedding: 0.2, input: 0.3, weight: 0.4, hidden: 0.3, output: 0.3 };
        let dropout = Noise::of(key, window as u32, rates);
        let losses = LossSettings {
            alpha: 2.0,
            beta: 1.0,
            ar_on_dropped: self.switches.ar_on_dropped,
            tar_guard: TarGuard::Time,
        };
        let (tokens, targets) = &self.data[window];
        let (g, negatives) = (&mut self.graph, self.negatives.as_ref());
        g.reset();
        Ok(self.model.window(g, &self.parameters, tokens, targets, negatives, state, &dropout, &losses)?.total)
    }
}

impl CheckedModel for Windows {
    fn parameters(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn loss(&mut self) -> Result<f64> {
        self.graph.set_recording(false);
        let mut total = 0.0;
        let counted = self.switches.counted;
        for window in (0..2).filter(|&w| counted[w]) {
            let mut state = self.carried[window].clone();
            let loss = self.run(window, &mut state)?;
            total += self.graph.tensor(loss).scalar();
        }
        Ok(total)
    }

    /// As training does it: the second window goes on with the state that the first one left.
    fn gradients(&mut self) -> Result<()> {
        self.graph.set_recording(true);
        let mut state = self.carried[0].clone();
        for window in 0..2 {
            let loss = self.run(window, &mut state)?;
            if self.switches.counted[window] {
                self.graph.backward(loss, &mut self.parameters)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Verdict;
    use super::*;
    use crate::autodiff::Fault;

    fn verdict(build: impl Fn() -> Result<Box<dyn CheckedModel>> + Send + Sync + 'static) -> Verdict {
        Verdict::of(&ModelCheck::new("language_model", "planted", build).compare().unwrap())
    }

    #[test]
    fn an_error_in_any_operation_is_noticed() {
        for operation in ["embedding", "lstm", "locked_dropout", "tied_softmax", "activation_regularisation"] {
            let verdict = verdict(move || {
                let mut windows = Windows::new(CASES[1])?;
                windows.graph.plant(Some(Fault { operation, input: 0 }));
                Ok(Box::new(windows))
            });
            assert!(verdict.wrong > 0, "{operation}");
        }
    }

    #[test]
    fn an_error_in_any_operation_of_a_qrnn_is_noticed() {
        for (operation, input) in
            [("with_previous", 0), ("dropout", 0), ("linear", 1), ("linear", 2), ("forget_mult", 0)]
        {
            let verdict = verdict(move || {
                let mut windows = Windows::new(CASES[7])?;
                windows.graph.plant(Some(Fault { operation, input }));
                Ok(Box::new(windows))
            });
            assert!(verdict.wrong > 0, "{operation}");
        }
    }

    #[test]
    fn an_error_in_the_adaptive_softmax_is_noticed() {
        // hidden state, weight, bias, tombstones and their bias
        for input in 0..5 {
            let verdict = verdict(move || {
                let mut windows = Windows::new(CASES[5])?;
                windows.graph.plant(Some(Fault { operation: "adaptive_softmax", input }));
                Ok(Box::new(windows))
            });
            assert!(verdict.wrong > 0, "input {input}");
        }
    }

    /// Finite differences through both windows: what a gradient would be if the state were not
    /// detached.
    struct Attached(Windows);

    impl CheckedModel for Attached {
        fn parameters(&mut self) -> &mut Parameters {
            self.0.parameters()
        }
        fn loss(&mut self) -> Result<f64> {
            self.0.graph.set_recording(false);
            let mut state = self.0.carried[0].clone();
            self.0.run(0, &mut state)?;
            let loss = self.0.run(1, &mut state)?;
            Ok(self.0.graph.tensor(loss).scalar())
        }
        fn gradients(&mut self) -> Result<()> {
            self.0.gradients()
        }
    }

    #[test]
    fn no_gradient_crosses_the_border_of_a_window() {
        for (case, least) in [(1, 100), (7, 50)] {
            let wrong = verdict(move || Ok(Box::new(Attached(Windows::new(CASES[case])?)))).wrong;
            assert!(wrong > least, "{}: {wrong}", CASES[case].name);
        }
    }
}
