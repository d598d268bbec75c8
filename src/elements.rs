//! Elements of tensors in the storage types: how kernels read and write them, and narrowing from f32 where a kernel cannot
//! write them itself.

use std::sync::Arc;

use bytemuck::bytes_of;

use crate::{
    gpu::{Caps, Dtype, Kernel, Needs, Part, Spec, params, part},
    plan::{ALIGN, Bind, Builder, STEP_MS, Slot, Step},
};

/// How a kernel reads and writes tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Storage type of the tensors.
    pub dtype: Dtype,
    /// Whether shaders have that type natively.
    pub native: bool,
    /// Whether every width is a multiple of four.
    pub vectors: bool,
}

impl Access {
    /// On a device, to rows of these widths.
    pub fn new(dtype: Dtype, widths: [usize; 2], caps: &Caps) -> Access {
        Access {
            dtype,
            native: dtype != Dtype::F16 || caps.f16,
            vectors: widths.iter().all(|width| width.is_multiple_of(4)),
        }
    }

    pub fn parts(self) -> [Part; 2] {
        let access = if self.vectors {
            part!("common/access_vec4.wgsl")
        } else {
            part!("common/access_scalar.wgsl")
        };
        [self.elem(), access]
    }

    fn elem(self) -> Part {
        match self.dtype {
            Dtype::F16 if self.native => part!("common/elem_f16.wgsl"),
            Dtype::F16 => part!("common/elem_half.wgsl"),
            Dtype::Bf16 => part!("common/elem_bf16.wgsl"),
            _ => part!("common/elem_f32.wgsl"),
        }
    }

    pub fn needs(self) -> Needs {
        Needs {
            f16: self.dtype == Dtype::F16 && self.native,
            half: self.dtype == Dtype::F16 && !self.native,
            ..Needs::default()
        }
    }
}

/// The element type of kernels that write whole words, which have no use for native 16-bit types.
pub(crate) fn by_words(dtype: Dtype) -> (Part, Needs) {
    let access = Access {
        dtype,
        native: false,
        vectors: false,
    };
    (access.elem(), access.needs())
}

params! {
    /// Parameters of `pack_output`.
    PackOutputParams {
        elements: u32,
    }
}

fn pack_output(dtype: Dtype) -> Arc<Kernel> {
    let (elem, needs) = by_words(dtype);
    Arc::new(Kernel {
        name: "common/pack_output",
        parts: vec![
            part!("common/pack_output.wgsl"),
            elem,
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default(),
        needs,
        params: PackOutputParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

/// Adds the steps that narrow f32 elements to a 16-bit type, dense in both.
pub(crate) fn pack_steps(
    builder: &mut Builder,
    caps: &Caps,
    dtype: Dtype,
    [from, into]: [Slot; 2],
    elements: u64,
) {
    // Six bytes an element, at a byte for every four operations a device can do.
    let milliseconds = |elements: u64| 24.0 * elements as f64 / (caps.gflops * 1e6);
    // Whole bindings of both tensors, at offsets that are aligned in both.
    let mut most = (caps.binding_bytes / 4 / ALIGN * ALIGN).max(ALIGN);
    while milliseconds(most) > STEP_MS && most > ALIGN {
        most = (most / 2).next_multiple_of(ALIGN);
    }
    for first in (0..elements).step_by(most as usize) {
        let count = most.min(elements - first);
        let wide = Bind {
            slot: from,
            bytes: 4 * first..4 * (first + count),
            write: false,
        };
        let packed = Bind {
            slot: into,
            bytes: 2 * first..(2 * (first + count)).next_multiple_of(4),
            write: true,
        };
        let params = PackOutputParams {
            elements: count as u32,
        };
        builder.steps.push(Step {
            kernel: pack_output(dtype),
            bind: vec![wide, packed],
            params: bytes_of(&params).to_vec(),
            groups: count.div_ceil(2).div_ceil(64),
            predicted_ms: milliseconds(count),
        });
    }
}
