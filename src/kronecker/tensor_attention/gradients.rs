//! The plan of the gradients: what each query needs, then a walk by queries and one by keys of each kind.

use bytemuck::bytes_of;

use super::{
    Logits, OP,
    kernels::{self, RowsParams},
    plan::{Wanted, weighed},
    planner::Planner,
    walk::Join,
};
use crate::{
    Error, Result,
    gpu::Dtype,
    plan::{Builder, Plan, Slot, Step, Work},
    rows::{Rows, dispatches, fill},
};

pub(super) struct Backward<'a> {
    planner: Planner<'a>,
    wanted: Wanted,
}

/// Where the wanted gradients go.
struct Targets {
    q: Option<Slot>,
    keys: [Option<Slot>; 2],
    values: [Option<Slot>; 2],
}

impl<'a> Backward<'a> {
    pub fn new(planner: Planner<'a>, wanted: Wanted) -> Result<Backward<'a>> {
        let shape = planner.shape;
        if planner.options.logits == Logits::Sum && shape.dtype != Dtype::F32 {
            return Err(Error::Unsupported {
                op: OP,
                what: "gradients of sums of scores in 16-bit storage; use f32".into(),
            });
        }
        Ok(Backward { planner, wanted })
    }

    pub fn plan(&self) -> Result<Plan> {
        let Planner {
            shape,
            options,
            caps,
        } = self.planner;
        let mut builder = Builder::default();
        let [k1, k2] = shape.key_lens();
        let [v1, v2] = shape.value_lens();
        let lens = [shape.query_len(), k1, k2, v1, v2];
        let Wanted {
            q,
            keys: [of_k1, of_k2],
            values: [of_v1, of_v2],
        } = self.wanted;
        let mut next = 0;
        let slots = [q, of_k1, of_k2, of_v1, of_v2].map(|wanted| {
            next += u16::from(wanted);
            wanted.then(|| Slot::Output(next - 1))
        });
        let mut label = "empty".to_owned();
        if shape.is_empty() {
            for (slot, len) in slots.into_iter().zip(lens) {
                if let Some(slot) = slot.filter(|_| len > 0) {
                    fill(&mut builder, caps, slot, 0..len as u64, 0);
                }
            }
        } else {
            let [q, k1, k2, v1, v2] = slots;
            let targets = Targets {
                q,
                keys: [k1, k2],
                values: [v1, v2],
            };
            label = match options.logits {
                Logits::Sum => self.halves(&mut builder, &targets)?,
                _ => self.whole(&mut builder, &targets)?,
            };
        }
        let (d, v) = (2.0 * shape.width as f64, 2.0 * shape.value as f64);
        let each = |wanted: bool, ops: f64| if wanted { ops } else { 0.0 };
        let sides = [(of_k1, of_v1), (of_k2, of_v2)];
        let of_sides = sides
            .map(|(keys, values)| each(keys || values, d) + each(keys, v + d) + each(values, v));
        let read = 4 * shape.rows()
            + (lens.iter().sum::<usize>() + 2 * shape.output_len()) * shape.dtype.bytes() as usize;
        let written = slots.iter().zip(lens).filter(|(slot, _)| slot.is_some());
        let work = Work {
            flops: weighed(shape, options) * (each(q, d + v + d) + of_sides.iter().sum::<f64>()),
            bytes: read as f64 + 4.0 * written.map(|(_, len)| len as f64).sum::<f64>(),
            ..Work::default()
        };
        let plan = builder.plan(OP, label, work);
        plan.check(caps)?;
        Ok(plan)
    }

    /// Gradients where scores are not separable.
    fn whole(&self, builder: &mut Builder, targets: &Targets) -> Result<String> {
        let planner = self.planner;
        let grad_o = Slot::Input(7);
        let rows = self.rows(builder, Slot::Input(5), Slot::Input(6), grad_o)?;
        let queries = planner.queries(grad_o);
        let [first, second] = planner.sides();
        let mut label = String::new();
        if let Some(slot) = targets.q {
            let roles = planner.of_queries(queries, [first, second]);
            let walk = planner.gradients(roles, rows, [true, false]);
            label = walk.label();
            let keys = Some((slot, false));
            walk.steps(builder, &Join::Sum { keys, values: None })?;
        }
        for (n, [owner, column]) in [[first, second], [second, first]].into_iter().enumerate() {
            let (keys, values) = match n {
                0 => (targets.keys[0], targets.values[0]),
                _ => (targets.keys[1], targets.values[1]),
            };
            let roles = planner.of_keys(owner, queries, column, n == 0);
            for (keys, values) in self.together(keys, values) {
                let wanted = [keys.is_some(), values.is_some()];
                let walk = planner.gradients(roles, rows, wanted);
                label = walk.label();
                let keys = keys.map(|slot| (slot, false));
                let values = values.map(|slot| (slot, false));
                walk.steps(builder, &Join::Sum { keys, values })?;
            }
        }
        Ok(format!("gradients, {label}"))
    }

    /// Gradients of keys and values of one kind by walks.
    fn together(
        &self,
        keys: Option<Slot>,
        values: Option<Slot>,
    ) -> Vec<(Option<Slot>, Option<Slot>)> {
        let walks = match self.planner.both_fit() {
            true => vec![(keys, values)],
            false => vec![(keys, None), (None, values)],
        };
        let wanted = walks
            .into_iter()
            .filter(|(keys, values)| keys.or(*values).is_some());
        wanted.collect()
    }

    /// Gradients of the product of two ordinary attentions, each of which sees the gradient of o times the other's output.
    fn halves(&self, builder: &mut Builder, targets: &Targets) -> Result<String> {
        let planner = self.planner;
        let shape = planner.shape;
        let halves = planner.halves(builder)?;
        let [o1, o2] = halves.o;
        let [first, second] = planner.sides();
        let mut label = String::new();
        let of_first = (
            first,
            o1,
            o2,
            halves.lse[0],
            targets.keys[0],
            targets.values[0],
        );
        let of_second = (
            second,
            o2,
            o1,
            halves.lse[1],
            targets.keys[1],
            targets.values[1],
        );
        for (n, (side, o, other, lse, keys, values)) in
            [of_first, of_second].into_iter().enumerate()
        {
            let grad = builder.add_scratch(4 * shape.output_len() as u64);
            planner.product(builder, [Slot::Input(7), other], grad, shape.output_len());
            let rows = self.rows(builder, o, lse, grad)?;
            let queries = planner.queries(grad);
            if let Some(slot) = targets.q {
                let roles = planner.of_queries(queries, [halves.ones, side]);
                let walk = planner.gradients(roles, rows, [true, false]);
                let keys = Some((slot, n > 0));
                walk.steps(builder, &Join::Sum { keys, values: None })?;
            }
            for (keys, values) in self.together(keys, values) {
                let roles = planner.of_keys(side, queries, halves.ones, true);
                let walk = planner.gradients(roles, rows, [keys.is_some(), values.is_some()]);
                label = walk.label();
                let keys = keys.map(|slot| (slot, false));
                let values = values.map(|slot| (slot, false));
                walk.steps(builder, &Join::Sum { keys, values })?;
            }
        }
        Ok(format!("gradients of two attentions, {label}"))
    }

    /// Adds the steps that compute what every query needs.
    fn rows(&self, builder: &mut Builder, o: Slot, lse: Slot, grad_o: Slot) -> Result<Slot> {
        let Planner { shape, caps, .. } = self.planner;
        let rows = builder.add_scratch(8 * shape.rows() as u64);
        let queries = shape.group() * shape.queries;
        let kernel = kernels::rows(self.planner.access());
        for units in self.planner.blocks()? {
            let tensor = |slot, dtype, width: usize, write| {
                let rows = Rows {
                    slot,
                    dtype,
                    stride: queries * width,
                };
                rows.bind(&units, write)
            };
            let (o, o_offset) = tensor(o, shape.dtype, shape.value, false);
            let (grad, grad_offset) = tensor(grad_o, shape.dtype, shape.value, false);
            let (lse, lse_offset) = tensor(lse, Dtype::F32, 1, false);
            let (into, rows_offset) = tensor(rows, Dtype::F32, 2, true);
            let [begin, end] = [units.start, units.end].map(|unit| unit * queries as u64);
            let group_ms = 64.0 * 4.0 * shape.value as f64 / (caps.gflops * 1e6);
            for groups in dispatches(0..(end - begin).div_ceil(64), group_ms, caps) {
                let params = RowsParams {
                    value: shape.value as u32,
                    o_offset,
                    grad_offset,
                    lse_offset,
                    // The shader counts in pairs.
                    rows_offset: rows_offset.cast_signed().div_euclid(2).cast_unsigned(),
                    first: (begin + 64 * groups.start) as u32,
                    end: end.min(begin + 64 * groups.end) as u32,
                };
                let count = groups.end - groups.start;
                builder.steps.push(Step {
                    kernel: kernel.clone(),
                    bind: vec![o.clone(), grad.clone(), lse.clone(), into.clone()],
                    params: bytes_of(&params).to_vec(),
                    groups: count,
                    predicted_ms: group_ms * count as f64,
                });
            }
        }
        Ok(rows)
    }
}
