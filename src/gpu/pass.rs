//! Recording: plans become dispatches in one compute pass.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Gpu, Tensor, View, ViewMut, pipeline::Pipeline, pool::Use};
use crate::{
    Error, Result,
    plan::{Bind, Plan, Slot, Step},
};

/// Bytes of two timestamps, at the alignment that resolving them asks for.
const TIMESTAMP_BYTES: u64 = 256;

/// Dispatches predicted to take longer than this together go to the device in several submissions: drivers reset a device
/// that is busy with one for a second or two.
const SUBMISSION_MS: f64 = 500.0;

/// A recording of plans, run in order when submitted. Results stay on the device.
#[derive(Debug)]
pub struct Pass {
    gpu: Gpu,
    label: &'static str,
    dispatches: Vec<Dispatch>,
    scratch: Vec<wgpu::Buffer>,
    tables: Vec<Tensor<u32>>,
    timed: bool,
}

/// A recording kept by [`Pass::replay`]: calls of many small dispatches, such as a token's through all layers of a model, are
/// recorded once and cost the host little more than their submission.
#[derive(Debug)]
pub struct Replay(Pass);

#[derive(Debug)]
struct Dispatch {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    params: Vec<u8>,
    grid: [u32; 2],
    predicted_ms: f64,
}

/// Timestamps under way.
struct Queries {
    set: wgpu::QuerySet,
    resolve: wgpu::Buffer,
    read: wgpu::Buffer,
}

/// Work on its way.
#[derive(Debug)]
pub struct Done {
    gpu: Gpu,
    index: Option<wgpu::SubmissionIndex>,
    submitted: Instant,
    timestamps: Option<wgpu::Buffer>,
}

/// How long a pass took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From submission to the end of waiting.
    pub wall: Duration,
    /// Between the device's timestamps at the ends of the pass, where asked for and supported.
    pub device: Option<Duration>,
}

impl Pass {
    pub(super) fn new(gpu: Gpu, label: &'static str) -> Pass {
        Pass {
            gpu,
            label,
            dispatches: Vec::new(),
            scratch: Vec::new(),
            tables: Vec::new(),
            timed: false,
        }
    }

    /// The capabilities of the device recorded for.
    pub fn caps(&self) -> &super::Caps {
        self.gpu.caps()
    }

    /// Asks for timestamps at the ends of the pass, where the device has them.
    pub fn timed(mut self) -> Pass {
        self.timed = true;
        self
    }

    /// Records a plan on these inputs and outputs, in the order the plan's operator documents.
    ///
    /// # Errors
    /// `Limit` when the plan exceeds the device, `Argument` when a view is too small for it, `Shader`, `OutOfMemory`,
    /// `DeviceLost`.
    pub fn run(
        &mut self,
        plan: &Plan,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
    ) -> Result<()> {
        self.run_checked(plan, inputs, outputs, self.gpu.0.checked)
    }

