//! `lit_attention`, and `depthwise_conv2d` which is a part of it, as the program, the tests and the benches see them.
//!
//! Tensors: q, k, v (of the convolution: x), the kernels `weight [kernels, lines, columns]` and, if wanted, `bias [kernels]`.
//! Parameters: `lines` and `columns` of the tokens' grid, `layout`, `channels` (`of_head`, `each` or `heads` share a kernel) and,
//! of LiT, `eps`.

mod made;

use super::{Lit, OP as NAME, plan, plan_backward};
use crate::{
    Error,
    case::{Array, Case, Failure, Op, Output, Problem, Reference},
    gpu::{Caps, Dtype},
    linear::{Channels, Conv2d, Layout, conv2d, cpu},
    plan::Plan,
};

/// LiT's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind: |case| bind(case, true),
    builtin: made::builtin,
    benches: made::benches,
};

/// That of the convolution by itself.
pub(crate) const CONV2D: Op = Op {
    name: conv2d::OP,
    bind: |case| bind(case, false),
    builtin: made::conv2d_builtin,
    benches: made::conv2d_benches,
};

/// Bound on the relative errors of the gradients of kernels and biases.
const WEIGHTS_RATIO: f64 = 2e-5;

const CHANNELS: [(&str, Channels); 3] = [
    ("of_head", Channels::OfHead),
    ("each", Channels::Each),
    ("heads", Channels::Heads),
];

/// A convolution, or the attention that one is added to.
struct Convolved {
    conv: Conv2d,
    /// With the queries and the keys.
    lit: Option<(Lit, [Array; 2])>,
    values: Array,
    weight: Array,
    bias: Option<Array>,
    /// The gradient handed to o.
    grad: Option<Array>,
}

fn bind(case: &Case, attends: bool) -> Result<Box<dyn Problem>, Failure> {
    let layout = case.choice("layout", &[("bthd", Layout::Bthd), ("bhtd", Layout::Bhtd)])?;
    let words = match layout {
        Layout::Bthd => "[batch, tokens, heads, width]",
        Layout::Bhtd => "[batch, heads, tokens, width]",
    };
    let name = if attends { "v" } else { "x" };
    let values = case.input(name)?;
    let dtype = values.dtype;
    let [batch, a, b, value] = case.axes(name, words)?;
    let (tokens, heads) = match layout {
        Layout::Bthd => (a, b),
        Layout::Bhtd => (b, a),
    };
    let side = |name: &str| case.needed(name, case.count(name)?);
    let [given, lines, columns] = case.axes("weight", "[kernels, lines, columns]")?;
    let conv = Conv2d {
        batch,
        grid: [side("lines")?, side("columns")?],
        heads,
        value,
        layout,
        dtype,
        kernel: [lines, columns],
        channels: case.choice("channels", &CHANNELS)?,
    };
    conv.check(if attends { NAME } else { conv2d::OP })?;
    if conv.tokens() != tokens {
        return Err(case.wrong(format!(
            "parameters lines and columns must make the {tokens} tokens of {name}, got {} x {}",
            conv.grid[0], conv.grid[1]
        )));
    }

    let lit = if attends {
        let [.., key] = case.axes::<4>("q", words)?;
        let eps = case.needed("eps", case.number("eps")?)? as f32;
        let lit = Lit { key, conv, eps };
        lit.check()?;
        let shape = axes(&conv, key);
        let [q, k] = ["q", "k"].map(|name| case.shaped(name, dtype, &shape).cloned());
        Some((lit, [q?, k?]))
    } else {
        None
    };
    let kernels = conv.kernels();
    if given != kernels {
        return Err(case.wrong(format!(
            "tensor weight must have {kernels} kernels with this parameter channels, got {given}"
        )));
    }
    let weight = case.shaped("weight", Dtype::F32, &[kernels, lines, columns])?;
    let bias = match case.inputs.contains_key("bias") {
        true => Some(case.shaped("bias", Dtype::F32, &[kernels])?.clone()),
        false => None,
    };
    let grad = case.grad_outputs.get("o");
    if let Some(other) = grad.filter(|grad| grad.shape != axes(&conv, value)) {
        return Err(case.wrong(format!(
            "tensor grad_out.o must have the shape of {name}, got {other:?}"
        )));
    }
    Ok(Box::new(Convolved {
        conv,
        lit,
        values: values.clone(),
        weight: weight.clone(),
        bias,
        grad: grad.map(|grad| Array::rounded(dtype, &grad.shape, &grad.values())),
    }))
}

/// The axes of a tensor over tokens, in the layout.
fn axes(conv: &Conv2d, width: usize) -> Vec<usize> {
    match conv.layout {
        Layout::Bthd => vec![conv.batch, conv.tokens(), conv.heads, width],
        Layout::Bhtd => vec![conv.batch, conv.heads, conv.tokens(), width],
    }
}

