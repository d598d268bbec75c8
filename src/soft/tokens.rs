//! Steps over tokens: sums over tokens or landmarks, cut into windows of heads and segments.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{
    Shape,
    kernels::{self, Sum, Tile, TokenParams},
    steps::{Buffer, Planner, padded},
};
use crate::{
    Error, Result,
    elements::pack_steps,
    gpu::{Class, Dtype},
    plan::{ALIGN, Bind, STEP_MS, Slot, Step},
};

/// A sum over tokens or landmarks, and how its tokens are cut into segments; each output tile is a segment.
pub(super) struct TokenSum {
    sum: Sum,
    tile: Tile,
    columns: usize,
    tiles: u64,
    slices: u64,
    pub segments: u64,
    segment_tokens: u64,
    /// Numbers a head that sums over tokens leave.
    pub piece_stride: u64,
    /// Operations on a token of a head.
    token_flops: f64,
}

impl TokenSum {
    pub fn new(planner: &Planner<'_>, sum: Sum) -> TokenSum {
        let (shape, caps) = (planner.shape, planner.caps);
        let columns = match sum {
            Sum::Right | Sum::Output => shape.value,
            Sum::LandmarkGrad | Sum::QueryGrad => shape.width,
        };
        let graded = matches!(sum, Sum::LandmarkGrad | Sum::QueryGrad);
        let side = |n: usize| if n > 32 { 64 } else { 32 };
        let staged = Tile {
            tokens: 32,
            landmarks: side(shape.landmarks),
            columns: side(columns),
            lanes: None,
        };
        // 8 heads, 64 x 64, 49 landmarks, 2,048 tokens: the two sums take 43 and 56 ms by lanes, 229 and 274 by tiles (llvmpipe,
        // Mesa 22.3.6, 2 busy cores, 2026-11).
        let lanes = match (caps.class, caps.subgroup) {
            (Class::Cpu, Some((least, most))) => {
                (least == most && (4..=32).contains(&most)).then_some(most)
            }
            _ => None,
        };
        let by_lanes = lanes.map(|lanes| Tile {
            landmarks: 32,
            lanes: Some(lanes),
            ..staged
        });
        let tile = by_lanes
            .filter(|tile| {
                let blocks = (shape.landmarks as u64).div_ceil(32);
                blocks * tile_iterations(shape, *tile, graded) <= caps.loop_iterations
            })
            .unwrap_or(staged);
        let slices = columns.div_ceil(tile.columns as usize) as u64;
        let tiles = match sum {
            Sum::Right | Sum::LandmarkGrad => {
                shape.landmarks.div_ceil(tile.landmarks as usize) as u64
            }
            Sum::Output | Sum::QueryGrad => 1,
        };
        let products = if graded { 4 * shape.value } else { 0 };
        // Every slice computes the weights anew.
        let weights = slices as f64 * (3 * shape.width + products) as f64;
        let token_flops = shape.landmarks as f64 * (weights + (3 * columns) as f64);
        let tokens = shape.tokens as u64;
        let step = u64::from(tile.tokens);
        let (segments, segment_tokens) = if matches!(sum, Sum::Output | Sum::QueryGrad) {
            (tokens.div_ceil(step), step)
        } else {
            let by_loops = caps.loop_iterations / tile_iterations(shape, tile, graded) * step;
            let by_time = (STEP_MS * caps.gflops * 1e6 / token_flops) as u64 / step * step;
            // A segment of one head must fit a binding.
            let row_bytes = shape.dtype.bytes() * shape.width.max(shape.value) as u64;
            let token_bytes = row_bytes * shape.strides()[2].max(1);
            let by_bytes = caps.binding_bytes.saturating_sub(2 * ALIGN) / token_bytes / step * step;
            let most = by_loops.min(by_time).min(by_bytes).max(step);
            let groups = (shape.rows() as u64 * tiles * slices).max(1);
            let wanted = (2 * u64::from(caps.fill))
                .div_ceil(groups)
                .min(tokens / 256);
            let parts = wanted.max(tokens.div_ceil(most)).max(1);
            let segment = tokens.div_ceil(parts).next_multiple_of(step).max(step);
            (tokens.div_ceil(segment), segment)
        };
        TokenSum {
            sum,
            tile,
            columns,
            tiles,
            slices,
            segments,
            segment_tokens,
            piece_stride: padded(segments as usize * shape.landmarks * columns),
            token_flops,
        }
    }

    fn over_state(&self) -> bool {
        matches!(self.sum, Sum::Right | Sum::LandmarkGrad)
    }
}

