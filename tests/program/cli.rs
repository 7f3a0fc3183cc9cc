//! The command line through the binary: usage errors, help, exit statuses, standard output and
//! standard error.

use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;

use crate::support::{Data, SIZES, STAGE, words};

fn ulmfit(line: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ulmfit").unwrap();
    command.args(line).env_remove("ULMFIT_ISA").env_remove("ULMFIT_LOG");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A fault: its exit status, one `error:` line, at most one `hint:` line, nothing on standard
/// output. Returns standard error.
fn fault(assert: Assert, status: i32) -> String {
    let output = assert.code(status).get_output().clone();
    let message = text(&output.stderr);
    assert_eq!(text(&output.stdout), "", "{message}");
    let lines: Vec<&str> = message.lines().filter(|l| l.starts_with("error: ") || l.starts_with("hint: ")).collect();
    assert!(lines.first().is_some_and(|l| l.starts_with("error: ")) && lines.len() <= 2, "{message}");
    assert!(message.lines().count() <= 10 && !message.contains("panicked"), "{message}");
    message
}

fn json_line(stdout: &[u8]) -> serde_json::Value {
    let stdout = text(stdout);
    serde_json::from_str(stdout.lines().last().expect("a last line")).expect("the last line is JSON")
}

#[test]
fn alone_it_says_how_to_use_it() {
    let output = ulmfit(&[]).assert().code(2).get_output().clone();
    assert_eq!(text(&output.stderr).lines().count(), 2);
    assert!(text(&output.stderr).starts_with("usage: ulmfit ") && output.stdout.is_empty());
}

#[test]
fn help_and_version_go_to_standard_output() {
    for line in [&["--help"][..], &["info", "--help"], &["tokenize", "--help"], &["run", "--help"], &["--version"]] {
        let output = ulmfit(line).assert().success().get_output().clone();
        assert!(text(&output.stdout).ends_with('\n') && output.stderr.is_empty(), "{line:?}");
    }
    let help = text(&ulmfit(&["pretrain", "--help"]).assert().success().get_output().stdout);
    assert!(help.contains("Example:\n  ulmfit pretrain --corpus") && help.contains("--checkpoint-minutes"), "{help}");
}

#[test]
fn wrong_usage_is_one_sentence() {
    let cases: &[(&[&str], &str)] = &[
        (&["trian"], "unknown command 'trian'"),
        (&["info", "--jsn"], "unknown flag '--jsn'"),
        (&["run", "--out", "x"], "missing: --train <FILE>"),
        (&["tokenize", "--input", "x", "--out", "y", "--tokenizer", "magic"], "'magic' is not one of its values"),
        (&["pretrain", "--corpus", "x", "--out", "y", "--lr", "nan"], "'nan' is refused: it is not a finite number"),
        (&["pretrain", "--corpus", "x", "--out", "y", "--batch-size", "0"], "it must be at least 1"),
        (&["run", "--train", "x", "--out", "y", "--pretrain-epochs", "1,x"], "--pretrain-epochs"),
        (&["pretrain", "--corpus", "x", "--out", "y", "--resume", "--overwrite"], "cannot be used together"),
        (&["info", "--device", "gpu"], "use auto, cpu, cuda, cuda:N or cudasim"),
        (&["info", "--threads", "0"], "--threads"),
        (&["info", "--memory-limit", "lots"], "write a size as 800MB"),
        (&["gradcheck", "--precision", "bf16"], "gradcheck differentiates in f64"),
        (&["info", "--precision", "f16"], "'f16' is not one of its values"),
        (&["info", "--gpu-model", "v100"], "--gpu-model is for --device cudasim"),
        (&["predict", "--model", "x"], "missing: "),
        (&["run", "--train", "x", "--out", "y", "--pretrain-recipe", "tiny"], "holds for the whole run"),
        (&["gradcheck", "--op", "magic"], "no operation is called 'magic'"),
        (&["tokenize", "--input", "x", "--print", "--subword", "bpe"], "--subword: the tokenizer is another one"),
    ];
    for (line, part) in cases {
        let message = fault(ulmfit(line).assert(), 2);
        assert!(message.contains(part), "{line:?}: {message}");
    }
    let message = fault(ulmfit(&["inof"]).assert(), 2);
    assert!(message.contains("hint: did you mean 'info'?"), "{message}");
    let message = fault(ulmfit(&["run", "mine.csv"]).assert(), 2);
    assert!(message.contains("hint: a file needs its flag: --train mine.csv"), "{message}");
    let message = fault(ulmfit(&["predict", "--model", "--input", "x"]).assert(), 2);
    assert!(
        message.contains("--model <DIR>: a value is missing") && message.contains("ulmfit predict --help"),
        "{message}"
    );
}

#[test]
fn the_log_shows_what_it_is_asked_for() {
    let data = Data::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("the_log"));
    let run = |level: Option<&str>, name: &str| {
        let (corpus, out) = (data.path("corpus.txt"), data.path(name));
        let common = ["pretrain", "--corpus", &corpus, "--out", &out, "--overwrite", "--quiet", "--max-steps", "3"];
        let mut command = ulmfit(&words(&[&common, SIZES, STAGE]));
        level.map(|level| command.env("ULMFIT_LOG", level));
        let output = command.assert().success().get_output().clone();
        text(&output.stderr)
    };
    assert_eq!(run(None, "silent"), "");
    let info = run(Some("info"), "info");
    assert!(info.contains("evaluated") && !info.contains("put in place") && !info.contains("update"), "{info}");
    let trace = run(Some("ulmfit::train=trace,ulmfit::files=debug"), "trace");
    assert!(trace.contains("model.safetensors") && trace.matches(" update ").count() == 3, "{trace}");
}

