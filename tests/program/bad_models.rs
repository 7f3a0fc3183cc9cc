//! Models that were damaged or made by an enemy, through the binary: one sentence that names the
//! thing, exit status 1 or 2, nothing changed.

use std::path::Path;

use crate::support::{classifier, copy_folder, random_bytes, refused, snapshot, text, ulmfit};
use serde_json::{Value, json};

/// A model directory of its own, damaged by `damage`, is refused by every command that loads it.
fn damaged(parts: &[&str], damage: impl FnOnce(&Path)) {
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("damaged");
    copy_folder(classifier(), &model);
    unseal(&model);
    damage(&model);
    let before = snapshot(&model);
    let line = ["predict", "--model", model.to_str().unwrap(), "--quiet", "a good film"];
    let output = ulmfit(&line).output().unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?} {}", output.status, text(&output.stderr));
    refused(&mut ulmfit(&line), output.status.code().unwrap(), parts);
    assert!(snapshot(&model) == before, "the model is left as it is");
}

/// Takes checksums out, as a model of an earlier version has none: what is wrong is then found by
/// what it does.
fn unseal(model: &Path) {
    damage_config(model, |config| {
        let all = config.as_object_mut().unwrap();
        for checksum in ["sha256", "tensors", "vocabulary_sha256"] {
            assert!(all.shift_remove(checksum).is_some(), "{checksum}");
        }
    });
}

/// Header and tensor bytes of a safetensors file.
fn parts_of(file: &[u8]) -> (Value, Vec<u8>) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&file[8..8 + length]).unwrap(), file[8 + length..].to_vec())
}

fn damage_tensors(model: &Path, change: impl FnOnce(&mut Value, &mut Vec<u8>)) {
    let path = model.join("model.safetensors");
    let (mut header, mut tensors) = parts_of(&std::fs::read(&path).unwrap());
    change(&mut header, &mut tensors);
    let header = header.to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &tensors].concat();
    std::fs::write(path, file).unwrap();
}

fn damage_bytes(model: &Path, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let path = model.join(name);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(path, change(bytes)).unwrap();
}

fn damage_config(model: &Path, change: impl FnOnce(&mut Value)) {
    damage_bytes(model, "config.json", |bytes| {
        let mut config = serde_json::from_slice(&bytes).unwrap();
        change(&mut config);
        serde_json::to_vec(&config).unwrap()
    });
}

