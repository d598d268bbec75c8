//! Two measured bounds on every kernel: how fast a device copies memory and how fast it multiplies and adds.
//!
//! Both are plans like any other, so they are timed exactly as the operators are.

use std::sync::Arc;

use bytemuck::bytes_of;

use crate::{
    Error, Result,
    gpu::{Caps, Class, Kernel, Needs, Spec, params, part},
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

/// Invocations of a workgroup of `fma`.
const FMA_LANES: u64 = 64;

/// Rounds of 16 multiply-adds on 12 accumulators.
const FMA_ROUNDS: u32 = 256;

/// Operations of one workgroup of `fma`.
const FMA_GROUP_FLOPS: f64 = (FMA_LANES * FMA_ROUNDS as u64 * 16 * 12 * 2) as f64;

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
/// [`fma_len`] words to output 0.
///
/// # Errors
/// None on a device with WebGPU's limits.
pub fn fma(caps: &Caps) -> Result<Plan> {
    let groups = fma_groups(caps);
    let kernel = Kernel {
        name: "roof/fma",
        parts: vec![part!("roof/fma.wgsl"), part!("common/grid.wgsl")],
        spec: Spec::default().with("ROUNDS", FMA_ROUNDS),
        needs: Needs::default(),
        params: FmaParams::FIELDS,
        workgroup: [FMA_LANES as u32, 1, 1],
        workgroup_bytes: 0,
    };
    // The accumulators tend to 1: no overflow, no subnormal numbers.
    let params = FmaParams {
        factor: 0.75,
        addend: 0.25,
        groups: groups as u32,
    };
    let flops = groups as f64 * FMA_GROUP_FLOPS;
    let step = Step {
        kernel: Arc::new(kernel),
        bind: vec![Bind {
            slot: Slot::Output(0),
            bytes: 0..4 * fma_len(caps) as u64,
            write: true,
        }],
        params: bytes_of(&params).to_vec(),
        groups,
        predicted_ms: flops / (caps.gflops * 1e6),
    };
    let work = Work {
        flops,
        ..Work::default()
    };
    finish("fma", step, work, caps)
}

/// Words that [`fma`] writes.
pub fn fma_len(caps: &Caps) -> usize {
    (fma_groups(caps) * FMA_LANES) as usize
}

fn fma_groups(caps: &Caps) -> u64 {
    let groups = (caps.gflops * 1e8 / FMA_GROUP_FLOPS) as u64;
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
            assert!(plan.work.flops >= 8.0 * f64::from(caps.fill) * FMA_GROUP_FLOPS);
        }
        assert!(copy(20, &Caps::nvidia()).is_err());
        assert!(copy(256 << 20, &Caps::webgpu_floor()).is_err());
    }
}
