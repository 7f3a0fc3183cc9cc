//! The kernels, as PTX text within the program.

use super::arguments::{Parameter, declared};

/// The PTX of one file of `kernels/`. The texts end with a zero, as the driver wants them.
pub(super) struct Module {
    /// For GPUs of compute capability 7.0 and 7.5.
    pub sm_70: &'static str,
    /// For 8.0 and newer.
    pub sm_80: &'static str,
}

macro_rules! modules {
    ($($name:literal,)*) => {
        &[$(Module {
            sm_70: concat!(include_str!(concat!("../../../kernels/ptx/", $name, ".sm_70.ptx")), "\0"),
            sm_80: concat!(include_str!(concat!("../../../kernels/ptx/", $name, ".sm_80.ptx")), "\0"),
        }),*]
    };
}

pub(super) static MODULES: &[Module] = modules![
    "activation_regularisation",
    "adaptive_softmax",
    "batch_norm",
    "concat_pool",
    "dropout",
    "embedding",
    "forget_mult",
    "gemm",
    "gemm_bf16",
    "lstm",
    "lstm_persistent",
    "lstm_persistent_bf16",
    "optim",
    "pair_features",
    "probe",
    "relu",
    "sampled_softmax",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "sums",
    "tensor",
    "tied_softmax",
    "weighted_cross_entropy",
    "weighted_sum",
    "with_previous",
];

/// A kernel, the module that it is in, and its parameters.
pub(super) struct Declared {
    pub name: &'static str,
    pub module: usize,
    pub parameters: Vec<Parameter>,
}

/// The kernels of all modules, for one target or the other.
pub(super) fn all(sm_80: bool) -> Vec<Declared> {
    let text = |m: &Module| if sm_80 { m.sm_80 } else { m.sm_70 };
    let of = |(module, m)| {
        declared(text(m)).into_iter().map(move |(name, parameters)| Declared { name, module, parameters })
    };
    MODULES.iter().enumerate().flat_map(of).collect()
}

/// Names of all kernels; GPUs of compute capability 7.0 and 7.5 lack those in bf16.
pub fn kernels() -> Vec<&'static str> {
    all(true).iter().map(|k| k.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_module_and_every_name_is_unique() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let files = std::fs::read_dir(folder)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "cu"));
        assert_eq!(files.count(), MODULES.len());
        let mut names = kernels();
        let older: Vec<_> = all(false).iter().map(|k| k.name).collect();
        let both: Vec<_> = names.iter().copied().filter(|name| older.contains(name)).collect();
        assert_eq!(both, older);
        assert!(names.iter().all(|name| older.contains(name) || name.contains("bf16") || *name == "round_operand"));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
