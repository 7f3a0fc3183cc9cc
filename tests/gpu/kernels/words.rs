//! The gradient of words' rows, beyond the cases: a pad row, a row that is used twice,
//! no place at all, no gradient wanted.

use ulmfit::autodiff::{Graph, Parameters};
use ulmfit::ops::Dropout;
use ulmfit::ops::embedding::embedding;
use ulmfit::tensor::{DType, Device, Tensor};

use super::compared::GPU;

const WORDS: usize = 6;
const PAD: u32 = 1;

/// Of numbers whose sums depend on the order of their terms: the CPU's to the last bit.
pub fn gradients_of_rows() {
    // the first and the last word, the pad word, one that stands eleven times and one that never
    // does
    let often = [2, 5, 2, 2, 1, 2, 0, 2, 2, 2, 5, 1, 2, 2, 4, 2, 2, 1];
    for e in [1, 3, 8, 257, 260] {
        for (tokens, shape) in [(&often[..], [6, 3]), (&often[..1], [1, 1]), (&[], [0, 3])] {
            for pad in [None, Some(PAD), Some(WORDS as u32 - 1)] {
                let tokens = Tensor::from_slice(shape, tokens).unwrap();
                let found = gradient(GPU, &tokens, e, pad);
                assert!(found == gradient(Device::Cpu, &tokens, e, pad), "{shape:?} of {e}, pad {pad:?}: other bits");
                assert!(pad.is_none_or(|pad| found[pad as usize * e..][..e].iter().all(|&d| d == 0.0)));
            }
            let mut g = Graph::new(GPU, DType::F32, None);
            let w = g.constant(weights(GPU, e));
            let tokens = Tensor::from_slice(shape, tokens).unwrap();
            embedding(&mut g, &tokens, w, &Dropout::Off, &Dropout::Off, None).unwrap();
            assert_eq!(g.recorded(), 0);
        }
    }
}

/// Whole numbers; beside every third one the others are too small to be added without rounding.
fn numbers(device: Device, shape: &[usize]) -> Tensor {
    let n = shape.iter().product();
    let large = |i| if i % 3 == 0 { 2f32.powi(21) } else { 1.0 };
    let numbers: Vec<f32> = (0..n).map(|i: usize| ((i * 37 % 101) as f32 - 50.0) * large(i)).collect();
    Tensor::from_slice(shape, &numbers).unwrap().to_device(device).unwrap()
}

fn weights(device: Device, e: usize) -> Tensor {
    numbers(device, &[WORDS, e])
}

/// Of a matrix that two embeddings read: the second adds to what the first has set.
fn gradient(device: Device, tokens: &Tensor, e: usize, pad: Option<u32>) -> Vec<f64> {
    let mut parameters = Parameters::builder().build(DType::F32).unwrap();
    let mut g = Graph::new(device, DType::F32, None);
    let w = g.variable(weights(device, e));
    let seeds: Vec<_> = (0..2)
        .map(|_| {
            let y = embedding(&mut g, tokens, w, &Dropout::Off, &Dropout::Off, pad).unwrap();
            (y, numbers(device, g.shape(y).dims()))
        })
        .collect();
    g.backward_from(&seeds, &mut parameters).unwrap();
    g.gradient(w).unwrap().to_f64()
}
