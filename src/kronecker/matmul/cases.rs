//! `kron_matmul` as the program, the tests and the benches see it.

mod made;

use serde_json::Value;

use super::{
    Factor, Kind, OP, Operator, Options, Shape, Side, Strides, grad_x_len, plan, plan_gradients,
    shape,
};
use crate::{
    Error,
    case::{Array, Case, Failure, Op, Output, Problem, Reference, each_choice},
    gpu::{Caps, Dtype},
    kronecker::cpu,
    plan::{Builder, Plan, Slot, Work},
};

/// The operator's entry in the table.
pub(crate) const ENTRY: Op = Op {
    name: OP,
    bind,
    builtin: made::builtin,
    benches: made::benches,
};

struct Kron {
    operator: Operator,
    shape: Shape,
    options: Options,
    factors: Vec<Array>,
    x: Array,
    z: Option<Array>,
    /// Shape of the tensor z, gaps between rows included.
    axes: Vec<usize>,
    /// The gradient handed to y.
    grad: Option<Array>,
}

/// Names of the gradients of factors, of which a case may ask for so many.
const GRADS: [&str; 8] = [
    "grad.f0", "grad.f1", "grad.f2", "grad.f3", "grad.f4", "grad.f5", "grad.f6", "grad.f7",
];

/// The tensors f0, f1, …: matrices, diagonals of one axis, with a batch in front where x has one and they have more axes; and
/// `identity`, pairs of a place and a size.
fn operator(case: &Case, batch: Option<usize>) -> Result<(Operator, Vec<Array>), Failure> {
    let mut identities = Vec::new();
    if let Some(pairs) = case.params.get("identity").filter(|pairs| !pairs.is_null()) {
        identities = serde_json::from_value::<Vec<[usize; 2]>>(pairs.clone()).map_err(|_| {
            case.wrong(format!(
                "parameter identity must be pairs of place and size, got {pairs}"
            ))
        })?;
    }
    let (mut factors, mut arrays) = (Vec::new(), Vec::new());
    loop {
        let n = factors.len();
        if let Some([_, size]) = identities.iter().find(|[place, _]| *place == n) {
            factors.push(Factor::identity(*size));
            continue;
        }
        let Some(array) = case.inputs.get(&format!("f{n}")) else {
            break;
        };
        let (axes, own) = match (batch, array.shape.as_slice()) {
            (Some(batch), [first, axes @ ..])
                if axes.len() == 2 || (axes.len() == 1 && *first == batch && diagonal(case, n)) =>
            {
                (axes, *first == batch)
            }
            (_, axes) => (axes, false),
        };
        let factor = match axes {
            [rows, columns] => Factor::dense(*rows, *columns),
            [n] => Factor::diagonal(*n),
            _ => {
                let words = "a matrix or a diagonal, of one batch or of all";
                return Err(case.wrong(format!("tensor f{n} must be {words}, got {array:?}")));
            }
        };
        case.shaped(&format!("f{n}"), Dtype::F32, &array.shape)?;
        factors.push(if own { factor.per_batch() } else { factor });
        arrays.push(array.clone());
    }
    if let Some(name) = case.inputs.keys().find(|name| {
        let n = name.strip_prefix('f').and_then(|n| n.parse::<usize>().ok());
        n.is_some_and(|n| n >= factors.len())
    }) {
        return Err(case.wrong(format!(
            "tensor {name} must follow f{}, which is missing",
            factors.len()
        )));
    }
    let flags: Vec<bool> = match case.params.get("transpose") {
        None | Some(Value::Null) => vec![false; factors.len()],
        Some(Value::Bool(all)) => vec![*all; factors.len()],
        Some(list) => serde_json::from_value(list.clone()).unwrap_or_default(),
    };
    if flags.len() != factors.len() {
        return Err(case.wrong(format!(
            "parameter transpose must be true, false or {} of them",
            factors.len()
        )));
    }
    let flagged = factors.iter().zip(flags);
    let flagged = flagged.map(|(factor, flag)| if flag { factor.transpose() } else { *factor });
    Ok((Operator::new(flagged), arrays))
}