impl Convolved {
    /// The inputs by name, in the order of the plans'.
    fn sources(&self) -> impl Iterator<Item = (&'static str, &Array)> {
        let attended = self
            .lit
            .iter()
            .flat_map(|(_, qk)| ["q", "k"].into_iter().zip(qk));
        let values = if self.lit.is_some() { "v" } else { "x" };
        attended
            .chain([(values, &self.values), ("weight", &self.weight)])
            .chain(self.bias.iter().map(|bias| ("bias", bias)))
    }

    /// Bounds on the relative errors of o, and of gradients that are stored like it.
    fn bounds(&self) -> [f64; 2] {
        match (self.conv.dtype, self.lit.is_some()) {
            (Dtype::F16, true) => [1e-3; 2],
            (Dtype::F16, false) => [5e-4; 2],
            (Dtype::Bf16, _) => [4e-3; 2],
            (_, true) => [5e-6, 2e-5],
            (_, false) => [2e-6; 2],
        }
    }
}

fn output(name: &'static str, like: &Array, ratio: f64) -> Output {
    Output {
        name,
        dtype: like.dtype,
        shape: like.shape.clone(),
        ratio,
        per_magnitude: 0.0,
        per_value: 0.0,
    }
}

fn reference(values: Vec<f64>) -> Reference {
    Reference {
        values,
        magnitude: Vec::new(),
    }
}

impl Problem for Convolved {
    fn inputs(&self) -> Vec<&Array> {
        self.sources().map(|(_, array)| array).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let [ratio, _] = self.bounds();
        vec![output("o", &self.values, ratio)]
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let plan = match &self.lit {
            Some((lit, _)) => plan(lit, self.bias.is_some(), caps)?,
            None => conv2d::plan(&self.conv, self.bias.is_some(), false, caps)?,
        };
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let [values, weight] = [&self.values, &self.weight].map(Array::values);
        let bias = self.bias.as_ref().map(Array::values);
        let o = match &self.lit {
            Some((lit, qk)) => {
                let [q, k] = qk.each_ref().map(Array::values);
                cpu::lit(lit, [&q, &k, &values], &weight, bias.as_deref())?
            }
            None => cpu::depthwise_conv2d(&self.conv, &values, &weight, bias.as_deref())?,
        };
        Ok(vec![reference(o)])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let conv = &self.conv;
        let key = self.lit.as_ref().map(|(lit, _)| ("k", lit.key));
        let sizes = [
            ("b", conv.batch),
            ("h", conv.heads),
            ("t", conv.tokens()),
            ("v", conv.value),
        ];
        sizes.into_iter().chain(key).collect()
    }

    fn adjoint(&self) -> Option<Box<dyn Problem + '_>> {
        let grad = self.grad.as_ref()?;
        Some(Box::new(Adjoint { of: self, grad }))
    }
}

/// The gradients of the inputs, of their names.
struct Adjoint<'a> {
    of: &'a Convolved,
    grad: &'a Array,
}

impl Problem for Adjoint<'_> {
    fn inputs(&self) -> Vec<&Array> {
        // No gradient depends on the bias.
        let inputs = self.of.sources().filter(|(name, _)| *name != "bias");
        let inputs = inputs.map(|(_, array)| array);
        inputs.chain([self.grad]).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let [_, ratio] = self.of.bounds();
        let outputs = self.of.sources().map(|(name, array)| match name {
            "weight" | "bias" => output(name, array, WEIGHTS_RATIO),
            _ => output(name, array, ratio),
        });
        outputs.collect()
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let Convolved { conv, bias, .. } = self.of;
        let plan = match &self.of.lit {
            Some((lit, _)) => plan_backward(lit, bias.is_some(), caps)?,
            None => conv2d::plan_adjoint(conv, bias.is_some(), false, caps)?,
        };
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let Convolved {
            conv,
            values,
            weight,
            ..
        } = self.of;
        let [values, weight, grad] = [values, weight, self.grad].map(Array::values);
        let gradients = match &self.of.lit {
            Some((lit, qk)) => {
                let [q, k] = qk.each_ref().map(Array::values);
                let found = cpu::lit_backward(lit, [&q, &k, &values], &weight, &grad)?;
                vec![found.q, found.k, found.v, found.weight, found.bias]
            }
            None => {
                let found = cpu::depthwise_conv2d_adjoint(conv, &values, &weight, &grad)?;
                vec![found.x, found.weight, found.bias]
            }
        };
        // The last is that of the bias, whether or not there is one.
        let wanted = gradients.into_iter().zip(self.of.sources());
        Ok(wanted.map(|(values, _)| reference(values)).collect())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        self.of.sizes()
    }
}
