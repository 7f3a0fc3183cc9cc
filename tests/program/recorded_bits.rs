//! The bits of small runs as they were recorded: a change of the code's shape changes none of them.
//!
//! Every run is the program's own, on the CPU, on generated data. `ULMFIT_ISA` is AVX2 throughout:
//! it and AVX-512 round alike in f32, the portable code does not; and with it bf16 operands are
//! multiplied in f32, so that those runs have the same bits on every processor, too. A processor
//! without AVX2 skips these tests and says so.
//!
//! Where the meaning of a run is changed on purpose, the failing test prints the new hashes.

use std::path::{Path, PathBuf};

use crate::support::{self, Data, Numbers, copy_folder, ulmfit};
use sha2::{Digest, Sha256};
use ulmfit::device::cpu::isa::Isa;

/// A run and the SHA-256 of its `model.safetensors`. In `line` a word that begins with `@` is a
/// file of the data or the directory of an earlier run.
struct Run {
    name: &'static str,
    line: &'static [&'static str],
    hash: &'static str,
}

/// Shared by all runs: the smallest model, a few updates.
const SMALL: &[&str] = &["--emb-size", "8", "--hidden-size", "12", "--layers", "2", "--batch-size", "4"];
const FEW: &[&str] = &["--bptt", "10", "--min-freq", "1", "--max-steps", "12"];

const PRETRAIN: &[&str] = &["pretrain", "--corpus", "@corpus.txt"];
const FINETUNE: &[&str] = &["finetune-lm", "--text", "@train.csv"];
const CLASSIFY: &[&str] = &["train-classifier", "--train", "@train.csv", "--test", "@test.csv"];

