use super::locked_dropout;
use crate::ops::case::{Case, Data};
use crate::ops::mask::Dropout;
use crate::random::{Key, Mask, Site};

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (t, b, f, p) in [(1, 1, 5, 0.1), (5, 3, 7, 0.3), (7, 5, 17, 0.25)] {
        let mut data = Data::new(all.len() as u64);
        let x = data.normal("x", &[t, b, f], 1.0);
        let mask = data.mask("mask", &[b, f], p);
        let name = format!("T{t} B{b} F{f} p={p}");
        all.push(Case::new("locked_dropout", format!("{name} given"), vec![x.clone(), mask], |g, v| {
            let mask = Dropout::Given(g.tensor(v[1]).clone());
            Ok(vec![locked_dropout(g, v[0], &mask)?])
        }));
        let mask = Mask::new(Key::apart(1), 3, Site::new(33), 2, p);
        all.push(Case::new("locked_dropout", format!("{name} random"), vec![x], move |g, v| {
            Ok(vec![locked_dropout(g, v[0], &Dropout::random(mask))?])
        }));
    }
    all
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    let x = Data::new(0).normal("x", &[70, 64, 1150], 1.0);
    let mask = Mask::new(Key::apart(1), 3, Site::new(32), 0, 0.3);
    vec![Case::new("locked_dropout", "T70 B64 F1150 p=0.3", vec![x], move |g, v| {
        Ok(vec![locked_dropout(g, v[0], &Dropout::random(mask))?])
    })]
}
