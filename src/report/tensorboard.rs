//! Event files for TensorBoard: records of TFRecord framing, each a message of Protocol Buffers
//! with one scalar of one step.
//!
//! A record is its length (8 bytes), the masked CRC-32C of these, the message, and its masked
//! CRC-32C; all little-endian. `Event` has `wall_time` (1), `step` (2), `file_version` (3) and
//! `summary` (5); a summary has values (1) with a `tag` (1) and a `simple_value` (2).

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::html::sections;
use super::metrics;
use super::subject::Subject;
use crate::error::{Error, Result};
use crate::files;
use crate::train::observer::{Event, StageStarted};

/// Writes an event file for every stage of the subjects, into a folder for each below `out`; gives
/// their paths. Files of an earlier call are replaced.
///
/// # Errors
/// Two subjects of one folder; a file that cannot be written.
pub fn write(out: &Path, subjects: &[Subject]) -> Result<Vec<PathBuf>> {
    for (at, subject) in subjects.iter().enumerate() {
        let place = folder(&subject.name);
        if let Some(other) = subjects[..at].iter().find(|other| folder(&other.name) == place) {
            let message = format!("'{}' and '{}' have the same folder '{place}'", other.name, subject.name);
            return Err(Error::usage(message).hint("name them in another way, or write them one by one"));
        }
    }
    let mut written = Vec::new();
    for subject in subjects {
        let place = out.join(folder(&subject.name));
        for run in &subject.runs {
            let ended = modified(&run.folder.join(metrics::FILE));
            let place = if subject.runs.len() > 1 { place.join(&run.name) } else { place.clone() };
            for (k, section) in sections(&run.events).into_iter().enumerate() {
                let place = if k == 0 { place.clone() } else { place.join(k.to_string()) };
                std::fs::create_dir_all(&place).map_err(|e| Error::io(&place, "create", &e))?;
                let path = place.join("events.out.tfevents.0.ulmfit");
                files::put(&path, of_stage(section.started, section.events, ended))?;
                written.push(path);
            }
        }
    }
    Ok(written)
}

/// A name as a folder within another: `../a/b` is `a-b`.
fn folder(name: &str) -> String {
    let parts: Vec<&str> = name.split(['/', '\\']).filter(|part| !part.is_empty() && !part.starts_with('.')).collect();
    if parts.is_empty() { "run".into() } else { parts.join("-") }
}

/// Seconds since 1970 of the last change of a file; 0 where that is not known.
fn modified(path: &Path) -> f64 {
    let time = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0.0, |since| since.as_secs_f64())
}

/// The file of a stage that ended at that time.
fn of_stage(started: &StageStarted, events: &[Event], ended: f64) -> Vec<u8> {
    let seconds = |event: &Event| if let Event::Step(step) = event { Some(step.seconds) } else { None };
    let whole = events.iter().rev().find_map(seconds).unwrap_or(0.0);
    let begun = ended - whole;
    let mut file = Vec::new();
    record(&mut file, &version(begun));
    // when the last update was
    let mut now = begun;
    for event in events {
        if let Event::Step(step) = event {
            now = begun + step.seconds;
        }
        scalars(event, started, &mut |tag, step, value| {
            if value.is_finite() {
                record(&mut file, &scalar(now, step, tag, value as f32));
            }
        });
    }
    file
}

/// Tells the numbers of an event, each with its tag and update.
fn scalars(event: &Event, started: &StageStarted, tell: &mut dyn FnMut(&str, u64, f64)) {
    let group = |g: usize| started.groups.get(g).map_or("layer", String::as_str);
    match event {
        Event::Step(step) => {
            tell("loss/train", step.step, step.loss);
            tell("loss/train_smoothed", step.step, step.smoothed_loss);
            tell("gradient/norm", step.step, step.gradient_norm);
            tell("gradient/scale", step.step, step.gradient_scale);
            tell("momentum", step.step, step.momentum);
            for (g, &rate) in step.learning_rates.iter().enumerate() {
                tell(&format!("rate/{}", group(g)), step.step, rate);
            }
        }
        Event::Layers(layers) => {
            let all = [
                ("gradient_norm", &layers.gradients),
                ("weight_norm", &layers.weights),
                ("saturated_gates", &layers.saturated),
            ];
            for (name, values) in all {
                for (g, value) in values.iter().enumerate() {
                    tell(&format!("{name}/{}", group(g)), layers.step, value.unwrap_or(f64::NAN));
                }
            }
        }
        Event::Evaluated(evaluated) => {
            let split = evaluated.split.name();
            tell(&format!("loss/{split}"), evaluated.step, evaluated.loss);
            for (name, value) in evaluated.scores.iter() {
                tell(&format!("{name}/{split}"), evaluated.step, value);
            }
        }
        _ => {}
    }
}

/// The first message of every file.
fn version(time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, time);
    bytes(&mut event, 3, b"brain.Event:2");
    event
}

fn scalar(time: f64, step: u64, tag: &str, number: f32) -> Vec<u8> {
    let mut value = Vec::new();
    bytes(&mut value, 1, tag.as_bytes());
    key(&mut value, 2, 5);
    value.extend(number.to_le_bytes());
    let mut summary = Vec::new();
    bytes(&mut summary, 1, &value);
    let mut event = Vec::new();
    double(&mut event, 1, time);
    key(&mut event, 2, 0);
    varint(&mut event, step);
    bytes(&mut event, 5, &summary);
    event
}

/// Number and kind of a field: 0 a varint, 1 of 64 bits, 2 bytes, 5 of 32 bits.
fn key(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn record(out: &mut Vec<u8>, message: &[u8]) {
    let length = (message.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(message);
    out.extend(masked(crc32c(message)).to_le_bytes());
}

/// A checksum of data that may themselves hold checksums.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bits in reverse order.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !data.iter().fold(!0, |crc, &byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of RFC 3720, appendix B.4, and of the masking of LevelDB.
    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // the first record of every file of TensorFlow: a length of 24
        assert_eq!(masked(crc32c(&24u64.to_le_bytes())).to_le_bytes(), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn a_message_by_hand() {
        assert_eq!(version(0.0), [&[9, 0, 0, 0, 0, 0, 0, 0, 0, 26, 13][..], b"brain.Event:2"].concat());
        let step = scalar(0.0, 300, "a", 1.0);
        let (event, value) =
            ([9, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0xac, 2, 42, 10], [10, 8, 10, 1, b'a', 21, 0, 0, 128, 63]);
        assert_eq!(step, [&event[..], &value].concat());
    }

    #[test]
    fn a_folder_is_below_another() {
        assert_eq!(["../a/b", "/", "x", "./.hidden/y/"].map(folder), ["a-b", "run", "x", "y"]);
    }
}