const RUNS: &[Run] = &[
    // the three stages of fastai 2, gradual unfreezing, one cycle
    Run {
        name: "pretrain",
        line: &["@PRETRAIN", "--recipe", "tiny"],
        hash: "765689324620913b31fbe2ed015f432ae36eb553fe7fdfb9a222cae7b739cd5b",
    },
    Run {
        name: "finetune",
        line: &["@FINETUNE", "--model", "@pretrain", "--recipe", "tiny"],
        hash: "7be451160cbe1dedcf27feb16e4bce2bed308c65dee20acfda19d4bd5bd296c8",
    },
    Run {
        name: "classify",
        line: &["@CLASSIFY", "--model", "@finetune", "--recipe", "tiny"],
        hash: "702986ac6dec568a6b9e05051d2a7dd3533861c875339b11ac2d1e93cb9fa821",
    },
    // the paper's, backward: windows of many lengths, slanted triangular rates, AR and TAR
    Run {
        name: "back",
        line: &["@PRETRAIN", "--recipe", "paper", "--direction", "backward"],
        hash: "cbf32aa779bf4966c6b8d1d488c5bc2f5e0aa19114cf39b51f0d4841af6d9089",
    },
    Run {
        name: "back-classify",
        line: &["@CLASSIFY", "--model", "@back", "--recipe", "paper", "--direction", "backward", "--epochs", "1,1,1"],
        hash: "05383c852b19ec804a417bb4482a4bd78cc18e7633405199aa0940f7f16809de",
    },
    // the authors' scripts: sampled softmax, a classifier padded in front
    Run {
        name: "sampled",
        line: &["@PRETRAIN", "--recipe", "scripts", "--set", "pretrain.negatives=9"],
        hash: "ac2051fbcee15477afa79d33d36293c562e84737b18ab968da78e53c20610328",
    },
    Run {
        name: "sampled-classify",
        line: &["@CLASSIFY", "--model", "@sampled", "--recipe", "scripts", "--unfreezing", "chain-thaw"],
        hash: "23b9dfbeef1eea8910f72e07c594e3ddf175628a13cd652fc9b248503117fd29",
    },
    // documents longer than the cap, padded in front and at the end
    Run {
        name: "long-front",
        line: &["@LONG", "--model", "none", "--recipe", "fastai1", "--set", "classifier.max_len=20"],
        hash: "f218c2212dbddc45e4ce023899eeab89a536d8bc7a280bf5f918257f927287af",
    },
    Run {
        name: "long-end",
        line: &["@LONG", "--model", "none", "--recipe", "paper", "--set", "classifier.max_len=20"],
        hash: "342f809093fa42c80d1c3271f7e7f76e3e59fba23b21016d20bce78ec6f287b4",
    },
    // AWD-LSTM: averaged SGD once the trigger fires, and from the start
    Run {
        name: "nt-asgd",
        line: &[
            "@PRETRAIN",
            "--recipe",
            "awd",
            "--set",
            "pretrain.nonmono=1",
            "--lr",
            "5",
            "--max-steps",
            "90",
            "@VALID",
        ],
        hash: "87ae00de75af66f21f5c1fe388a19be8baa48ea809a78c25ccfe3d7a3fef7547",
    },
    Run {
        name: "asgd",
        line: &["@PRETRAIN", "--recipe", "awd", "--set", "pretrain.optimiser=asgd", "--lr", "1"],
        hash: "8378ea0f97697456778144daeda1ef5c7fb1f1a659e8e595e53d105b17d84c8e",
    },
    Run {
        name: "sgd",
        line: &["@PRETRAIN", "--recipe", "tiny", "--set", "pretrain.optimiser=sgd", "--set", "pretrain.momentum=0.9"],
        hash: "707b0bd8e479677e1e7cfb01a3d1518a7b1def78d83a33cfee4b6727f0fdd7cf",
    },
    Run {
        name: "adaptive",
        line: &["@PRETRAIN", "--recipe", "awd", "--set", "pretrain.loss=adaptive", "--set", "pretrain.splits=8,14"],
        hash: "70114368e0459734fc52fcba80fe5407222607b69cab0e314447b57530ed9801",
    },
    // a single layer, and more of them
    Run {
        name: "one-layer",
        line: &["@PRETRAIN", "--recipe", "tiny", "--layers", "1"],
        hash: "db1efcc9b6df21f0277fecef17e29f485472bf9670126bc21edc63a7bb94d49b",
    },
    Run {
        name: "four-layers",
        line: &["@PRETRAIN", "--recipe", "paper", "--layers", "4"],
        hash: "b5fbfbbc8cc59f74b8b94a6d2d3048075ec519dcb21533e4543885c08e3e5c26",
    },
    // QRNN: all three stages, weight drop, zoneout, backward
    Run {
        name: "qrnn",
        line: &["@PRETRAIN", "--recipe", "awd-qrnn", "--lr", "1", "--set", "model.zoneout=0.1"],
        hash: "8060579a46e5dae2cea6b53c3a3155d4a1650276f0faad6d1a26d0eab3f1f9d0",
    },
    Run {
        name: "qrnn-finetune",
        line: &["@FINETUNE", "--model", "@qrnn", "--recipe", "tiny"],
        hash: "8b08fa164b2ad3d5c4a56ab32280d27e33e0bec27d1f1347c922f1e922ea7393",
    },
    Run {
        name: "qrnn-classify",
        line: &["@CLASSIFY", "--model", "@qrnn-finetune", "--recipe", "paper", "--epochs", "1,1,1"],
        hash: "ed1487fe55d07e7313599e1f3a33f95bf133d306f8ddf952c415e09898269308",
    },
    Run {
        name: "qrnn-back",
        line: &["@PRETRAIN", "--recipe", "tiny", "--encoder", "qrnn", "--direction", "backward", "--precision", "bf16"],
        hash: "dd5322abcc041471a9ff36ee301960044e4a9bab6372d913da875cb2e55ee9c2",
    },
    // bf16 operands, in both kinds of model
    Run {
        name: "bf16",
        line: &["@PRETRAIN", "--recipe", "tiny", "--precision", "bf16"],
        hash: "1b51b91dc0152bd4289d179b318f3b37ad7fb34e07252afab45780a9b9f6c735",
    },
    Run {
        name: "bf16-classify",
        line: &["@CLASSIFY", "--model", "@bf16", "--recipe", "fastai1", "--precision", "bf16", "--seed", "7"],
        hash: "0cc8cb7472bc0a8b9356f5a63542eb8b949fc0edd7d9a264be55b0afe0ef7aa5",
    },
];

