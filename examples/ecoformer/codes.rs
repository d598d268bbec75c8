//! Codes of the layer's tokens, and attention between them, on the device.
use subquad::{
    Gpu,
    case::Failure,
    gpu::Dtype,
    hamming::{
        ecoformer::{self, Inputs},
        ecoformer_attention, kernel_hash,
        kernel_hash::Sigma,
        ksh_fit::{Fit, Options},
    },
};

use crate::{Layer, TOKENS};

/// Codes by what was learnt.
pub fn hashed(gpu: &Gpu, layer: &Layer, options: &Options, fit: &Fit) -> Result<Vec<u32>, Failure> {
    let shape = fit.hash_shape(&layer.shape(), options, Dtype::F32);
    let x = gpu.upload(&layer.x)?;
    let anchors = gpu.upload(&fit.anchors)?;
    let mean = gpu.upload(&fit.mean)?;
    let weight = gpu.upload(&fit.weight)?;
    let inputs = kernel_hash::Inputs {
        x: &x,
        anchors: &anchors,
        mean: &mean,
        weight: &weight,
    };
    let mut words = gpu.zeros(shape.words_len())?;
    let outputs = kernel_hash::Outputs {
        words: &mut words,
        projection: None,
    };
    kernel_hash(gpu, &shape, Sigma::SequenceMean, &inputs, outputs)?;
    Ok(words.download()?)
}

/// Signs of products with random vectors, up to 32 bits.
pub fn hyperplanes(layer: &Layer, bits: usize, mut seed: u64) -> Vec<u32> {
    let width = 2 * layer.width;
    let mut signed = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    // Sums of twelve even numbers are close to normal.
    let vectors: Vec<f32> = (0..layer.heads * bits * width)
        .map(|_| (0..12).map(|_| signed()).sum())
        .collect();
    let rows = layer.x.chunks(width).enumerate();
    rows.map(|(row, x)| {
        let planes = vectors
            .chunks(bits * width)
            .nth(row / TOKENS)
            .unwrap_or(&[]);
        let planes = planes.chunks(width).enumerate();
        planes.fold(0u32, |code, (bit, plane)| {
            let product: f32 = plane.iter().zip(x).map(|(a, b)| a * b).sum();
            code | u32::from(product > 0.0) << bit
        })
    })
    .collect()
}

/// Outputs of attention between the first bits of codes.
pub fn attend(gpu: &Gpu, layer: &Layer, codes: &[u32], bits: usize) -> Result<Vec<f64>, Failure> {
    let shape = ecoformer::Shape {
        batch: 1,
        heads: layer.heads,
        tokens: TOKENS,
        value: layer.width,
        bits,
        dtype: Dtype::F32,
    };
    let (codes, v) = (gpu.upload(codes)?, gpu.upload(&layer.v)?);
    let inputs = Inputs {
        codes: &codes,
        v: &v,
    };
    let mut o = gpu.zeros::<f32>(shape.value_len())?;
    let options = ecoformer::Options::new(bits);
    ecoformer_attention(gpu, &shape, &options, &inputs, &mut o)?;
    Ok(o.download()?.into_iter().map(f64::from).collect())
}
