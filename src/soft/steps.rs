//! Steps over tokens and over heads, cut so that no binding and no dispatch is too large.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    Options, Shape,
    kernels::{self, Access, HeadParams, PackParams, PoolParams, Sum, Tile, TokenParams},
    plan::OP,
};
use crate::{
    Error, Result,
    gpu::{Caps, Class, Dtype, Kernel},
    plan::{Bind, Plan, Slot, Step, Work},
};

/// Offsets of bindings are multiples of this, which satisfies every device.
const ALIGN: u64 = 256;

/// The longest a dispatch is predicted to run; drivers reset a GPU that is busy for a second or two.
const STEP_MS: f64 = 100.0;

/// A number of f32 a head, rounded up so that a temporary may be bound from any head on.
pub(super) fn padded(len: usize) -> u64 {
    (len as u64).max(1).next_multiple_of(ALIGN / 4)
}

/// A buffer with the same number of elements for every head, bound from the first head of a dispatch on.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    slot: Slot,
    stride: u64,
    elem_bytes: u64,
    write: bool,
}

impl Buffer {
    pub fn read(slot: Slot, stride: u64) -> Buffer {
        Buffer {
            slot,
            stride,
            elem_bytes: 4,
            write: false,
        }
    }

    pub fn write(slot: Slot, stride: u64) -> Buffer {
        Buffer {
            write: true,
            ..Buffer::read(slot, stride)
        }
    }

    /// The binding, and the offset for indices counted from head 0.
    fn bind(&self, heads: &Range<u64>) -> (Bind, u32) {
        let head_bytes = self.stride * self.elem_bytes;
        let start = heads.start * head_bytes / ALIGN * ALIGN;
        let bind = Bind {
            slot: self.slot,
            bytes: start..(heads.end * head_bytes).next_multiple_of(4),
            write: self.write,
        };
        (bind, 0u64.wrapping_sub(start / self.elem_bytes) as u32)
    }
}

/// A sum over tokens or landmarks, and how its tokens are cut into segments; each output tile is a segment.
pub(super) struct TokenSum {
    sum: Sum,
    tile: Tile,
    columns: usize,
    tiles: u64,
    slices: u64,
    pub segments: u64,
    segment_tokens: u64,
    /// Numbers a head that `state` leaves.
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
struct Window {
    heads: Range<u64>,
    segments: Range<u64>,
}

/// Solutions as a step reads them: the buffer, how many right sides it holds, the first column read.
pub(super) type Solutions = (Slot, usize, usize);

pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub options: Options,
    pub caps: &'a Caps,
    pub access: Access,
    steps: Vec<Step>,
    scratch: Vec<u64>,
}

