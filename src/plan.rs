//! A plan is the whole of what an operator will do on a device, as plain data.
//!
//! Planners are pure functions of a shape, options and [`Caps`]; they are tested on invented devices. One
//! interpreter, [`Pass::run`](crate::gpu::Pass::run), turns any plan into commands.

use std::{ops::Range, sync::Arc};

use crate::{
    Error, Result,
    gpu::{Caps, Kernel},
};

/// Offsets of bindings are multiples of this, which satisfies every device.
pub(crate) const ALIGN: u64 = 256;

/// The longest a dispatch is predicted to run; drivers reset a GPU that is busy for a second or two.
pub(crate) const STEP_MS: f64 = 100.0;

/// Where a binding of a step gets its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// The n-th input view handed to the pass.
    Input(u16),
    /// The n-th output view; a plan may also read it, for state updated in place.
    Output(u16),
    /// The n-th temporary of the plan, undefined until a step writes it.
    Scratch(u16),
    /// The n-th table of the plan: numbers that the host computed.
    Table(u16),
}

/// One binding of a step: a range of bytes of a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Bind {
    /// The buffer.
    pub slot: Slot,
    /// The bytes the kernel may touch; the start is a multiple of the device's offset alignment.
    pub bytes: Range<u64>,
    /// Whether the kernel writes through this binding.
    pub write: bool,
}

/// One dispatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The kernel to run.
    pub kernel: Arc<Kernel>,
    /// Its bindings, in ascending order of the shader's binding numbers, which may have gaps: options that add a buffer are parts
    /// with a number of their own.
    pub bind: Vec<Bind>,
    /// Its immediate parameters, in the layout of the shader's `Params`.
    pub params: Vec<u8>,
    /// The number of workgroups; folded into two dimensions where one does not suffice.
    pub groups: u64,
    /// How long the step may take on a device of the presumed rate; submissions are cut by it.
    pub predicted_ms: f64,
}

/// The arithmetic and traffic a plan is credited with: what the operator needs, not what a variant happens to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations; a multiply-add counts two.
    pub flops: f64,
    /// 32-bit population counts.
    pub popcounts: f64,
    /// Bytes of every input read once and every output written once.
    pub bytes: f64,
}

/// A finished plan: steps, temporaries and the work they amount to.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The operator's name in case files.
    pub op: &'static str,
    /// The variant chosen, for people.
    pub label: String,
    /// The dispatches, in order.
    pub steps: Vec<Step>,
    /// Sizes in bytes of the temporaries.
    pub scratch: Vec<u64>,
    /// Numbers that the host computed, uploaded when the plan is recorded.
    pub tables: Vec<Vec<u32>>,
    /// What the whole plan amounts to.
    pub work: Work,
}

impl Plan {
    /// Device memory beyond inputs and outputs.
    pub fn scratch_bytes(&self) -> u64 {
        self.scratch.iter().sum()
    }

    /// Checks every step against the limits of a device: what wgpu would refuse, and what it would not notice.
    ///
    /// # Errors
    /// `Limit` when the device or the scratch budget is too small; `Gpu` when the plan contradicts itself.
    pub fn check(&self, caps: &Caps) -> Result<()> {
        let limit = |what: &str, needed: u64, available: u64, remedy: &'static str| {
            if needed > available {
                Err(Error::Limit {
                    what: format!("{} ({what})", self.label),
                    needed,
                    available,
                    remedy,
                })
            } else {
                Ok(())
            }
        };
        let bug = |message: String| {
            Err(Error::Gpu {
                message: format!("{}: {message}", self.label),
            })
        };
        limit(
            "bytes of scratch in all",
            self.scratch_bytes(),
            caps.scratch_bytes,
            "raise `Select::scratch_bytes` or cut the batch",
        )?;
        for bytes in &self.scratch {
            limit(
                "bytes in one buffer",
                *bytes,
                caps.buffer_bytes,
                "cut the batch",
            )?;
        }
        for step in &self.steps {
            let kernel = &step.kernel;
            let size = kernel.workgroup.iter().map(|n| u64::from(*n)).product();
            limit(
                "invocations in a workgroup",
                size,
                caps.invocations.into(),
                "use another device",
            )?;
            limit(
                "bytes of workgroup memory",
                kernel.workgroup_bytes.into(),
                caps.workgroup_bytes.into(),
                "use another device",
            )?;
            limit(
                "storage buffers",
                step.bind.len() as u64,
                caps.storage_buffers.into(),
                "use another device",
            )?;
            limit(
                "bytes of parameters",
                step.params.len() as u64,
                caps.immediate_bytes.into(),
                "use another device",
            )?;
            let per_dim = u64::from(caps.groups_per_dim);
            limit(
                "workgroups",
                step.groups,
                per_dim * per_dim,
                "cut the batch",
            )?;
            if !caps.supports(&kernel.needs) {
                return Err(Error::Unsupported {
                    op: self.op,
                    what: format!("{} on {}", kernel.label(), caps.name),
                });
            }
            for bind in &step.bind {
                let bytes = &bind.bytes;
                if bytes.start >= bytes.end
                    || !bytes.start.is_multiple_of(u64::from(caps.offset_align))
                    || bytes.end % 4 != 0
                {
                    return bug(format!(
                        "{} binds {:?} at bytes {bytes:?}",
                        kernel.label(),
                        bind.slot
                    ));
                }
                limit(
                    "bytes in one binding",
                    bytes.end - bytes.start,
                    caps.binding_bytes,
                    "cut the batch",
                )?;
                if let Slot::Scratch(n) = bind.slot
                    && self
                        .scratch
                        .get(usize::from(n))
                        .is_none_or(|size| *size < bytes.end)
                {
                    return bug(format!(
                        "{} binds past the end of scratch {n}",
                        kernel.label()
                    ));
                }
                if let Slot::Table(n) = bind.slot
                    && self
                        .tables
                        .get(usize::from(n))
                        .is_none_or(|table| 4 * (table.len() as u64) < bytes.end)
                {
                    return bug(format!(
                        "{} binds past the end of table {n}",
                        kernel.label()
                    ));
                }
                if bind.write
                    && step
                        .bind
                        .iter()
                        .filter(|other| other.slot == bind.slot)
                        .count()
                        > 1
                {
                    return bug(format!(
                        "{} binds {:?} twice and writes it",
                        kernel.label(),
                        bind.slot
                    ));
                }
                if bind.write && matches!(bind.slot, Slot::Input(_) | Slot::Table(_)) {
                    return bug(format!("{} writes {:?}", kernel.label(), bind.slot));
                }
            }
        }
        Ok(())
    }
}

