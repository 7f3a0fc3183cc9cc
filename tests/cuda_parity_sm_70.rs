//! The kernels for compute capability 7.0 on the simulated GPU: see cuda/mod.rs, and cuda/parity.rs for the bound. `ULMFIT_PARITY=full` runs
//! three orders of blocks.

mod cuda;

const GPU: &str = "v100";

#[test]
fn every_case_of_every_operation() {
    cuda::every_case(GPU);
}

#[test]
fn masks_are_those_of_the_cpu() {
    cuda::masks_are_those_of_the_cpu(GPU);
}

#[test]
fn planted_errors_are_seen() {
    cuda::planted_errors_are_seen(GPU);
}

#[test]
fn two_runs_give_the_same_bits() {
    cuda::two_runs_give_the_same_bits(GPU);
}

#[test]
fn errors_are_sentences() {
    cuda::errors_are_sentences(GPU);
}
