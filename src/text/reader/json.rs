//! JSON lines: an object a line; text and label by their keys.

use std::sync::Arc;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::bytes::printable;
use super::columns::{Columns, mark};
use super::detect::Look;
use super::formats::{Opened, if_so};
use super::layout::Layout;
use super::plain::is_blank;
use super::{Document, Documents, LABEL_MARK, Origin, stream};
use crate::error::{Error, Result};
use crate::text::is_space;

const NAME_THEM: &str = "name them with --text-column and --label-column";

/// # Errors
/// JSON that is not lines of objects with a text.
pub(super) fn recognise(look: &Look) -> Result<Option<Layout>> {
    let Some(first) = look.full.first() else { return Ok(None) };
    refuse_other_json(look)?;
    let named = [".jsonl", ".ndjson", ".json"].iter().any(|end| look.base.ends_with(end));
    if named {
        return if_so(true);
    }
    if first.trim_start().starts_with('{')
        && let Ok(object) = object(first)
    {
        let keys: Vec<&str> = object.keys().map(String::as_str).collect();
        let label = look.columns.label_among(&keys);
        label
            .and_then(|label| look.columns.texts(&keys, label))
            .map_err(|m| Error::line(look.name, 1, m).hint(NAME_THEM))?;
        return if_so(true);
    }
    Ok(None)
}

/// JSON that is not lines of objects: an array of objects, or an object over several lines.
fn refuse_other_json(look: &Look) -> Result<()> {
    let begins =
        |text: &str, mark: char| text.trim_start().strip_prefix(mark).map(|rest| rest.trim_start().to_string());
    let text = look.text();
    let named = [".jsonl", ".ndjson", ".json"].iter().any(|end| look.base.ends_with(end));
    if let Some(inner) = begins(text, '[')
        && (named || begins(&inner, '{').is_some_and(|inner| inner.starts_with('"')))
    {
        return Err(Error::file(look.name, "is one JSON array").hint("write an object a line: jq -c '.[]'"));
    }
    if look.full.first().is_some_and(|line| line.trim() == "{")
        && begins(text, '{').is_some_and(|inner| inner.starts_with('"'))
    {
        return Err(
            Error::file(look.name, "has JSON objects over several lines").hint("write an object a line: jq -c .")
        );
    }
    Ok(())
}

/// The keys that are read. That of the label may be found on a later line than the first.
#[derive(Default)]
struct Keys {
    texts: Vec<String>,
    label: Option<String>,
    /// Keys that say with 0 or 1 whether their label is there; none where one key has the label.
    marks: Vec<String>,
    several: bool,
}

pub(super) fn read(opened: Opened) -> Result<Documents> {
    let columns = opened.columns.clone();
    let (mut lines, file): (_, Arc<str>) = opened.lines();
    let (mut keys, mut over) = (Keys { several: columns.several, ..Keys::default() }, false);
    Ok(stream(move || {
        loop {
            let number = lines.number + 1;
            let Some(line) = lines.next()? else { break };
            if is_blank(line) {
                continue;
            }
            let fail = |message: String| Error::line(&*file, number, message);
            let object = object(line).map_err(|message| {
                let error = fail(message);
                if line.trim_end().ends_with("},") {
                    error.hint("take the comma after the object out: an object a line")
                } else if line.trim_end().ends_with(['{', '[', ',']) {
                    error.hint("put each object on one line: jq -c .")
                } else if line.contains("}{") || line.contains("} {") {
                    error.hint("put each object on a line of its own")
                } else {
                    error
                }
            })?;
            find_keys(&mut keys, &object, &columns).map_err(|m| fail(m).hint(NAME_THEM))?;
            let (fields, label) = values(&object, &keys).map_err(|message| {
                let several = keys
                    .label
                    .as_ref()
                    .is_some_and(|name| object.get(name).is_some_and(Value::is_array) && message.contains(&**name));
                let error = fail(message);
                if several { error.hint("--task labels learns several labels a text") } else { error }
            })?;
            let origin = Origin { file: file.clone(), line: number };
            return Ok(Some(Document { label, origin, ..Document::from_fields(fields) }));
        }
        if let (Some(wanted), None, false) = (&columns.label, &keys.label, std::mem::replace(&mut over, true)) {
            let message = format!("has no line with '{}' for --label-column", printable(wanted));
            return Err(Error::file(&*file, message));
        }
        Ok(None)
    }))
}

