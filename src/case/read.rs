//! Reading a case: its parameters, its tensors, and sentences about what is wrong with them.

use serde_json::Value;

use super::{Array, Case, Failure};
use crate::gpu::Dtype;

impl Case {
    /// A parameter that is true or false.
    ///
    /// # Errors
    /// `Case` when it is neither.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Failure> {
        match self.params.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(format!(
                "parameter {name} must be true or false, got {other}"
            ))),
        }
    }

    /// A parameter that is a finite number; `None` where the case has none.
    ///
    /// # Errors
    /// `Case` when it is something else.
    pub fn number(&self, name: &str) -> Result<Option<f64>, Failure> {
        match self.params.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(format!(
                    "parameter {name} must be a finite number, got {value}"
                ))),
            },
        }
    }

    /// A parameter that counts something; `None` where the case has none.
    ///
    /// # Errors
    /// `Case` when it is not a whole number of at least 0.
    pub fn count(&self, name: &str) -> Result<Option<usize>, Failure> {
        match self.params.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) => Ok(Some(n)),
                None => Err(self.wrong(format!(
                    "parameter {name} must be a whole number of at least 0, got {value}"
                ))),
            },
        }
    }

    /// A parameter that is a word.
    ///
    /// # Errors
    /// `Case` when it is something else.
    pub fn text(&self, name: &str, default: &str) -> Result<String, Failure> {
        match self.params.get(name) {
            None | Some(Value::Null) => Ok(default.into()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(self.wrong(format!("parameter {name} must be text, got {other}"))),
        }
    }

    /// A parameter that is one of some words, by its place among them; the first is the default.
    ///
    /// # Errors
    /// `Case` when it is none of them.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, Failure> {
        let default = choices.first().map_or("", |(word, _)| word);
        let text = self.text(name, default)?;
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
                let words = words.join(" or ");
                Err(self.wrong(format!("parameter {name} must be {words}, got \"{text}\"")))
            }
        }
    }

    /// The parameter that must be there.
    ///
    /// # Errors
    /// `Case` when it is not.
    pub fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T, Failure> {
        value.ok_or_else(|| self.wrong(format!("parameter {name} is missing")))
    }

    /// An input of this type and shape.
    ///
    /// # Errors
    /// `Case` when there is none, or another.
    pub fn shaped(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&Array, Failure> {
        let array = self.input(name)?;
        if array.dtype == dtype && array.shape == shape {
            return Ok(array);
        }
        Err(self.wrong(format!(
            "tensor {name} must be {} {shape:?}, got {array:?}",
            dtype.name()
        )))
    }

    /// The sizes of an input with so many axes.
    ///
    /// # Errors
    /// `Case` when there is none, or with another number of axes.
    pub fn axes<const N: usize>(&self, name: &str, words: &str) -> Result<[usize; N], Failure> {
        let array = self.input(name)?;
        <[usize; N]>::try_from(array.shape.as_slice())
            .map_err(|_| self.wrong(format!("tensor {name} must be {words}, got {array:?}")))
    }
}
