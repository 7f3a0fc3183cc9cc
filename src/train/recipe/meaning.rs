//! What the keys of a recipe mean: the docstrings of their fields.

/// The fields are declared, and described, there alone.
const SETTINGS: &str = include_str!("settings.rs");

/// What a key means (`classifier.max_len`); none for a key that is none.
pub fn meaning(key: &str) -> Option<String> {
    let (section, name) = key.split_once('.')?;
    let structures: &[&str] = match section {
        "model" => &["ModelSettings"],
        "text" => &["TextSettings"],
        "pretrain" | "finetune" => &["LmSettings", "TrainingSettings"],
        "classifier" => &["ClassifierSettings", "TrainingSettings"],
        _ => return None,
    };
    structures.iter().find_map(|structure| docstring(structure, name))
}

/// The docstring of a field, in one line, without the marks of links.
fn docstring(structure: &str, field: &str) -> Option<String> {
    let (_, body) = SETTINGS.split_once(&format!("pub struct {structure} {{\n"))?;
    let (body, _) = body.split_once("\n}")?;
    let mut text: Vec<&str> = Vec::new();
    for line in body.lines().map(str::trim) {
        if let Some(line) = line.strip_prefix("///") {
            text.push(line.trim());
        } else if line.strip_prefix("pub ").and_then(|line| line.split(':').next()) == Some(field) {
            return Some(text.join(" ").replace("[`", "`").replace("`]", "`"));
        } else if !line.starts_with("#[") {
            text.clear();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{Recipe, names};
    use super::*;

    /// Every key of every recipe has a meaning.
    #[test]
    fn every_key_is_described() {
        let recipes = names().map(|name| Recipe::named(name).unwrap());
        let keys = recipes.flat_map(|recipe| recipe.stage_rows(None).map(|row| row.key.clone()).collect::<Vec<_>>());
        let without: Vec<String> = keys.filter(|key| meaning(key).is_none_or(|text| text.len() < 10)).collect();
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn the_meaning_is_the_docstring() {
        assert_eq!(meaning("pretrain.min_freq").unwrap(), "Words seen less often are unknown.");
        assert_eq!([meaning("pretrain.max_len"), meaning("min_freq"), meaning("x.y")], [None, None, None]);
    }
}
