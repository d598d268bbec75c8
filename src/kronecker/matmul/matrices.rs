//! Tests of `stage_matrices` alone, with plain arithmetic in place of matrix units: sums in f32, before a call rounds them to f16.

use std::sync::Arc;

use half::f16;

use super::{
    end::End,
    group::Group,
    order::Mode,
    plan::Entries,
    shape::{Kind, Options},
    steps::Pass,
};
use crate::{
    case::Numbers,
    effort::{by_turns, sample},
    gpu::{Caps, Dtype, Gpu, Kernel, Select},
    plan::{Builder, Slot, Step, Work},
};

/// z[l, j, r] = alpha sum_t x[l, t, r] F[t, j] + beta z[l, j, r]
#[derive(Clone)]
struct One {
    /// l, p, q and r.
    sides: [usize; 4],
    /// Whether F is stored as its transpose.
    turned: bool,
    options: Options,
    x: Vec<f32>,
    factor: Vec<f32>,
    z: Vec<f32>,
}

impl One {
    fn new(sides: [usize; 4], turned: bool) -> One {
        let [l, p, q, r] = sides;
        let mut numbers = Numbers::of(&format!("{sides:?}"));
        let mut all =
            |len: usize| -> Vec<f32> { (0..len).map(|_| numbers.signed() as f32).collect() };
        One {
            sides,
            turned,
            options: Options::default(),
            x: all(l * p * r),
            factor: all(p * q),
            z: all(l * q * r),
        }
    }

    /// Places in x, in F and in z.
    fn at(&self, [l, t, j, r]: [usize; 4]) -> [usize; 3] {
        let [_, p, q, after] = self.sides;
        let factor = if self.turned { j * p + t } else { t * q + j };
        [(l * p + t) * after + r, factor, (l * q + j) * after + r]
    }

    /// In f32, from x in a type.
    fn run(&self, gpu: &Gpu, caps: &Caps, dtype: Dtype) -> Vec<f32> {
        self.run_changed(gpu, caps, dtype, ["", ""])
    }

    /// With the first text in the kernel replaced by the second.
    fn run_changed(&self, gpu: &Gpu, caps: &Caps, dtype: Dtype, [old, new]: [&str; 2]) -> Vec<f32> {
        let [l, p, q, r] = self.sides;
        let x = End::dense(Slot::Input(0), 0, self.x.len() as u64);
        let [t_stride, j_stride] = if self.turned { [1, p] } else { [q, 1] };
        let pass = Pass {
            group: Group::single(Mode {
                kind: Kind::Dense,
                axis: 0,
                stored: 0,
                p,
                q,
                t_stride,
                j_stride,
                batch_stride: 0,
            }),
            entries: Some(Entries {
                slot: Slot::Input(1),
                first: 0,
            }),
            after: r as u64,
            units: l as u64,
            first_unit: 0,
            units_of_batch: l as u64,
            batch: 1,
            dtype: Dtype::F16,
            x: End { dtype, ..x },
            z: End::dense(Slot::Output(0), 0, self.z.len() as u64),
            alpha: self.options.alpha,
            beta: self.options.beta,
        };
        let mut builder = Builder::default();
        pass.steps(&mut builder, caps).unwrap();
        let mut plan = builder.plan("kron_matmul", "one pass".into(), Work::default());
        for step in plan.steps.iter_mut().filter(|_| !old.is_empty()) {
            let mut kernel = Kernel::clone(&step.kernel);
            for part in &mut kernel.parts {
                if part.text.contains(old) {
                    let text = part.text.replace(old, new);
                    (part.path, part.text) = (old.to_owned().leak(), text.leak());
                }
            }
            assert_ne!(kernel, *step.kernel, "{old}");
            step.kernel = Arc::new(kernel);
        }
        plan.check(gpu.caps()).unwrap();
        let own = |step: &Step| step.kernel.name == "kronecker/stage_matrices";
        assert!(plan.steps.iter().all(own));
        let halves: Vec<f16> = self.x.iter().map(|x| f16::from_f32(*x)).collect();
        let (wide, narrow) = (gpu.upload(&self.x).unwrap(), gpu.upload(&halves).unwrap());
        let x = if dtype == Dtype::F16 {
            narrow.view()
        } else {
            wide.view()
        };
        let factor = gpu.upload(&self.factor).unwrap();
        let mut z = gpu.upload(&self.z).unwrap();
        let mut pass = gpu.pass("test");
        pass.run(&plan, &[x, factor.view()], &mut [z.view_mut()])
            .unwrap();
        pass.submit().unwrap();
        z.download().unwrap()
    }

