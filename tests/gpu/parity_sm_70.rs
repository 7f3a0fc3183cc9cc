//! The kernels for compute capability 7.0, each test in a process that opens a V100: see
//! kernels/mod.rs, and kernels/compared.rs for the bound. `ULMFIT_PARITY=full` runs three orders of
//! blocks.

use crate::alone::{alone, is_inside};
use crate::sim;

suite!(|name, test| {
    // no other simulates while this one waits for its process, where it has the turn itself
    let _turn = (!is_inside(name)).then(sim::turn);
    alone(name, || test("v100"));
});