    /// [`Pass::run`] with run-time checks in the kernels on or off.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn run_checked(
        &mut self,
        plan: &Plan,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        checked: bool,
    ) -> Result<()> {
        plan.check(self.gpu.caps())?;
        let gpu = self.gpu.clone();
        let base = self.scratch.len();
        for bytes in &plan.scratch {
            self.scratch
                .push(gpu.0.pool.take(&gpu, Use::Scratch, *bytes)?);
        }
        let first_table = self.tables.len();
        for table in &plan.tables {
            self.tables.push(gpu.upload(table)?);
        }
        let kernels = plan.steps.iter().map(|step| &step.kernel);
        let pipelines = gpu.0.pipelines.get(&gpu, kernels, checked)?;
        let mut last: Option<(&Step, wgpu::BindGroup)> = None;
        for (step, pipeline) in plan.steps.iter().zip(pipelines) {
            // A step that is cut into several dispatches binds the same in each.
            let same = last
                .take()
                .filter(|(last, _)| last.kernel == step.kernel && last.bind == step.bind);
            let group = match same {
                Some((_, group)) => group,
                None => {
                    let views = self.views(plan, step, inputs, outputs, base, first_table)?;
                    bind_group(&gpu, &pipeline, step, &views)?
                }
            };
            last = Some((step, group.clone()));
            self.dispatches.push(Dispatch {
                pipeline,
                group,
                params: step.params.clone(),
                grid: fold(step.groups, gpu.caps().groups_per_dim),
                predicted_ms: step.predicted_ms,
            });
        }
        Ok(())
    }

    /// The buffers of a step's bindings, checked for size.
    fn views<'a>(
        &'a self,
        plan: &Plan,
        step: &Step,
        inputs: &[View<'a>],
        outputs: &'a [ViewMut<'_>],
        first_scratch: usize,
        first_table: usize,
    ) -> Result<Vec<View<'a>>> {
        let of = |bind: &Bind| {
            let view = match bind.slot {
                Slot::Input(n) => inputs.get(usize::from(n)).copied(),
                Slot::Output(n) => outputs.get(usize::from(n)).map(|output| output.0),
                Slot::Scratch(n) => {
                    let buffer = self.scratch.get(first_scratch + usize::from(n));
                    buffer.map(|buffer| View {
                        buffer,
                        offset: 0,
                        bytes: buffer.size(),
                    })
                }
                Slot::Table(n) => self
                    .tables
                    .get(first_table + usize::from(n))
                    .map(Tensor::view),
            };
            view.filter(|view| bind.bytes.end <= view.bytes)
                .ok_or_else(|| Error::Argument {
                    op: plan.op,
                    what: format!("{:?}", bind.slot),
                    expected: format!("at least {} bytes", bind.bytes.end),
                    got: view.map_or("nothing".into(), |view| format!("{} bytes", view.bytes)),
                })
        };
        step.bind.iter().map(of).collect()
    }

    /// How many dispatches are recorded so far.
    pub fn dispatches(&self) -> usize {
        self.dispatches.len()
    }

    /// Keeps the recording, to be submitted as often as wanted: nothing is planned, compiled, allocated or bound again.
    ///
    /// It refers to the buffers of its tensors, not to their contents: [`Tensor::write`] brings new inputs, and what a plan
    /// updates in place goes on from run to run. The recording keeps buffers alive that are dropped meanwhile.
    pub fn replay(self) -> Replay {
        Replay(self)
    }

    /// Submits the recording, in several submissions where it is predicted to take long.
    ///
    /// # Errors
    /// `Timeout` when too much submitted work is unfinished, `OutOfMemory`, `DeviceLost`.
    pub fn submit(self) -> Result<Done> {
        self.send()
    }

    fn send(&self) -> Result<Done> {
        let gpu = self.gpu.clone();
        let queries = if self.timed && gpu.caps().timestamps {
            Some(self.queries()?)
        } else {
            None
        };
        let submitted = Instant::now();
        let parts = self.parts();
        let mut index = None;
        for (n, dispatches) in parts.iter().enumerate() {
            let (first, last) = (n == 0, n + 1 == parts.len());
            index = Some(gpu.submit(|| self.commands(dispatches, queries.as_ref(), first, last))?);
        }
        Ok(Done {
            gpu,
            index,
            submitted,
            timestamps: queries.map(|queries| queries.read),
        })
    }

    /// The dispatches of each submission; one submission even if there is nothing to do.
    fn parts(&self) -> Vec<&[Dispatch]> {
        let (mut parts, mut begin, mut predicted_ms) = (Vec::new(), 0, 0.0);
        for (n, dispatch) in self.dispatches.iter().enumerate() {
            if n > begin && predicted_ms + dispatch.predicted_ms > SUBMISSION_MS {
                parts.extend(self.dispatches.get(begin..n));
                (begin, predicted_ms) = (n, 0.0);
            }
            predicted_ms += dispatch.predicted_ms;
        }
        parts.extend(self.dispatches.get(begin..));
        parts
    }

    fn commands(
        &self,
        dispatches: &[Dispatch],
        queries: Option<&Queries>,
        first: bool,
        last: bool,
    ) -> wgpu::CommandBuffer {
        let descriptor = wgpu::CommandEncoderDescriptor {
            label: Some(self.label),
        };
        let mut encoder = self.gpu.device().create_command_encoder(&descriptor);
        let timestamp_writes =
            queries
                .filter(|_| first || last)
                .map(|queries| wgpu::ComputePassTimestampWrites {
                    query_set: &queries.set,
                    beginning_of_pass_write_index: first.then_some(0),
                    end_of_pass_write_index: last.then_some(1),
                });
        {
            let descriptor = wgpu::ComputePassDescriptor {
                label: Some(self.label),
                timestamp_writes,
            };
            encode(dispatches, &mut encoder.begin_compute_pass(&descriptor));
        }
        if let Some(Queries { set, resolve, read }) = queries.filter(|_| last) {
            encoder.resolve_query_set(set, 0..2, resolve, 0);
            encoder.copy_buffer_to_buffer(resolve, 0, read, 0, Some(16));
            encoder.map_buffer_on_submit(read, wgpu::MapMode::Read, 0..16, |_| {});
        }
        encoder.finish()
    }

    /// The recording as a command buffer, for a submission of the caller's.
    ///
    /// # Errors
    /// `DeviceLost`.
    pub fn finish(self) -> Result<wgpu::CommandBuffer> {
        self.gpu.scoped(|| {
            let mut encoder =
                self.gpu
                    .device()
                    .create_command_encoder(&wgpu::CommandEncoderDescriptor {
                        label: Some(self.label),
                    });
            self.encode(
                &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some(self.label),
                    timestamp_writes: None,
                }),
            );
            encoder.finish()
        })
    }

    /// Writes the recording into a compute pass of the caller's, between dispatches of their own. Pipeline, bind group 0 and
    /// immediates are changed by it.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        encode(&self.dispatches, pass);
    }

    fn queries(&self) -> Result<Queries> {
        let descriptor = wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        };
        let set = self
            .gpu
            .scoped(|| self.gpu.device().create_query_set(&descriptor))?;
        let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let read = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Queries {
            set,
            resolve: self
                .gpu
                .create_buffer("timestamps", TIMESTAMP_BYTES, resolve, false)?,
            read: self
                .gpu
                .create_buffer("timestamps", TIMESTAMP_BYTES, read, false)?,
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        for buffer in self.scratch.drain(..) {
            self.gpu.0.pool.give(&self.gpu, Use::Scratch, buffer);
        }
    }
}