/// Loop iterations of an invocation per 32 tokens or landmarks that it walks, were nothing unrolled.
fn tile_iterations(shape: &Shape, tile: Tile, graded: bool) -> u64 {
    let slabs = |width: usize, channels: usize| {
        let products = if graded {
            2 * shape.value.div_ceil(channels)
        } else {
            0
        };
        (width.div_ceil(channels) + products) as u64
    };
    let Some(lanes) = tile.lanes else {
        let rows = u64::from(tile.tokens * tile.landmarks / 1024);
        let sum_rows = u64::from(tile.landmarks.max(tile.tokens) * tile.columns / 1024);
        let staged = u64::from(4 * tile.columns).div_ceil(256);
        let sums = u64::from(tile.tokens / 16) * (1 + staged + 16 * (1 + sum_rows));
        return 1 + slabs(shape.width, 16) * (8 + 4 * rows) + 10 * rows + sums + 2 * sum_rows;
    };
    let rows = u64::from(tile.rows(lanes));
    let lanes = u64::from(lanes);
    let quads = 1 + lanes / 4 * (1 + rows);
    let vectors = u64::from(tile.columns / 4);
    let block = slabs(shape.width, 4) * (1 + rows + quads)
        + vectors * (1 + 2 * rows + quads)
        + lanes * rows;
    block * 32u64.div_ceil(lanes)
}

/// A window of the work of a step over tokens.
pub(super) struct Window {
    pub heads: Range<u64>,
    pub segments: Range<u64>,
}

/// Solutions as a step reads them: the buffer, how many right sides it holds, the first column read.
pub(super) type Solutions = (Slot, usize, usize);

