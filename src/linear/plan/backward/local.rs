//! The gradient of a segment's start state alone, for a gradient of zero at its end: only the walks that it needs.

use super::{Adjoint, fitting, steps};
use crate::{
    Result,
    gpu::Caps,
    linear::{
        Options, Shape,
        kernels::Rule,
        plan::{Call, OP, States},
    },
    plan::{Builder, Plan, Slot, Work},
};

/// Plans [`linear::local_adjoint`](crate::linear::local_adjoint). Inputs: those of [`forward`](super::super::forward), then the
/// gradient of o; outputs: the gradient of the start state and, with the normaliser, that of z. The values and the initial
/// states are read with the normaliser only.
///
/// # Errors
/// As [`forward`](super::super::forward).
pub fn local_adjoint(
    shape: &Shape,
    options: &Options,
    states: States<'_>,
    caps: &Caps,
) -> Result<Plan> {
    fitting(options, |options| in_form(shape, options, states, caps))
}

fn in_form(shape: &Shape, options: &Options, states: States<'_>, caps: &Caps) -> Result<Plan> {
    let call = Call::new(shape, options, states, caps)?;
    let adjoint = Adjoint {
        group: shape.heads / shape.kv_heads.max(1),
        key: options.feature_width(shape).next_multiple_of(4),
        value: shape.value.next_multiple_of(4) + if options.normalize.is_some() { 4 } else { 0 },
        grad_o: Slot::Input(call.inputs()),
        grad_last: None,
        grad_last_z: None,
        log_decay: None,
        beta: None,
        initial: Some(Slot::Output(0)),
        initial_z: options.normalize.map(|_| Slot::Output(1)),
        weights: steps::ParamGrads::default(),
        call,
    };
    let mut builder = Builder::default();
    adjoint.push_local(&mut builder)?;
    let forward = adjoint.call.work();
    let work = Work {
        flops: forward.flops / 2.0,
        ..forward
    };
    let plan = builder.plan(OP, "local adjoint".into(), work);
    plan.check(caps)?;
    Ok(plan)
}

impl Adjoint<'_> {
    fn push_local(&self, b: &mut Builder) -> Result<()> {
        let options = self.call.options;
        let normalized = options.normalize.is_some();
        let initial = if normalized { self.initial(b) } else { None };
        let t = self.tensors(b, initial, normalized)?;
        // The delta rule's corrections need the gradient of what every token added.
        let added = options
            .delta
            .then(|| self.scratch(b, self.heads(), self.value));
        let mut walk = self.walk(
            &t,
            self.heads(),
            false,
            [t.k, added.unwrap_or(t.k)],
            [t.q, t.dn],
        );
        walk.readers = added.map(|added| [t.k, added]);
        (walk.source_scale, walk.reverse) = (options.scale, true);
        let d = self.run(b, walk, None, false)?;
        let taken = match (added, self.call.slots.beta) {
            (Some(added), Some(beta)) => {
                let y = self.summed(b, &[added], self.value)?;
                let missed = self.scratch(b, self.kv_heads(), self.value);
                let mut walk = self.walk(&t, self.kv_heads(), false, [t.k, missed], [t.k, y]);
                (walk.rule, walk.aid, walk.reverse) = (Rule::Missed, Some(beta), true);
                Some(self.run(b, walk, None, false)?)
            }
            _ => None,
        };
        self.initial_gradients(b, d, taken, false);
        Ok(())
    }
}
