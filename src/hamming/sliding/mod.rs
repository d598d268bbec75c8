//! Sliding (text-to-pattern) Hamming distances, and the search for short patterns with few mismatches.
//!
//! ```text
//! D[i] = #{j < m : T[i + j] differs from P[j]},   i = 0 .. n - m
//! ```
//!
//! for a text T of n symbols on the device, bytes or u32, and a pattern P of m symbols on the host; symbols may have any value.
//! [`sliding`] gives every distance, [`search`](search::k_mismatch) only the places with at most k mismatches, for many patterns
//! at once.
//!
//! A pair with a wild symbol on either side never differs. With [`Classes`] two symbols match where their classes share a letter,
//! as IUPAC's ambiguity codes for nucleotides do.
//!
//! Everything is exact, and equal for all methods, devices and ways to cut the work.

#[cfg(feature = "cli")]
pub(crate) mod cases;
mod direct;
mod ntt;
pub mod plan;
mod planes;
mod rates;
mod scatter;
pub mod search;
mod symbols;

use crate::{
    Error, Result,
    error::length,
    gpu::{Dtype, Elem, Gpu, Pass, Tensor},
};

pub use search::{Hits, Query, k_mismatch, k_mismatch_count};
pub use symbols::Classes;

pub(super) const OP: &str = "sliding_hamming";

/// The longest text.
pub const MAX_TEXT: usize = u32::MAX as usize - 1;

/// A pattern, on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// Its symbols; those compared with a text of bytes are at most 255.
    pub symbols: Vec<u32>,
    /// Which of them are wild: bit j mod 32 of word j / 32 is 1 where symbol j matches everything. `⌈m/32⌉` words, or none.
    pub wild: Option<Vec<u32>>,
}

impl Pattern {
    /// A pattern without wild symbols.
    pub fn new<S: Copy + Into<u32>>(symbols: &[S]) -> Pattern {
        Pattern {
            symbols: symbols.iter().map(|symbol| (*symbol).into()).collect(),
            wild: None,
        }
    }

    /// With these symbols wild, as [`Pattern::wild`] says.
    pub fn with_wild(self, mask: &[u32]) -> Pattern {
        Pattern {
            wild: Some(mask.to_vec()),
            ..self
        }
    }

    /// Number of symbols m.
    pub fn symbols_len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether symbol j counts: whether it is not wild.
    pub(crate) fn counts(&self, j: usize) -> bool {
        let wild = self.wild.as_ref().and_then(|mask| mask.get(j / 32));
        wild.is_none_or(|word| word >> (j % 32) & 1 == 0)
    }

    /// The symbols that count, with their positions.
    pub(crate) fn tame(&self) -> impl Iterator<Item = (usize, u32)> {
        let symbols = self.symbols.iter().enumerate();
        symbols
            .filter(|(j, _)| self.counts(*j))
            .map(|(j, symbol)| (j, *symbol))
    }

    fn check(&self, op: &'static str, dtype: Dtype, classes: bool) -> Result<()> {
        let wrong = |what: &str, expected: &str, got: String| {
            Err(Error::Argument {
                op,
                what: what.into(),
                expected: expected.into(),
                got,
            })
        };
        let m = self.symbols.len();
        if m == 0 || m > MAX_TEXT {
            return wrong("pattern", "of 1 to 2^32 - 2 symbols", m.to_string());
        }
        if let Some(mask) = &self.wild {
            length(op, "pattern.wild", mask.len(), m.div_ceil(32))?;
        }
        match self.tame().find(|(_, symbol)| *symbol > 255) {
            Some((j, symbol)) if dtype == Dtype::U8 && !classes => wrong(
                "pattern",
                "of symbols up to 255 for a text of bytes",
                format!("{symbol} at {j}"),
            ),
            _ => Ok(()),
        }
    }
}

/// A text on a device.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a, T: Elem> {
    /// Its symbols: `u8` or `u32`, `[n]`.
    pub symbols: &'a Tensor<T>,
    /// Which of them are wild, if any may be: bit i mod 32 of word i / 32, `[⌈n/32⌉]`.
    pub wild: Option<&'a Tensor<u32>>,
}

impl<'a, T: Elem> Text<'a, T> {
    /// A text without wild symbols.
    pub fn new(symbols: &'a Tensor<T>) -> Text<'a, T> {
        Text {
            symbols,
            wild: None,
        }
    }

    fn shape(&self) -> Shape {
        Shape {
            len: self.symbols.len(),
            dtype: T::DTYPE,
            wild: self.wild.is_some(),
        }
    }

    fn views(&self, op: &'static str) -> Result<Vec<crate::gpu::View<'a>>> {
        let mut views = vec![self.symbols.view()];
        if let Some(wild) = self.wild {
            length(op, "text.wild", wild.len(), self.symbols.len().div_ceil(32))?;
            views.push(wild.view());
        }
        Ok(views)
    }
}

/// What a planner knows of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of symbols n.
    pub len: usize,
    /// Their type: u8 or u32.
    pub dtype: Dtype,
    /// Whether some may be wild.
    pub wild: bool,
}

impl Shape {
    /// Number of distances of a pattern of m symbols: n - m + 1, or 0 where the text is the shorter one.
    pub fn outputs(&self, m: usize) -> usize {
        (self.len + 1).saturating_sub(m)
    }

