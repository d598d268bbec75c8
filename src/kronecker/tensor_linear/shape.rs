//! Sizes and options, and every check of them.

use crate::{
    Error, Result,
    gpu::Dtype,
    linear::{FeatureMap, FeatureShape, Layout},
};

pub(super) const OP: &str = "tensor_linear_attention";

/// The most key sets.
pub const MAX_SETS: usize = 8;

/// The widest queries, keys and values.
pub const MAX_WIDTH: usize = 1024;

/// The most features, where queries see all keys.
pub const MAX_RANK: usize = 8192;

/// The most features, where queries see earlier keys only.
pub const MAX_CAUSAL_RANK: usize = 1024;

/// Sizes of a call: q `[batch, heads, queries, key]`, the s-th keys `[batch, kv_heads, keys[s], key]` and values
/// `[batch, kv_heads, keys[s], value]`, o `[batch, heads, queries, value]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Heads of queries, a multiple of `kv_heads`: head h reads the keys of head h / (heads / kv_heads).
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Queries of a head; 0 is legal.
    pub queries: usize,
    /// Keys of a head, for each of 1 to [`MAX_SETS`] key sets; 0 is legal. Two sets make third-order attention.
    pub keys: Vec<usize>,
    /// Width of queries and keys.
    pub key: usize,
    /// Width of values and outputs.
    pub value: usize,
    /// Storage type of all tensors but gradients: f32, f16 or bf16.
    pub dtype: Dtype,
}

/// Which keys a query sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mask {
    /// All.
    #[default]
    Full,
    /// Those up to its own place: query i stands at key i + (keys - queries). All key sets have one length, at least that of queries.
    Causal,
    /// As [`Mask::Causal`], and of the s-th set only the last so many up to its place.
    Window(Vec<usize>),
}

/// Options of the linear form.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Multiplies every weight.
    pub scale: f32,
    /// Which keys a query sees.
    pub mask: Mask,
    /// What queries and keys go through first: any map without weights of its own.
    pub feature_map: FeatureMap,
    /// Divides by the sum of the weights plus this number, where there is one. Weights should then be positive.
    pub normalize: Option<f32>,
}

impl Options {
    /// Unnormalised products of queries and keys, over all keys.
    pub fn new(scale: f32) -> Options {
        Options {
            scale,
            mask: Mask::Full,
            feature_map: FeatureMap::Identity,
            normalize: None,
        }
    }

    pub(super) fn check(&self, shape: &Shape) -> Result<()> {
        shape.check(&self.mask)?;
        if !self.scale.is_finite() {
            return wrong("scale", "a finite number".into(), self.scale.to_string());
        }
        if let Some(eps) = self.normalize
            && !(eps.is_finite() && eps >= 0.0)
        {
            return wrong(
                "normalize",
                "a finite number of at least 0".into(),
                eps.to_string(),
            );
        }
        let map = self.feature_map;
        map.check(OP)?;
        if map.weight_len(shape.key).is_some() {
            let expected = "a map without weights, such as elu1".into();
            return wrong("feature_map", expected, map.name().into());
        }
        shape.check_rank(map.width(shape.key), &self.mask)
    }
}

pub(super) fn wrong<T>(what: &str, expected: String, got: String) -> Result<T> {
    Err(Error::Argument {
        op: OP,
        what: what.into(),
        expected,
        got,
    })
}

impl Shape {
    /// Key sets.
    pub fn sets(&self) -> usize {
        self.keys.len()
    }

    /// Heads of keys of all sequences.
    pub fn key_heads(&self) -> usize {
        self.batch * self.kv_heads
    }

    /// Heads of queries to a head of keys.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }

    /// Queries of all heads.
    pub fn query_rows(&self) -> usize {
        self.batch * self.heads * self.queries
    }

    /// Keys of all heads of a set.
    pub fn key_rows(&self, set: usize) -> usize {
        self.key_heads() * self.keys.get(set).copied().unwrap_or(0)
    }

    /// The tensor of queries, or the keys of a set, as [`FeatureMap`]s see it.
    pub(super) fn rows_of(&self, set: Option<usize>) -> FeatureShape {
        let (heads, tokens) = match set {
            None => (self.heads, self.queries),
            Some(set) => (self.kv_heads, self.keys.get(set).copied().unwrap_or(0)),
        };
        FeatureShape {
            batch: self.batch,
            tokens,
            heads,
            key: self.key,
            layout: Layout::Bhtd,
            dtype: self.dtype,
        }
    }

    pub(super) fn check(&self, mask: &Mask) -> Result<()> {
        if !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            return wrong("dtype", "f32, f16 or bf16".into(), self.dtype.name().into());
        }
        if !(1..=MAX_SETS).contains(&self.sets()) {
            let got = self.sets().to_string();
            return wrong("keys", format!("of 1 to {MAX_SETS} sets"), got);
        }
        for (what, width) in [("key", self.key), ("value", self.value)] {
            if !(1..=MAX_WIDTH).contains(&width) {
                return wrong(what, format!("1 to {MAX_WIDTH}"), width.to_string());
            }
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a divisor of the {} heads", self.heads);
            return wrong("kv_heads", expected, self.kv_heads.to_string());
        }
        let most = self.keys.iter().copied().chain([self.queries]).max();
        let sizes = [
            self.batch,
            self.heads.max(1),
            most.unwrap_or(0),
            self.key.max(self.value),
        ];
        let elements = sizes
            .into_iter()
            .try_fold(1u64, |elements, size| elements.checked_mul(size as u64));
        if elements.is_none_or(|elements| elements > 1 << 40) {
            return wrong(
                "shape",
                "of at most 2^40 elements".into(),
                format!("{self:?}"),
            );
        }
        if *mask == Mask::Full {
            return Ok(());
        }
        let length = self.keys.first().copied().unwrap_or(0);
        if self.keys.iter().any(|keys| *keys != length) {
            let expected = "equal for all sets where queries see earlier keys only".into();
            return wrong("keys", expected, format!("{:?}", self.keys));
        }
        if self.queries > length {
            let expected = format!("at most the {length} keys where queries see earlier keys only");
            return wrong("queries", expected, self.queries.to_string());
        }
        if let Mask::Window(windows) = mask
            && (windows.len() != self.sets() || windows.contains(&0))
        {
            let expected = format!("{} lengths of at least 1, one a key set", self.sets());
            return wrong("window", expected, format!("{windows:?}"));
        }
        Ok(())
    }

    pub(super) fn check_rank(&self, rank: usize, mask: &Mask) -> Result<()> {
        let most = match mask {
            Mask::Full => MAX_RANK,
            _ => MAX_CAUSAL_RANK,
        };
        if rank <= most {
            return Ok(());
        }
        wrong(
            "features",
            format!("at most {most} under this mask"),
            rank.to_string(),
        )
    }

    /// The window of a set, `None` where it reaches over all keys.
    pub(super) fn window(&self, mask: &Mask, set: usize) -> Option<usize> {
        let Mask::Window(windows) = mask else {
            return None;
        };
        let length = self.keys.get(set).copied().unwrap_or(0);
        windows.get(set).copied().filter(|window| *window < length)
    }

    /// The keys of a set that a query sees.
    pub(super) fn seen(&self, mask: &Mask, set: usize, query: usize) -> std::ops::Range<usize> {
        let length = self.keys.get(set).copied().unwrap_or(0);
        if *mask == Mask::Full {
            return 0..length;
        }
        let end = (query + length + 1).saturating_sub(self.queries);
        let first = match self.window(mask, set) {
            Some(window) => end.saturating_sub(window),
            None => 0,
        };
        first..end
    }
}
