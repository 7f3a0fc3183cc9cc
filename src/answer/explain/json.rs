//! Explanations as JSON (docs/CLI.md).

use serde_json::{Map, Value, json};

use super::{Explanation, NetworkWords, Parts, WordShare};
use crate::nn::Answers;

impl Explanation {
    /// All of it. `label_names`: of the folder, in the order of the probabilities.
    pub fn json(&self, text: &str, label_names: &[String]) -> Value {
        if let Some(why) = self.answer.row.skipped {
            return json!({ "text": text, "label": null, "reason": why.reason() });
        }
        let p = &self.answer.probabilities;
        let probabilities: Map<String, Value> =
            label_names.iter().cloned().zip(p.iter().map(|&p| Value::from(p))).collect();
        let mut value = json!({ "text": text, "label": self.label, "against": self.against });
        match self.kind {
            Answers::Number => value["number"] = p.first().copied().into(),
            Answers::Class | Answers::Labels | Answers::Tags { .. } => value["probabilities"] = probabilities.into(),
        }
        value["networks"] = self.networks.iter().map(|network| network.json(text)).collect();
        value["linear"] = self.linear_json(usize::MAX);
        value
    }

    /// The words alone, and so many features of the linear model, as a server gives them.
    pub fn brief_json(&self, text: &str, features: usize) -> Value {
        if self.answer.row.skipped.is_some() {
            return Value::Null;
        }
        let network = |network: &NetworkWords| {
            let words = placed(text, &network.words).map(|(word, [start, end])| {
                json!({ "text": word.text, "start": start, "end": end, "share": word.parts.sum() })
            });
            json!({
                "direction": network.direction.name(), "logit": network.logit, "base": network.base,
                "words": words.collect::<Vec<_>>(),
            })
        };
        let networks: Vec<Value> = self.networks.iter().map(network).collect();
        json!({ "label": self.label, "networks": networks, "linear": self.linear_json(features) })
    }

    fn linear_json(&self, most: usize) -> Value {
        let Some(linear) = &self.linear else { return Value::Null };
        let feature = |f: &crate::linear::FeatureShare| json!({ "name": f.name, "count": f.count, "share": f.share });
        let features: Vec<Value> = linear.features.iter().take(most).map(feature).collect();
        json!({ "logit": linear.logit, "bias": linear.bias, "features": features })
    }
}

impl NetworkWords {
    fn json(&self, text: &str) -> Value {
        let tokens: Vec<Value> = self
            .tokens
            .iter()
            .map(|token| {
                let mut value = json!({ "token": token.token, "known": token.known });
                put_parts(&mut value, &token.parts);
                value["gradient"] = token.gradient.into();
                value
            })
            .collect();
        let words: Vec<Value> = placed(text, &self.words)
            .map(|(word, [start, end])| {
                let mut value = json!({ "text": word.text, "start": start, "end": end });
                value["tokens"] = json!([word.tokens.start, word.tokens.end]);
                put_parts(&mut value, &word.parts);
                value["gradient"] = word.gradient.into();
                value["without"] = word.without.into();
                value
            })
            .collect();
        let gradients = self.gradients.map(
            |path| json!({ "steps": path.steps, "from": path.from, "to": path.to, "sum": path.sum, "gap": path.gap() }),
        );
        json!({
            "direction": self.direction.name(), "logit": self.logit, "base": self.base, "sum": self.sum(),
            "gap": self.sum() - self.logit, "unpooled": self.unpooled, "gradients": gradients, "words": words,
            "tokens": tokens,
        })
    }
}

fn put_parts(value: &mut Value, parts: &Parts) {
    value["share"] = parts.sum().into();
    value["last"] = parts.last.into();
    value["max"] = parts.max.into();
    value["mean"] = parts.mean.into();
    value["units"] = parts.units.into();
}

/// Words with the characters of the text at which they begin and end.
fn placed<'a>(text: &'a str, words: &'a [WordShare]) -> impl Iterator<Item = (&'a WordShare, [Option<usize>; 2])> {
    let (mut bytes, mut characters) = (0, 0);
    words.iter().map(move |word| {
        let Some(place) = &word.place else { return (word, [None, None]) };
        // words are in the order of the text
        characters += text.get(bytes..place.start).unwrap_or_default().chars().count();
        let length = text[place.clone()].chars().count();
        let found = [Some(characters), Some(characters + length)];
        (bytes, characters) = (place.end, characters + length);
        (word, found)
    })
}
