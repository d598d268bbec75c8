//! What a device can do, as plain data.

use super::Needs;
use crate::choice::{Choice, Profile};

/// Families of devices that want different plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// NVIDIA GPUs.
    Nvidia,
    /// AMD GPUs.
    Amd,
    /// Intel GPUs.
    Intel,
    /// Apple GPUs.
    Apple,
    /// Software adapters such as llvmpipe and WARP.
    Cpu,
    /// Everything else.
    Other,
}

impl Class {
    /// The class's lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Class::Nvidia => "nvidia",
            Class::Amd => "amd",
            Class::Intel => "intel",
            Class::Apple => "apple",
            Class::Cpu => "cpu",
            Class::Other => "other",
        }
    }
}

/// One shape of matrix product that the device's matrix units take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coop {
    /// Rows of A, columns of B, columns of A.
    pub mnk: [u32; 3],
    /// Element type of A and B.
    pub ab: String,
    /// Element type of the accumulator.
    pub c: String,
}

/// Matrix units that kernels may use: products of squares of f16 with sums in f32, by the invocations of a subgroup together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrices {
    /// Rows and columns of a square: 16 or 8.
    pub side: u32,
    /// Invocations of a subgroup.
    pub lanes: u32,
    /// Whether there are such units; else plain arithmetic stands in for them, which is for tests.
    pub native: bool,
}

/// Capabilities and limits of a device: everything a planner may ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Caps {
    /// Adapter name.
    pub name: String,
    /// Graphics API.
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// Device class.
    pub class: Class,
    /// Native 16-bit floats in shaders.
    pub f16: bool,
    /// `unpack2x16float` and its inverse.
    pub half: bool,
    /// Smallest and largest subgroup, where subgroup operations exist.
    pub subgroup: Option<(u32, u32)>,
    /// 64-bit integers in shaders.
    pub words64: bool,
    /// Matrix products in hardware, as the adapter lists them.
    pub coop: Vec<Coop>,
    /// The matrix units that kernels use: those of the list that passed a test when the device was opened.
    pub matrices: Option<Matrices>,
    /// Workgroup memory.
    pub workgroup_bytes: u32,
    /// Invocations per workgroup.
    pub invocations: u32,
    /// Workgroups per grid dimension.
    pub groups_per_dim: u32,
    /// Largest binding.
    pub binding_bytes: u64,
    /// Largest buffer.
    pub buffer_bytes: u64,
    /// Alignment of binding offsets.
    pub offset_align: u32,
    /// Bytes of immediate parameters.
    pub immediate_bytes: u32,
    /// Storage buffers per kernel.
    pub storage_buffers: u32,
    /// Timestamps at the ends of a pass.
    pub timestamps: bool,
    /// The caller's budget for temporaries.
    pub scratch_bytes: u64,
    /// Workgroups that keep the whole device busy.
    pub fill: u32,
    /// Loop iterations an invocation may run, all its loops together. llvmpipe ends loops silently after 65,535.
    pub loop_iterations: u64,
    /// A cautious guess of the f32 rate, from which planners bound the time of one dispatch.
    pub gflops: f64,
    /// Choices measured on this device, in place of the tables'.
    pub profile: Profile,
}

/// Temporaries a device may hold unless the caller says otherwise.
pub const DEFAULT_SCRATCH_BYTES: u64 = 1 << 30;

/// Mesa's LP_MAX_TGSI_LOOP_ITERATIONS: a counter that all loops of an invocation share.
pub(super) const LLVMPIPE_LOOP_ITERATIONS: u64 = 65_535;

impl Caps {
    /// Whether a kernel with these needs compiles on the device.
    pub fn supports(&self, needs: &Needs) -> bool {
        (!needs.f16 || self.f16)
            && (!needs.half || self.half)
            && (!needs.subgroup || self.subgroup.is_some())
            && (!needs.words64 || self.words64)
            && (!needs.matrices || self.matrices.is_some_and(|units| units.native))
    }

    /// The matrix units, where a choice is for them.
    pub(crate) fn units(&self, choice: &Choice) -> Option<Matrices> {
        self.matrices.filter(|_| self.choose(choice) == 1)
    }

    /// Matrix units of the adapter's list that kernels here could use, if they work: the size of subgroups must be known.
    pub(super) fn listed_matrices(&self) -> Option<Matrices> {
        let lanes = match (self.class, self.subgroup?) {
            // The sizes that Metal is credited with mean nothing.
            (Class::Apple, _) => 32,
            (_, (least, most)) if least == most => most,
            _ => return None,
        };
        let side = [16, 8].into_iter().find(|side| {
            let fits = |coop: &&Coop| coop.mnk == [*side; 3] && coop.ab == "F16" && coop.c == "F32";
            self.coop.iter().any(|coop| fits(&coop))
        })?;
        let units = Matrices {
            side,
            lanes,
            native: true,
        };
        (self.f16 && lanes <= side * side).then_some(units)
    }

