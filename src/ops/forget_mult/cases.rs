use super::{Zoneout, forget_mult};
use crate::ops::case::{Case, Data};
use crate::ops::mask::Dropout;
use crate::random::{Key, Mask, Site};

fn mask(p: f64) -> Mask {
    Mask::new(Key::apart(12), 5, Site::CUSTOM[1], 0, p)
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (t, b, h) in [(1, 1, 1), (2, 1, 5), (9, 3, 6), (5, 7, 9), (6, 2, 35)] {
        for kind in ["off", "given", "random", "expected"] {
            let mut data = Data::new(300 + all.len() as u64);
            let inputs = vec![
                data.normal("gates", &[t, b, 3 * h], 1.0),
                data.normal("c0", &[b, h], 1.0),
                // factors of zoneout are 0 and 1: the mask of p = 0.3 is 0 or 1/0.7, so any factors
                // are covered
                data.mask("mask", &[t, b, h], 0.3),
            ];
            all.push(Case::new("forget_mult", format!("T{t} B{b} H{h} zoneout={kind}"), inputs, move |g, v| {
                let zoneout = match kind {
                    "off" => Zoneout::Off,
                    "given" => Zoneout::Sampled(Dropout::Given(g.detach(v[2]))),
                    "random" => Zoneout::Sampled(Dropout::random(mask(0.3))),
                    _ => Zoneout::Expected(0.3),
                };
                let out = forget_mult(g, v[0], v[1], &zoneout)?;
                Ok(vec![out.y, out.c])
            }));
        }
    }
    all
}

/// At the sizes of the paper's model, for benchmarks.
pub fn large() -> Vec<Case> {
    vec![one([70, 64, 1550])]
}

/// A layer of `T, B, H` without zoneout. Inputs: gates, c0.
pub fn one([t, b, h]: [usize; 3]) -> Case {
    let mut data = Data::new(0);
    let inputs = vec![data.normal("gates", &[t, b, 3 * h], 1.0), data.normal("c0", &[b, h], 1.0)];
    Case::new("forget_mult", format!("T{t} B{b} H{h}"), inputs, |g, v| {
        let out = forget_mult(g, v[0], v[1], &Zoneout::Off)?;
        Ok(vec![out.y, out.c])
    })
}
