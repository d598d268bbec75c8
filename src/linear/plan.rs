//! From shape, options and capabilities to steps. Pure: no device is needed.

use std::sync::Arc;

use bytemuck::bytes_of;

use super::{
    Decay, FeatureMap, Form, Options, Shape,
    kernels::{self, Access, PackOutputParams, Start, StateScanParams, WalkParams},
    tiles::{ChunkTile, RecurrentTile},
    window::{ALIGN, Cut, GRAIN, STEP_MS, Window, cut, per_token_flops, segments},
};
use crate::{
    Error, Result,
    gpu::{Caps, Class, Dtype, Kernel},
    plan::{Bind, Plan, Slot, Step, Work},
};

/// The operator's name in case files.
pub const OP: &str = "linear_attention";

/// Which states go in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// The caller passes an initial state.
    pub initial: bool,
    /// The caller wants the final state.
    pub last: bool,
}

/// Plans [`linear::forward`](super::forward). Inputs: q, k, v, then log_decay and the initial state where there are such;
/// outputs: o, then the final state.
///
/// # Errors
/// `Argument` for impossible shapes and options, `Limit` when one head of 64 tokens exceeds a binding or the scratch budget.
pub fn forward(shape: &Shape, options: &Options, states: States, caps: &Caps) -> Result<Plan> {
    let start = if states.initial {
        Start::Given
    } else {
        Start::Zero
    };
    let last = states.last.then_some(Slot::Output(1));
    let planner = Planner::new(shape, options, caps)?;
    let unasked = options.form == Form::Auto && planner.segments.is_some();
    match planner.plan(start, last) {
        // Nobody asked for the temporaries of segments: without them the call may fit.
        Err(Error::Limit { .. }) if unasked => Planner {
            segments: None,
            ..Planner::new(shape, options, caps)?
        }
        .plan(start, last),
        planned => planned,
    }
}

/// Plans [`linear::step`](super::step). Inputs: q, k, v and log_decay; outputs: o and the state, updated in place.
///
/// # Errors
/// As [`forward`].
pub fn step(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    let options = Options {
        form: Form::Recurrent,
        ..*options
    };
    Planner::new(shape, &options, caps)?.plan(Start::Resume, Some(Slot::Output(1)))
}

/// Every form that computes the same on this device, the planner's choice first; forms that exceed the device are left out.
///
/// # Errors
/// As [`forward`], when no form fits.
pub fn variants(
    shape: &Shape,
    options: &Options,
    states: States,
    caps: &Caps,
) -> Result<Vec<Plan>> {
    let forms = [
        options.form,
        Form::Fused,
        Form::Segments(2),
        Form::Segments(7),
        Form::Recurrent,
    ];
    let mut plans: Vec<Plan> = Vec::new();
    let mut refusal = None;
    for form in forms {
        match forward(shape, &Options { form, ..*options }, states, caps) {
            Ok(plan) if plans.iter().all(|other| other.steps != plan.steps) => plans.push(plan),
            Ok(_) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    match refusal {
        Some(error) if plans.is_empty() => Err(error),
        _ => Ok(plans),
    }
}

/// Refuses what no kernel computes yet; the CPU reference does.
fn available(shape: &Shape, options: &Options) -> Result<()> {
    let refused = [
        (
            matches!(options.decay, Decay::Token | Decay::Channel),
            "a decay per token or channel",
        ),
        (
            shape.kv_heads != shape.heads,
            "fewer key and value heads than query heads",
        ),
        (options.delta, "the delta rule"),
        (!options.causal, "the non-causal form"),
        (options.normalize.is_some(), "the normaliser"),
        (options.feature_map != FeatureMap::Identity, "a feature map"),
    ];
    match refused.into_iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Error::Unsupported {
            op: OP,
            what: format!("{what} on a device yet; the CPU reference does"),
        }),
        None => Ok(()),
    }
}

/// A window and how it is cut into segments.
struct Run<'a> {
    window: &'a Window,
    segments: u64,
    segment_tokens: u64,
}