/// Whether a factor of two axes is the diagonals of every batch.
fn diagonal(case: &Case, n: usize) -> bool {
    let places = case.params.get("diagonal").and_then(Value::as_array);
    places.is_some_and(|places| places.iter().any(|place| place.as_u64() == Some(n as u64)))
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let x = case.input("x")?;
    let (batch, axes) = match x.shape.as_slice() {
        [rows, columns] => (None, [*rows, *columns]),
        [batch, rows, columns] => (Some(*batch), [*rows, *columns]),
        _ => {
            let words = "[rows, P] or [batch, rows, P], with side left the transpose";
            return Err(case.wrong(format!("tensor x must be {words}, got {x:?}")));
        }
    };
    let (operator, factors) = operator(case, batch)?;
    let side = case.choice("side", &[("right", Side::Right), ("left", Side::Left)])?;
    let gap = case.count("gap")?.unwrap_or(0);
    let wide = axes[1].checked_sub(gap).ok_or_else(|| {
        case.wrong(format!(
            "parameter gap must be at most {}, the last axis of x",
            axes[1]
        ))
    })?;
    let (rows, width, across) = match side {
        Side::Right => (axes[0], wide, operator.rows()),
        Side::Left => (wide, axes[0], operator.columns()),
    };
    if width != across {
        return Err(case.wrong(format!(
            "tensor x must have {across} items to a row for these factors, got {width}"
        )));
    }
    let mut shape = Shape {
        batch: batch.unwrap_or(1),
        side,
        dtype: x.dtype,
        ..Shape::rows(rows)
    };
    let lines = match side {
        Side::Right => [rows, operator.columns() + gap],
        Side::Left => [operator.rows(), rows + gap],
    };
    if gap > 0 {
        let apart = |[lines, row]: [usize; 2]| {
            Some(Strides {
                row,
                batch: lines * row,
            })
        };
        (shape.x, shape.z) = (apart(axes), apart(lines));
    }
    let options = Options {
        alpha: case.number("alpha")?.unwrap_or(1.0) as f32,
        beta: case.number("beta")?.unwrap_or(0.0) as f32,
    };
    shape::check(&operator, &shape, &options)?;
    let axes: Vec<usize> = batch.into_iter().chain(lines).collect();
    let z = if gap > 0 || options.beta != 0.0 {
        Some(case.shaped("z", x.dtype, &axes)?.clone())
    } else {
        None
    };
    let grad = case.grad_outputs.get("y").cloned();
    if let Some(grad) = &grad {
        if grad.dtype != x.dtype || grad.shape != axes {
            return Err(case.wrong(format!("tensor grad_out.y must be as y, got {grad:?}")));
        }
        if factors.len() > GRADS.len() {
            let what = format!("gradients of {} factors in a case", factors.len());
            return Err(case.unavailable(what, ", at most 8 are"));
        }
    }
    Ok(Box::new(Kron {
        grad,
        operator,
        shape,
        options,
        factors,
        x: x.clone(),
        z,
        axes,
    }))
}

impl Kron {
    /// Products that are summed for an element of y, over all factors.
    fn lengths(&self) -> usize {
        let contracted = self.operator.factors.iter().map(|factor| {
            let [p, q] = factor.sides();
            match (factor.kind, self.shape.side) {
                (Kind::Dense, Side::Right) => p,
                (Kind::Dense, Side::Left) => q,
                _ => 1,
            }
        });
        contracted.sum::<usize>().max(1)
    }

    /// Gradients of x and of the factors, in that order.
    fn grads(
        &self,
        grad: &Array,
        value: impl Fn(f64) -> f64,
        alpha: f32,
    ) -> Result<Vec<Vec<f64>>, Error> {
        let all = |array: &Array| array.values().into_iter().map(&value).collect::<Vec<f64>>();
        let factors: Vec<Vec<f64>> = self.factors.iter().map(all).collect();
        let factors: Vec<&[f64]> = factors.iter().map(Vec::as_slice).collect();
        let options = Options {
            alpha,
            ..self.options
        };
        let (operator, shape) = (&self.operator, &self.shape);
        let found = cpu::matmul_gradients(
            operator,
            shape,
            &options,
            &factors,
            &all(&self.x),
            &all(grad),
        )?;
        Ok(std::iter::once(found.x).chain(found.factors).collect())
    }

    fn values(&self, value: impl Fn(f64) -> f64, options: &Options) -> Result<Vec<f64>, Error> {
        let all = |array: &Array| array.values().into_iter().map(&value).collect::<Vec<f64>>();
        let factors: Vec<Vec<f64>> = self.factors.iter().map(all).collect();
        let factors: Vec<&[f64]> = factors.iter().map(Vec::as_slice).collect();
        let z = self.z.as_ref().map(all).unwrap_or_default();
        let (operator, shape) = (&self.operator, &self.shape);
        cpu::matmul(operator, shape, options, &factors, &all(&self.x), &z)
    }

