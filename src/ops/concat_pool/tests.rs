use super::*;
use crate::autodiff::Parameters;
use crate::ops::testing;

fn indices(g: &mut Graph, values: &[u32]) -> Var {
    g.constant(Tensor::from_slice([values.len()], values).unwrap())
}

/// Two rows, one feature, five steps in chunks of three and two.
fn pool(masking: Masking, lengths: &[u32], first: &[u32]) -> Result<Vec<f64>> {
    let mut g = testing::graph(DType::F64);
    let a = g.constant(testing::tensor(&[3, 2, 1], &[8.0, 9.0, 1.0, -4.0, 2.0, -1.0]));
    let b = g.constant(testing::tensor(&[2, 2, 1], &[5.0, -2.0, 3.0, -6.0]));
    let (lengths, first) = (indices(&mut g, lengths), indices(&mut g, first));
    let y = concat_pool(&mut g, &[a, b], 0, lengths, first, masking)?;
    Ok(g.tensor(y).to_f64())
}

#[test]
fn each_version_masks_its_own_way() {
    let all = [3.0, 8.0, 3.8, -6.0, 9.0, -0.8];
    assert_eq!(pool(Masking::Version07, &[5, 3], &[0, 0]).unwrap(), all);
    assert_eq!(pool(Masking::Version07, &[0, 0], &[1, 1]).unwrap(), [3.0, 5.0, 2.75, -6.0, -1.0, -3.25]);
    assert_eq!(pool(Masking::Version1, &[5, 3], &[0, 0]).unwrap(), [3.0, 8.0, 3.8, -6.0, -1.0, -3.0]);
    assert_eq!(pool(Masking::Version1, &[4, 5], &[3, 3]).unwrap(), [3.0, 5.0, 4.0, -6.0, -2.0, -4.0]);
    assert_eq!(pool(Masking::Version2, &[5, 2], &[0, 0]).unwrap(), [3.0, 8.0, 3.8, -4.0, 9.0, 2.5]);
    assert_eq!(pool(Masking::Version2, &[4, 3], &[1, 0]).unwrap()[..3], [5.0, 5.0, 8.0 / 3.0]);
}

#[test]
fn the_kept_steps_may_begin_late() {
    let mut g = testing::graph(DType::F64);
    let x = g.constant(testing::tensor(&[2, 2, 1], &[5.0, -2.0, 3.0, -6.0]));
    let first = indices(&mut g, &[140, 140]);
    let lengths = indices(&mut g, &[142, 1]);
    let y = concat_pool(&mut g, &[x], 140, lengths, first, Masking::Version1).unwrap();
    assert_eq!(g.tensor(y).to_f64(), [3.0, 5.0, 4.0, -6.0, -6.0, -6.0]);
}

#[test]
fn of_equal_values_the_first_is_the_maximum_and_unpooled_steps_get_nothing() {
    let mut g = testing::graph(DType::F64);
    let a = g.variable(testing::tensor(&[2, 1, 1], &[9.0, 4.0]));
    let b = g.variable(testing::tensor(&[3, 1, 1], &[4.0, 1.0, 7.0]));
    let (lengths, first) = (indices(&mut g, &[4]), indices(&mut g, &[1]));
    let y = concat_pool(&mut g, &[a, b], 0, lengths, first, Masking::Version2).unwrap();
    let mut parameters = Parameters::builder().build(DType::F64).unwrap();
    g.backward_from(&[(y, testing::tensor(&[1, 3], &[100.0, 10.0, 3.0]))], &mut parameters).unwrap();
    assert_eq!(g.gradient(a).unwrap().to_f64(), [0.0, 11.0]);
    assert_eq!(g.gradient(b).unwrap().to_f64(), [1.0, 101.0, 0.0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let text = |result: Result<Vec<f64>>| result.unwrap_err().to_string();
    use Masking::{Version1, Version2};
    assert_eq!(text(pool(Version2, &[6, 2], &[0, 0])), "concat_pool: lengths must be 1 to 5, found 6 in row 0");
    assert_eq!(text(pool(Version1, &[5, 0], &[0, 0])), "concat_pool: lengths must be 1 to 5, found 0 in row 1");
    assert_eq!(
        text(pool(Version2, &[5, 2], &[0, 2])),
        "concat_pool: first must be 0 or more, and below 2, found 2 in row 1"
    );
    assert_eq!(text(pool(Version2, &[5], &[0])), "concat_pool: lengths must be u32 [2], found u32 [1]");

    let mut g = testing::graph(DType::F64);
    let a = g.constant(testing::tensor(&[1, 2, 1], &[1.0; 2]));
    let b = g.constant(testing::tensor(&[1, 1, 1], &[1.0]));
    let (lengths, first) = (indices(&mut g, &[2, 2]), indices(&mut g, &[0, 0]));
    let error = concat_pool(&mut g, &[a, b], 0, lengths, first, Version2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "concat_pool: chunks must be such that row 1, pooled over 0..2, is in the chunk at step 1, found 1 rows"
    );
    assert!(concat_pool(&mut g, &[b, a], 0, lengths, first, Version2).is_err(), "rows never grow");
    assert!(concat_pool(&mut g, &[], 0, lengths, first, Version2).is_err());
    assert!(concat_pool(&mut g, &[a], 1, lengths, first, Version2).is_err(), "first lies before the start");
}

#[test]
fn one_thread_or_many() {
    let run = || {
        let mut g = testing::graph(DType::F32);
        let values: Vec<f32> = (0..40 * 9 * 33).map(|i| ((i * 7919) % 1009) as f32 * 0.001).collect();
        let x = g.variable(Tensor::from_slice([40, 9, 33], &values).unwrap());
        let (lengths, first) = (indices(&mut g, &[40; 9]), indices(&mut g, &[0; 9]));
        let y = concat_pool(&mut g, &[x], 0, lengths, first, Masking::Version1).unwrap();
        let seed = g.detach(y);
        let mut parameters = Parameters::builder().build(DType::F32).unwrap();
        g.backward_from(&[(y, seed)], &mut parameters).unwrap();
        (g.tensor(y).to_f64(), g.gradient(x).unwrap().to_f64())
    };
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
    assert!(with(1) == with(3));
}

#[test]
fn gradients() {
    testing::check(cases::cases());
}