/// Which kernel walks the tokens.
enum Walk {
    Chunk(ChunkTile),
    Recurrent(RecurrentTile),
}

struct Planner<'a> {
    shape: &'a Shape,
    options: &'a Options,
    caps: &'a Caps,
    access: Access,
    walk: Walk,
    slices: u64,
    segments: Option<u64>,
    steps: Vec<Step>,
    scratch: Vec<u64>,
}

impl<'a> Planner<'a> {
    fn new(shape: &'a Shape, options: &'a Options, caps: &'a Caps) -> Result<Self> {
        shape.check(OP)?;
        options.check(OP)?;
        available(shape, options)?;
        shape.fits(caps)?;
        let access = Access {
            dtype: shape.dtype,
            native: shape.dtype != Dtype::F16 || caps.f16,
            vectors: shape.key.is_multiple_of(4) && shape.value.is_multiple_of(4),
        };
        let chunks = (shape.tokens as u64).div_ceil(GRAIN);
        let (recurrent, chunk) = (
            RecurrentTile::choose(shape, caps),
            ChunkTile::choose(shape, caps),
        );
        let serial = caps.class == Class::Cpu || shape.tokens < 32;
        let walk = match options.form {
            Form::Recurrent => Walk::Recurrent(recurrent),
            Form::Auto if serial => Walk::Recurrent(recurrent),
            _ => Walk::Chunk(chunk),
        };
        let columns = match &walk {
            Walk::Chunk(tile) => tile.value_tile,
            Walk::Recurrent(tile) => 4 * tile.lanes,
        };
        let slices = (shape.value as u64).div_ceil(columns.into());
        let groups = shape.rows() as u64 * slices;
        let fill = u64::from(caps.fill);
        let segments = match (options.form, &walk) {
            (Form::Segments(n), _) => Some(u64::from(n).min(chunks)),
            (Form::Auto, Walk::Chunk(_)) if 2 * groups < fill && chunks >= 16 => {
                Some(fill.div_ceil(groups.max(1)).min(chunks / 8))
            }
            // The first pass costs a software adapter more than a walk: it pays with cores to spare only.
            (Form::Auto, Walk::Recurrent(_)) if 8 * groups <= fill && chunks >= 16 => {
                Some((fill / groups.max(1)).min(chunks / 8))
            }
            _ => None,
        };
        // `state_scan` loops over them.
        let most = caps.loop_iterations / 16;
        let segments = segments.map(|n| n.min(most)).filter(|n| *n > 1);
        Ok(Planner {
            shape,
            options,
            caps,
            access,
            walk,
            slices,
            segments,
            steps: Vec::new(),
            scratch: Vec::new(),
        })
    }

    fn plan(mut self, start: Start, last: Option<Slot>) -> Result<Plan> {
        let label = match (&self.walk, self.segments) {
            (Walk::Chunk(_), None) => "fused".to_owned(),
            (Walk::Chunk(_), Some(n)) => format!("{n} segments"),
            (Walk::Recurrent(_), None) => "recurrent".to_owned(),
            (Walk::Recurrent(_), Some(n)) => format!("recurrent, {n} segments"),
        };
        let label = format!(
            "{label}{}",
            if self.access.vectors { "" } else { ", scalar" }
        );
        if self.shape.rows() > 0 && self.shape.tokens > 0 {
            self.steps(start, last)?;
        } else if let Some(last) = last.filter(|_| self.shape.rows() > 0 && start != Start::Resume)
        {
            // No token: the final state is the initial one.
            let window = Window {
                heads: 0..self.shape.rows() as u64,
                tokens: 0..0,
            };
            let unused = segment_states_bind(
                self.add_scratch(16),
                &Window {
                    heads: 0..1,
                    tokens: 0..0,
                },
                16,
            );
            let last = self.state_bind(last, &window);
            self.scan(
                &Run {
                    window: &window,
                    segments: 0,
                    segment_tokens: 0,
                },
                start,
                unused,
                last,
            );
        }
        let plan = Plan {
            op: OP,
            label,
            steps: self.steps,
            scratch: self.scratch,
            work: work(
                self.shape,
                self.options,
                start == Start::Given,
                last.is_some(),
            ),
        };
        plan.check(self.caps)?;
        Ok(plan)
    }