    /// The product, then its gradients where they are asked for.
    fn plan(&self, caps: &Caps) -> Result<Plan, Error> {
        let (operator, shape, options) = (&self.operator, &self.shape, &self.options);
        let forward = plan(operator, shape, options, caps)?;
        if self.grad.is_none() {
            return Ok(forward);
        }
        let backward = plan_gradients(operator, shape, options, caps)?;
        let label = format!("{}, with gradients", forward.label);
        let work = Work {
            flops: forward.work.flops + backward.work.flops,
            bytes: forward.work.bytes + backward.work.bytes,
            ..Work::default()
        };
        let mut builder = Builder::default();
        let count = self.factors.len() as u16;
        let factors: Vec<Slot> = (0..count).map(|n| Slot::Input(n + 2)).collect();
        let [x, grad] = [0, 1].map(Slot::Input);
        let forwards: Vec<Slot> = [x].into_iter().chain(factors.clone()).collect();
        let backwards: Vec<Slot> = [x, grad].into_iter().chain(factors).collect();
        let grads: Vec<Slot> = (0..=count).map(|n| Slot::Output(n + 1)).collect();
        builder.append(forward, &forwards, &[Slot::Output(0)])?;
        builder.append(backward, &backwards, &grads)?;
        let plan = builder.plan(OP, label, work);
        plan.check(caps)?;
        Ok(plan)
    }
}

impl Problem for Kron {
    fn inputs(&self) -> Vec<&Array> {
        let all = std::iter::once(&self.x).chain(&self.grad);
        all.chain(&self.factors).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let dtype = self.shape.dtype;
        let (ratio, per_value) = match dtype {
            Dtype::F16 => (1e-3, 2f64.powi(-11)),
            Dtype::Bf16 => (4e-3, 2f64.powi(-8)),
            _ => (2e-6, 0.0),
        };
        let mut outputs = vec![Output {
            name: "y",
            dtype,
            shape: self.axes.clone(),
            ratio,
            per_magnitude: 2f64.powi(-23) * (self.lengths() as f64).sqrt(),
            per_value,
        }];
        if self.grad.is_some() {
            // All products of a gradient: forwards, backwards, and over the rows.
            let [rows, columns] = [self.operator.rows(), self.operator.columns()];
            let all = self.shape.batch * self.shape.rows * rows.max(columns);
            let gradient = |name, dtype, shape, ratio, per_value| Output {
                name,
                dtype,
                shape,
                ratio,
                per_magnitude: 2f64.powi(-22) * ((2 * self.lengths() + all) as f64).sqrt(),
                per_value,
            };
            let x = vec![grad_x_len(&self.operator, &self.shape)];
            let x = if self.shape.x.is_some() {
                x
            } else {
                self.x.shape.clone()
            };
            outputs.push(gradient("grad.x", dtype, x, ratio.max(4e-6), per_value));
            let factors = GRADS.into_iter().zip(&self.factors);
            outputs.extend(
                factors.map(|(name, factor)| {
                    gradient(name, Dtype::F32, factor.shape.clone(), 4e-6, 0.0)
                }),
            );
        }
        outputs
    }

    fn prefill(&self, output: usize) -> Option<&Array> {
        self.z.as_ref().filter(|_| output == 0)
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        each_choice(OP, caps, all, |caps| self.plan(caps))
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let options = &self.options;
        let values = self.values(|x| x, options)?;
        let size = Options {
            alpha: options.alpha.abs(),
            beta: options.beta.abs(),
        };
        let magnitude = self.values(f64::abs, &size)?;
        let mut references = vec![Reference { values, magnitude }];
        if let Some(grad) = &self.grad {
            let values = self.grads(grad, |x| x, options.alpha)?;
            let magnitudes = self.grads(grad, f64::abs, options.alpha.abs())?;
            let each = values.into_iter().zip(magnitudes);
            references.extend(each.map(|(values, magnitude)| Reference { values, magnitude }));
        }
        Ok(references)
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("b", self.shape.batch),
            ("m", self.shape.rows),
            ("factors", self.operator.factors.len()),
            ("rows", self.operator.rows()),
            ("columns", self.operator.columns()),
        ]
    }
}
