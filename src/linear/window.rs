//! Cutting the work so that no binding and no dispatch is too large.

use std::ops::Range;

use super::Shape;
use crate::{Error, Result, gpu::Caps};

/// Segments and token windows begin at multiples of this, which every chunk and block divides.
pub(super) const GRAIN: u64 = 64;

/// Offsets of bindings are multiples of this, which satisfies every device.
pub(super) const ALIGN: u64 = 256;

/// The longest a dispatch is predicted to run; drivers reset a GPU that is busy for a second or two.
pub(super) const STEP_MS: f64 = 100.0;

/// A part of the work that one dispatch covers: heads counted over batch x heads, and tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    pub heads: Range<u64>,
    pub tokens: Range<u64>,
}

impl Window {
    pub fn heads_len(&self) -> u64 {
        self.heads.end - self.heads.start
    }

    pub fn tokens_len(&self) -> u64 {
        self.tokens.end - self.tokens.start
    }

    /// The bytes of a tensor that the window touches, from an aligned start; a row is one token of one head.
    pub fn span(&self, shape: &Shape, width: usize, elem_bytes: u64) -> Range<u64> {
        let [batch, head, token] = shape.strides();
        let heads = shape.heads as u64;
        let row = |n: u64, t: u64| (n / heads) * batch + (n % heads) * head + t * token;
        let row_bytes = width as u64 * elem_bytes;
        let end = row(self.heads.end - 1, self.tokens.end - 1) + 1;
        row(self.heads.start, self.tokens.start) * row_bytes / ALIGN * ALIGN
            ..(end * row_bytes).next_multiple_of(4)
    }

    pub fn predicted_ms(&self, shape: &Shape, caps: &Caps) -> f64 {
        self.heads_len() as f64 * self.tokens_len() as f64 * per_token_flops(shape)
            / (caps.gflops * 1e6)
    }
}

/// Operations a token of a head is credited with.
pub(super) fn per_token_flops(shape: &Shape) -> f64 {
    (4 * shape.key * shape.value + 64 * (shape.key + shape.value)) as f64
}

/// Number and length of the segments when a window is cut into at most `n` equal ones.
pub(super) fn segments(window: &Window, n: u64) -> (u64, u64) {
    let tokens = window
        .tokens_len()
        .div_ceil(n.max(1))
        .next_multiple_of(GRAIN);
    (window.tokens_len().div_ceil(tokens.max(1)), tokens)
}

/// What decides how a call is cut.
pub(super) struct Cut<'a> {
    pub shape: &'a Shape,
    pub caps: &'a Caps,
    /// Segments of every window.
    pub segments: u64,
    /// Workgroups to a segment.
    pub slices: u64,
    /// Tokens of a segment that an invocation may walk.
    pub most_tokens: u64,
    pub out_elem_bytes: u64,
}

/// Cuts a call into windows, in an order in which a window follows the earlier tokens of its heads.
pub(super) fn cut(call: &Cut<'_>) -> Result<Vec<Window>> {
    let whole = Window {
        heads: 0..call.shape.rows() as u64,
        tokens: 0..call.shape.tokens as u64,
    };
    let mut windows = Vec::new();
    halve(call, whole, &mut windows)?;
    Ok(windows)
}

fn halve(call: &Cut<'_>, window: Window, windows: &mut Vec<Window>) -> Result<()> {
    let Cut { shape, caps, .. } = call;
    let len = |range: Range<u64>| range.end - range.start;
    let state_len = (shape.key * shape.value) as u64;
    let walks = window.heads_len() * segments(&window, call.segments).0;
    let keys = len(window.span(shape, shape.key, shape.dtype.bytes()));
    let values = len(window.span(shape, shape.value, call.out_elem_bytes));
    let states = 4 * walks * state_len + ALIGN;
    let groups = (walks * call.slices).max(window.heads_len() * state_len.div_ceil(64));
    let tensors_fit = keys.max(values) <= caps.binding_bytes;
    let states_fit =
        states <= caps.binding_bytes && groups <= u64::from(caps.groups_per_dim).pow(2);
    let fits = tensors_fit && states_fit;

    let (heads, tokens) = (window.heads_len(), window.tokens_len());
    let walked = segments(&window, call.segments).1.min(tokens);
    let quick = window.predicted_ms(shape, caps) <= STEP_MS && walked <= call.most_tokens;
    if fits && (quick || (heads == 1 && tokens <= GRAIN)) {
        windows.push(window);
        return Ok(());
    }
    // Fewer heads shrink states always, and tensors when they lie in other batches or each head lies by itself. Fewer tokens
    // shrink tensors always; they keep more of the device busy, at the price of carrying the state.
    let heads_shrink = heads > shape.heads as u64 || shape.strides()[2] == 1 || tokens <= GRAIN;
    let by_heads = heads > 1 && (!states_fit || (!tensors_fit && heads_shrink) || tokens <= GRAIN);
    let (first, second) = if by_heads {
        let unit = if heads > shape.heads as u64 {
            shape.heads as u64
        } else {
            1
        };
        let middle = window.heads.start + (heads / unit).div_ceil(2) * unit;
        let middle = middle.min(window.heads.end - 1);
        (
            Window {
                heads: window.heads.start..middle,
                ..window.clone()
            },
            Window {
                heads: middle..window.heads.end,
                ..window
            },
        )
    } else if tokens > GRAIN {
        let middle = window.tokens.start + (tokens / 2).next_multiple_of(GRAIN);
        (
            Window {
                tokens: window.tokens.start..middle,
                ..window.clone()
            },
            Window {
                tokens: middle..window.tokens.end,
                ..window
            },
        )
    } else {
        let what = "bytes in one binding, for 64 tokens of one head,".into();
        let remedy = "use the layout bhtd or fewer heads";
        return Err(Error::Limit {
            what,
            needed: keys.max(values).max(states),
            available: caps.binding_bytes,
            remedy,
        });
    };
    halve(call, first, windows)?;
    halve(call, second, windows)
}