    fn check(&self, op: &'static str) -> Result<()> {
        let wrong = |what: &str, expected: &str, got: String| {
            Err(Error::Argument {
                op,
                what: what.into(),
                expected: expected.into(),
                got,
            })
        };
        if !matches!(self.dtype, Dtype::U8 | Dtype::U32) {
            return wrong("text", "of u8 or u32", self.dtype.name().into());
        }
        if self.len > MAX_TEXT {
            return wrong("text", "of at most 2^32 - 2 symbols", self.len.to_string());
        }
        Ok(())
    }
}

/// How distances are computed. All methods give the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// The quickest by the planner's estimate.
    #[default]
    Auto,
    /// Ranks of symbols in bit planes, 32 symbols an operation: `n m / 32` steps times the planes, log2 of the alphabet.
    Planes,
    /// Comparison of symbols, four bytes or one u32 an operation: `n m` steps.
    Direct,
    /// One atomic subtraction for each pair that matches: for large alphabets, where few do.
    Scatter,
    /// Number-theoretic transforms modulo 65537, one for each symbol of the pattern: for long patterns over few symbols.
    Ntt,
}

impl Method {
    /// Every method, in the order in which ties are decided.
    pub const ALL: [Method; 4] = [Method::Planes, Method::Direct, Method::Scatter, Method::Ntt];

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Method::Auto => "auto",
            Method::Planes => "planes",
            Method::Direct => "direct",
            Method::Scatter => "scatter",
            Method::Ntt => "ntt",
        }
    }
}

/// What the caller knows of a text beyond its size; the planner does not look into device memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Whether the text may hold symbols that the pattern does not. Where this is false and the text does, those symbols are
    /// taken for the pattern's smallest: the distances there are wrong.
    pub others: bool,
    /// Number of pairs of a symbol of the text and an equal one of the pattern, for the estimate of [`Method::Scatter`]; unknown,
    /// the text is taken to be made of the pattern's symbols, all equally frequent.
    pub matches: Option<f64>,
}

impl Default for Facts {
    fn default() -> Facts {
        Facts {
            others: true,
            matches: None,
        }
    }
}

impl Facts {
    /// The facts of a text that is on the host as well.
    pub fn of<S: Copy + Into<u32>>(text: &[S], pattern: &Pattern) -> Facts {
        let mut counts = std::collections::HashMap::<u32, u64>::new();
        for (_, symbol) in pattern.tame() {
            *counts.entry(symbol).or_default() += 1;
        }
        let found = |symbol: &S| counts.get(&(*symbol).into()).copied();
        let (matches, others) =
            text.iter()
                .map(found)
                .fold((0u64, false), |(matches, others), count| match count {
                    Some(count) => (matches + count, others),
                    None => (matches, true),
                });
        Facts {
            others,
            matches: Some(matches as f64),
        }
    }
}

/// Options of [`sliding`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options<'a> {
    /// How to compute.
    pub method: Method,
    /// Classes of symbols instead of equality: [`Method::Planes`] only, which `Auto` then takes.
    pub classes: Option<&'a Classes>,
    /// What is known of the text.
    pub facts: Facts,
}

/// The Hamming distance of a pattern at every position of a text.
///
/// ```text
/// D[i] = #{j < m : T[i + j] differs from P[j]},   i = 0 .. n - m
/// ```
///
/// Shapes: text `[n]`, `u8` or `u32`, on the device; pattern `[m]` on the host; distance `[n - m + 1]`, u32, empty where n < m.
///
/// Cost, with σ distinct symbols in the pattern: the least of `n (m/32 + 1) log2 σ` ([`Method::Planes`]), `n m` (`Direct`), the
/// number of matching pairs (`Scatter`) and `(σ + 1) n log n` (`Ntt`), each by the rate of the device's class. Temporaries: the
/// text's bit planes (log2 σ bits a symbol), or blocks of transforms (at most a few hundred MiB).
///
/// Accuracy: exact.
///
/// # Errors
/// `Argument` for an empty pattern, one whose symbols do not fit the text's type, a mask or an output of another length;
/// `Unsupported` for classes with a method other than `Planes`; `Limit` when a pattern does not fit a binding; `Shader`,
/// `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Sources: M. J. Fischer and M. S. Paterson, String matching and other products, 1974 (convolution per symbol); K. Abrahamson,
/// Generalized string matching, 1987, and T. M. Chan, C. Jin, V. Vassilevska Williams and Y. Xu, Faster algorithms for
/// text-to-pattern Hamming distances, 2023 (arXiv:2310.13174), for the choice by symbol frequencies.
pub fn sliding<T: Elem>(
    gpu: &Gpu,
    text: &Text<'_, T>,
    pattern: &Pattern,
    options: &Options<'_>,
    distance: &mut Tensor<u32>,
) -> Result<()> {
    let mut pass = gpu.pass("sliding Hamming distances");
    record(&mut pass, text, pattern, options, distance)?;
    pass.submit().map(drop)
}

/// [`sliding`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`sliding`].
pub fn record<T: Elem>(
    pass: &mut Pass,
    text: &Text<'_, T>,
    pattern: &Pattern,
    options: &Options<'_>,
    distance: &mut Tensor<u32>,
) -> Result<()> {
    let shape = text.shape();
    let plan = plan::sliding(&shape, pattern, options, pass.caps())?;
    let views = text.views(OP)?;
    length(
        OP,
        "distance",
        distance.len(),
        shape.outputs(pattern.symbols_len()),
    )?;
    pass.run(&plan, &views, &mut [distance.view_mut()])
}
