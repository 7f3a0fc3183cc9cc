//! The row parts of the product that computes logits, tile by tile; and losses without
//! gradients, for which no logits are stored.

use ulmfit::autodiff::Graph;
use ulmfit::device::Precision;
use ulmfit::device::cpu::gemm::Store;
use ulmfit::device::cuda;
use ulmfit::device::cuda::gemm::{Matrix, ROW_PART, Tile, gemm_tiled, logits};
use ulmfit::ops;
use ulmfit::ops::adaptive_softmax::AdaptiveDecoder;
use ulmfit::ops::case::Data;
use ulmfit::tensor::{DType, Tensor};

use super::compared::{GPU, operand};

/// Logits are those of [`gemm_tiled`], bit for bit; largest, its first place and the target's are
/// those of what is stored; the sum is that of exponentials.
pub fn parts(precision: Precision) {
    let context = cuda::context(0).unwrap();
    let mut data = Data::new(8);
    for [m, n, k] in [[1, 1, 1], [5, 63, 9], [67, 64, 8], [130, 300, 17], [3, 257, 40]] {
        for (with_bias, with_targets, keep, spread) in
            [(true, true, true, 1.0), (false, true, true, 9.0), (true, false, true, 1.0), (true, true, false, 1.0)]
        {
            let mut values = |count: usize, spread: f64| -> Vec<f32> {
                data.normal("", &[count], spread).tensor.to_f64().iter().map(|&x| x as f32).collect()
            };
            let (x, mut w, mut b) = (values(m * k, 1.0), values(n * k, spread), values(n, 1.0));
            // the same words twice and more, in one tile and in others, of which row 0 makes the
            // likeliest
            for word in [n - 1, n / 2, n / 3, n / 3 + 1].into_iter().filter(|&word| word < n) {
                w[word * k..][..k].iter_mut().zip(&x).for_each(|(w, &x)| *w = 9.0 * x);
                b[word] = 2.0;
            }
            let targets: Vec<u32> = (0..m).map(|row| (row * 37 % n) as u32).collect();
            let device =
                |dims: &[usize], values: &[f32]| Tensor::from_slice(dims, values).unwrap().to_device(GPU).unwrap();
            let [a, w] = [(m, &x), (n, &w)].map(|(rows, values)| operand(precision, &device(&[rows, k], values)));
            let of = if precision == Precision::Full { Matrix::new } else { Matrix::rounded };
            let (a, w) = (of(a.argument(), m, k), of(w.argument(), n, k));
            let bias = device(&[n], &b);
            let bias = with_bias.then(|| bias.argument());
            let list = Tensor::from_slice([m], &targets).unwrap().to_device(GPU).unwrap();
            for &tile in Tile::of(precision) {
                let [c, wanted] = [0, 1].map(|_| Tensor::zeros_on(GPU, [m, n], DType::F32).unwrap());
                let (columns, tiles) = (tile.edges()[1], n.div_ceil(tile.edges()[1]));
                let parts = Tensor::zeros_on(GPU, [m, tiles, ROW_PART], DType::F32).unwrap();
                let (of_rows, to) = (with_targets.then(|| list.argument()), keep.then(|| c.argument()));
                logits(context, tile, [a, w], bias, of_rows, to, parts.argument()).unwrap();
                gemm_tiled(context, tile, a, w.t(), bias, wanted.argument(), Store::Set).unwrap();
                let (wanted, parts) = (wanted.to_f64(), parts.to_f64());
                if keep {
                    assert_eq!(c.to_f64(), wanted, "{precision:?} {tile:?} {m}x{n}x{k}: other logits than a product's");
                }
                for (row, all) in wanted.chunks(n).enumerate() {
                    for (index, values) in all.chunks(columns).enumerate() {
                        let part = &parts[(row * tiles + index) * ROW_PART..][..ROW_PART];
                        let first = index * columns;
                        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        let best = first + values.iter().position(|&x| x == max).unwrap();
                        let target = targets[row] as usize;
                        let here = with_targets && (first..first + values.len()).contains(&target);
                        let of_target = if here { all[target] } else { 0.0 };
                        let found = (part[0], (part[2] as f32).to_bits() as usize, part[3]);
                        let at = format!("{precision:?} {tile:?} {m}x{n}x{k} row {row} tile {index}");
                        assert_eq!(found, (max, best, of_target), "{at}: largest, its place, the target's");
                        let sum: f64 = values.iter().map(|&x| (x - max).exp()).sum();
                        // a rounding of half a unit for each term, and what an exponential may be
                        // off: two units, and a difference of 100 half a unit of it
                        let bound = (values.len() as f64 + 2.0 * 2.0) * 2f64.powi(-24) * sum
                            + values.iter().map(|&x| (x - max).exp() * (max - x) * 2f64.powi(-24)).sum::<f64>();
                        assert!((part[1] - sum).abs() <= bound, "{at}: Σ {} is not {sum}", part[1]);
                    }
                }
                let row = &wanted[..n];
                let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let likeliest = row.iter().filter(|&&x| x == max).count();
                assert!(n < 63 || likeliest >= 3, "{likeliest} words are the likeliest of row 0");
            }
        }
    }
}

/// Losses and hits are, bit for bit, those that come with gradients.
pub fn without_gradients(precision: Precision) {
    let mut data = Data::new(9);
    let (n, v, e) = (70, 200, 12);
    let tensors = [&[n, e][..], &[v, e], &[v], &[2, e], &[2]].map(|shape| data.normal("", shape, 0.7).tensor);
    let targets: Vec<u32> = (0..n as u32).map(|i| i * 29 % v as u32).collect();
    let targets = Tensor::from_slice([n], &targets).unwrap();
    let negatives = Tensor::from_slice([90], &(0..90u32).map(|i| i * 2).collect::<Vec<_>>()).unwrap();
    let run = |wanted: bool| {
        let mut g = Graph::new(GPU, DType::F32, None).with_precision(precision);
        let [x, w, b, vectors, tail_bias] = tensors.each_ref().map(|t| {
            let copy = Tensor::zeros(t.shape(), DType::F32).unwrap();
            copy.set_f64(&t.to_f64());
            let copy = copy.to_device(GPU).unwrap();
            if wanted { g.variable(copy) } else { g.constant(copy) }
        });
        let tied = ops::tied_softmax::tied_softmax(&mut g, x, w, Some(b), &targets).unwrap();
        let sampled = ops::sampled_softmax::sampled_softmax(&mut g, x, w, Some(b), &targets, &negatives).unwrap();
        let decoder =
            AdaptiveDecoder { weight: w, bias: Some(b), tails: Some((vectors, Some(tail_bias))), splits: &[20, 90] };
        let adaptive = ops::adaptive_softmax::adaptive_softmax(&mut g, x, decoder, &targets).unwrap();
        let losses = [tied.row_losses, tied.correct, sampled.row_losses, adaptive.row_losses];
        losses.map(|t| t.to_f64())
    };
    let (with, without) = (run(true), run(false));
    for (name, (with, without)) in ["tied", "hits", "sampled", "adaptive"].iter().zip(with.iter().zip(&without)) {
        assert_eq!(with, without, "{precision:?}: {name}");
    }
}