fn sha256(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Says so where this processor cannot run what was recorded.
fn avx2() -> bool {
    let there = Isa::Avx2.supported();
    if !there {
        eprintln!("skipped: the bits were recorded with AVX2, which this processor does not have");
    }
    there
}

fn directory(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if root.exists() {
        std::fs::remove_dir_all(&root).unwrap();
    }
    root
}

/// The data of all runs: those of [`Data`], and documents of up to 70 words.
fn data(name: &str) -> Data {
    let data = Data::new(&directory(name));
    let mut numbers = Numbers(5);
    let mut table = "label,text\n".to_string();
    for d in 0..16 {
        let sentences = [1, 9, 3, 12][d % 4];
        let (label, words) = [("neg", ["bad", "poor", "film", "was"]), ("pos", ["good", "fine", "film", "was"])][d % 2];
        let text: Vec<String> = (0..sentences).map(|_| numbers.sentence(&words)).collect();
        table += &format!("{label},{}\n", text.join(" "));
    }
    data.write("long.csv", table);
    data
}

/// The words of a command line: sets of flags spelled out, files with their paths.
fn spelled(data: &Data, line: &[&str]) -> Vec<String> {
    let word = |word: &&str| match *word {
        "@PRETRAIN" => spelled(data, PRETRAIN),
        "@FINETUNE" => spelled(data, FINETUNE),
        "@CLASSIFY" => spelled(data, CLASSIFY),
        "@VALID" => ["--epochs", "8", "--valid-fraction", "0.1"].map(String::from).to_vec(),
        "@LONG" => spelled(data, &["train-classifier", "--train", "@long.csv"]),
        _ => vec![word.strip_prefix('@').map_or(word.to_string(), |file| data.path(file))],
    };
    line.iter().flat_map(word).collect()
}

/// Flags of [`SMALL`] and [`FEW`] that a line does not give itself.
fn rest(line: &[String]) -> Vec<String> {
    let pairs = SMALL.chunks(2).chain(FEW.chunks(2));
    pairs.filter(|pair| !line.iter().any(|word| word == pair[0])).flatten().map(|word| word.to_string()).collect()
}

#[test]
fn runs_of_every_kind_have_the_recorded_bits() {
    if !avx2() {
        return;
    }
    let data = data("recorded_bits");
    let mut found = Vec::new();
    for run in RUNS {
        let mut line = spelled(&data, run.line);
        line.extend(rest(&line));
        line.extend(["--out".to_string(), data.path(run.name), "--quiet".to_string()]);
        ulmfit(&line).env("ULMFIT_ISA", "avx2").assert().success();
        let metrics = std::fs::read_to_string(data.path(&format!("{}/metrics.jsonl", run.name))).unwrap();
        assert_eq!(metrics.contains("averaging begins"), run.name == "nt-asgd", "{}", run.name);
        found.push((run, sha256(&Path::new(&data.path(run.name)).join("model.safetensors"))));
    }
    // gradual unfreezing begins with the head, and says so by its name
    let metrics = String::from_utf8(data.read("classify/metrics.jsonl")).unwrap();
    assert!(metrics.contains(r#"{"event":"unfrozen","step":0,"groups":["head"]}"#), "{metrics}");
    let other: Vec<String> = found
        .iter()
        .filter(|(run, hash)| run.hash != hash)
        .map(|(run, hash)| format!("{}: {hash}", run.name))
        .collect();
    assert!(other.is_empty(), "these runs have other bits than those recorded:\n{}", other.join("\n"));
}

/// Models of an earlier version (see `tests/old`): whatever the code is like, they load and answer
/// as they did.
#[test]
fn old_models_answer_as_they_did() {
    if !avx2() {
        return;
    }
    let root = directory("old_models");
    for model in ["language-model", "classifier"] {
        copy_folder(&Path::new("tests/old").join(model), &root.join(model));
    }
    let path = |name: &str| root.join(name).to_str().unwrap().to_string();
    std::fs::write(path("text.txt"), "good film was happy\n").unwrap();
    let run = |line: &[&str]| {
        let output = ulmfit(line).env("ULMFIT_ISA", "avx2").assert().success().get_output().clone();
        support::text(&output.stdout)
    };
    let answers = run(&["predict", "--model", &path("classifier"), "good film was happy", "a bad sad story", "the"]);
    assert_eq!(
        answers,
        "{\"label\":\"neg\",\"probabilities\":{\"neg\":0.5070616602897644,\"pos\":0.4929383099079132}}\n\
         {\"label\":\"neg\",\"probabilities\":{\"neg\":0.5071586966514587,\"pos\":0.49284130334854126}}\n\
         {\"label\":\"pos\",\"probabilities\":{\"neg\":0.4885033369064331,\"pos\":0.5114966630935669}}\n"
    );
    let score = run(&["score", "--model", &path("language-model"), "--input", &path("text.txt")]);
    let score: serde_json::Value = serde_json::from_str(&score).unwrap();
    assert_eq!((score["tokens"].as_u64(), score["loss"].as_f64()), (Some(4), Some(3.1726510524749756)));
}

/// A run that an earlier version began: it goes on to the bits that that version would have come
/// to.
#[test]
fn an_old_checkpoint_goes_on() {
    if !avx2() {
        return;
    }
    let data = Data::new(&directory("old_checkpoint"));
    copy_folder(Path::new("tests/old/stopped"), Path::new(&data.path("stopped")));
    let mut line = spelled(&data, &["@PRETRAIN", "--recipe", "tiny", "--emb-size", "4", "--hidden-size", "6"]);
    line.extend(rest(&line));
    line.extend(["--out".to_string(), data.path("stopped"), "--resume".to_string()]);
    let output = ulmfit(&line).env("ULMFIT_ISA", "avx2").assert().success().get_output().clone();
    assert!(support::text(&output.stderr).contains("going on from the checkpoint"));
    assert_eq!(
        sha256(&Path::new(&data.path("stopped")).join("model.safetensors")),
        "977f7afbeaf6ef7be036f412d26328312a4662c4744704c6fdd81bfaa1cd3347"
    );
}