    /// The largest error of an element over its bound, of x in a type; what is not finite must be what sums in f32 are.
    fn worst(&self, found: &[f32], dtype: Dtype) -> f64 {
        let [l, p, q, r] = self.sides;
        let Options { alpha, beta } = self.options;
        let bound = 2f64.powi(-23) * (p as f64).sqrt();
        let mut worst = 0f64;
        assert_eq!(found.len(), l * q * r);
        for (n, got) in found.iter().enumerate() {
            let (mut sum, mut size, mut plain) = (0.0, 0.0, 0f32);
            for t in 0..p {
                let [x, factor, z] = self.at([n / (q * r), t, n / r % q, n % r]);
                assert_eq!(z, n);
                let x = match dtype {
                    Dtype::F16 => f16::from_f32(self.x[x]).to_f32(),
                    _ => self.x[x],
                };
                let product = f64::from(x) * f64::from(self.factor[factor]);
                sum += product;
                size += product.abs();
                plain = x.mul_add(self.factor[factor], plain);
            }
            let got = f64::from(*got);
            if !plain.is_finite() {
                let same =
                    plain.is_nan() == got.is_nan() && (plain.is_nan() || got == f64::from(plain));
                worst = if same { worst } else { f64::INFINITY };
                continue;
            }
            let (mut value, mut size) = (f64::from(alpha) * sum, f64::from(alpha.abs()) * size);
            if beta != 0.0 {
                value += f64::from(beta * self.z[n]);
                size += f64::from((beta * self.z[n]).abs());
            }
            let error = (got - value).abs() / (bound * size + f64::from(f32::MIN_POSITIVE));
            worst = if error.is_nan() {
                f64::INFINITY
            } else {
                worst.max(error)
            };
        }
        worst
    }

    /// Makes every product as large as any other, of items that are not.
    fn oppose(&mut self) {
        let [_, p, q, _] = self.sides;
        for (n, x) in self.x.iter_mut().enumerate() {
            *x *= 2f32.powi(15 - (n % p) as i32);
        }
        for (n, entry) in self.factor.iter_mut().enumerate() {
            *entry *= 2f32.powi((n / q) as i32 - 15);
        }
    }

    /// From x of either type.
    fn check(&self, gpu: &Gpu, caps: &Caps, name: &str) {
        for dtype in [Dtype::F16, Dtype::F32] {
            let worst = self.worst(&self.run(gpu, caps, dtype), dtype);
            let of = format!("{name} {:?} {:?} {dtype:?}", self.sides, caps.matrices);
            println!("{of}: {worst:.3} of the bound");
            assert!(worst <= 1.0, "{of}: {worst}");
        }
    }
}

/// Squares of these sides, on one device; of the last alone unless all are asked for.
fn each_side(sides: &[u32], run: impl Fn(&Gpu, &Caps)) {
    let Ok(gpu) = Gpu::open(&Select::default()) else {
        println!("skipped: no adapter");
        return;
    };
    for side in by_turns(sides, sides.len() - 1) {
        match gpu.caps().with_plain_matrices(*side) {
            Some(caps) => run(&gpu, &caps),
            None => println!("skipped: no subgroups of one size"),
        }
    }
}

#[test]
fn sizes_and_layouts() {
    each_side(&[16, 8], |gpu, caps| {
        // By fewer lanes plain arithmetic takes more turns, and software adapters end long loops early.
        let most = caps.matrices.map_or(0, |units| 16 * units.lanes.min(8));
        let sides = [
            [3, 16, 16, 1],
            [2, 17, 31, 5],
            [70, 33, 20, 1],
            [1, 64, 18, 40],
            [3, most as usize, 65, 1],
        ];
        for (n, sides) in sample(sides.into_iter().enumerate()) {
            let mut one = One::new(sides, sides[3] > 1);
            if n > 1 {
                one.options = Options {
                    alpha: -1.5,
                    beta: 0.5,
                };
            }
            one.check(gpu, caps, "sizes");
        }
    });
}

