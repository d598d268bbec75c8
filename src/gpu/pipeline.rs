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
    /// The pipeline of a kernel, compiling it if this is the first request.
    pub fn get(&self, gpu: &Gpu, kernel: &Arc<Kernel>, checked: bool) -> Result<Arc<Pipeline>> {
        let cell = {
            let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            map.entry((kernel.clone(), checked)).or_default().clone()
        };
        cell.get_or_init(|| compile(gpu, kernel, checked).map(Arc::new))
            .clone()
    }

    /// Compiles those of a plan's kernels that are not compiled yet, each in a thread of its own while there are any.
    pub fn prepare<'a>(
        &self,
        gpu: &Gpu,
        kernels: impl Iterator<Item = &'a Arc<Kernel>>,
        checked: bool,
    ) -> Result<()> {
        let mut missing: Vec<&Arc<Kernel>> = Vec::new();
        {
            let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for kernel in kernels {
                let compiled = map
                    .get(&(kernel.clone(), checked))
                    .is_some_and(|cell| cell.get().is_some());
                if !compiled && !missing.contains(&kernel) {
                    missing.push(kernel);
                }
            }
        }
        if missing.len() > 1 {
            missing
                .par_iter()
                .try_for_each(|kernel| self.get(gpu, kernel, checked).map(drop))?;
        }
        Ok(())
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
