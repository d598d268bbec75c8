//! Reads q, k and v of a real attention layer from a safetensors file and runs lightning attention on them in f16.
use std::error::Error;

use half::f16;
use safetensors::SafeTensors;
use subquad::{
    Gpu, Select,
    gpu::Dtype,
    linear::{self, Inputs, Layout, Options, Outputs, Shape, slopes_opennlplab},
};

fn main() -> Result<(), Box<dyn Error>> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/data/attention_layer.safetensors"
    );
    let bytes = std::fs::read(std::env::args().nth(1).unwrap_or(path.into()))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let &[heads, tokens, width] = file.tensor("q")?.shape() else {
        return Err("q must be [heads, tokens, width]".into());
    };

    let gpu = Gpu::open(&Select::from_env())?;
    let load = |name| -> Result<_, Box<dyn Error>> {
        let halves = file
            .tensor(name)?
            .data()
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes([b[0], b[1]]))
            .collect::<Vec<_>>();
        Ok(gpu.upload(&halves)?)
    };
    let (q, k, v) = (load("q")?, load("k")?, load("v")?);
    let log_decay = gpu.upload(
        &slopes_opennlplab(heads, 2, 6)?
            .iter()
            .map(|slope| -slope)
            .collect::<Vec<_>>(),
    )?;

    let shape = Shape {
        batch: 1,
        tokens,
        heads,
        kv_heads: heads,
        key: width,
        value: width,
        layout: Layout::Bhtd,
        dtype: Dtype::F16,
    };
    let mut o = gpu.zeros::<f16>(shape.output_len())?;
    let inputs = Inputs {
        log_decay: Some(&log_decay),
        ..Inputs::new(&q, &k, &v)
    };
    linear::forward(
        &gpu,
        &shape,
        &Options::lightning(),
        &inputs,
        Outputs::new(&mut o),
    )?;
    println!(
        "{heads} heads, {tokens} tokens on {}; head 0, last token: {:?}",
        gpu.caps().name,
        &o.download()?[(tokens - 1) * width..][..4]
    );
    Ok(())
}