    fn steps(&mut self, start: Start, last: Option<Slot>) -> Result<()> {
        let windows = cut(&Cut {
            shape: self.shape,
            caps: self.caps,
            segments: self.segments.unwrap_or(1),
            slices: self.slices,
            most_tokens: self.most_tokens(),
            out_elem_bytes: self.out_elem_bytes(),
        })?;
        let last = match last {
            Some(last) => last,
            None => self.add_scratch(4 * self.shape.state_len() as u64),
        };
        let out = if self.packs_output() {
            self.add_scratch(4 * self.shape.output_len() as u64)
        } else {
            Slot::Output(0)
        };
        let parts: Vec<_> = windows
            .iter()
            .map(|window| segments(window, self.segments.unwrap_or(1)))
            .collect();
        let most = windows
            .iter()
            .zip(&parts)
            .map(|(window, (n, _))| if *n > 1 { window.heads_len() * n } else { 0 })
            .max();
        let states = most
            .filter(|n| *n > 0)
            .map(|n| self.add_scratch(n * self.state_bytes()));

        for (window, (segments, tokens)) in windows.iter().zip(parts) {
            let start = if window.tokens.start > 0 {
                Start::Resume
            } else {
                start
            };
            let carried = self.state_bind(last, window);
            match states.filter(|_| segments > 1) {
                Some(slot) => {
                    let run = Run {
                        window,
                        segments,
                        segment_tokens: tokens,
                    };
                    let states = segment_states_bind(slot, window, segments * self.state_bytes());
                    self.walk(&run, Start::Zero, None, states.clone());
                    self.scan(&run, start, states.clone(), carried);
                    self.walk(&run, Start::Resume, Some(out), states);
                }
                None => {
                    let run = Run {
                        window,
                        segments: 1,
                        segment_tokens: window.tokens_len(),
                    };
                    self.walk(&run, start, Some(out), carried);
                }
            }
        }
        if self.packs_output() {
            self.pack(out);
        }
        Ok(())
    }

    /// Tokens that an invocation can walk on a device that counts its loop iterations.
    fn most_tokens(&self) -> u64 {
        let by_chunks = |tile: &ChunkTile| (tile.iterations(), tile.chunk);
        let (iterations, tokens) = match &self.walk {
            Walk::Chunk(tile) => by_chunks(tile),
            // With segments, `local_state` walks them first.
            Walk::Recurrent(_) if self.segments.is_some() => {
                by_chunks(&ChunkTile::choose(self.shape, self.caps))
            }
            Walk::Recurrent(tile) => (tile.iterations(self.shape), tile.tokens),
        };
        let blocks = self.caps.loop_iterations / u64::from(iterations.max(1));
        (blocks.saturating_mul(tokens.into()) / GRAIN * GRAIN).max(GRAIN)
    }

    /// Outputs of odd width are computed as f32 and packed at the end.
    fn packs_output(&self) -> bool {
        !self.access.vectors && self.shape.dtype != Dtype::F32
    }

    fn out_elem_bytes(&self) -> u64 {
        if self.packs_output() {
            4
        } else {
            self.shape.dtype.bytes()
        }
    }

    fn state_bytes(&self) -> u64 {
        4 * (self.shape.key * self.shape.value) as u64
    }

    fn add_scratch(&mut self, bytes: u64) -> Slot {
        self.scratch.push(bytes.max(16).next_multiple_of(16));
        Slot::Scratch((self.scratch.len() - 1) as u8)
    }

    fn decay(&self) -> bool {
        self.options.decay != Decay::None
    }

