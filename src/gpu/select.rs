//! Choosing an adapter and reading what it can do.

use std::{path::PathBuf, time::Duration};

use super::{Caps, Class, Coop, DEFAULT_SCRATCH_BYTES, caps::LLVMPIPE_LOOP_ITERATIONS};
use crate::{Error, Result, choice::Profile};

/// Which adapter to open, and how to treat it.
#[derive(Clone, Debug)]
pub struct Select {
    /// Graphics APIs to consider.
    pub backends: wgpu::Backends,
    /// Part of the adapter's name, in any case.
    pub adapter_name: Option<String>,
    /// Whether software adapters are considered when they were not named.
    pub software: bool,
    /// The longest any call waits for the device.
    pub timeout: Duration,
    /// Budget for temporaries in bytes.
    pub scratch_bytes: u64,
    /// Whether kernels are compiled with bounds checks.
    pub checked: bool,
    /// A folder of compiled pipelines, one file for each adapter and driver, read when a device is opened and written by
    /// [`Gpu::save_pipelines`](super::Gpu::save_pipelines). Only Vulkan has such a cache; a file that is damaged or of another
    /// driver is ignored. Whoever can write the folder can feed the driver: keep it private.
    pub pipeline_cache: Option<PathBuf>,
    /// A profile that `subquad tune` wrote on this adapter: planners follow it instead of their tables.
    pub profile: Option<PathBuf>,
}

impl Default for Select {
    fn default() -> Select {
        Select {
            backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
            adapter_name: None,
            software: true,
            timeout: Duration::from_secs(30),
            scratch_bytes: DEFAULT_SCRATCH_BYTES,
            checked: false,
            pipeline_cache: None,
            profile: None,
        }
    }
}

impl Select {
    /// The default, changed by `WGPU_BACKEND`, `WGPU_ADAPTER_NAME`, `SUBQUAD_CHECKED=1` and the folder
    /// `SUBQUAD_PIPELINE_CACHE` and the file `SUBQUAD_PROFILE`.
    pub fn from_env() -> Select {
        let mut select = Select::default();
        if let Some(backends) = wgpu::Backends::from_env() {
            select.backends = backends;
        }
        select.adapter_name = std::env::var("WGPU_ADAPTER_NAME")
            .ok()
            .filter(|name| !name.is_empty());
        select.checked = std::env::var("SUBQUAD_CHECKED").is_ok_and(|value| value == "1");
        let path = |name: &str| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        select.pipeline_cache = path("SUBQUAD_PIPELINE_CACHE");
        select.profile = path("SUBQUAD_PROFILE");
        select
    }

    fn words(&self) -> String {
        match &self.adapter_name {
            Some(name) => format!("the name \"{name}\" on {:?}", self.backends),
            None => format!(
                "the backends {:?}{}",
                self.backends,
                if self.software {
                    ""
                } else {
                    " without software adapters"
                }
            ),
        }
    }
}

/// An adapter as `subquad info` lists it.
#[derive(Clone, Debug)]
pub struct AdapterReport {
    /// What it can do.
    pub caps: Caps,
    /// Why it cannot be used, if it cannot.
    pub refused: Option<String>,
}

/// Every adapter of the machine, the one that [`Gpu::open`](super::Gpu::open) prefers first.
pub fn adapters(select: &Select) -> Vec<AdapterReport> {
    sorted(select)
        .iter()
        .map(|adapter| {
            let caps = adapter_caps(adapter, select);
            let refused = usable(&caps, adapter.features())
                .err()
                .map(|error| error.to_string());
            AdapterReport { caps, refused }
        })
        .collect()
}

/// The adapter that a selection means.
pub(super) fn pick(select: &Select) -> Result<wgpu::Adapter> {
    let mut found = Vec::new();
    for adapter in sorted(select) {
        let caps = adapter_caps(&adapter, select);
        let reason = match &select.adapter_name {
            Some(name) if !caps.name.to_lowercase().contains(&name.to_lowercase()) => {
                Some("has another name".to_owned())
            }
            None if !select.software && caps.class == Class::Cpu => Some("is software".to_owned()),
            _ => usable(&caps, adapter.features())
                .err()
                .map(|error| error.to_string()),
        };
        match reason {
            None => return Ok(adapter),
            Some(reason) => found.push(format!("\"{}\" ({}) {reason}", caps.name, caps.backend)),
        }
    }
    let found = if found.is_empty() {
        "this machine has none: install a Vulkan driver such as mesa-vulkan-drivers".to_owned()
    } else {
        found.join("; ")
    };
    Err(Error::NoAdapter {
        wanted: select.words(),
        found,
    })
}