    /// With plain arithmetic in place of matrix units, where kernels for them can be tested so.
    #[cfg(feature = "cli")]
    pub(crate) fn with_plain_matrices(&self, side: u32) -> Option<Caps> {
        let lanes = self
            .subgroup
            .filter(|(least, most)| self.f16 && least == most)?
            .1;
        let units = Matrices {
            side,
            lanes,
            native: false,
        };
        Some(Caps {
            matrices: Some(units),
            ..self.clone()
        })
    }

    /// With its matrix units, without any, and with what stands in for them in tests.
    #[cfg(feature = "cli")]
    pub(crate) fn each_matrices(&self) -> Vec<Caps> {
        let without = Caps {
            matrices: None,
            ..self.clone()
        };
        let own = self.matrices.map(|_| self.clone());
        let plain = [16, 8].map(|side| without.with_plain_matrices(side));
        (own.into_iter().chain([without.clone()]))
            .chain(plain.into_iter().flatten())
            .collect()
    }

    /// The least a conformant WebGPU device with immediates offers.
    pub fn webgpu_floor() -> Caps {
        Caps {
            name: "WebGPU floor".into(),
            backend: "invented".into(),
            driver: "none".into(),
            class: Class::Other,
            f16: false,
            half: true,
            subgroup: None,
            words64: false,
            coop: Vec::new(),
            matrices: None,
            workgroup_bytes: 16 << 10,
            invocations: 256,
            groups_per_dim: 65_535,
            binding_bytes: 128 << 20,
            buffer_bytes: 256 << 20,
            offset_align: 256,
            immediate_bytes: 128,
            storage_buffers: 8,
            timestamps: false,
            scratch_bytes: DEFAULT_SCRATCH_BYTES,
            fill: 64,
            loop_iterations: u64::MAX,
            gflops: 50.0,
            profile: Profile::default(),
        }
    }

    /// Mesa's software adapter on two cores.
    pub fn lavapipe() -> Caps {
        Caps {
            name: "lavapipe".into(),
            class: Class::Cpu,
            f16: true,
            subgroup: Some((8, 8)),
            words64: true,
            workgroup_bytes: 32 << 10,
            invocations: 1024,
            buffer_bytes: (1 << 31) - 1,
            storage_buffers: 32,
            timestamps: true,
            fill: 2,
            loop_iterations: LLVMPIPE_LOOP_ITERATIONS,
            gflops: 16.0,
            ..Caps::webgpu_floor()
        }
    }

    /// A discrete NVIDIA GPU under Vulkan.
    pub fn nvidia() -> Caps {
        let coop = Coop {
            mnk: [16, 16, 16],
            ab: "F16".into(),
            c: "F32".into(),
        };
        Caps {
            name: "NVIDIA".into(),
            class: Class::Nvidia,
            coop: vec![coop],
            subgroup: Some((32, 32)),
            workgroup_bytes: 48 << 10,
            ..discrete()
        }
    }

    /// A discrete AMD GPU under Vulkan.
    pub fn amd() -> Caps {
        let coop = Coop {
            mnk: [16, 16, 16],
            ab: "F16".into(),
            c: "F32".into(),
        };
        Caps {
            name: "AMD".into(),
            class: Class::Amd,
            coop: vec![coop],
            subgroup: Some((32, 64)),
            workgroup_bytes: 64 << 10,
            ..discrete()
        }
    }

    /// An Intel GPU under Vulkan.
    pub fn intel() -> Caps {
        Caps {
            name: "Intel".into(),
            class: Class::Intel,
            subgroup: Some((8, 32)),
            workgroup_bytes: 32 << 10,
            fill: 64,
            ..discrete()
        }
    }

    /// An Apple GPU under Metal.
    pub fn apple() -> Caps {
        let coop = Coop {
            mnk: [8, 8, 8],
            ab: "F16".into(),
            c: "F32".into(),
        };
        Caps {
            name: "Apple".into(),
            class: Class::Apple,
            coop: vec![coop],
            subgroup: Some((4, 64)),
            workgroup_bytes: 32 << 10,
            immediate_bytes: 4096,
            fill: 64,
            ..discrete()
        }
    }

    /// Every preset, for tests that hold on all devices.
    pub fn presets() -> Vec<Caps> {
        [
            Caps::webgpu_floor(),
            Caps::lavapipe(),
            Caps::nvidia(),
            Caps::amd(),
            Caps::intel(),
            Caps::apple(),
        ]
        .map(|caps| Caps {
            matrices: caps.listed_matrices(),
            ..caps
        })
        .into()
    }
}

fn discrete() -> Caps {
    Caps {
        f16: true,
        invocations: 1024,
        binding_bytes: (1 << 31) - 4,
        buffer_bytes: (1 << 31) - 1,
        timestamps: true,
        fill: 256,
        gflops: 1000.0,
        ..Caps::webgpu_floor()
    }
}