/// A plan in the making, to which planners of parts of an operator add.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Builder {
    /// The dispatches so far.
    pub steps: Vec<Step>,
    /// The temporaries so far, in bytes.
    pub scratch: Vec<u64>,
    /// The tables so far.
    pub tables: Vec<Vec<u32>>,
    /// Temporaries of the part in the making.
    pub(crate) own: Vec<Slot>,
    /// Temporaries of parts that are over.
    pub(crate) spare: Vec<Slot>,
}

impl Builder {
    /// A temporary of at least this size; one that a part has left, where there is one.
    pub fn add_scratch(&mut self, bytes: u64) -> Slot {
        let bytes = bytes.max(16).next_multiple_of(16);
        let slot = self.spare.pop().unwrap_or_else(|| {
            self.scratch.push(0);
            Slot::Scratch((self.scratch.len() - 1) as u16)
        });
        if let Slot::Scratch(n) = slot
            && let Some(size) = self.scratch.get_mut(usize::from(n))
        {
            *size = bytes.max(*size);
        }
        self.own.push(slot);
        slot
    }

    /// A table; equal ones are one.
    pub fn add_table(&mut self, table: Vec<u32>) -> Slot {
        let same = self.tables.iter().position(|other| *other == table);
        let at = same.unwrap_or_else(|| {
            self.tables.push(table);
            self.tables.len() - 1
        });
        Slot::Table(at as u16)
    }

    /// Adds a part whose temporaries end with it, and are left to what comes after it.
    pub fn part<T>(&mut self, add: impl FnOnce(&mut Builder) -> T) -> T {
        let outer = std::mem::take(&mut self.own);
        let added = add(self);
        let over = std::mem::replace(&mut self.own, outer);
        // The first that is asked for is the first that was.
        self.spare.extend(over.into_iter().rev());
        added
    }

    /// Adds a whole plan whose n-th input and output are these slots. Its label and its work are left to the caller, its
    /// temporaries to what comes after it.
    ///
    /// # Errors
    /// `Gpu` when the plan names an input or output beyond them, which is a mistake of a planner.
    pub fn append(&mut self, plan: Plan, inputs: &[Slot], outputs: &[Slot]) -> Result<()> {
        let scratch = self.part(|builder| {
            let sizes = plan.scratch.iter();
            sizes
                .map(|bytes| builder.add_scratch(*bytes))
                .collect::<Vec<_>>()
        });
        let tables: Vec<Slot> = (plan.tables.into_iter())
            .map(|table| self.add_table(table))
            .collect();
        for mut step in plan.steps {
            for bind in &mut step.bind {
                let slot = match bind.slot {
                    Slot::Input(n) => inputs.get(usize::from(n)),
                    Slot::Output(n) => outputs.get(usize::from(n)),
                    Slot::Scratch(n) => scratch.get(usize::from(n)),
                    Slot::Table(n) => tables.get(usize::from(n)),
                };
                bind.slot = slot.copied().ok_or_else(|| Error::Gpu {
                    message: format!("{}: {:?} has no place in the whole", plan.label, bind.slot),
                })?;
            }
            self.steps.push(step);
        }
        Ok(())
    }

    /// The finished plan.
    pub fn plan(self, op: &'static str, label: String, work: Work) -> Plan {
        Plan {
            op,
            label,
            steps: self.steps,
            scratch: self.scratch,
            tables: self.tables,
            work,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(scratch: &[u64], table: u32) -> Plan {
        let mut builder = Builder::default();
        for bytes in scratch {
            builder.add_scratch(*bytes);
        }
        builder.add_table(vec![table]);
        builder.plan("part", String::new(), Work::default())
    }

    #[test]
    fn plans_in_turn_share_temporaries_and_equal_tables() {
        let mut builder = Builder::default();
        let own = builder.add_scratch(64);
        for sizes in [&[16, 32][..], &[48], &[16, 16, 80]] {
            builder.append(part(sizes, 7), &[], &[]).unwrap();
        }
        assert_eq!(own, Slot::Scratch(0));
        assert_eq!(builder.scratch, [64, 48, 32, 80]);
        assert_eq!(builder.part(|part| part.add_scratch(8)), Slot::Scratch(1));
        assert_eq!(builder.add_scratch(8), Slot::Scratch(1));
        assert_eq!(builder.part(|part| part.add_scratch(8)), Slot::Scratch(2));
        assert_eq!(builder.tables, [[7]]);
        builder.append(part(&[], 8), &[], &[]).unwrap();
        assert_eq!(builder.tables, [[7], [8]]);
    }
}
