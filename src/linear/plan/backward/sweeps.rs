//! The gradients in two walks that have all columns of the states, on software adapters: back for values and keys, then on for
//! queries, the delta rule's corrections and log decays.

use super::{Adjoint, From, Tensors};
use crate::{
    Result,
    linear::{
        Decay, Form, adjoint,
        tiles::SweepTile,
        walk::{Like, Rows, Sweep},
    },
    plan::{Builder, Slot},
    rows,
};

/// Bindings of a sweep that has all it can have.
const BUFFERS: u32 = 13;

impl Adjoint<'_> {
    /// The tile of the two walks, where they can do it all.
    pub(super) fn sweeps(&self) -> Option<SweepTile> {
        let (options, caps) = (self.call.options, self.call.caps);
        let in_order = matches!(options.form, Form::Auto | Form::Recurrent);
        let plain = options.causal && self.group == 1;
        // Gradients of log decays are written where they belong.
        let features = options.feature_width(self.shape());
        let aligned = options.decay != Decay::Channel || features.is_multiple_of(4);
        (in_order && plain && aligned && caps.storage_buffers >= BUFFERS)
            .then(|| SweepTile::choose(self.value, caps))
            .flatten()
    }

    pub(super) fn push_sweeps(
        &self,
        b: &mut Builder,
        tile: SweepTile,
        t: &Tensors,
        missed: Option<(Rows, Slot)>,
        [dq, dk, dv]: [Rows; 3],
        [initial, grad_last]: [Option<From>; 2],
    ) -> Result<()> {
        let (heads, scale) = (self.kv_heads(), self.call.options.scale);
        let (delta, flows) = (missed.is_some(), self.log_decay.is_some());
        let flow_like = match self.call.options.decay {
            Decay::Channel => Like::Keys,
            _ => Like::Number,
        };
        let left = flows.then(|| {
            let width = if flow_like == Like::Keys { self.key } else { 1 };
            self.scratch(b, heads, width).slot
        });

        let beta = self.beta.zip(missed).map(|(grad, (e, _))| [e.slot, grad]);
        let read = [t.q, t.k, t.dn, t.u].map(|rows| rows.slot);
        let [q, k, dn, u] = read;
        let mut rest = vec![(dv.slot, Like::Values, true), (dk.slot, Like::Keys, true)];
        rest.extend(left.map(|left| (left, flow_like, true)));
        rest.extend(beta.map(|[e, _]| (e, Like::Values, false)));
        rest.extend(beta.map(|[_, grad]| (grad, Like::Number, true)));
        let mut walk = self.walk(t, heads, false, [t.k, dv], [t.q, t.dn]);
        walk.source_scale = scale;
        (walk.reverse, walk.keeps) = (true, flows);
        walk.sweep = Some(Sweep {
            tile,
            delta,
            flows,
            beta: beta.is_some(),
            read: vec![
                (q, Like::Keys),
                (k, Like::Keys),
                (dn, Like::Values),
                (u, Like::Values),
            ],
            aid: missed.map(|(_, beta)| (beta, Like::Number)),
            rest,
        });
        let d = self.run(b, walk, grad_last, false)?;
        self.initial_gradients(b, d, None, flows);

        let mut walk = self.walk(t, heads, false, [dq, t.dn], [t.k, t.u]);
        walk.scale = scale;
        walk.keeps = flows;
        let kept = self.slots(&walk).iter().sum::<u64>();
        // Gradients per head are sums over sequences of what the walk adds up for each.
        let sums = (self.call.options.decay == Decay::Head)
            .then(|| b.add_scratch(4 * kept * heads as u64))
            .filter(|_| flows);
        if let Some(sums) = sums {
            rows::fill(b, self.call.caps, sums, 0..kept * heads as u64, 0);
        }
        let dg = sums.or(self.log_decay);
        let dg_like = if sums.is_some() {
            Like::States
        } else {
            flow_like
        };
        let mut read = vec![(k, Like::Keys), (dn, Like::Values), (u, Like::Values)];
        if flows {
            read.insert(0, (q, Like::Keys));
        }
        let mut rest = vec![(dq.slot, Like::Keys, true)];
        if delta {
            rest.push((dk.slot, Like::Keys, true));
        }
        rest.extend(left.map(|left| (left, flow_like, false)));
        rest.extend(left.and(dg).map(|dg| (dg, dg_like, true)));
        walk.sweep = Some(Sweep {
            tile,
            delta,
            flows,
            beta: false,
            read,
            aid: delta.then_some((dv.slot, Like::Values)),
            rest,
        });
        let initial = initial.map(|from| From { ratio: 1, ..from });
        // The gradients of the states after every chunk stay; the walk goes on in the place of that after the last.
        if flows {
            walk.state = d;
            self.run_in(b, walk, initial, false)?;
        } else {
            self.run(b, walk, initial, false)?;
        }
        if let (Some(sums), Some(grad)) = (sums, self.log_decay) {
            if kept == 0 || heads == 0 {
                rows::fill(b, self.call.caps, grad, 0..heads as u64, 0);
            } else {
                adjoint::sum_rows(b, self.call.caps, kept as usize, heads, [sums, grad]);
            }
        }
        Ok(())
    }
}