#[test]
fn environment_is_checked() {
    let message = fault(ulmfit(&["info"]).env("ULMFIT_ISA", "mmx").assert(), 2);
    assert!(message.contains("ULMFIT_ISA=mmx"), "{message}");
    let message = fault(ulmfit(&["info"]).env("ULMFIT_LOG", "ulmfit=loud").assert(), 2);
    assert!(message.contains("ULMFIT_LOG"), "{message}");
    let message = fault(ulmfit(&["info", "--device", "cudasim"]).env("ULMFIT_CUDASIM", "/nowhere").assert(), 2);
    assert!(message.contains("cargo build --release -p cudasim"), "{message}");
}

/// Holds on machines with and without a GPU: what `info` says decides.
#[test]
fn info_and_the_device() {
    let output = ulmfit(&["info", "--json", "--threads", "1"]).assert().success().get_output().clone();
    assert_eq!(text(&output.stdout).lines().count(), 1);
    let info = json_line(&output.stdout);
    let device = if info["cuda"]["reason"].is_string() { "cpu" } else { "cuda:0" };
    assert_eq!((&info["threads"], &info["device"]), (&serde_json::json!(1), &serde_json::json!(device)));
    assert!(info["version"].is_string() && info["features"].is_array() && info["isa"].is_string());
    let human = text(&ulmfit(&["info"]).assert().success().get_output().stdout);
    assert!(human.contains("instruction set") && human.contains("CUDA"), "{human}");
    match info["cuda"]["reason"].as_str() {
        Some(reason) => {
            let message = fault(ulmfit(&["info", "--device", "cuda"]).assert(), 1);
            assert!(message.contains(reason), "{message}");
        }
        None => assert!(!info["cuda"]["devices"].as_array().unwrap().is_empty()),
    }
}

#[test]
fn configuration_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("recipe.toml");
    let with = |content: &str, line: &[&str]| {
        std::fs::write(&file, content).unwrap();
        ulmfit(line).args(["--config", file.to_str().unwrap()]).assert()
    };
    let info = with("threads = 1\njson = true\n[pretrain]\nlr = 1\n", &["info"]).success().get_output().clone();
    assert_eq!(json_line(&info.stdout)["threads"], 1);
    let info = with("threads = 2", &["info", "--json", "--threads", "1"]).success().get_output().clone();
    assert_eq!(json_line(&info.stdout)["threads"], 1);

    let message = fault(with("speed = 1", &["info"]), 2);
    assert!(message.contains("recipe.toml: unknown key 'speed'"), "{message}");
    let message = fault(with("lr = 'fast'", &["pretrain", "--corpus", "x", "--out", "y"]), 2);
    assert!(message.contains("--lr") && message.contains("in ") && message.contains("recipe.toml"), "{message}");
    fault(with("threads = ", &["info"]), 1);
    let message = fault(ulmfit(&["info", "--config", "/nonexistent.toml"]).assert(), 1);
    assert!(message.contains("/nonexistent.toml: cannot read: no such file"), "{message}");
    fault(ulmfit(&["info", "--config"]).assert(), 2);
}

/// Flags as keys: everything in the committed recipe of the peer is known to the commands it is
/// for.
#[test]
fn the_peers_recipe_is_accepted() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/peer/trec.toml");
    for command in ["run", "pretrain", "finetune-lm", "train-classifier"] {
        // a missing required flag is reported only after every flag of the file was accepted
        let message = fault(ulmfit(&[command, "--config", recipe.to_str().unwrap()]).assert(), 2);
        assert!(message.contains("missing: "), "{command}: {message}");
    }
}

