//! Compiled kernels, each compiled once per device whatever the number of threads that ask.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rayon::prelude::*;

use super::{Caps, Disk, Gpu, Kernel, reflect};
use crate::{Error, Result};

/// A compiled kernel.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub compute: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    pub bindings: Vec<(u32, bool)>,
}

type Cell = Arc<OnceLock<Result<Arc<Pipeline>>>>;

/// The pipelines of one device, by kernel and by whether run-time checks are compiled in.
#[derive(Debug, Default)]
pub(super) struct Pipelines(Mutex<HashMap<(Arc<Kernel>, bool), Cell>>);

impl Pipelines {
    /// The pipelines of some kernels, in their order. Those not compiled yet are compiled, each in a thread of its own while there
    /// are any.
    pub fn get<'a>(
        &self,
        gpu: &Gpu,
        kernels: impl Iterator<Item = &'a Arc<Kernel>>,
        checked: bool,
    ) -> Result<Vec<Arc<Pipeline>>> {
        let cells: Vec<(&Arc<Kernel>, Cell)> = {
            let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut cell =
                |kernel: &Arc<Kernel>| map.entry((kernel.clone(), checked)).or_default().clone();
            kernels.map(|kernel| (kernel, cell(kernel))).collect()
        };
        let pipeline = |(kernel, cell): &(&Arc<Kernel>, Cell)| {
            cell.get_or_init(|| compile(gpu, kernel, checked).map(Arc::new))
                .clone()
        };
        let mut missing: Vec<&(&Arc<Kernel>, Cell)> = Vec::new();
        for own in cells.iter().filter(|(_, cell)| cell.get().is_none()) {
            if missing.iter().all(|other| !Arc::ptr_eq(&other.1, &own.1)) {
                missing.push(own);
            }
        }
        if missing.len() > 1 {
            missing
                .par_iter()
                .try_for_each(|own| pipeline(own).map(drop))?;
        }
        cells.iter().map(pipeline).collect()
    }

    /// How many kernels were compiled.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn compile(gpu: &Gpu, kernel: &Kernel, checked: bool) -> Result<Pipeline> {
    let caps: &Caps = gpu.caps();
    if !caps.supports(&kernel.needs) {
        return Err(Error::Unsupported {
            op: "this device",
            what: format!("kernel {}", kernel.label()),
        });
    }
    let reflection = reflect(kernel)?;
    let label = kernel.label();
    let device = gpu.device();
    let entries: Vec<_> = reflection
        .bindings
        .iter()
        .map(|(binding, write)| wgpu::BindGroupLayoutEntry {
            binding: *binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: !write },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(&label),
        source: wgpu::ShaderSource::Wgsl(reflection.source.as_str().into()),
    };
    let built = gpu.scoped(|| {
        let module = if checked {
            device.create_shader_module(descriptor)
        } else {
            // SAFETY: the kernels are this crate's own. Tests run every variant with all checks compiled in and compare
            // results and guard bands, every loop has a bound known to the planner, and no divisor is zero.
            unsafe {
                device.create_shader_module_trusted(
                    descriptor,
                    wgpu::ShaderRuntimeChecks::unchecked(),
                )
            }
        };
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&label),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: reflection.immediate_bytes,
        });
        let compute = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            // Kernels write every word of workgroup memory before they read it.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: gpu.0.disk.as_ref().map(Disk::cache),
        });
        (compute, layout)
    });
    match built {
        Ok((compute, layout)) => Ok(Pipeline {
            compute,
            layout,
            bindings: reflection.bindings,
        }),
        Err(Error::Gpu { message }) => Err(Error::Shader {
            kernel: label,
            message,
        }),
        Err(error) => Err(error),
    }
}
