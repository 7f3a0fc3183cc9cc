//! The kernels, as PTX text within the program. `build.rs` compresses it.

use std::io::Read;
use std::sync::OnceLock;

use super::arguments::{Parameter, declared};

/// What the files of `kernels/` compile to, for one kind of GPU: a text for each file, in the order
/// of their names, with a zero at its end, as the driver wants them.
pub(super) fn texts(sm_80: bool) -> &'static [String] {
    static SM_70: OnceLock<Vec<String>> = OnceLock::new();
    static SM_80: OnceLock<Vec<String>> = OnceLock::new();
    if sm_80 {
        SM_80.get_or_init(|| unpacked(include_bytes!(concat!(env!("OUT_DIR"), "/sm_80.deflate"))))
    } else {
        SM_70.get_or_init(|| unpacked(include_bytes!(concat!(env!("OUT_DIR"), "/sm_70.deflate"))))
    }
}

fn unpacked(packed: &[u8]) -> Vec<String> {
    let mut all = String::new();
    flate2::read::DeflateDecoder::new(packed).read_to_string(&mut all).expect("the build has packed texts");
    all.split_inclusive('\0').map(String::from).collect()
}

/// A kernel, the module that it is in, and its parameters.
pub(super) struct Declared {
    pub name: &'static str,
    /// Its place in [`texts`].
    pub module: usize,
    pub parameters: Vec<Parameter>,
}

/// The kernels of all modules, for one target or the other.
pub(super) fn all(sm_80: bool) -> Vec<Declared> {
    let of = |(module, text): (usize, &'static String)| {
        declared(text).into_iter().map(move |(name, parameters)| Declared { name, module, parameters })
    };
    texts(sm_80).iter().enumerate().flat_map(of).collect()
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
        let files = |folder: &std::path::Path, end: &str| {
            let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let mut all: Vec<_> = all.filter(|path| path.to_string_lossy().ends_with(end)).collect();
            all.sort();
            all
        };
        let sources = files(&folder, ".cu").len();
        for (sm_80, end) in [(false, ".sm_70.ptx"), (true, ".sm_80.ptx")] {
            let committed = files(&folder.join("ptx"), end);
            assert_eq!((committed.len(), texts(sm_80).len()), (sources, sources));
            for (file, text) in committed.iter().zip(texts(sm_80)) {
                assert!(std::fs::read_to_string(file).unwrap() + "\0" == *text, "{}", file.display());
            }
        }
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