#[test]
fn tokenize_and_vocab() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    std::fs::write(path("a.csv"), "text,label\nA cat sat,pos\n,neg\na dog sat,neg\n").unwrap();
    let (input, out) = (path("a.csv"), path("a.tok"));
    let printed =
        ulmfit(&["tokenize", "--print", "--quiet", "--tokenizer", "whitespace", "--input", &input]).assert().success();
    let lines = text(&printed.get_output().stdout);
    assert_eq!(lines, "[\"xxbos\",\"a\",\"cat\",\"sat\"]\n[\"xxbos\"]\n[\"xxbos\",\"a\",\"dog\",\"sat\"]\n");

    let make = ["tokenize", "--tokenizer", "whitespace", "--min-freq", "1", "--json", "--input", &input, "--out", &out];
    let output = ulmfit(&make).assert().success().get_output().clone();
    let json = json_line(&output.stdout);
    assert_eq!((&json["tokens"], &json["documents"]), (&serde_json::json!(9), &serde_json::json!(3)), "{json}");
    for key in ["vocabulary", "seconds", "tokens_per_second", "peak_rss_mb"] {
        assert!(json[key].is_number(), "{key}");
    }
    let message = fault(ulmfit(&make[..]).arg("--quiet").assert(), 1);
    assert!(message.contains("a.tok: exists already"), "{message}");
    ulmfit(&make).arg("--overwrite").assert().success();

    let shown = text(&ulmfit(&["vocab", &out]).assert().success().get_output().stdout);
    assert!(shown.starts_with("id\tcount\tword\n0\t") && shown.contains("\tcat\n"), "{shown}");
    let vocabulary = json_line(&ulmfit(&["vocab", &out, "--json"]).assert().success().get_output().stdout);
    assert_eq!(vocabulary["vocabulary"], json["vocabulary"]);
    std::fs::remove_file(path("a.vocab.json")).unwrap();
    let message = fault(ulmfit(&["vocab", &out]).assert(), 1);
    assert!(message.contains("a.vocab.json is missing"), "{message}");

    let message = fault(ulmfit(&["tokenize", "--input", &path("none.csv"), "--print"]).assert(), 1);
    assert!(message.contains("none.csv: cannot open: no such file"), "{message}");
}

/// docs/CLI.md, "Beyond the contract": the table of another language is recorded, and used again
/// with the vocabulary.
#[test]
fn tokenize_in_another_language() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    std::fs::write(path("a.txt"), "L'homme n'est pas là. L'homme etc. dort.\n").unwrap();
    let table = "language = \"fr\"\nprefixes = [\"l'\", \"n'\"]\nkeep = [\"etc.\"]\n";
    std::fs::write(path("fr.toml"), table).unwrap();
    let (input, out, words) = (path("a.txt"), path("a.tok"), path("fr.toml"));
    let printed = |flags: &[&str]| {
        let line = ["tokenize", "--print", "--quiet", "--rules", "v2", "--input", &input];
        text(&ulmfit(&line).args(flags).assert().success().get_output().stdout)
    };
    let plain = "[\"xxbos\",\"xxmaj\",\"l'homme\",\"n'est\",\"pas\",\"là\",\".\",\"xxmaj\",\"l'homme\",\"etc\",\".\",\"dort\",\".\"]\n";
    assert_eq!(printed(&["--language", "fr"]), plain);
    let tabled = "[\"xxbos\",\"xxmaj\",\"l'\",\"homme\",\"n'\",\"est\",\"pas\",\"là\",\".\",\"xxmaj\",\"l'\",\"homme\",\"etc.\",\"dort\",\".\"]\n";
    assert_eq!(printed(&["--language", &words]), tabled);

    let make = ["tokenize", "--rules", "v2", "--min-freq", "1", "--input", &input, "--out", &out, "--language", &words];
    ulmfit(&make).assert().success();
    std::fs::remove_file(&words).unwrap();
    let vocabulary = path("a.vocab.json");
    let again = ["tokenize", "--print", "--quiet", "--input", &input, "--vocab", &vocabulary];
    assert_eq!(text(&ulmfit(&again).assert().success().get_output().stdout), tabled, "the table is in the vocabulary");

    let message = fault(ulmfit(&make[..]).arg("--overwrite").assert(), 1);
    assert!(message.contains("fr.toml: cannot read: no such file"), "{message}");
    let print = |flags: &[&str]| fault(ulmfit(&["tokenize", "--print", "--input", &input]).args(flags).assert(), 2);
    assert!(print(&["--language", "French"]).contains("'French' is neither a language nor a table file"));
    let message = print(&["--language", "fr", "--tokenizer", "whitespace"]);
    assert!(message.contains("only the word tokenizer knows languages"), "{message}");
}

/// A reader that goes away (`| head -1`) is no fault of the program.
#[test]
fn a_closed_pipe_is_quiet() {
    use std::io::{BufRead, BufReader, Read};
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("long.txt");
    std::fs::write(&input, "some words on a line\n".repeat(200_000)).unwrap();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("ulmfit"))
        .args(["tokenize", "--print", "--quiet", "--input", input.to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with('['), "{first}");
    let mut message = String::new();
    child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert_eq!((child.wait().unwrap().code(), message.as_str()), (Some(0), ""));
}

#[test]
fn gradcheck_of_one_operation() {
    let output = ulmfit(&["gradcheck", "--op", "linear", "--json", "--quiet"]).assert().success().get_output().clone();
    let json = json_line(&output.stdout);
    assert_eq!((&json["ops"], &json["failed"]), (&serde_json::json!(1), &serde_json::json!(0)));
    assert!(json["cases"].as_u64().unwrap() > 0 && json["worst"]["error"].as_f64().unwrap() <= 1e-6, "{json}");
}