type Object = serde_json::Map<String, Value>;

/// A line of JSON, which has to be an object that has every key once.
fn object(line: &str) -> Result<Object, String> {
    struct Once;
    impl<'de> Visitor<'de> for Once {
        type Value = Object;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object, A::Error> {
            let mut object = Object::new();
            while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                if object.contains_key(&key) {
                    return Err(serde::de::Error::custom(format!("the key '{}' is there twice", printable(&key))));
                }
                object.insert(key, value);
            }
            Ok(object)
        }
    }
    // files that were put one after the other have a byte-order mark each
    let line = line.trim_start_matches('\u{feff}').trim_matches(is_space);
    if !line.starts_with('{') && serde_json::from_str::<Value>(line).is_ok() {
        return Err("is not a JSON object".into());
    }
    let mut json = serde_json::Deserializer::from_str(line);
    json.deserialize_map(Once).and_then(|object| json.end().map(|()| object)).map_err(|e| {
        // the line in the parser's message is that within the line
        let message = e.to_string();
        // and it repeats a value, of whatever length
        let whole = message.split(" at line ").next().unwrap_or_default();
        let what: String = whole.chars().take(200).collect();
        let what = if what.len() < whole.len() { what + " …" } else { what };
        format!("is not valid JSON: {what} at column {}", e.column())
    })
}

fn find_keys(keys: &mut Keys, object: &Object, columns: &Columns) -> Result<(), String> {
    if keys.label.is_some() {
        return Ok(());
    }
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    let label = columns.label_among(&names)?;
    if keys.texts.is_empty() {
        let texts = columns.texts(&names, label)?;
        keys.texts = texts.into_iter().map(|i| names[i].to_string()).collect();
    }
    keys.marks = columns.marks(&names)?.into_iter().map(|i| names[i].to_string()).collect();
    keys.label = label.map(|i| names[i].to_string()).filter(|name| !keys.texts.contains(name));
    if let (Some(i), None, Some(wanted)) = (label, &keys.label, &columns.label) {
        return Err(format!("'{}' is asked for as text and as label ({})", printable(names[i]), printable(wanted)));
    }
    Ok(())
}

/// 2^53: whole numbers up to it are exact as floating-point numbers.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Text fields and label by their keys. A label may be missing or null: the document has none.
fn values(object: &Object, keys: &Keys) -> Result<(Vec<String>, Option<String>), String> {
    let show = |name: &str, value: Option<&Value>| match value {
        Some(Value::String(s)) => Ok(s.clone()),
        Some(Value::Null) => Ok(String::new()),
        // beyond 2^53 different numbers are one
        Some(Value::Number(n)) if n.is_f64() && n.as_f64().is_some_and(|x| x.abs() >= EXACT) => Err(format!(
            "'{}' is a number of more digits than are kept: write it as a text, in quotes",
            printable(name)
        )),
        Some(v @ (Value::Number(_) | Value::Bool(_))) => Ok(v.to_string()),
        Some(_) => Err(format!("'{}' is neither text nor a number", printable(name))),
        None => Err(format!("has no '{}', which the first line has", printable(name))),
    };
    let fields = keys.texts.iter().map(|name| show(name, object.get(name))).collect::<Result<_, _>>()?;
    if !keys.marks.is_empty() {
        let mut labels = Vec::new();
        for name in &keys.marks {
            if mark(name, &show(name, object.get(name))?)? {
                labels.push(name.as_str());
            }
        }
        return Ok((fields, Some(labels.join(&LABEL_MARK.to_string()))));
    }
    if let (true, Some(Value::Array(labels))) = (keys.several, keys.label.as_ref().and_then(|name| object.get(name))) {
        let name = keys.label.as_deref().unwrap_or_default();
        let labels = labels.iter().map(|label| show(name, Some(label))).collect::<Result<Vec<_>, _>>()?;
        // a mark after each: a list of one is a list, too
        return Ok((fields, Some(labels.iter().map(|label| format!("{label}{LABEL_MARK}")).collect())));
    }
    let label = match keys.label.as_ref().and_then(|name| Some((name, object.get(name)?))) {
        Some((name, value)) => Some(show(name, Some(value))?.trim().to_string()).filter(|l| !l.is_empty()),
        None => None,
    };
    Ok((fields, label))
}