impl Planner<'_> {
    /// The bytes of a tensor over tokens that a window touches, from an aligned start, and the offset for indices counted from
    /// its first element.
    pub fn span(
        &self,
        sum: &TokenSum,
        window: &Window,
        width: usize,
        elem: u64,
    ) -> (Range<u64>, u32) {
        let [batch, head, token] = self.shape.strides();
        let heads = self.shape.heads as u64;
        let row = |n: u64, t: u64| (n / heads) * batch + (n % heads) * head + t * token;
        let (begin, end) = self.tokens_of(sum, window);
        let rows = [(window.heads.start, begin), (window.heads.end - 1, end - 1)];
        let [first, last] = rows.map(|(n, t)| row(n, t));
        let row_bytes = width as u64 * elem;
        let start = first * row_bytes / ALIGN * ALIGN;
        let bytes = start..((last + 1) * row_bytes).next_multiple_of(4);
        (bytes, 0u64.wrapping_sub(start / elem) as u32)
    }

    fn tokens_of(&self, sum: &TokenSum, window: &Window) -> (u64, u64) {
        let begin = window.segments.start * sum.segment_tokens;
        let end = (window.segments.end * sum.segment_tokens).min(self.shape.tokens as u64);
        (begin, end)
    }

    fn window_ms(&self, sum: &TokenSum, window: &Window) -> f64 {
        let (begin, end) = self.tokens_of(sum, window);
        let heads = window.heads.end - window.heads.start;
        (heads * (end - begin)) as f64 * sum.token_flops / (self.caps.gflops * 1e6)
    }

    fn halve(
        &self,
        sum: &TokenSum,
        head_bytes: u64,
        window: Window,
        windows: &mut Vec<Window>,
    ) -> Result<()> {
        let heads = window.heads.end - window.heads.start;
        let segments = window.segments.end - window.segments.start;
        let width = self.shape.width.max(self.shape.value);
        let elem = if self.packs() {
            4
        } else {
            self.shape.dtype.bytes()
        };
        let (span, _) = self.span(sum, &window, width, elem);
        let rows_fit = span.end - span.start <= self.caps.binding_bytes;
        let heads_fit = heads * head_bytes + ALIGN <= self.caps.binding_bytes;
        let per_dim = u64::from(self.caps.groups_per_dim);
        let few = heads * segments * sum.tiles * sum.slices <= per_dim * per_dim;
        let quick = self.window_ms(sum, &window) <= STEP_MS && few;
        if rows_fit && heads_fit && (quick || heads * segments == 1) {
            windows.push(window);
            return Ok(());
        }
        let in_batch = self.shape.heads as u64;
        // Heads of one batch interleave in `bthd`: fewer of them touch hardly fewer bytes.
        let shrinks = heads > in_batch || self.shape.strides()[2] == 1;
        let by_heads = heads > 1 && (!heads_fit || shrinks || rows_fit || segments == 1);
        let (first, second) = if by_heads {
            let unit = if heads > in_batch { in_batch } else { 1 };
            let middle = window.heads.start + (heads / unit).div_ceil(2) * unit;
            let middle = middle.min(window.heads.end - 1);
            let segments = window.segments;
            (
                Window {
                    heads: window.heads.start..middle,
                    segments: segments.clone(),
                },
                Window {
                    heads: middle..window.heads.end,
                    segments,
                },
            )
        } else if segments > 1 {
            let middle = window.segments.start + segments / 2;
            let heads = window.heads;
            (
                Window {
                    heads: heads.clone(),
                    segments: window.segments.start..middle,
                },
                Window {
                    heads,
                    segments: middle..window.segments.end,
                },
            )
        } else {
            return Err(Error::Limit {
                what: "bytes in one binding, for one segment of one head,".into(),
                needed: (span.end - span.start).max(head_bytes + ALIGN),
                available: self.caps.binding_bytes,
                remedy: "use the layout bhtd, fewer heads or fewer landmarks",
            });
        };
        self.halve(sum, head_bytes, first, windows)?;
        self.halve(sum, head_bytes, second, windows)
    }

    /// Whether outputs over tokens are computed as f32 and packed at the end.
    fn packs(&self) -> bool {
        !self.access.vectors && self.shape.dtype != Dtype::F32
    }

    /// The steps of a sum over tokens. `values` are v or what stands for it, or v and the gradient of o.
    pub fn over_tokens(
        &mut self,
        sum: &TokenSum,
        [q, landmarks]: [Slot; 2],
        values: &[Slot],
        out: Slot,
        solutions: Option<Solutions>,
    ) -> Result<()> {
        let shape = self.shape;
        if shape.rows() == 0 || shape.tokens == 0 {
            return Ok(());
        }
        let y_stride = solutions.map_or(0, |(_, parts, _)| self.y_stride(parts));
        let piece_stride = if sum.over_state() {
            sum.piece_stride
        } else {
            0
        };
        let landmark_buffer = self.landmark_buffer(landmarks);
        let landmark_bytes = landmark_buffer.heads.row_bytes();
        let head_bytes = (4 * y_stride.max(piece_stride)).max(landmark_bytes);
        let mut windows = Vec::new();
        let whole = Window {
            heads: 0..shape.rows() as u64,
            segments: 0..sum.segments,
        };
        self.halve(sum, head_bytes, whole, &mut windows)?;
        let kernel = kernels::over_tokens(sum.sum, sum.tile, self.access);
        let elem = shape.dtype.bytes();
        let out_elem = if self.packs() { 4 } else { elem };
        for window in windows {
            let rows = |slot: Slot, width: usize, elem: u64, write: bool| {
                let (bytes, offset) = self.span(sum, &window, width, elem);
                (Bind { slot, bytes, write }, offset)
            };
            let (q, q_offset) = rows(q, shape.width, elem, false);
            let (l, l_offset) = landmark_buffer.bind(&window.heads);
            let (target, out_offset) = if sum.over_state() {
                Buffer::write(out, sum.piece_stride).bind(&window.heads)
            } else {
                rows(out, sum.columns, out_elem, true)
            };
            let values: Vec<_> = values
                .iter()
                .map(|slot| rows(*slot, shape.value, elem, false))
                .collect();
            let offset = |n: usize| values.get(n).map_or(0, |(_, offset)| *offset);
            let heads = window.heads.end - window.heads.start;
            let segments = window.segments.end - window.segments.start;
            let groups = heads * segments * sum.tiles * sum.slices;
            let (parts, column) = solutions.map_or((0, 0), |(_, parts, column)| (parts, column));
            let [batch_stride, head_stride, token_stride] = shape.strides().map(|n| n as u32);
            let params = TokenParams {
                tokens: shape.tokens as u32,
                heads: shape.heads as u32,
                first_head: window.heads.start as u32,
                landmarks: shape.landmarks as u32,
                width: shape.width as u32,
                value: shape.value as u32,
                columns: sum.columns as u32,
                tiles: sum.tiles as u32,
                slices: sum.slices as u32,
                segments: sum.segments as u32,
                first_segment: window.segments.start as u32,
                window_segments: segments as u32,
                segment_tokens: sum.segment_tokens as u32,
                groups: groups as u32,
                batch_stride,
                head_stride,
                token_stride,
                q_offset,
                l_offset,
                x_offset: offset(0),
                v_offset: offset(0),
                d_offset: offset(1),
                out_offset,
                out_stride: sum.piece_stride as u32,
                y_stride: y_stride as u32,
                y_row: (parts * shape.value) as u32,
                y_column: column as u32,
                scale: self.scale(),
            };
            let mut bind = vec![q, l];
            let values = values.into_iter().map(|(bind, _)| bind);
            // In the order of the shader's bindings: x comes before what is written, v and the gradient of o after.
            if sum.sum == Sum::Right {
                bind.extend(values);
                bind.push(target);
            } else {
                bind.push(target);
                bind.extend(values);
            }
            if let Some((y, parts, _)) = solutions {
                bind.push(Buffer::read(y, self.y_stride(parts)).bind(&window.heads).0);
            }
            let predicted_ms = self.window_ms(sum, &window);
            self.builder.steps.push(Step {
                kernel: kernel.clone(),
                bind,
                params: bytes_of(&params).to_vec(),
                groups,
                predicted_ms,
            });
        }
        Ok(())
    }

    /// [`Planner::over_tokens`] into a tensor of the storage type.
    pub fn out_over_tokens(
        &mut self,
        sum: &TokenSum,
        keys: [Slot; 2],
        values: &[Slot],
        out: Slot,
        solutions: Solutions,
    ) -> Result<()> {
        if !self.packs() {
            return self.over_tokens(sum, keys, values, out, Some(solutions));
        }
        let elements = (self.shape.rows() * self.shape.tokens * sum.columns) as u64;
        let wide = self.builder.add_scratch(4 * elements);
        self.over_tokens(sum, keys, values, wide, Some(solutions))?;
        pack_steps(
            &mut self.builder,
            self.caps,
            self.shape.dtype,
            [wide, out],
            elements,
        );
        Ok(())
    }
}
