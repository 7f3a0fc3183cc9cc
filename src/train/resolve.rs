//! What a recipe's settings mean to the rooms below: tokenizers, batches, networks.

use super::recipe::{
    ClassifierSettings, EncoderName, LmSettings, LossName, ModelSettings, Recipe, SamplerName, Splits, TaskName,
    TextSettings, TokenizerName, TrainingSettings,
};
use crate::error::{Error, Result};
use crate::nn;
use crate::ops::concat_pool::Masking;
use crate::random::Key;
use crate::text::{
    ClassifierConfig, Direction, Language, LmConfig, PAD_ID, SampleOrder, TokenizerKind, TokenizerPlan, VariableWindows,
};
use crate::train::Stage;

impl TextSettings {
    /// The tokenizer of a new vocabulary.
    pub fn tokenizer_plan(&self) -> Result<TokenizerPlan> {
        let rules = self.rules;
        let language = Language::by_name(&self.language)?;
        if language.is_some() && self.tokenizer != TokenizerName::Word {
            return Err(Error::usage(format!("--language {}: only the word tokenizer knows languages", self.language))
                .hint("leave --language or --tokenizer away"));
        }
        let file = (self.tokenizer_file != "none").then_some(&self.tokenizer_file);
        if let (Some(file), true) = (file, self.tokenizer != TokenizerName::Subword) {
            return Err(Error::usage(format!(
                "--tokenizer-file {file}: only the sub-word tokenizer comes from a file"
            ))
            .hint("say --tokenizer subword"));
        }
        Ok(TokenizerPlan::Made(match (self.tokenizer, file) {
            (TokenizerName::Word, _) => TokenizerKind::word_in(rules, language).with_invisible(self.invisible),
            (TokenizerName::Whitespace, _) => TokenizerKind::Whitespace,
            (TokenizerName::Pretokenized, _) => TokenizerKind::Pretokenized,
            (TokenizerName::Subword, Some(file)) => return TokenizerPlan::from_file(file.as_ref()),
            (TokenizerName::Subword, None) => {
                return Ok(TokenizerPlan::Train {
                    algorithm: self.subword,
                    rules,
                    invisible: self.invisible,
                    coverage: self.coverage,
                });
            }
        }))
    }
}

impl LmSettings {
    /// How training runs over a text.
    pub fn batches(&self, direction: Direction, key: Key) -> LmConfig {
        LmConfig {
            batch_size: self.training.batch_size,
            bptt: self.training.bptt,
            layout: self.layout,
            windows: self.training.windows,
            variable: self.training.variable_windows(),
            direction,
            key,
        }
    }
}

impl TrainingSettings {
    pub(super) fn variable_windows(&self) -> VariableWindows {
        VariableWindows {
            deviation: self.window_sd,
            half_probability: self.window_half_p,
            least: self.window_min,
            excess: self.window_excess,
        }
    }
}

impl LmSettings {
    /// Columns of a batch over a text of so many tokens: those of the recipe, or (`fit_batch`) as
    /// many as the text fills with a window each, one at least.
    pub(super) fn fitting_columns(&self, tokens: u64) -> usize {
        let training = &self.training;
        let filled = usize::try_from(tokens / training.bptt as u64).unwrap_or(usize::MAX).max(1);
        if self.fit_batch { training.batch_size.min(filled) } else { training.batch_size }
    }

    /// How many negatives a sampled softmax over a vocabulary draws; `None` for another loss, and
    /// where there are not more words.
    pub(super) fn sampled_negatives(&self, vocabulary: usize) -> Option<usize> {
        (self.loss == LossName::Sampled && self.negatives < vocabulary).then_some(self.negatives)
    }

    /// Where the adaptive softmax cuts a vocabulary; empty for another loss, and where the
    /// vocabulary is too small to be cut.
    fn splits_of(&self, vocabulary: usize) -> Vec<usize> {
        if self.loss == LossName::Adaptive { self.splits.of(vocabulary) } else { Vec::new() }
    }
}

impl ClassifierSettings {
    fn sample_order(&self) -> SampleOrder {
        match self.sampler {
            SamplerName::Sortish => SampleOrder::Sortish,
            SamplerName::SortishShortLast => SampleOrder::SortishShortLast,
        }
    }

    /// How training runs over documents.
    pub fn batches(&self, key: Key) -> ClassifierConfig {
        let (batch_size, order) = (self.training.batch_size, self.sample_order());
        ClassifierConfig { batch_size, order, drop_last: self.drop_last, key }
    }
}

impl Recipe {
    /// The language model of stage 1 or 2 of this recipe for a vocabulary.
    pub fn language_model(&self, stage: Stage, vocabulary: usize) -> nn::LanguageModelSettings {
        nn::LanguageModelSettings {
            encoder: self.encoder(vocabulary),
            decoder_bias: self.model.decoder_bias,
            splits: self.lm(stage).splits_of(vocabulary),
        }
    }

    /// The same, where the stage goes on from a model: with the softmax of that. A list of cuts in
    /// the recipe counts where that model's is adaptive.
    pub fn language_model_from(
        &self,
        stage: Stage,
        vocabulary: usize,
        base: Option<&nn::LanguageModelSettings>,
    ) -> nn::LanguageModelSettings {
        let mut settings = self.language_model(stage, vocabulary);
        if let Some(base) = base {
            let cuts = match &self.lm(stage).splits {
                Splits::At(own) if !base.splits.is_empty() => own,
                _ => &base.splits,
            };
            settings.splits = cuts.iter().copied().filter(|&split| split < vocabulary).collect();
        }
        settings
    }

    /// Settings of stage 2, or else of stage 1.
    pub fn lm(&self, stage: Stage) -> &LmSettings {
        if stage == Stage::FinetuneLm { &self.finetune } else { &self.pretrain }
    }

    /// The encoder of this recipe for a vocabulary.
    pub fn encoder(&self, vocabulary: usize) -> nn::EncoderSettings {
        let ModelSettings { encoder, emb: embedding, hidden, layers, zoneout, .. } = self.model;
        let pad = Some(PAD_ID);
        match encoder {
            EncoderName::AwdLstm => nn::AwdLstmSettings { vocabulary, embedding, hidden, layers, pad }.into(),
            EncoderName::Qrnn => nn::QrnnSettings { vocabulary, embedding, hidden, layers, pad, zoneout }.into(),
        }
    }

    /// The classifier of this recipe for a vocabulary and a number of classes.
    pub fn classifier_architecture(&self, vocabulary: usize, classes: usize) -> nn::ClassifierSettings {
        let settings = &self.classifier;
        // padding in front would be read before the words
        let of_words = settings.task == TaskName::Tags;
        nn::ClassifierSettings {
            encoder: self.encoder(vocabulary),
            head: settings.head_sizes.clone(),
            classes,
            linear_bias: settings.linear_bias,
            norm_bias: settings.norm_bias_init,
            masking: if of_words { Masking::Version2 } else { settings.masking },
            bptt: settings.training.bptt,
            max_steps: settings.max_len,
            strict_cap: settings.max_len_strict,
            answers: settings.task.answers(),
            pair: settings.task == TaskName::Pair,
            auxiliary: (settings.auxiliary_lm > 0.0).then_some(self.model.decoder_bias),
        }
    }
}