fn sorted(select: &Select) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle().with_env();
    descriptor.backends = select.backends;
    descriptor.memory_budget_thresholds = wgpu::MemoryBudgetThresholds {
        for_resource_creation: Some(90),
        for_device_loss: None,
    };
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = pollster::block_on(instance.enumerate_adapters(select.backends));
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

/// Features that some kernel or measurement here uses; an adapter is asked for those it has.
pub(super) fn wanted_features() -> wgpu::Features {
    wgpu::Features::IMMEDIATES
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SUBGROUP
        | wgpu::Features::SHADER_INT64
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::PIPELINE_CACHE
        | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
}

/// Refuses devices on which no kernel would run.
pub(super) fn usable(caps: &Caps, features: wgpu::Features) -> Result<()> {
    let missing = |what: &str| {
        Err(Error::Unsupported {
            op: "this crate",
            what: format!("a device without {what}"),
        })
    };
    if !features.contains(wgpu::Features::IMMEDIATES) {
        return missing("the feature IMMEDIATES; request it when making the device");
    }
    if caps.immediate_bytes < 128 {
        return missing(
            "128 bytes of immediates; request `max_immediate_size` when making the device",
        );
    }
    if caps.storage_buffers < 8 || caps.invocations < 256 || caps.workgroup_bytes < 16 << 10 {
        return missing("WebGPU's default compute limits");
    }
    Ok(())
}

/// Before any device: matrix units as the adapter lists them, whether they work or not.
fn adapter_caps(adapter: &wgpu::Adapter, select: &Select) -> Caps {
    let caps = read(
        &adapter.get_info(),
        adapter.features() & wanted_features(),
        &adapter.limits(),
        Some(adapter),
        select.scratch_bytes,
    );
    Caps {
        matrices: caps.listed_matrices(),
        ..caps
    }
}

/// The capabilities of an open device.
pub(super) fn caps(
    device: &wgpu::Device,
    adapter: Option<&wgpu::Adapter>,
    scratch_bytes: u64,
) -> Caps {
    read(
        &device.adapter_info(),
        device.features(),
        &device.limits(),
        adapter,
        scratch_bytes,
    )
}

fn read(
    info: &wgpu::AdapterInfo,
    features: wgpu::Features,
    limits: &wgpu::Limits,
    adapter: Option<&wgpu::Adapter>,
    scratch_bytes: u64,
) -> Caps {
    let class = match (info.device_type, info.vendor & 0xffff) {
        (wgpu::DeviceType::Cpu, _) => Class::Cpu,
        (_, 0x10de) => Class::Nvidia,
        (_, 0x1002) => Class::Amd,
        (_, 0x8086) => Class::Intel,
        (_, 0x106b) => Class::Apple,
        _ if info.backend == wgpu::Backend::Metal => Class::Apple,
        _ => Class::Other,
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let (fill, gflops) = match (class, info.device_type) {
        (Class::Cpu, _) => (cores, 8.0 * f64::from(cores)),
        (_, wgpu::DeviceType::DiscreteGpu) => (256, 1000.0),
        (_, wgpu::DeviceType::IntegratedGpu) => (64, 200.0),
        _ => (64, 50.0),
    };
    let flags = adapter.map_or(wgpu::DownlevelFlags::all(), |adapter| {
        adapter.get_downlevel_capabilities().flags
    });
    let coop = adapter
        .filter(|_| features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX))
        .map(wgpu::Adapter::cooperative_matrix_properties)
        .unwrap_or_default();
    Caps {
        name: info.name.clone(),
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_owned(),
        class,
        f16: features.contains(wgpu::Features::SHADER_F16),
        half: flags.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32),
        subgroup: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some((info.subgroup_min_size, info.subgroup_max_size)),
        words64: features.contains(wgpu::Features::SHADER_INT64),
        coop: coop
            .iter()
            .map(|p| Coop {
                mnk: [p.m_size, p.n_size, p.k_size],
                ab: format!("{:?}", p.ab_type),
                c: format!("{:?}", p.cr_type),
            })
            .collect(),
        matrices: None,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        invocations: limits
            .max_compute_invocations_per_workgroup
            .min(limits.max_compute_workgroup_size_x),
        groups_per_dim: limits.max_compute_workgroups_per_dimension,
        binding_bytes: limits.max_storage_buffer_binding_size & !3,
        buffer_bytes: limits.max_buffer_size,
        offset_align: limits.min_storage_buffer_offset_alignment,
        immediate_bytes: limits.max_immediate_size,
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        scratch_bytes,
        fill,
        loop_iterations: if class == Class::Cpu {
            LLVMPIPE_LOOP_ITERATIONS
        } else {
            u64::MAX
        },
        gflops,
        profile: Profile::default(),
    }
}
