//! Where no polynomial is near enough: exact attention, over two key sets.

use super::{
    Gradients, Inputs,
    poly::Options,
    shape::{Mask, OP, Shape},
};
use crate::{
    Error, Result,
    gpu::{Elem, Gpu, Tensor},
    kronecker::tensor_attention as exact,
};

/// The call in the exact form's words.
fn asked<'a, T: Elem>(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'a, T>,
) -> Result<(exact::Shape, exact::Options, exact::Inputs<'a, T>)> {
    let (&[first, second], &[k1, k2], &[v1, v2]) = (&shape.keys[..], inputs.k, inputs.v) else {
        return Err(Error::Unsupported {
            op: OP,
            what: "exact attention over other than two key sets".into(),
        });
    };
    let window = [0, 1].map(|set| shape.window(&options.mask, set));
    let own = exact::Shape {
        batch: shape.batch,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        queries: shape.queries,
        keys: [first, second],
        width: shape.key,
        value: shape.value,
        dtype: shape.dtype,
    };
    let how = exact::Options {
        causal: options.mask != Mask::Full,
        window,
        ..exact::Options::new(options.scale)
    };
    let q = inputs.q;
    Ok((own, how, exact::Inputs { q, k1, k2, v1, v2 }))
}

/// Exact outputs.
pub(super) fn forward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    o: &mut Tensor<T>,
) -> Result<()> {
    let (own, how, read) = asked(shape, options, inputs)?;
    exact::forward(gpu, &own, &how, &read, exact::Outputs { o, lse: None })
}

/// Exact gradients, with the outputs computed anew.
pub(super) fn backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    grad_o: &Tensor<T>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let (own, how, read) = asked(shape, options, inputs)?;
    let mut o = gpu.zeros::<T>(shape.query_rows() * shape.value)?;
    let mut lse = gpu.zeros::<f32>(shape.query_rows())?;
    let outputs = exact::Outputs {
        o: &mut o,
        lse: Some(&mut lse),
    };
    exact::forward(gpu, &own, &how, &read, outputs)?;
    let upstream = exact::Upstream {
        o: &o,
        lse: &lse,
        grad_o,
    };
    let (mut k, mut v) = (gradients.k.into_iter(), gradients.v.into_iter());
    let into = exact::Gradients {
        q: Some(gradients.q),
        k1: k.next(),
        k2: k.next(),
        v1: v.next(),
        v2: v.next(),
    };
    exact::backward(gpu, &own, &how, &read, &upstream, into)
}
