use super::dropout;
use crate::ops::case::{Case, Data};
use crate::ops::mask::Dropout;
use crate::random::{Key, Mask, Site};

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, columns, p) in [(1, 5, 0.1), (5, 7, 0.3), (9, 33, 0.25)] {
        let mut data = Data::new(all.len() as u64);
        let x = data.normal("x", &[rows, columns], 1.0);
        let mask = data.mask("mask", &[rows, columns], p);
        let name = format!("R{rows} C{columns} p={p}");
        all.push(Case::new("dropout", format!("{name} given"), vec![x.clone(), mask], |g, v| {
            let mask = Dropout::Given(g.tensor(v[1]).clone());
            Ok(vec![dropout(g, v[0], &mask)?])
        }));
        let mask = Mask::new(Key::apart(1), 3, Site::new(17), 0, p);
        all.push(Case::new("dropout", format!("{name} random"), vec![x], move |g, v| {
            Ok(vec![dropout(g, v[0], &Dropout::random(mask))?])
        }));
    }
    all
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    let x = Data::new(0).normal("x", &[64, 1200], 1.0);
    let mask = Mask::new(Key::apart(1), 3, Site::new(16), 0, 0.4);
    vec![Case::new("dropout", "R64 C1200 p=0.4", vec![x], move |g, v| {
        Ok(vec![dropout(g, v[0], &Dropout::random(mask))?])
    })]
}
