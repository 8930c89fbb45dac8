//! How a model's texts become tokens: by the tokenizer it was trained with, no longer than it takes.

use super::subject::{Part, Subject};
use crate::data::tokenizer::Tokenizer;
use crate::error::Error;
use crate::model::config::Config;

/// See the [module](self).
pub struct Words {
    /// Or why there is none.
    tokenizer: Result<Tokenizer, String>,
    length: usize,
}

impl Words {
    /// Those of `subject`. Where it has no text tower, or its tokenizer is no more there, every text is refused.
    ///
    /// # Errors
    /// If the tokenizer is damaged, or not the model's.
    pub fn of(subject: &Subject) -> Result<Self, Error> {
        let path = subject.tokenizer.display();
        let absent = if !subject.has(Part::Text) {
            "these weights have no text tower: texts cannot be embedded".into()
        } else if !subject.tokenizer.exists() {
            format!("texts need the tokenizer that the model was trained with, and there is no {path}: put it there")
        } else {
            let tokenizer = Tokenizer::load(&subject.tokenizer, false)?;
            return Self::new(Some(tokenizer), &subject.config, subject.text_length);
        };
        Ok(Self { tokenizer: Err(absent), length: subject.text_length })
    }

    /// Of a model of its own; without a tokenizer every text is refused.
    ///
    /// # Errors
    /// If the tokenizer has more pieces than the model.
    pub fn new(tokenizer: Option<Tokenizer>, config: &Config, length: usize) -> Result<Self, Error> {
        let rows = config.vocab_size;
        if let Some((tokenizer, words)) =
            tokenizer.as_ref().map(|it| (it, it.vocab_size())).filter(|&(_, words)| words > rows)
        {
            return Err(Error::Usage(format!(
                "{} has {words} pieces, the model {rows}: it is not the tokenizer that the model was trained with",
                tokenizer.path().display()
            )));
        }
        let absent = "this model was opened without a tokenizer: give it one, or give texts as tokens";
        Ok(Self { tokenizer: tokenizer.ok_or(absent.into()), length })
    }

    /// The tokenizer, if there is one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref().ok()
    }

    /// Tokens of each of some prompts.
    ///
    /// # Errors
    /// As [`Words::prompt`].
    pub fn prompts<T: AsRef<str>>(&self, prompts: &[T]) -> Result<Vec<Vec<i32>>, Error> {
        prompts.iter().map(|prompt| self.prompt(prompt.as_ref())).collect()
    }

    /// Tokens of each of some reports.
    ///
    /// # Errors
    /// As [`Words::report`].
    pub fn reports<T: AsRef<str>>(&self, reports: &[T]) -> Result<Vec<Vec<i32>>, Error> {
        reports.iter().map(|report| self.report(report.as_ref())).collect()
    }

    /// Tokens of a prompt.
    ///
    /// # Errors
    /// If there is no tokenizer, or the prompt is empty, longer than the model takes, or all of words that it does not know.
    pub fn prompt(&self, prompt: &str) -> Result<Vec<i32>, Error> {
        let tokens = self.encode(prompt)?;
        let unknown = self.tokenizer().map(|tokenizer| tokenizer.unknown() as i32);
        match tokens.len() {
            0..=2 => Err(Error::Usage(format!("the prompt {prompt:?} has no word: write one"))),
            length if length > self.length => Err(Error::Usage(format!(
                "the prompt that begins {:?} has {length} tokens, the model takes {}: shorten it",
                prompt.chars().take(40).collect::<String>(),
                self.length
            ))),
            length if tokens[1..length - 1].iter().all(|&token| Some(token) == unknown) => Err(Error::Usage(format!(
                "the model's vocabulary has no word of the prompt {prompt:?}: write it in the words of its reports"
            ))),
            _ => Ok(tokens),
        }
    }

    /// Tokens of a report; a longer one is cut as in training.
    ///
    /// # Errors
    /// If there is no tokenizer.
    pub fn report(&self, report: &str) -> Result<Vec<i32>, Error> {
        let mut tokens = self.encode(report)?;
        if let Some(&end) = tokens.last().filter(|_| tokens.len() > self.length) {
            tokens.truncate(self.length - 1);
            tokens.push(end);
        }
        Ok(tokens)
    }

    fn encode(&self, text: &str) -> Result<Vec<i32>, Error> {
        let tokenizer = self.tokenizer.as_ref().map_err(|absent| Error::Usage(absent.clone()))?;
        Ok(tokenizer.encode(text)?.into_iter().map(|token| token as i32).collect())
    }
}