impl Replay {
    /// Submits the recording once more, after everything submitted so far.
    ///
    /// # Errors
    /// As [`Pass::submit`].
    pub fn submit(&self) -> Result<Done> {
        self.0.send()
    }

    /// How many dispatches a run has.
    pub fn dispatches(&self) -> usize {
        self.0.dispatches()
    }
}

impl Done {
    /// Waits until the work is done, at most this long.
    ///
    /// # Errors
    /// `Timeout`, `DeviceLost`.
    pub fn wait(self, timeout: Duration) -> Result<Timing> {
        self.gpu.poll(self.index, timeout)?;
        let wall = self.submitted.elapsed();
        let device = self.timestamps.and_then(|buffer| {
            let range = buffer.slice(..16).get_mapped_range().ok()?;
            let ticks: [u64; 2] = bytemuck::pod_read_unaligned(range.get(..16)?);
            let ns = ticks[1].saturating_sub(ticks[0]) as f64
                * f64::from(self.gpu.queue().get_timestamp_period());
            Some(Duration::from_nanos(ns as u64))
        });
        Ok(Timing { wall, device })
    }
}

fn encode(dispatches: &[Dispatch], pass: &mut wgpu::ComputePass<'_>) {
    for dispatch in dispatches {
        pass.set_pipeline(&dispatch.pipeline.compute);
        pass.set_bind_group(0, &dispatch.group, &[]);
        if !dispatch.params.is_empty() {
            pass.set_immediates(0, &dispatch.params);
        }
        let [x, y] = dispatch.grid;
        pass.dispatch_workgroups(x, y, 1);
    }
}

fn bind_group(
    gpu: &Gpu,
    pipeline: &Pipeline,
    step: &Step,
    views: &[View<'_>],
) -> Result<wgpu::BindGroup> {
    if !step
        .bind
        .iter()
        .map(|bind| bind.write)
        .eq(pipeline.bindings.iter().map(|(_, write)| *write))
    {
        return Err(Error::Gpu {
            message: format!(
                "the plan's bindings differ from those of {}",
                step.kernel.label()
            ),
        });
    }
    let entries: Vec<_> = views
        .iter()
        .zip(&step.bind)
        .zip(&pipeline.bindings)
        .map(|((view, bind), (binding, _))| wgpu::BindGroupEntry {
            binding: *binding,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: view.buffer,
                offset: view.offset + bind.bytes.start,
                size: wgpu::BufferSize::new(bind.bytes.end - bind.bytes.start),
            }),
        })
        .collect();
    let device = gpu.device();
    gpu.scoped(|| {
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        })
    })
}

/// A linear number of workgroups as a grid; the kernel recovers the index as `y * x_count + x` and ignores the surplus.
fn fold(groups: u64, per_dim: u32) -> [u32; 2] {
    let rows = groups.div_ceil(u64::from(per_dim)).max(1);
    let columns = groups.div_ceil(rows);
    // Both fit: `Plan::check` bounds the groups by the square of the limit.
    [columns as u32, rows as u32]
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn folded_grids_cover_all_groups_with_less_than_one_row_to_spare() {
        for groups in [0, 1, 65_535, 65_536, 70_000, 131_071, 10_000_019] {
            let [x, y] = fold(groups, 65_535);
            let covered = u64::from(x) * u64::from(y);
            assert!(
                covered >= groups && covered - groups < u64::from(y).max(1) && x <= 65_535,
                "{groups}: {x} x {y}"
            );
        }
    }
}
