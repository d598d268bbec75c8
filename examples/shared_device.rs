//! Uses a wgpu device that your program opened, and buffers it made.
use subquad::{
    Error, Gpu, Result,
    gpu::Dtype,
    linear::{self, Inputs, Layout, Options, Outputs, Shape},
    wgpu,
};

fn main() -> Result<()> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let wanted = wgpu::RequestAdapterOptions::default();
    let adapter = pollster::block_on(instance.request_adapter(&wanted)).map_err(|error| {
        Error::NoAdapter {
            wanted: "the default".into(),
            found: error.to_string(),
        }
    })?;
    // Ask for what the kernels need, plus whatever you need yourself.
    let (device, queue) = pollster::block_on(
        adapter.request_device(&Gpu::device_request(&adapter)),
    )
    .map_err(|error| Error::Device {
        adapter: adapter.get_info().name,
        message: error.to_string(),
    })?;
    let gpu = Gpu::from_wgpu(&device, &queue, Some(&adapter))?;

    // Your buffer as a tensor, without a copy.
    let shape = Shape {
        batch: 1,
        tokens: 64,
        heads: 2,
        kv_heads: 2,
        key: 16,
        value: 16,
        layout: Layout::Bhtd,
        dtype: Dtype::F32,
    };
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("mine"),
        size: 4 * shape.key_len() as u64,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    queue.write_buffer(
        &buffer,
        0,
        bytemuck::cast_slice(&vec![0.25f32; shape.key_len()]),
    );
    let x = gpu.wrap::<f32>(buffer, 0, shape.key_len())?;
    let mut o = gpu.zeros(shape.output_len())?;
    linear::forward(
        &gpu,
        &shape,
        &Options::plain(),
        &Inputs::new(&x, &x, &x),
        Outputs::new(&mut o),
    )?;
    println!("on {}: {:?}", gpu.caps().name, &o.download()?[..2]);
    Ok(())
}