#[test]
fn hostile_weights() {
    let file = "model.safetensors";
    let bytes = |change: fn(Vec<u8>) -> Vec<u8>| damaged(&["damaged/", file], |m| damage_bytes(m, file, change));
    bytes(|_| Vec::new());
    bytes(|_| vec![1, 2, 3]);
    bytes(|whole| random_bytes(whole.len()));
    bytes(|whole| whole[..whole.len() - 1].to_vec());
    bytes(|whole| whole[..whole.len() / 2].to_vec());
    bytes(|whole| [&whole[..], b"more"].concat());
    // the length of the header: enormous, beyond the end, too short
    bytes(|whole| [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat());
    bytes(|whole| [&(1u64 << 62).to_le_bytes()[..], &whole[8..]].concat());
    bytes(|whole| [&(whole.len() as u64).to_le_bytes()[..], &whole[8..]].concat());
    bytes(|whole| [&5u64.to_le_bytes()[..], &whole[8..]].concat());
    // a deeply nested header
    bytes(|whole| [&(whole.len() as u64 - 8).to_le_bytes()[..], &vec![b'['; whole.len() - 8]].concat());
    damaged(&[file, "no such file"], |m| std::fs::remove_file(m.join(file)).unwrap());
    damaged(&[file], |m| {
        std::fs::remove_file(m.join(file)).unwrap();
        std::fs::create_dir(m.join(file)).unwrap();
    });
}

#[test]
fn tensors_that_do_not_fit() {
    let name = "encoder.weight";
    let header = |parts: &[&str], change: fn(&mut Value)| {
        damaged(&[&["model.safetensors"], parts].concat(), |m| damage_tensors(m, |header, _| change(header)));
    };
    header(&[name, "is f32 [8, "], |h| h["encoder.weight"]["shape"].as_array_mut().unwrap().reverse());
    header(&[], |h| h["encoder.weight"]["shape"] = json!([1u64 << 63, 1u64 << 63]));
    header(&[], |h| h["encoder.weight"]["shape"] = json!([-1, 8]));
    header(&[name], |h| h["encoder.weight"]["dtype"] = json!("I32"));
    header(&[name, "7 axes"], |h| {
        let shape = h["encoder.weight"]["shape"].as_array().unwrap().clone();
        h["encoder.weight"]["shape"] =
            json!([&[json!(1), json!(1), json!(1), json!(1), json!(1)][..], &shape].concat());
    });
    header(&[], |h| h["encoder.weight"]["data_offsets"].as_array_mut().unwrap().reverse());
    header(&[], |h| h["encoder.weight"]["data_offsets"] = json!([0, u64::MAX]));
    header(&["has no tensor 'encoder.weight'"], |h| {
        let tensor = h.as_object_mut().unwrap().remove("encoder.weight").unwrap();
        h["stranger"] = tensor;
    });
    header(&[], |h| *h = json!([]));
    for value in [f32::NAN, f32::INFINITY] {
        damaged(&[name, "is not finite, at element 3"], |m| {
            damage_tensors(m, |header, tensors| {
                let begin = header[name]["data_offsets"][0].as_u64().unwrap() as usize + 3 * 4;
                tensors[begin..begin + 4].copy_from_slice(&value.to_le_bytes());
            });
        });
    }
}

#[test]
fn hostile_configurations() {
    let file = "config.json";
    let bytes = |change: fn(Vec<u8>) -> Vec<u8>| damaged(&["damaged/", file], |m| damage_bytes(m, file, change));
    bytes(|_| Vec::new());
    bytes(|_| b"{}".to_vec());
    bytes(|_| b"null".to_vec());
    bytes(|_| random_bytes(500));
    bytes(|_| vec![b'['; 100_000]);
    bytes(|whole| whole[..whole.len() / 2].to_vec());
    damaged(&[file, "no such file"], |m| std::fs::remove_file(m.join(file)).unwrap());

    let sizes = [
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1u64 << 24),
        json!(1u64 << 40),
        json!(u64::MAX),
        json!("8"),
        json!(null),
    ];
    let set = |path: &[&str], value: &Value| {
        damaged(&["damaged"], |m| {
            damage_config(m, |config| *path.iter().fold(config, |place, key| &mut place[*key]) = value.clone());
        });
    };
    for value in &sizes {
        for key in ["vocabulary", "embedding", "hidden", "layers"] {
            set(&["architecture", "encoder", key], value);
        }
        set(&["architecture", "classes"], value);
    }
    for value in
        [json!([0]), json!([1u64 << 62, 1u64 << 62]), json!([1 << 24, 1 << 24]), json!(vec![50; 100_000]), json!(7)]
    {
        set(&["architecture", "head"], &value);
    }
    for (key, value) in
        [("bptt", json!(0)), ("bptt", json!(u64::MAX)), ("max_steps", json!(0)), ("kind", json!("oracle"))]
    {
        set(&["architecture", key], &value);
    }
    set(&["architecture", "encoder", "pad"], &json!(4_000_000_000u32));
    set(&["architecture", "stranger"], &json!(1));
    set(&["format"], &json!(99));
    set(&["labels"], &json!([]));
    set(&["labels"], &json!(["neg", "pos", "more"]));
    set(&["direction"], &json!("sideways"));
}

#[test]
fn a_vocabulary_of_another_model() {
    let file = "vocab.json";
    let hash = [file, "is not the vocabulary that the model was trained with"];
    damaged(&hash, |m| damage_config(m, |config| config["vocabulary_hash"] = json!("0".repeat(64))));
    let words = |change: fn(&mut Value)| {
        move |m: &Path| {
            damage_bytes(m, file, |bytes| {
                let mut saved = serde_json::from_slice(&bytes).unwrap();
                change(&mut saved);
                serde_json::to_vec(&saved).unwrap()
            });
        }
    };
    damaged(&[file], words(|v| *v["words"].as_array_mut().unwrap().last_mut().unwrap() = json!("changed")));
    damaged(&[file], words(|v| drop(v["words"].as_array_mut().unwrap().pop())));
    damaged(&[file], words(|v| v["words"] = json!([])));
    let tables = [file, "was made with tokenizer tables 'en-0', this program has 'en-"];
    damaged(&tables, words(|v| v["tokenizer"] = json!({"kind": "word", "rules": "v2", "tables": "en-0"})));
    damaged(&[file], |m| damage_bytes(m, file, |_| random_bytes(300)));
    damaged(&[file], |m| damage_bytes(m, file, |_| Vec::new()));
    damaged(&[file, "no such file"], |m| std::fs::remove_file(m.join(file)).unwrap());
}
