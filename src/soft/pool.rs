//! Steps of pooled landmarks: means of runs of q, and their gradient.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{
    kernels::{self, PoolParams, Sum},
    steps::Planner,
    tokens::{TokenSum, Window},
};
use crate::{
    Error, Result,
    plan::{ALIGN, Bind, STEP_MS, Slot, Step},
};

impl Planner<'_> {
    /// Elements that a step over a whole tensor may take, at so many operations each.
    fn most_elements(&self, flops: f64) -> u64 {
        let quick = (STEP_MS * self.caps.gflops * 1e6 / flops) as u64;
        (self.caps.binding_bytes / 4).min(quick).max(ALIGN) / ALIGN * ALIGN
    }

    fn pool_params(&self) -> PoolParams {
        let [batch_stride, head_stride, token_stride] = self.shape.strides().map(|n| n as u32);
        PoolParams {
            tokens: self.shape.tokens as u32,
            heads: self.shape.heads as u32,
            landmarks: self.shape.landmarks as u32,
            width: self.shape.width as u32,
            batch_stride,
            head_stride,
            token_stride,
            ..PoolParams::default()
        }
    }

    /// Landmarks as means of runs of q.
    pub fn pool(&mut self, q: Slot, landmarks: Slot) -> Result<()> {
        let shape = self.shape;
        let (tokens, m) = (shape.tokens as u64, shape.landmarks as u64);
        // Indices of runs are 32-bit products, and an invocation walks an eighth of a run, twice in 16-bit types.
        let walked = (tokens.div_ceil(m) / 8 + 2) * 2;
        if tokens * m >= 1 << 32 || walked > self.caps.loop_iterations {
            return Err(Error::Limit {
                what: "tokens pooled into landmarks".into(),
                needed: tokens,
                available: ((1u64 << 32) / m).min(self.caps.loop_iterations.saturating_mul(4 * m)),
                remedy: "pool in steps or pass landmarks",
            });
        }
        let size = (shape.landmarks * shape.width) as u64;
        let elem = shape.dtype.bytes();
        let words = 4 / elem;
        // Of q a window of heads binds whole sequences.
        let sum = TokenSum::new(self, Sum::Output);
        let mut windows = Vec::new();
        let whole = 0..shape.rows() as u64;
        self.pool_windows(&sum, whole, &mut windows)?;
        for heads in windows {
            let window = Window {
                heads: heads.clone(),
                segments: 0..sum.segments,
            };
            let (bytes, q_offset) = self.span(&sum, &window, shape.width, elem);
            let q = Bind {
                slot: q,
                bytes,
                write: false,
            };
            let target = self.landmark_buffer(landmarks).written();
            let (target, l_offset) = target.bind(&heads);
            let elements = (heads.end - heads.start) * size;
            let params = PoolParams {
                first_head: heads.start as u32,
                q_offset,
                l_offset,
                elements: elements as u32,
                ..self.pool_params()
            };
            let predicted_ms = self.pool_ms(&heads);
            self.builder.steps.push(Step {
                kernel: kernels::pool(shape.dtype),
                bind: vec![q, target],
                params: bytes_of(&params).to_vec(),
                groups: elements.div_ceil(words).div_ceil(32),
                predicted_ms,
            });
        }
        Ok(())
    }

    fn pool_ms(&self, heads: &Range<u64>) -> f64 {
        let elements = (heads.end - heads.start) * (self.shape.tokens * self.shape.width) as u64;
        16.0 * elements as f64 / (self.caps.gflops * 1e6)
    }

    fn pool_windows(
        &self,
        sum: &TokenSum,
        heads: Range<u64>,
        windows: &mut Vec<Range<u64>>,
    ) -> Result<()> {
        let len = heads.end - heads.start;
        if len == 0 {
            return Ok(());
        }
        let window = Window {
            heads: heads.clone(),
            segments: 0..sum.segments,
        };
        let elem = self.shape.dtype.bytes();
        let (span, _) = self.span(sum, &window, self.shape.width, elem);
        let bytes = span.end - span.start;
        let fits = bytes <= self.caps.binding_bytes;
        if fits && (self.pool_ms(&heads) <= STEP_MS || len <= 2) {
            windows.push(heads);
            return Ok(());
        }
        if len <= 2 {
            return Err(Error::Limit {
                what: "bytes in one binding, for the queries of two heads,".into(),
                needed: bytes,
                available: self.caps.binding_bytes,
                remedy: "use the layout bhtd or fewer tokens",
            });
        }
        // At an even head: two windows must not share a word of the landmarks.
        let middle = heads.start + (len / 2).next_multiple_of(2);
        self.pool_windows(sum, heads.start..middle, windows)?;
        self.pool_windows(sum, middle..heads.end, windows)
    }

    /// Adds the gradient of pooled landmarks to that of q.
    pub fn pool_grad(&mut self, landmarks: Slot, q: Slot) -> Result<()> {
        let shape = self.shape;
        let (elements, elem) = (shape.query_len() as u64, shape.dtype.bytes());
        let flops = 16.0;
        let most = self.most_elements(flops);
        for first in (0..elements).step_by(most as usize) {
            let count = most.min(elements - first);
            let l = Bind {
                slot: landmarks,
                bytes: 0..(shape.landmark_len() as u64 * elem).next_multiple_of(4),
                write: false,
            };
            let q = Bind {
                slot: q,
                bytes: elem * first..(elem * (first + count)).next_multiple_of(4),
                write: true,
            };
            let params = PoolParams {
                first: first as u32,
                elements: count as u32,
                ..self.pool_params()
            };
            self.builder.steps.push(Step {
                kernel: kernels::pool_grad(shape.dtype),
                bind: vec![l, q],
                params: bytes_of(&params).to_vec(),
                groups: count.div_ceil(4 / elem).div_ceil(256),
                predicted_ms: flops * count as f64 / (self.caps.gflops * 1e6),
            });
        }
        Ok(())
    }
}