impl<'a> Planner<'a> {
    pub fn new(
        shape: &'a Shape,
        options: &Options,
        pooled: bool,
        caps: &'a Caps,
    ) -> Result<Planner<'a>> {
        shape.check(OP)?;
        options.check(OP)?;
        shape.fits(caps)?;
        if pooled {
            shape.check_pooled(OP)?;
        }
        let access = Access {
            dtype: shape.dtype,
            native: shape.dtype != Dtype::F16 || caps.f16,
            vectors: shape.width.is_multiple_of(4) && shape.value.is_multiple_of(4),
        };
        Ok(Planner {
            shape,
            options: *options,
            caps,
            access,
            steps: Vec::new(),
            scratch: Vec::new(),
        })
    }

    pub fn finish(self, label: String, work: Work) -> Result<Plan> {
        let idle = self.shape.rows() == 0;
        let plan = Plan {
            op: OP,
            label,
            steps: self.steps,
            scratch: if idle { Vec::new() } else { self.scratch },
            tables: Vec::new(),
            work,
        };
        plan.check(self.caps)?;
        Ok(plan)
    }

    pub fn add_scratch(&mut self, bytes: u64) -> Slot {
        self.scratch.push(bytes.max(16).next_multiple_of(16));
        Slot::Scratch((self.scratch.len() - 1) as u8)
    }

    /// A temporary of so many f32 a head.
    pub fn head_scratch(&mut self, stride: u64) -> Slot {
        self.add_scratch(4 * stride * self.shape.rows() as u64)
    }

    pub fn p_stride(&self) -> u64 {
        padded(self.shape.landmarks * self.shape.landmarks)
    }

    pub fn r_stride(&self) -> u64 {
        padded(self.shape.landmarks)
    }

    pub fn y_stride(&self, parts: usize) -> u64 {
        padded(self.shape.landmarks * parts * self.shape.value)
    }

    /// A tensor of landmarks, in the storage type.
    pub fn landmark_buffer(&self, slot: Slot) -> Buffer {
        Buffer {
            elem_bytes: self.shape.dtype.bytes(),
            ..Buffer::read(slot, (self.shape.landmarks * self.shape.width) as u64)
        }
    }

    fn scale(&self) -> f32 {
        (0.5 / (self.shape.width as f64).sqrt()) as f32
    }

    /// Parameters that all kernels over heads share, for so many right sides.
    pub fn head_params(&self, parts: usize) -> HeadParams {
        let shape = self.shape;
        HeadParams {
            landmarks: shape.landmarks as u32,
            width: shape.width as u32,
            value: shape.value as u32,
            columns: (parts * shape.value) as u32,
            parts: parts as u32,
            p_stride: self.p_stride() as u32,
            y_stride: self.y_stride(parts) as u32,
            r_stride: self.r_stride() as u32,
            ridge: self.options.ridge,
            scale: self.scale(),
            ..HeadParams::default()
        }
    }

    /// Dispatches over windows of heads; `params` gets the heads and the groups of each. Windows begin at even heads, so that
    /// two never share a word of a 16-bit tensor.
    pub fn windowed(
        &mut self,
        kernel: Arc<Kernel>,
        buffers: &[Buffer],
        groups: &dyn Fn(u64) -> u64,
        head_flops: f64,
        params: &dyn Fn(&Range<u64>, u64) -> Vec<u8>,
    ) -> Result<()> {
        let rows = self.shape.rows() as u64;
        let head_bytes = buffers
            .iter()
            .map(|buffer| buffer.stride * buffer.elem_bytes);
        let head_bytes = head_bytes.max().unwrap_or(1).max(1);
        let room = self.caps.binding_bytes.saturating_sub(ALIGN);
        let fit = room / head_bytes;
        if fit < rows.min(2) {
            return Err(Error::Limit {
                what: format!(
                    "bytes in one binding, for what {} needs of two heads,",
                    kernel.name
                ),
                needed: rows.min(2) * head_bytes + ALIGN,
                available: self.caps.binding_bytes,
                remedy: "use fewer landmarks",
            });
        }
        let head_ms = head_flops / (self.caps.gflops * 1e6);
        let quick = (STEP_MS / head_ms.max(1e-12)) as u64;
        let per_dim = u64::from(self.caps.groups_per_dim);
        let few = (per_dim * per_dim) / groups(1).max(1);
        let most = (fit.min(quick).min(few) / 2 * 2).max(2);
        for first in (0..rows).step_by(most as usize) {
            let window = first..rows.min(first + most);
            let len = window.end - window.start;
            let groups = groups(len);
            self.steps.push(Step {
                kernel: kernel.clone(),
                bind: buffers
                    .iter()
                    .map(|buffer| buffer.bind(&window).0)
                    .collect(),
                params: params(&window, groups),
                groups,
                predicted_ms: head_ms * len as f64,
            });
        }
        Ok(())
    }

    /// A step with [`HeadParams`]; the last buffer's offset goes to `out_offset`, the first one's to `l_offset`.
    pub fn over_heads(
        &mut self,
        kernel: Arc<Kernel>,
        buffers: &[Buffer],
        groups: impl Fn(u64) -> u64,
        head_flops: f64,
        params: HeadParams,
    ) -> Result<()> {
        let offset = |buffer: Option<&Buffer>, window: &Range<u64>| {
            buffer.map_or(0, |buffer| buffer.bind(window).1)
        };
        self.windowed(kernel, buffers, &groups, head_flops, &|window, groups| {
            let params = HeadParams {
                heads: (window.end - window.start) as u32,
                first_head: window.start as u32,
                groups: groups as u32,
                l_offset: offset(buffers.first(), window),
                out_offset: offset(buffers.last(), window),
                ..params
            };
            bytes_of(&params).to_vec()
        })
    }

    /// [`Planner::over_heads`] with one invocation for each of so many elements a head.
    pub fn over_elements(
        &mut self,
        kernel: Arc<Kernel>,
        buffers: &[Buffer],
        elements: u64,
        element_flops: f64,
        params: HeadParams,
    ) -> Result<()> {
        let groups = |heads: u64| (heads * elements).div_ceil(256);
        let flops = elements as f64 * element_flops;
        self.over_heads(kernel, buffers, groups, flops, params)
    }

    pub fn landmark_grad(
        &mut self,
        landmarks: Slot,
        pieces: Slot,
        slopes: Slot,
        grad: Slot,
        params: HeadParams,
    ) -> Result<()> {
        let buffers = [
            self.landmark_buffer(landmarks),
            Buffer::read(pieces, params.piece_stride.into()),
            Buffer::read(slopes, self.p_stride()),
            Buffer {
                write: true,
                ..self.landmark_buffer(grad)
            },
        ];
        let elements = (self.shape.landmarks * self.shape.width) as u64;
        let flops = (3 * self.shape.landmarks) as f64 + f64::from(params.segments);
        let kernel = kernels::landmark_grad(self.shape.dtype);
        self.over_elements(kernel, &buffers, elements, flops, params)
    }

    /// Loop iterations of an invocation of `solve` in one of its 2m steps.
    fn step_iterations(&self, step: usize, columns: usize) -> u64 {
        let m = self.shape.landmarks;
        let sixteenths = |n: usize| n.div_ceil(16) as u64;
        let (rows, triangle) = if step < m {
            (m - 1 - step, sixteenths(m - 1 - step))
        } else {
            (2 * m - 1 - step, 0)
        };
        1 + sixteenths(rows) * (1 + triangle + sixteenths(columns))
    }

    /// Those before the first step and after the last.
    fn end_iterations(&self, columns: usize) -> u64 {
        let m = self.shape.landmarks;
        let sixteenths = |n: usize| n.div_ceil(16) as u64;
        sixteenths(m) * (2 + sixteenths(m) + 2 * sixteenths(columns)) + m as u64
    }

    /// The landmarks that a packed triangle is given room for, where it fits workgroup memory and one dispatch can run all
    /// steps. Rounded up where that fits, too, to share kernels.
    pub fn packed_triangle(&self, parts: usize) -> Option<usize> {
        let m = self.shape.landmarks;
        let columns = parts * self.shape.value;
        let steps: u64 = (0..2 * m)
            .map(|step| self.step_iterations(step, columns))
            .sum();
        let loops = steps + self.end_iterations(columns) <= self.caps.loop_iterations;
        [m.next_multiple_of(8), m].into_iter().find(|landmarks| {
            loops && kernels::triangle_bytes(*landmarks) <= self.caps.workgroup_bytes
        })
    }

    /// The factorisation, in several dispatches where the triangle lies in a buffer and one would be too long.
    pub fn solve(
        &mut self,
        packed: Option<usize>,
        parts: usize,
        buffers: [Buffer; 4],
    ) -> Result<()> {
        let m = self.shape.landmarks;
        let columns = parts * self.shape.value;
        let mut buffers = buffers.to_vec();
        if packed.is_none() {
            let stride = self.p_stride();
            let triangle = self.head_scratch(stride);
            buffers.push(Buffer::write(triangle, stride));
        }
        // An iteration is two operations in each of 256 invocations, of one workgroup of those that fill the device.
        let group_ms = |iterations: u64| {
            512.0 * iterations as f64 * f64::from(self.caps.fill) / (self.caps.gflops * 1e6)
        };
        let ends = self.end_iterations(columns);
        let mut cuts = vec![0];
        let mut iterations = ends;
        for step in 0..2 * m {
            let next = self.step_iterations(step, columns);
            let sum = iterations + next;
            let long = sum > self.caps.loop_iterations || group_ms(sum) > STEP_MS;
            if packed.is_none() && long && cuts.last() != Some(&step) {
                cuts.push(step);
                iterations = ends;
            }
            iterations += next;
        }
        cuts.push(2 * m);
        let flops = (m * m) as f64 * (m as f64 / 3.0 + (2 * columns) as f64);
        let kernel = kernels::solve(packed);
        for (begin, end) in cuts.iter().zip(cuts.iter().skip(1)) {
            let params = HeadParams {
                begin: *begin as u32,
                end: *end as u32,
                ..self.head_params(parts)
            };
            let share = (end - begin) as f64 / (2 * m) as f64;
            self.over_heads(
                kernel.clone(),
                &buffers,
                |heads| heads,
                flops * share,
                params,
            )?;
        }
        Ok(())
    }

    /// The bytes of a tensor over tokens that a window touches, from an aligned start, and the offset for indices counted from
    /// its first element.
    fn span(&self, sum: &TokenSum, window: &Window, width: usize, elem: u64) -> (Range<u64>, u32) {
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
        let landmark_bytes = landmark_buffer.stride * landmark_buffer.elem_bytes;
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
            self.steps.push(Step {
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
        let wide = self.add_scratch(4 * elements);
        self.over_tokens(sum, keys, values, wide, Some(solutions))?;
        self.pack(wide, out, elements);
        Ok(())
    }

    /// Elements that a step over a whole tensor may take, at so many operations each.
    fn most_elements(&self, flops: f64) -> u64 {
        let quick = (STEP_MS * self.caps.gflops * 1e6 / flops) as u64;
        (self.caps.binding_bytes / 4).min(quick).max(ALIGN) / ALIGN * ALIGN
    }

    fn pack(&mut self, wide: Slot, out: Slot, elements: u64) {
        // Six bytes an element, at a byte for every four operations a device can do.
        let flops = 24.0;
        let most = self.most_elements(flops);
        for first in (0..elements).step_by(most as usize) {
            let count = most.min(elements - first);
            let wide = Bind {
                slot: wide,
                bytes: 4 * first..4 * (first + count),
                write: false,
            };
            let packed = Bind {
                slot: out,
                bytes: 2 * first..(2 * (first + count)).next_multiple_of(4),
                write: true,
            };
            let params = PackParams {
                elements: count as u32,
            };
            self.steps.push(Step {
                kernel: kernels::pack_output(self.shape.dtype),
                bind: vec![wide, packed],
                params: bytes_of(&params).to_vec(),
                groups: count.div_ceil(2).div_ceil(64),
                predicted_ms: flops * count as f64 / (self.caps.gflops * 1e6),
            });
        }
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
            let target = Buffer {
                write: true,
                ..self.landmark_buffer(landmarks)
            };
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
            self.steps.push(Step {
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
            self.steps.push(Step {
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
