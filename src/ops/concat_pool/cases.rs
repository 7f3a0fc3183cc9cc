use super::{Masking, concat_pool};
use crate::ops::case::{Case, Data, Input};
use crate::random::{Key, Site, Stream};
use crate::tensor::Tensor;

/// Chunks `[T_c, B_c, E]` whose values, over time, are at least 0.06 apart in every column: no two
/// are near a tie.
fn chunks(seed: u32, start: usize, shapes: &[(usize, usize)], size: usize) -> Vec<Input> {
    let names = ["chunk 0", "chunk 1", "chunk 2", "chunk 3"];
    let (total, rows): (usize, usize) = (shapes.iter().map(|s| s.0).sum(), shapes[0].1);
    let mut stream = Stream::new(Key::apart(5), Site::CUSTOM[2], start as u32, seed);
    let mut all = vec![0.0; total * rows * size];
    for column in 0..rows * size {
        let mut ranks: Vec<usize> = (0..total).collect();
        stream.shuffle(&mut ranks);
        for (t, rank) in ranks.into_iter().enumerate() {
            let value = 0.1 * (rank as f64 - 0.5 * total as f64) + 0.04 * (stream.uniform() - 0.5);
            all[t * rows * size + column] = f64::from(value as f32);
        }
    }
    let mut begin = 0;
    shapes
        .iter()
        .zip(names)
        .map(|(&(steps, held), name)| {
            let values: Vec<f64> =
                (begin..begin + steps).flat_map(|t| &all[t * rows * size..][..held * size]).copied().collect();
            begin += steps;
            let tensor = Tensor::from_slice([steps, held, size], &values).expect("as many values as the shape has");
            Input { name, tensor, differentiable: true }
        })
        .collect()
}

/// Masking, start, (steps, rows) of each chunk, E, lengths, first.
type Row<'a> = (Masking, usize, &'a [(usize, usize)], usize, &'a [u32], &'a [u32]);

pub fn cases() -> Vec<Case> {
    use Masking::{Version1, Version2, Version07};
    let mut all = Vec::new();
    let table: &[Row] = &[
        (Version07, 0, &[(1, 1)], 1, &[1], &[0]),
        (Version07, 0, &[(4, 3), (3, 3)], 5, &[7, 4, 2], &[0, 0, 0]),
        (Version07, 6, &[(3, 3), (3, 3)], 7, &[12, 4, 2], &[6, 6, 6]),
        (Version1, 0, &[(1, 1)], 1, &[1], &[0]),
        (Version1, 0, &[(4, 3), (3, 3)], 5, &[7, 6, 4], &[0, 0, 0]),
        (Version1, 6, &[(3, 3), (3, 3), (1, 3)], 7, &[13, 8, 5], &[6, 6, 6]),
        (Version2, 0, &[(1, 1)], 1, &[1], &[0]),
        (Version2, 0, &[(4, 5), (3, 2)], 5, &[7, 6, 4, 4, 3], &[0, 0, 0, 0, 0]),
        // a cap of two blocks: the longest row pools its last two, the others begin earlier
        (Version2, 0, &[(3, 5), (3, 4), (3, 2), (2, 1)], 7, &[11, 8, 6, 5, 3], &[6, 3, 0, 0, 0]),
        (Version2, 6, &[(3, 2), (3, 2)], 3, &[12, 11], &[6, 6]),
    ];
    for &row in table {
        all.push(case(all.len() as u32, row));
    }
    all
}

fn case(seed: u32, (masking, start, shapes, size, lengths, first): Row) -> Case {
    let mut inputs = chunks(seed, start, shapes, size);
    let count = inputs.len();
    inputs.push(Data::given("lengths", &[lengths.len()], lengths));
    inputs.push(Data::given("first", &[first.len()], first));
    let name = format!("{masking:?} start={start} chunks={shapes:?} E{size}");
    Case::new("concat_pool", name, inputs, move |g, v| {
        Ok(vec![concat_pool(g, &v[..count], start, v[count], v[count + 1], masking)?])
    })
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    let row = (Masking::Version2, 0, &[(140, 64), (140, 64), (120, 64)][..], 400, &[400; 64][..], &[0; 64][..]);
    vec![case(0, row)]
}
