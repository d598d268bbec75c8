//! From a case's tensors and parameters to a call.

use super::{LinearAttention, axes_of};
use crate::{
    case::{Array, Case, Failure, Problem},
    gpu::Dtype,
    linear::{Decay, FeatureMap, Layout, Options, Shape, plan, shape::sequences},
};

pub(super) fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let number = |name: &str| Ok::<_, Failure>(case.needed(name, case.number(name)?)? as f32);
    let layout = case.choice("layout", &[("bthd", Layout::Bthd), ("bhtd", Layout::Bhtd)])?;
    let scale = number("scale")?;
    let normalize = match case.flag("normalize", false)? {
        true => Some(number("eps")?),
        false => None,
    };
    let nu = u32::try_from(case.count("nu")?.unwrap_or(1)).unwrap_or(u32::MAX);
    let name = case.text("feature_map", "identity")?;
    let known = FeatureMap::all(nu);
    let feature_map = *known.iter().find(|map| map.name() == name).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|map| map.name()).collect();
        let known = format!(", known are: {}", names.join(", "));
        case.unavailable(format!("feature map {name} of linear_attention"), &known)
    })?;

    let (q, k, v) = (
        with_batch(case.input("q")?, 4),
        with_batch(case.input("k")?, 4),
        with_batch(case.input("v")?, 4),
    );
    let dims = |array: &Array| match (layout, array.shape.as_slice()) {
        (Layout::Bthd, &[b, t, h, w]) | (Layout::Bhtd, &[b, h, t, w]) => Some([b, t, h, w]),
        _ => None,
    };
    let axes = match layout {
        Layout::Bthd => "[batch, tokens, heads, width]",
        Layout::Bhtd => "[batch, heads, tokens, width]",
    };
    let Some([batch, tokens, heads, key]) = dims(&q) else {
        return Err(case.wrong(format!("tensor q must be {axes}, got {:?}", q.shape)));
    };
    let kv_heads = match dims(&k) {
        Some([b, t, kv_heads, width]) if [b, t, width] == [batch, tokens, key] => kv_heads,
        _ => {
            return Err(case.wrong(format!(
                "tensor k must have the shape of q, {:?}, but for the heads, got {:?}",
                q.shape, k.shape
            )));
        }
    };
    let value = match dims(&v) {
        Some([b, t, h, value]) if [b, t, h] == [batch, tokens, kv_heads] => value,
        _ => {
            return Err(case.wrong(format!(
                "tensor v must be {axes} with the sizes of k but the last, got {:?}",
                v.shape
            )));
        }
    };
    if k.dtype != q.dtype || v.dtype != q.dtype {
        return Err(case.wrong(format!(
            "tensors q, k and v must have one type, got {:?}, {:?} and {:?}",
            q, k, v
        )));
    }
    let shape = Shape {
        batch,
        tokens,
        heads,
        kv_heads,
        key,
        value,
        layout,
        dtype: q.dtype,
    };

    let given = match (case.params.get("log_decay"), case.inputs.get("log_decay")) {
        (Some(list), _) => {
            let numbers: Option<Vec<f32>> = list
                .as_array()
                .and_then(|list| list.iter().map(|x| Some(x.as_f64()? as f32)).collect());
            let numbers = numbers
                .ok_or_else(|| case.wrong("parameter log_decay must be a list of numbers"))?;
            Some(Array::f32(&[numbers.len()], &numbers))
        }
        (None, tensor) => tensor.cloned(),
    };
    let decay = match case
        .text("decay", if given.is_some() { "head" } else { "none" })?
        .as_str()
    {
        "none" => Decay::None,
        "head" => Decay::Head,
        "token" => Decay::Token,
        "channel" => Decay::Channel,
        other => {
            return Err(case.wrong(format!(
                "parameter decay must be none, head, token or channel, got \"{other}\""
            )));
        }
    };
    let options = Options {
        decay,
        delta: case.inputs.contains_key("beta"),
        causal: case.flag("causal", true)?,
        normalize,
        feature_map,
        scale,
        ..Options::plain()
    };
    shape.check(plan::OP)?;
    options.check(plan::OP)?;

    let cu_seqlens = case.inputs.get("cu_seqlens").map(|bounds| {
        let numbers: Option<Vec<u32>> = bounds
            .values()
            .into_iter()
            .map(|n| (n >= 0.0 && n.fract() == 0.0).then_some(n as u32))
            .collect();
        numbers
            .filter(|_| matches!(bounds.dtype, Dtype::I32 | Dtype::U32))
            .ok_or_else(|| case.wrong("tensor cu_seqlens must be i32 or u32, from 0 to the tokens"))
    });
    let cu_seqlens = cu_seqlens.transpose()?;
    let sequences = sequences(&shape, plan::OP, cu_seqlens.as_deref())?.len();

    // Tensors beside q, k and v are f32, of one shape.
    let f32s = |name: &str, array: Array, expected: &[usize]| {
        if array.dtype == Dtype::F32 && array.shape == expected {
            return Ok(array);
        }
        Err(case.wrong(format!(
            "tensor {name} must be f32 {expected:?}, got {array:?}"
        )))
    };
    let optional = |name: &str, expected: &[usize]| {
        let array = case.inputs.get(name);
        let array = array.map(|array| with_batch(array, expected.len()));
        array.map(|array| f32s(name, array, expected)).transpose()
    };
    let features = options.feature_width(&shape);
    let per_token = axes_of(&shape, kv_heads, &[]);
    let mut inputs = vec![q, k, v];
    let expected = match decay {
        Decay::None => None,
        Decay::Head => Some((vec![kv_heads], "a number per head")),
        Decay::Token => Some((per_token.clone(), "a number per token and head")),
        Decay::Channel => Some((
            axes_of(&shape, kv_heads, &[features]),
            "a number per token, head and channel",
        )),
    };
    if let Some((expected, what)) = expected {
        let log_decay = given.ok_or_else(|| {
            let decay = case.text("decay", "head").unwrap_or_default();
            case.wrong(format!(
                "decay {decay} needs a tensor or parameter log_decay with {what}"
            ))
        })?;
        let log_decay = with_batch(&log_decay, expected.len());
        let log_decay = f32s("log_decay", log_decay, &expected)?;
        if let Some(positive) = log_decay
            .values()
            .into_iter()
            .find(|g| g.is_nan() || *g > 0.0)
        {
            return Err(case.wrong(format!("log_decay must be at most 0, got {positive}")));
        }
        inputs.push(log_decay);
    }
    let initial_state = match case.inputs.get("initial_state") {
        Some(state) => {
            let expected = [sequences, kv_heads, features, value];
            Some(f32s("initial_state", state.clone(), &expected)?)
        }
        None => None,
    };
    let sums = [sequences, kv_heads, features];
    let initial_z = match case.inputs.get("initial_z") {
        Some(_) if normalize.is_none() => {
            return Err(case.wrong("tensor initial_z needs the parameter normalize"));
        }
        Some(z) => Some(f32s("initial_z", z.clone(), &sums)?),
        None => None,
    };
    let step = case.flag("step", false)?;
    // A step updates z in place, wherever it starts.
    let zeros = || Array::f32(&sums, &vec![0.0; sums.iter().product()]);
    let initial_z = initial_z.or_else(|| (step && normalize.is_some()).then(zeros));
    if step && initial_state.is_none() {
        return Err(case.wrong("a step needs the tensor initial_state"));
    }
    let grad_outputs = if case.grad_outputs.is_empty() {
        None
    } else {
        let sizes = [
            ("o", axes_of(&shape, heads, &[value])),
            ("final_state", vec![sequences, kv_heads, features, value]),
        ];
        let gradient = |(name, expected): &(&str, Vec<usize>)| {
            let Some(array) = case.grad_outputs.get(*name) else {
                return Ok(None);
            };
            let array = with_batch(array, 4);
            if array.shape == *expected {
                return Ok(Some(array));
            }
            Err(case.wrong(format!(
                "tensor grad_out.{name} must be {expected:?}, got {array:?}"
            )))
        };
        let [o, final_state] = &sizes;
        Some([gradient(o)?, gradient(final_state)?])
    };
    // Weights of the map, shared or a set for each head.
    let weights = |name: &str, width: &[usize]| {
        let Some(array) = case
            .inputs
            .get(name)
            .filter(|_| feature_map.weight_len(key).is_some())
        else {
            return Ok(None);
        };
        let own: Vec<usize> = [&[heads], width].concat();
        let shared = array.shape == width || heads != kv_heads;
        f32s(name, array.clone(), if shared { width } else { &own }).map(Some)
    };
    if feature_map.weight_len(key).is_some() {
        case.input("fm_weight")?;
    }
    let widths = vec![key; 1 + usize::from(feature_map.projects())];
    let fm_weight = weights("fm_weight", &widths)?;
    Ok(Box::new(LinearAttention {
        beta: optional("beta", &per_token)?,
        fm_bias: weights("fm_bias", &[key])?,
        fm_weight,
        shape,
        options,
        step,
        inputs,
        initial_state,
        initial_z,
        cu_seqlens,
        sequences,
        grad_outputs,
    }))
}

/// A tensor that lacks one axis has a batch of one.
fn with_batch(array: &Array, axes: usize) -> Array {
    let mut array = array.clone();
    if array.shape.len() + 1 == axes && axes > 1 {
        array.shape.insert(0, 1);
    }
    array
}