    /// The bindings that some variants add: log_decay and the initial state.
    fn optional_binds(&self, window: &Window, start: Start) -> (Vec<Bind>, u32) {
        let mut binds = Vec::new();
        if self.decay() {
            binds.push(Bind {
                slot: Slot::Input(3),
                bytes: 0..4 * self.shape.heads as u64,
                write: false,
            });
        }
        if start != Start::Given {
            return (binds, 0);
        }
        let slot = Slot::Input(if self.decay() { 4 } else { 3 });
        let (bind, offset) = self.state_bind(slot, window);
        binds.push(Bind {
            write: false,
            ..bind
        });
        (binds, offset)
    }

    /// A state per head of the whole tensor: the window's part, and the offset for indices counted from head 0.
    fn state_bind(&self, slot: Slot, window: &Window) -> (Bind, u32) {
        let bytes = window.heads.start * self.state_bytes() / ALIGN * ALIGN
            ..window.heads.end * self.state_bytes();
        let offset = 0u64.wrapping_sub(bytes.start / 4) as u32;
        (
            Bind {
                slot,
                bytes,
                write: true,
            },
            offset,
        )
    }

    /// The rows of a window in one of q, k, v, o, and the offset for indices counted from row 0 of the whole tensor and from
    /// the window's first token.
    fn rows_bind(&self, slot: Slot, window: &Window, width: usize, elem_bytes: u64) -> (Bind, u32) {
        let bytes = window.span(self.shape, width, elem_bytes);
        let first_token = window.tokens.start * self.shape.strides()[2] * width as u64;
        let offset = first_token.wrapping_sub(bytes.start / elem_bytes) as u32;
        (
            Bind {
                slot,
                bytes,
                write: matches!(slot, Slot::Output(_) | Slot::Scratch(_)),
            },
            offset,
        )
    }

    /// The step that walks tokens: to outputs where there is somewhere to put them, to local states otherwise.
    fn walk(&mut self, run: &Run<'_>, start: Start, out: Option<Slot>, state: (Bind, u32)) {
        let (shape, window) = (self.shape, run.window);
        let tile = ChunkTile::choose(shape, self.caps);
        let (kernel, slices) = match (out, &self.walk) {
            (None, _) => (
                kernels::local_state(&tile, self.access, self.decay()),
                (shape.value as u64).div_ceil(tile.value_tile.into()),
            ),
            (_, Walk::Chunk(tile)) => (
                kernels::chunk(tile, self.access, self.decay(), start),
                self.slices,
            ),
            (_, Walk::Recurrent(tile)) => (
                kernels::recurrent(tile, self.access, self.decay(), start),
                self.slices,
            ),
        };
        let elem = shape.dtype.bytes();
        let q = out.map(|_| self.rows_bind(Slot::Input(0), window, shape.key, elem));
        let k = self.rows_bind(Slot::Input(1), window, shape.key, elem);
        let v = self.rows_bind(Slot::Input(2), window, shape.value, elem);
        let o = out.map(|out| self.rows_bind(out, window, shape.value, self.out_elem_bytes()));
        let (more, start_offset) = self.optional_binds(window, start);
        let groups = window.heads_len() * run.segments * slices;
        let [batch_stride, head_stride, token_stride] = shape.strides().map(|stride| stride as u32);
        let params = WalkParams {
            tokens: window.tokens_len() as u32,
            heads: shape.heads as u32,
            first_head: window.heads.start as u32,
            key: shape.key as u32,
            value: shape.value as u32,
            segments: run.segments as u32,
            segment_tokens: run.segment_tokens as u32,
            slices: slices as u32,
            groups: groups as u32,
            batch_stride,
            head_stride,
            token_stride,
            q_offset: q.as_ref().map_or(0, |(_, offset)| *offset),
            k_offset: k.1,
            v_offset: v.1,
            o_offset: o.as_ref().map_or(0, |(_, offset)| *offset),
            state_offset: state.1,
            start_offset,
            scale: self.options.scale,
        };
        let tensors = [q, Some(k), Some(v), o, Some(state)]
            .into_iter()
            .flatten()
            .map(|(bind, _)| bind);
        let bind = tensors.chain(more).collect();
        self.push(window, kernel, bind, bytes_of(&params), groups);
    }

