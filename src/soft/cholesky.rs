//! Steps of the solver by factorisation.

use super::{
    kernels::{self, HeadParams},
    steps::{Buffer, Planner},
};
use crate::{Result, plan::STEP_MS};

impl Planner<'_> {
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
}
