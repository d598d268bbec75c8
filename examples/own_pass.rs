//! Records the operator into a compute pass between dispatches of your own; the result never leaves the device.
use subquad::{
    Gpu, Result, Select,
    gpu::Dtype,
    linear::{self, Inputs, Layout, Options, Outputs, Shape},
    wgpu,
};

const DOUBLE: &str = "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
    if (id.x < arrayLength(&x)) { x[id.x] *= 2.0; }
}";

fn main() -> Result<()> {
    let gpu = Gpu::open(&Select::from_env())?;
    let shape = Shape {
        batch: 1,
        tokens: 256,
        heads: 4,
        kv_heads: 4,
        key: 32,
        value: 32,
        layout: Layout::Bthd,
        dtype: Dtype::F32,
    };
    let x = gpu.upload(&vec![0.1f32; shape.key_len()])?;
    let mut o = gpu.zeros::<f32>(shape.output_len())?;

    // Our operator, recorded but not submitted.
    let mut pass = gpu.pass("attention");
    let inputs = Inputs::new(&x, &x, &x);
    linear::record(
        &mut pass,
        &shape,
        &Options::plain(),
        &inputs,
        Outputs::new(&mut o),
    )?;

    // Your kernel, before and after it: on its input, then on its output.
    let device = gpu.device();
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(DOUBLE.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let bind = |buffer: &wgpu::Buffer| {
        let entry = wgpu::BindGroupEntry {
            binding: 0,
            resource: buffer.as_entire_binding(),
        };
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[entry],
        })
    };
    let (before, after) = (bind(x.buffer().0), bind(o.buffer().0));
    let groups = (shape.value_len() as u32).div_ceil(64);
    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut compute = encoder.begin_compute_pass(&Default::default());
        compute.set_pipeline(&pipeline);
        compute.set_bind_group(0, &before, &[]);
        compute.dispatch_workgroups(groups, 1, 1);
        pass.encode(&mut compute);
        compute.set_pipeline(&pipeline);
        compute.set_bind_group(0, &after, &[]);
        compute.dispatch_workgroups(groups, 1, 1);
    }
    gpu.queue().submit([encoder.finish()]);

    // Token t: q.k = 32 * 0.2 * 0.2, summed over t + 1 equal tokens, times v = 0.2, doubled.
    println!(
        "last token: {:.4}, exact {:.4}",
        o.download()?[shape.value_len() - 1],
        256.0 * 1.28 * 0.2 * 2.0
    );
    Ok(())
}
