//! Cutting the work so that no binding and no dispatch is too large.

use std::ops::Range;

pub(super) use crate::plan::{ALIGN, STEP_MS};

use super::Layout;
use crate::{Error, Result, gpu::Caps};

/// Segments and token windows begin at multiples of this, which every chunk and block divides.
pub(super) const GRAIN: u64 = 64;

/// What walkers walk over: sequences of tokens, with a state per sequence and head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field {
    pub batch: usize,
    pub tokens: usize,
    /// Heads of states.
    pub heads: usize,
    pub layout: Layout,
}

impl Field {
    pub fn walkers(&self) -> u64 {
        (self.batch * self.heads) as u64
    }

    /// The row of a token in a tensor of so many heads.
    fn row(&self, heads: u64, batch: u64, head: u64, token: u64) -> u64 {
        let tokens = self.tokens as u64;
        match self.layout {
            Layout::Bthd => (batch * tokens + token) * heads + head,
            Layout::Bhtd => (batch * heads + head) * tokens + token,
        }
    }
}

/// A part of the work that one dispatch covers: walkers, counted over batch x heads, and tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    pub walkers: Range<u64>,
    pub tokens: Range<u64>,
}

impl Window {
    pub fn walkers_len(&self) -> u64 {
        self.walkers.end - self.walkers.start
    }

    pub fn tokens_len(&self) -> u64 {
        self.tokens.end - self.tokens.start
    }

    /// The bytes of a tensor with so many heads that the window touches, from an aligned start.
    pub fn span(&self, field: &Field, heads: usize, row_bytes: u64) -> Range<u64> {
        let (states, heads) = (field.heads as u64, heads as u64);
        let (first, last) = (self.walkers.start, self.walkers.end - 1);
        let begin = field.row(
            heads,
            first / states,
            first % states * heads / states,
            self.tokens.start,
        );
        // The last of the heads that belong to the last walker.
        let head = ((last % states + 1) * heads).div_ceil(states) - 1;
        let end = field.row(heads, last / states, head, self.tokens.end - 1) + 1;
        begin * row_bytes / ALIGN * ALIGN..(end * row_bytes).next_multiple_of(4)
    }
}

/// Number and length of the segments when so many tokens are cut into at most `n` equal ones.
pub(super) fn segments(tokens: u64, n: u64) -> (u64, u64) {
    let length = tokens.div_ceil(n.max(1)).next_multiple_of(GRAIN);
    (tokens.div_ceil(length.max(1)), length)
}

/// What decides how a call is cut.
pub(super) struct Cut<'a> {
    pub field: &'a Field,
    pub caps: &'a Caps,
    /// Heads and bytes of a row of every tensor.
    pub tensors: Vec<(usize, u64)>,
    /// A temporary of which windows take turns: heads, bytes of a row, and bytes that it had better not exceed.
    pub temporary: Option<(usize, u64, u64)>,
    /// Bytes of a state.
    pub state_bytes: u64,
    /// States that a walker keeps beside those of segments.
    pub slots: u64,
    /// Segments of every window.
    pub segments: u64,
    /// Workgroups to a segment.
    pub slices: u64,
    /// Tokens of a segment that an invocation may walk.
    pub most_tokens: u64,
    /// Operations that a token of a walker takes.
    pub flops: f64,
}

impl Cut<'_> {
    pub fn predicted_ms(&self, window: &Window) -> f64 {
        window.walkers_len() as f64 * window.tokens_len() as f64 * self.flops
            / (self.caps.gflops * 1e6)
    }

    /// Cuts the call into windows, in an order in which a window follows the earlier tokens of its walkers.
    pub fn windows(&self) -> Result<Vec<Window>> {
        let whole = Window {
            walkers: 0..self.field.walkers(),
            tokens: 0..self.field.tokens as u64,
        };
        let mut windows = Vec::new();
        if whole.walkers_len() > 0 && whole.tokens_len() > 0 {
            self.halve(whole, &mut windows)?;
        }
        Ok(windows)
    }

    fn halve(&self, window: Window, windows: &mut Vec<Window>) -> Result<()> {
        let Cut { field, caps, .. } = self;
        let len = |range: Range<u64>| range.end - range.start;
        let (count, length) = segments(window.tokens_len(), self.segments);
        let walks = window.walkers_len() * count;
        // A token more: walking back, the decay of the next one acts.
        let reach = Window {
            walkers: window.walkers.clone(),
            tokens: window.tokens.start..(window.tokens.end + 1).min(field.tokens as u64),
        };
        let tensors = self.tensors.iter();
        let tensor = tensors
            .map(|(heads, bytes)| len(reach.span(field, *heads, *bytes)))
            .max()
            .unwrap_or(0);
        let kept = window.walkers_len() * self.slots;
        let states = walks.max(kept) * self.state_bytes + ALIGN;
        let groups =
            (walks * self.slices).max(window.walkers_len() * (self.state_bytes / 4).div_ceil(64));
        let tensors_fit = tensor <= caps.binding_bytes;
        let states_fit =
            states <= caps.binding_bytes && groups <= u64::from(caps.groups_per_dim).pow(2);

        let (walkers, tokens) = (window.walkers_len(), window.tokens_len());
        let quick = self.predicted_ms(&window) <= STEP_MS && length.min(tokens) <= self.most_tokens;
        let small = self
            .temporary
            .is_none_or(|(heads, bytes, most)| len(window.span(field, heads, bytes)) <= most);
        let quick = quick && small;
        if tensors_fit && states_fit && (quick || (walkers == 1 && tokens <= GRAIN)) {
            windows.push(window);
            return Ok(());
        }
        // Fewer walkers shrink states always, and tensors when they lie in other batches or each head lies by itself. Fewer
        // tokens shrink tensors always; they keep more of the device busy, at the price of carrying the state.
        let heads = field.heads as u64;
        let walkers_shrink = walkers > heads || field.layout == Layout::Bhtd || tokens <= GRAIN;
        let by_walkers =
            walkers > 1 && (!states_fit || (!tensors_fit && walkers_shrink) || tokens <= GRAIN);
        let (first, second) = if by_walkers {
            let unit = if walkers > heads { heads } else { 1 };
            let middle = window.walkers.start + (walkers / unit).div_ceil(2) * unit;
            let middle = middle.min(window.walkers.end - 1);
            let part = |walkers| Window {
                walkers,
                tokens: window.tokens.clone(),
            };
            (
                part(window.walkers.start..middle),
                part(middle..window.walkers.end),
            )
        } else if tokens > GRAIN {
            let middle = window.tokens.start + (tokens / 2).next_multiple_of(GRAIN);
            let part = |tokens| Window {
                walkers: window.walkers.clone(),
                tokens,
            };
            (
                part(window.tokens.start..middle),
                part(middle..window.tokens.end),
            )
        } else {
            let what = "bytes in one binding, for 64 tokens of one head or one head's states,";
            return Err(Error::Limit {
                what: what.into(),
                needed: tensor.max(states),
                available: caps.binding_bytes,
                remedy: "use the layout bhtd or fewer heads",
            });
        };
        self.halve(first, windows)?;
        self.halve(second, windows)
    }
}