    fn scan(&mut self, run: &Run<'_>, start: Start, states: (Bind, u32), last: (Bind, u32)) {
        let Run {
            window,
            segments,
            segment_tokens,
        } = *run;
        let shape = self.shape;
        let (states, states_offset) = states;
        let (last, state_offset) = last;
        let (more, start_offset) = self.optional_binds(window, start);
        let groups =
            (window.heads_len() * (shape.key * shape.value.div_ceil(4)) as u64).div_ceil(64);
        let params = StateScanParams {
            heads: shape.heads as u32,
            first_head: window.heads.start as u32,
            head_count: window.heads_len() as u32,
            key: shape.key as u32,
            value: shape.value as u32,
            segments: segments as u32,
            segment_tokens: segment_tokens as u32,
            last_tokens: (window.tokens_len() - segments.saturating_sub(1) * segment_tokens) as u32,
            states_offset,
            state_offset,
            start_offset,
        };
        let bind = [states, last].into_iter().chain(more).collect();
        self.push(
            window,
            kernels::state_scan(self.access.vectors, self.decay(), start),
            bind,
            bytes_of(&params),
            groups,
        );
    }

    fn pack(&mut self, wide: Slot) {
        let elements = self.shape.output_len() as u64;
        // Six bytes an element, at a byte for every four operations a device can do.
        let milliseconds = |elements: u64| 24.0 * elements as f64 / (self.caps.gflops * 1e6);
        // Whole bindings of both tensors, at offsets that are aligned in both.
        let mut most = self.caps.binding_bytes / 4 / ALIGN * ALIGN;
        while milliseconds(most) > STEP_MS && most > ALIGN {
            most = (most / 2).next_multiple_of(ALIGN);
        }
        for first in (0..elements).step_by(most as usize) {
            let count = most.min(elements - first);
            let wide = Bind {
                slot: wide,
                bytes: 4 * first..4 * (first + count),
                write: false,
            };
            let packed = Bind {
                slot: Slot::Output(0),
                bytes: 2 * first..(2 * (first + count)).next_multiple_of(4),
                write: true,
            };
            let params = PackOutputParams {
                elements: count as u32,
            };
            let groups = count.div_ceil(2).div_ceil(64);
            let step = Step {
                kernel: kernels::pack_output(self.shape.dtype),
                bind: vec![wide, packed],
                params: bytes_of(&params).to_vec(),
                groups,
                predicted_ms: milliseconds(count),
            };
            self.steps.push(step);
        }
    }

    fn push(
        &mut self,
        window: &Window,
        kernel: Arc<Kernel>,
        bind: Vec<Bind>,
        params: &[u8],
        groups: u64,
    ) {
        let predicted_ms = window.predicted_ms(self.shape, self.caps);
        self.steps.push(Step {
            kernel,
            bind,
            params: params.to_vec(),
            groups,
            predicted_ms,
        });
    }
}

/// A temporary with the states of the segments of a window's heads, and the offset for indices counted from head 0.
fn segment_states_bind(slot: Slot, window: &Window, head_bytes: u64) -> (Bind, u32) {
    let offset = 0u64.wrapping_sub(window.heads.start * head_bytes / 4) as u32;
    (
        Bind {
            slot,
            bytes: 0..window.heads_len() * head_bytes,
            write: true,
        },
        offset,
    )
}

/// What the operator amounts to, whichever form computes it: 4KV + 64(K + V) operations a token and head, every input read
/// and every output written once.
fn work(shape: &Shape, options: &Options, initial: bool, last: bool) -> Work {
    let per_token = per_token_flops(shape);
    let states = u64::from(initial) + u64::from(last);
    let decay = if options.decay == Decay::None {
        0
    } else {
        shape.heads
    };
    let elements =
        (shape.query_len() + shape.key_len() + shape.value_len() + shape.output_len()) as u64;
    Work {
        flops: (shape.rows() * shape.tokens) as f64 * per_token,
        popcounts: 0.0,
        bytes: (elements * shape.dtype.bytes()
            + 4 * (states * shape.state_len() as u64 + decay as u64)) as f64,
    }
}
