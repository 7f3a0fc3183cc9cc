//! The three stages of a very small model on the simulated GPU and on the CPU: the same losses, a
//! run that changes its device on the way, and the same bits every time; then the commands, through
//! the binary.

use ulmfit::device::Precision;
use ulmfit::tensor::Device;
use ulmfit::train::Stage;

use crate::sim;
use crate::stages::{GPU, Heard, STAGES, STEPS, Share, all_of, all_on, run};
use crate::support;
use crate::tasks::Data;

/// Of losses and gradient norms between the two devices, relative. (At six times these rates the
/// classifier, in batches of five, makes more of the last bits: 2e-3 of the norms between two runs
/// of the CPU that begin with models which differ by roundings.)
const TOLERANCE: f64 = 1e-4;

/// Losses and norms of both devices are alike, and the losses move.
fn hold_alike(stage: Stage, cpu: &Heard, gpu: &Heard) {
    assert_eq!((cpu.steps.len(), cpu.valid.len()), (gpu.steps.len(), gpu.valid.len()));
    assert_eq!(cpu.steps.len() as u64, STEPS);
    let split = |heard: &Heard| heard.steps.iter().copied().unzip::<f64, f64, Vec<_>, Vec<_>>();
    let ((losses, norms), (other_losses, other_norms)) = (split(cpu), split(gpu));
    let found =
        [difference(&losses, &other_losses), difference(&norms, &other_norms), difference(&cpu.valid, &gpu.valid)];
    println!("{stage:?}: losses differ by {:.1e}, norms by {:.1e}, validation by {:.1e}", found[0], found[1], found[2]);
    assert!(found.iter().all(|&d| d <= TOLERANCE), "{stage:?}: {losses:?} and {other_losses:?}");
    // a difference could be seen
    let (low, high) = losses.iter().fold((f64::MAX, f64::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    assert!(high - low > 100.0 * TOLERANCE * high, "{losses:?}");
}

/// Largest relative difference.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |m, (a, b)| f64::max(m, (a - b).abs() / a.abs().max(b.abs())))
}

#[test]
fn three_stages_on_both_devices() {
    let _sim = sim::Sim::new("h100");
    let data = Data::new(8);
    let cpu = all_on(Device::Cpu, Precision::Full, &data, "cpu");
    let gpu = all_on(GPU, Precision::Full, &data, "gpu");
    for ((stage, cpu), gpu) in STAGES.into_iter().zip(&cpu).zip(&gpu) {
        hold_alike(stage, cpu, gpu);
        if stage == Stage::Pretrain {
            let sum = |steps: &[(f64, f64)]| steps.iter().map(|s| s.0).sum::<f64>();
            assert!(sum(&cpu.steps[..3]) > sum(&cpu.steps[cpu.steps.len() - 3..]), "{:?}", cpu.steps);
            // within an epoch nothing is taken anew; between two the evaluation may take something
            let same = gpu.allocations.windows(2).filter(|w| w[0].0 == w[1].0);
            let grown: Vec<_> = same.clone().filter(|w| w[0].1 != w[1].1).collect();
            assert!(same.count() > 10 && grown.is_empty(), "{stage:?}: {grown:?}");
        }
    }

    // the same bits in another order of blocks
    sim::set("seed", "2");
    let again = all_on(GPU, Precision::Full, &data, "again");
    for (a, b) in gpu.iter().zip(&again) {
        assert_eq!((&a.steps, &a.valid), (&b.steps, &b.valid));
    }
    for (i, stage) in STAGES.iter().enumerate() {
        let read = |name: &str| std::fs::read(data.directory.path().join(format!("{name}-{i}.safetensors"))).unwrap();
        assert!(read("gpu") == read("again"), "{:?}: other bits", stage);
        assert!(read("gpu") != read("cpu") && read("gpu").len() == read("cpu").len());
    }

    // begun on one device, ended on the other
    for (i, stage) in STAGES.into_iter().enumerate() {
        let from = i.checked_sub(1).map(|i| data.directory.path().join(format!("cpu-{i}.safetensors")));
        for [first, second] in [[Device::Cpu, GPU], [GPU, Device::Cpu]] {
            let directory = tempfile::tempdir().unwrap();
            let place = Some(directory.path());
            let share = Share { from: from.as_deref(), directory: place, updates: 8, ..Share::whole(first) };
            let mut steps = run(stage, &data, share, None).unwrap().steps;
            // one call may be that which ends an epoch
            assert!((7..=8).contains(&steps.len()), "{}", steps.len());
            let share = Share { device: second, updates: usize::MAX, ..share };
            steps.extend(run(stage, &data, share, None).unwrap().steps);
            assert_eq!(steps.len() as u64, STEPS);
            let losses = |steps: &[(f64, f64)]| steps.iter().map(|s| s.0).collect::<Vec<_>>();
            let worst = difference(&losses(&steps), &losses(&cpu[i].steps));
            assert!(worst <= TOLERANCE, "{stage:?} from {first} to {second}: {worst:.1e}");
        }
    }
    let found = sim::findings();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The other encoder, in both precisions. Every stage starts from the CPU's model: what differs is
/// its own.
#[test]
fn three_stages_of_a_qrnn() {
    let _sim = sim::Sim::new("h100");
    let data = Data::new(8);
    for precision in [Precision::Full, Precision::Bf16] {
        let share = |device: Device| Share { qrnn: true, precision, ..Share::whole(device) };
        let name = format!("cpu-{precision:?}");
        let cpu = all_of(share(Device::Cpu), &data, &name);
        let on_gpu = |i: usize| {
            let from = i.checked_sub(1).map(|i| data.directory.path().join(format!("{name}-{i}.safetensors")));
            run(STAGES[i], &data, Share { from: from.as_deref(), ..share(GPU) }, None).unwrap()
        };
        let gpu: Vec<Heard> = (0..STAGES.len()).map(on_gpu).collect();
        for ((stage, cpu), gpu) in STAGES.into_iter().zip(&cpu).zip(&gpu) {
            hold_alike(stage, cpu, gpu);
        }
        sim::set("seed", "2");
        for (i, gpu) in gpu.iter().enumerate() {
            let again = on_gpu(i);
            assert_eq!((&again.steps, &again.valid), (&gpu.steps, &gpu.valid), "{precision:?}");
        }
    }
    let found = sim::findings();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// With products in bf16: a sum that ends on the other side of a rounding moves an element by 2^-8
/// of it, which these losses do not show.
#[test]
fn three_stages_in_bf16() {
    let _sim = sim::Sim::new("h100");
    let data = Data::new(8);
    let [cpu, gpu] = [Device::Cpu, GPU].map(|device| all_on(device, Precision::Bf16, &data, &device.to_string()));
    let full = all_on(GPU, Precision::Full, &data, "full");
    for (i, stage) in STAGES.into_iter().enumerate() {
        hold_alike(stage, &cpu[i], &gpu[i]);
        assert!(full[i].steps != gpu[i].steps, "{stage:?}: the bits of f32");
    }
    sim::set("seed", "2");
    for (again, gpu) in all_on(GPU, Precision::Bf16, &data, "again").iter().zip(&gpu) {
        assert_eq!((&again.steps, &again.valid), (&gpu.steps, &gpu.valid));
    }
    let found = sim::findings();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The binary on the simulated GPU.
fn simulated(line: &[&str]) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::cargo_bin("ulmfit").unwrap();
    command.args(line).args(["--device", sim::device()]).env_remove("ULMFIT_CUDASIM").env_remove("ULMFIT_LOG");
    command
}

fn simulated_json(line: &[&str]) -> serde_json::Value {
    let output = simulated(line).args(["--json", "--quiet"]).assert().success().get_output().clone();
    let noise = support::text(&output.stderr);
    assert!(!noise.contains("cudasim:"), "{noise}");
    support::last_line(&output.stdout)
}

/// From text to predictions: a run of three stages there, whose models work on both devices.
#[test]
fn commands() {
    let directory = tempfile::tempdir().unwrap();
    let data = support::Data::new(&directory.path().join("data"));
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let (corpus, train, test) = (data.path("corpus.txt"), data.path("train.csv"), data.path("test.csv"));
    let (out, lm, classifier) = (place("run"), place("run/pretrain"), place("run/classifier"));
    let line = ["run", "--corpus", &corpus, "--train", &train, "--test", &test, "--out", &out, "--max-steps", "3"];
    let result = simulated_json(&support::words(&[&line, support::SIZES, support::STAGE]));
    assert_eq!((&result["device"], &result["classifier"]["test_size"]), (&sim::name().into(), &12.into()));

    // a model that was trained there answers here, alike
    let near = |a: &serde_json::Value, b: &serde_json::Value| {
        let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
        assert!((a - b).abs() <= TOLERANCE * a.abs().max(b.abs()), "{a} and {b}");
    };
    for (model, data, exact) in [(&classifier, &test, "confusion"), (&lm, &corpus, "tokens")] {
        let line = ["evaluate", "--model", model, "--data", data];
        let (there, here) = (simulated_json(&line), support::json(&line));
        near(&there["loss"], &here["loss"]);
        assert_eq!(there[exact], here[exact]);
    }
    let line = ["predict", "--model", &classifier, "--input", &test];
    let lines = |command: &mut assert_cmd::Command| {
        support::json_lines(&support::text(&command.assert().success().get_output().stdout))
    };
    let (there, here) = (lines(&mut simulated(&line)), lines(&mut support::ulmfit(&line)));
    assert_eq!(there.len(), 12);
    for (there, here) in there.iter().zip(&here) {
        assert_eq!(there["label"], here["label"]);
        for (class, p) in here["probabilities"].as_object().unwrap() {
            near(&there["probabilities"][class], p);
        }
    }

    // a command that fails when the GPU is open gives it back: its error is all that is said
    let unknown = data.write("unknown.csv", "label,text\nnobody,some words\n");
    let output = simulated(&["evaluate", "--model", &classifier, "--data", &unknown, "--quiet"])
        .assert()
        .code(1)
        .get_output()
        .clone();
    let message = support::text(&output.stderr);
    assert!(message.contains("'nobody'") && !message.contains("leak"), "{message}");

    // a suite that the device does not have is refused in one sentence
    let output = simulated(&["bench", "--suite", "text"]).assert().code(2).get_output().clone();
    let message = support::text(&output.stderr);
    assert!(message.contains("run on the CPU alone") && message.contains("--device cpu"), "{message}");
}

/// The instruments there.
#[test]
fn checks() {
    let golden = support::root().join("tests/golden");
    let report = simulated_json(&["golden", golden.to_str().unwrap()]);
    // a GPU computes in f32
    let names = std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let in_f64 = names.filter(|name| name.ends_with("_f64.safetensors")).count();
    assert_eq!((&report["failed"], &report["skipped"]), (&0.into(), &in_f64.into()), "{report}");
    assert!(report["rows"].as_array().unwrap().iter().all(|r| r["skipped"].is_string() || r["tensors"] != 0));
    let report = simulated_json(&["gradcheck", "--op", "linear", "--mutate"]);
    assert_eq!((&report["ops"], &report["failed"]), (&1.into(), &0.into()), "{report}");
    assert_eq!((&report["mutation"]["mutants"], &report["mutation"]["survivors"]), (&1.into(), &serde_json::json!([])));
    let worst = &report["worst"];
    assert!(worst["error"].as_f64().unwrap() <= worst["bound"].as_f64().unwrap(), "{worst}");
}

/// Every suite that a GPU has, beside the CPU: on the simulated one projections, never times.
#[test]
fn benchmarks() {
    let found = simulated_json(&["bench", "--reduced", "--quick", "--device", "cpu"]);
    let rows = found["rows"].as_array().unwrap();
    let on = |device: &str| rows.iter().filter(|row| row["device"] == device).collect::<Vec<_>>();
    let (here, there) = (on("cpu"), on(sim::name()));
    assert_eq!(here.len() + there.len(), rows.len());
    let projected = sim::device() == "cudasim";
    for row in &there {
        assert_eq!((row["ms"].is_null(), row["projected_ms"].is_number()), (projected, projected), "{row}");
        assert!(
            !projected || row["gflops"].is_null() && row["rate"].is_null() && row["peak_fraction"].is_null(),
            "{row}"
        );
        assert!(row["projected_ms"].as_f64().is_none_or(|ms| ms > 0.0), "{row}");
    }
    // in each precision of the GPU what the CPU has in f32, but for the tokenizers
    let name = |row: &&serde_json::Value| {
        [&row["suite"], &row["name"], &row["shape"], &row["direction"]].map(|key| key.as_str().unwrap().to_string())
    };
    let of = |rows: &[&serde_json::Value], precision: &str| {
        rows.iter().copied().filter(|row| row["precision"] == precision).map(|row| name(&row)).collect::<Vec<_>>()
    };
    let right = of(&here, "f32");
    assert!(right.len() >= 40 && of(&there, "f32") == right && of(&there, "bf16") == right);
    assert!(here.iter().all(|row| row["ms"].is_number() && row["projected_ms"].is_null()));
    let peaks = &found["peaks"]["cuda"];
    assert!(peaks["f32"].as_f64().unwrap() > 0.0 && peaks["source"].is_string(), "{peaks}");

    let refused = |line: &[&str], says: &str| {
        let output = simulated(line).assert().code(2).get_output().clone();
        let message = support::text(&output.stderr);
        assert!(message.contains(says), "{message}");
    };
    refused(&["info", "--device", "cpu"], "one is enough");
    refused(&["bench", "--device", "cpu", "--device", "cpu"], "two of them are the CPU and one GPU");
    refused(&["bench", "--device", sim::device()], "two of them are the CPU and one GPU");
}
