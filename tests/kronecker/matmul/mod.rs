//! Products with Kronecker operators.

mod gradients;
mod matrices;
mod properties;
mod refusals;
mod shapes;

use subquad::{
    case::Numbers,
    gpu::Caps,
    kronecker::{
        Factor, Operator, Side, cpu,
        matmul::{Kind, Options, Shape, plan},
    },
};

use crate::{
    device::gpu,
    devices::{devices, devices_for},
};

/// A product and its numbers.
#[derive(Clone)]
pub struct Call {
    pub operator: Operator,
    pub shape: Shape,
    pub options: Options,
    pub factors: Vec<Vec<f32>>,
    pub x: Vec<f32>,
    /// What z holds before.
    pub z: Vec<f32>,
}

fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

impl Call {
    /// Random numbers for these sizes; z holds NaN.
    pub fn new(name: &str, operator: Operator, shape: Shape) -> Call {
        let mut numbers = Numbers::of(name);
        let mut all = |len: usize, scale: f64| -> Vec<f32> {
            (0..len)
                .map(|_| (scale * numbers.signed()) as f32)
                .collect()
        };
        let factors = operator.stored().map(|factor| {
            let [p, q] = factor.sides();
            let long = if shape.side == Side::Right { p } else { q };
            let scale = match factor.kind {
                Kind::Dense => (3.0 / long as f64).sqrt(),
                _ => 1.0,
            };
            all(factor.len(shape.batch), scale)
        });
        let factors = factors.collect();
        Call {
            x: all(shape.x_len(&operator), 1.0),
            z: vec![f32::NAN; shape.z_len(&operator)],
            options: Options::default(),
            factors,
            operator,
            shape,
        }
    }

    /// Dense factors of these sides, for so many rows.
    pub fn dense(name: &str, sides: &[[usize; 2]], rows: usize) -> Call {
        let factors = sides.iter().map(|[p, q]| Factor::dense(*p, *q));
        Call::new(name, Operator::new(factors), Shape::rows(rows))
    }

    pub fn run(&self, caps: &Caps) -> Vec<f32> {
        let plan = plan(&self.operator, &self.shape, &self.options, caps).unwrap();
        let factors: Vec<_> = self
            .factors
            .iter()
            .map(|f| gpu().upload(f).unwrap())
            .collect();
        let x = gpu().upload(&self.x).unwrap();
        let mut z = gpu().upload(&self.z).unwrap();
        let inputs: Vec<_> = std::iter::once(x.view())
            .chain(factors.iter().map(|factor| factor.view()))
            .collect();
        let mut pass = gpu().pass("test");
        pass.run(&plan, &inputs, &mut [z.view_mut()]).unwrap();
        pass.submit().unwrap();
        z.download().unwrap()
    }

    fn by_reference(&self, value: impl Fn(f64) -> f64, options: &Options) -> Vec<f64> {
        let all = |values: &[f32]| f64s(values).into_iter().map(&value).collect::<Vec<f64>>();
        let factors: Vec<Vec<f64>> = self.factors.iter().map(|f| all(f)).collect();
        let factors: Vec<&[f64]> = factors.iter().map(Vec::as_slice).collect();
        let (x, z) = (all(&self.x), all(&self.z));
        cpu::matmul(&self.operator, &self.shape, options, &factors, &x, &z).unwrap()
    }

    pub fn reference(&self) -> Vec<f64> {
        self.by_reference(|x| x, &self.options)
    }

    /// The sums of the absolute values of the terms.
    pub fn magnitude(&self) -> Vec<f64> {
        let Options { alpha, beta } = self.options;
        let sizes = Options {
            alpha: alpha.abs(),
            beta: beta.abs(),
        };
        self.by_reference(f64::abs, &sizes)
    }

    /// Products that are summed for an element, over all factors.
    pub fn lengths(&self) -> f64 {
        let each = self.operator.stored().map(|factor| {
            let [p, q] = factor.sides();
            match (factor.kind, self.shape.side) {
                (Kind::Dense, Side::Right) => p,
                (Kind::Dense, Side::Left) => q,
                _ => 1,
            }
        });
        each.sum::<usize>().max(1) as f64
    }

    /// Asserts the bound of every element.
    pub fn holds(&self, got: &[f32], name: &str) {
        let bound = 2f64.powi(-23) * self.lengths().sqrt();
        let all = got.iter().zip(self.reference()).zip(self.magnitude());
        for (n, ((got, value), magnitude)) in all.enumerate() {
            if value.is_nan() && got.is_nan() {
                continue;
            }
            let error = (f64::from(*got) - value).abs();
            let allowed = bound * magnitude + f64::from(f32::MIN_POSITIVE);
            assert!(error <= allowed, "{name}, element {n}: {got} for {value}");
        }
    }

    /// On the kinds of devices.
    pub fn check(&self, name: &str) {
        for caps in devices_for(name) {
            self.holds(&self.run(&caps), &format!("{name} on {:?}", caps.class));
        }
    }
}