type Change<'a> = &'a dyn Fn(&mut One);

/// 10 to a random power between -4 and 4.
fn power(numbers: &mut Numbers) -> f32 {
    10f64.powf(4.0 * numbers.signed()) as f32
}

#[test]
fn items_of_all_scales() {
    let [l, p, q, _] = [5, 40, 19, 1];
    let clean = One::new([l, p, q, 1], false);
    let mut numbers = Numbers::of("scales");
    let powers: Vec<f32> = (0..l + q).map(|_| power(&mut numbers)).collect();
    let across = |one: &mut One| {
        for (n, x) in one.x.iter_mut().enumerate() {
            *x *= powers[n / p];
        }
        for (n, entry) in one.factor.iter_mut().enumerate() {
            *entry *= powers[l + n % q] * 1e20;
        }
    };
    let within = |one: &mut One| {
        let mut numbers = Numbers::of("within");
        let all = one.x.iter_mut().chain(&mut one.factor);
        all.for_each(|item| *item *= power(&mut numbers));
    };
    let single = |one: &mut One| {
        within(one);
        for (n, x) in one.x.iter_mut().enumerate() {
            *x *= f32::from(u8::from(n % p == 7 * (n / p)));
        }
    };
    let zeros = |one: &mut One| {
        for (n, x) in one.x.iter_mut().enumerate() {
            *x *= f32::from(u8::from(n / p != 1 && n % 3 > 0));
        }
        for (n, entry) in one.factor.iter_mut().enumerate() {
            *entry *= f32::from(u8::from(n % q != 2 && n % 5 > 1));
        }
    };
    // All errors of cutting have one sign.
    let constant = |one: &mut One| {
        one.x.fill(1.000_488);
        one.factor.fill(1.000_488);
    };
    let changes: [(&str, Change); 6] = [
        ("across columns", &across),
        ("within columns", &within),
        ("against each other", &One::oppose),
        ("single items", &single),
        ("zeros", &zeros),
        ("constant", &constant),
    ];
    each_side(&[16, 8], |gpu, caps| {
        for (name, change) in changes {
            let mut one = clean.clone();
            change(&mut one);
            one.check(gpu, caps, name);
        }
    });
}

#[test]
fn what_is_not_finite_reaches_what_depends_on_it() {
    let clean = One::new([20, 18, 21, 1], false);
    each_side(&[8], |gpu, caps| {
        for dtype in [Dtype::F16, Dtype::F32] {
            let before = clean.run(gpu, caps, dtype);
            for wrong in [f32::NAN, f32::INFINITY] {
                let mut one = clean.clone();
                // Item 5 of column 17; entry 3 of output 20.
                one.x[17 * 18 + 5] = wrong;
                one.factor[3 * 21 + 20] = -wrong;
                let found = one.run(gpu, caps, dtype);
                assert!(one.worst(&found, dtype) <= 1.0);
                for (n, (z, clean)) in found.into_iter().zip(&before).enumerate() {
                    let depends = n / 21 == 17 || n % 21 == 20;
                    assert_eq!(z.is_finite(), !depends, "element {n}: {z}");
                    assert!(depends || z == *clean, "element {n}");
                }
            }
        }
    });
}

#[test]
fn the_bound_needs_lows_and_sums_without_units() {
    let plain = One::new([5, 40, 19, 1], false);
    let mut opposed = plain.clone();
    opposed.oppose();
    each_side(&[8], |gpu, caps| {
        for (one, change) in [
            (&plain, ["rounded((v - high) * LOW)", "0.0"]),
            (
                &plain,
                ["fma(wide[at + SQUARE], 1.0 / LOW, wide[at])", "wide[at]"],
            ),
            (&opposed, ["32768.0 * f32(p.p)", "0.0"]),
        ] {
            let found = one.run_changed(gpu, caps, Dtype::F32, change);
            let worst = one.worst(&found, Dtype::F32);
            println!("{change:?}: {worst} of the bound");
            assert!(worst > 2.0, "{change:?}: {worst}");
        }
    });
}
