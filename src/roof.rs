//! Measured bounds on every kernel: how fast a device copies memory, how fast it multiplies and adds, and how fast it counts bits.
//!
//! They are plans like any other, so they are timed exactly as the operators are.

use std::sync::Arc;

use bytemuck::bytes_of;

use crate::{
    Error, Result,
    gpu::{Caps, Class, Field, Kernel, Needs, Part, Spec, params, part},
    plan::{Bind, Plan, Slot, Step, Work},
};

params! {
    /// Parameters of `copy`.
    CopyParams {
        vectors: u32,
    }
}

params! {
    /// Parameters of `fma`.
    FmaParams {
        factor: f32,
        addend: f32,
        groups: u32,
    }
}

params! {
    /// Parameters of `popcount`.
    PopcountParams {
        key: u32,
        groups: u32,
    }
}

/// Invocations of a workgroup of `fma` and of `popcount`.
const LANES: u64 = 64;

/// Rounds of 16 times 12 accumulators.
const ROUNDS: u32 = 256;

/// Multiply-adds, or counts of a word's bits, of one workgroup.
const GROUP_STEPS: f64 = (LANES * ROUNDS as u64 * 16 * 12) as f64;

/// Copies this many bytes of input 0 to output 0; a multiple of 16, at least 16. Both count as traffic.
///
/// # Errors
/// `Argument` for another number of bytes, `Limit` when it exceeds a binding.
pub fn copy(bytes: u64, caps: &Caps) -> Result<Plan> {
    if bytes == 0 || !bytes.is_multiple_of(16) {
        return Err(Error::Argument {
            op: "copy",
            what: "bytes".into(),
            expected: "a positive multiple of 16".into(),
            got: bytes.to_string(),
        });
    }
    // A software adapter pays for each workgroup it starts, a GPU wants many loads under way.
    let copies = if caps.class == Class::Cpu { 16 } else { 4 };
    let kernel = Kernel {
        name: "roof/copy",
        parts: vec![part!("roof/copy.wgsl"), part!("common/grid.wgsl")],
        spec: Spec::default().with("COPIES", copies),
        needs: Needs::default(),
        params: CopyParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: 0,
    };
    let params = CopyParams {
        // Larger copies than u32 counts do not fit a binding of any device.
        vectors: (bytes / 16) as u32,
    };
    let bind = |slot, write| Bind {
        slot,
        bytes: 0..bytes,
        write,
    };
    let step = Step {
        kernel: Arc::new(kernel),
        bind: vec![bind(Slot::Input(0), false), bind(Slot::Output(0), true)],
        params: bytes_of(&params).to_vec(),
        groups: (bytes / 16).div_ceil(256 * u64::from(copies)),
        predicted_ms: 0.0,
    };
    let work = Work {
        bytes: 2.0 * bytes as f64,
        ..Work::default()
    };
    finish("copy", step, work, caps)
}

/// Multiplies and adds in registers for about 100 ms at the device's presumed rate, which is a cautious one; writes
/// [`register_len`] words to output 0.
///
/// # Errors
/// None on a device with WebGPU's limits.
pub fn fma(caps: &Caps) -> Result<Plan> {
    // The accumulators tend to 1: no overflow, no subnormal numbers.
    let params = FmaParams {
        factor: 0.75,
        addend: 0.25,
        groups: register_groups(caps) as u32,
    };
    let work = Work {
        flops: 2.0 * register_groups(caps) as f64 * GROUP_STEPS,
        ..Work::default()
    };
    let kernel = in_registers("roof/fma", part!("roof/fma.wgsl"), FmaParams::FIELDS);
    register_plan("fma", kernel, bytes_of(&params), work, caps)
}

/// Counts the bits of words in registers, as often as [`fma`] multiplies and adds; writes [`register_len`] words to output 0.
///
/// # Errors
/// None on a device with WebGPU's limits.
pub fn popcount(caps: &Caps) -> Result<Plan> {
    let params = PopcountParams {
        key: 0x9e37_79b9,
        groups: register_groups(caps) as u32,
    };
    let work = Work {
        popcounts: register_groups(caps) as f64 * GROUP_STEPS,
        ..Work::default()
    };
    let kernel = in_registers(
        "roof/popcount",
        part!("roof/popcount.wgsl"),
        PopcountParams::FIELDS,
    );
    register_plan("popcount", kernel, bytes_of(&params), work, caps)
}

fn in_registers(name: &'static str, own: Part, params: &'static [Field]) -> Kernel {
    Kernel {
        name,
        parts: vec![own, part!("common/grid.wgsl")],
        spec: Spec::default().with("ROUNDS", ROUNDS),
        needs: Needs::default(),
        params,
        workgroup: [LANES as u32, 1, 1],
        workgroup_bytes: 0,
    }
}

fn register_plan(
    op: &'static str,
    kernel: Kernel,
    params: &[u8],
    work: Work,
    caps: &Caps,
) -> Result<Plan> {
    let step = Step {
        kernel: Arc::new(kernel),
        bind: vec![Bind {
            slot: Slot::Output(0),
            bytes: 0..4 * register_len(caps) as u64,
            write: true,
        }],
        params: params.to_vec(),
        groups: register_groups(caps),
        predicted_ms: 2.0 * register_groups(caps) as f64 * GROUP_STEPS / (caps.gflops * 1e6),
    };
    finish(op, step, work, caps)
}

/// Words that [`fma`] and [`popcount`] write.
pub fn register_len(caps: &Caps) -> usize {
    (register_groups(caps) * LANES) as usize
}

fn register_groups(caps: &Caps) -> u64 {
    let groups = (caps.gflops * 1e8 / (2.0 * GROUP_STEPS)) as u64;
    groups.clamp(8 * u64::from(caps.fill), 1 << 20)
}

fn finish(op: &'static str, step: Step, work: Work, caps: &Caps) -> Result<Plan> {
    let plan = Plan {
        op,
        label: op.into(),
        steps: vec![step],
        scratch: Vec::new(),
        tables: Vec::new(),
        work,
    };
    plan.check(caps)?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roofs_fit_every_preset() {
        for caps in Caps::presets() {
            let plan = copy(64 << 20, &caps).unwrap();
            assert_eq!(plan.work.bytes, (128u64 << 20) as f64);
            let plan = fma(&caps).unwrap();
            assert!(plan.work.flops >= 16.0 * f64::from(caps.fill) * GROUP_STEPS);
            let counts = popcount(&caps).unwrap().work.popcounts;
            assert_eq!(2.0 * counts, plan.work.flops);
        }
        assert!(copy(20, &Caps::nvidia()).is_err());
        assert!(copy(256 << 20, &Caps::webgpu_floor()).is_err());
    }
}
