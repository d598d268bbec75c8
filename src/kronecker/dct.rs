//! Cosine and sine transforms along modes of a tensor.

use std::{f64::consts::PI, sync::Arc};

use bytemuck::bytes_of;

use super::matmul::{self, Factor, Operator, Options};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Class, Gpu, Kernel, Needs, Pass, Spec, Tensor, params, part},
    plan::{Bind, Builder, Plan, Slot, Step, Work},
    rows::dispatches,
};

pub(super) const OP: &str = "dct";

/// The longest mode.
pub const MAX_SIZE: usize = 4096;

/// The longest mode that is a product with a matrix if there is a choice.
const DENSE: usize = 512;

/// Complex numbers that a workgroup holds: 16 KiB.
const POINTS: usize = 2048;

params! {
    /// Parameters of `dct_fast`.
    FastParams {
        lines: u32,
        inner: u32,
        first: u32,
        scale: f32,
    }
}

/// A transform of one mode, y = D x, each orthonormal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// None: the mode stays as it is.
    Identity,
    /// DCT-II: D\[k, j\] = √(2/n) c_k cos(πk(2j + 1) / 2n), c_0 = 1/√2 and otherwise 1.
    Dct2,
    /// DCT-III: the transpose and inverse of DCT-II.
    Dct3,
    /// DST-I: D\[k, j\] = √(2/(n + 1)) sin(π(j + 1)(k + 1) / (n + 1)), its own transpose and inverse.
    Dst1,
}

impl Kind {
    /// The transform whose matrix is the transpose, which is the inverse.
    pub fn adjoint(self) -> Kind {
        match self {
            Kind::Dct2 => Kind::Dct3,
            Kind::Dct3 => Kind::Dct2,
            Kind::Identity | Kind::Dst1 => self,
        }
    }

    /// D of n, row-major.
    pub fn matrix(self, n: usize) -> Vec<f64> {
        let size = n as f64;
        let entry = |k: usize, j: usize| match self {
            Kind::Identity => f64::from(u8::from(k == j)),
            Kind::Dct2 | Kind::Dct3 => {
                let (k, j) = if self == Kind::Dct2 { (k, j) } else { (j, k) };
                let scale = if k == 0 { 1.0 } else { 2.0 };
                // The angle modulo a turn, which 4n of these make.
                let angle = (k * (2 * j + 1) % (4 * n)) as f64 * PI / (2.0 * size);
                (scale / size).sqrt() * angle.cos()
            }
            Kind::Dst1 => {
                let angle = ((j + 1) * (k + 1) % (2 * n + 2)) as f64 * PI / (size + 1.0);
                (2.0 / (size + 1.0)).sqrt() * angle.sin()
            }
        };
        (0..n * n).map(|at| entry(at / n, at % n)).collect()
    }
}

/// How modes are transformed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Modes of up to 512 and of lengths that are no powers of two as products with matrices, others through fast transforms.
    #[default]
    Auto,
    /// All as products with matrices.
    Dense,
    /// Cosine transforms of powers of two from 64 to 4096 through a fast Fourier transform of half as many complex numbers.
    Fast,
}

/// A tensor `[rows, n_0, n_1, …]` and what each mode goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Tensors; 0 is legal.
    pub rows: usize,
    /// Length and transform of each mode, the slowest first.
    pub modes: Vec<(usize, Kind)>,
    /// How.
    pub form: Form,
}

impl Shape {
    /// Elements of x, and of y.
    pub fn len(&self) -> usize {
        self.rows * self.modes.iter().map(|(n, _)| n).product::<usize>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of the transpose, which is the inverse.
    pub fn adjoint(&self) -> Shape {
        let modes = self.modes.iter().map(|(n, kind)| (*n, kind.adjoint()));
        Shape {
            modes: modes.collect(),
            ..self.clone()
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: String, expected: String, got: String| {
            Err(Error::Argument {
                op: OP,
                what,
                expected,
                got,
            })
        };
        if !(1..=16).contains(&self.modes.len()) {
            let expected = "1 to 16 of them".into();
            return wrong("modes".into(), expected, self.modes.len().to_string());
        }
        if self.modes.iter().all(|(_, kind)| *kind == Kind::Identity) {
            let expected = "transformed, one of them at least".into();
            return wrong("modes".into(), expected, "identities alone".into());
        }
        for (at, (n, _)) in self.modes.iter().enumerate() {
            if !(1..=MAX_SIZE).contains(n) {
                let expected = format!("from 1 to {MAX_SIZE} long");
                return wrong(format!("modes[{at}]"), expected, n.to_string());
            }
        }
        let sizes = self.modes.iter().map(|(n, _)| *n as u64);
        let elements = sizes.fold(self.rows as u64, u64::saturating_mul);
        if elements > u64::from(u32::MAX) {
            let expected = "such that there are at most 2^32 - 1 elements".into();
            return wrong("rows".into(), expected, self.rows.to_string());
        }
        Ok(())
    }

    fn fast(&self, (n, kind): (usize, Kind)) -> bool {
        let can = n.is_power_of_two()
            && (64..=MAX_SIZE).contains(&n)
            && matches!(kind, Kind::Dct2 | Kind::Dct3);
        match self.form {
            Form::Auto => can && n > DENSE,
            Form::Dense => false,
            Form::Fast => can,
        }
    }
}

/// Orthonormal cosine and sine transforms along the modes of a tensor.
///
/// ```text
/// y[.., k_0, k_1, …] = Σ over j_0, j_1, … of Π_i D_i[k_i, j_i] x[.., j_0, j_1, …]
/// ```
///
/// `x` and `y` are `[rows, n_0, n_1, …]`, f32, row-major. One mode is a transform of rows; two and three are images and volumes.
///
/// Cost: 2 n operations an element for a mode of n up to 512, about 5 log2 n in a pass of its own for a longer power of two. Temporaries:
/// where there are several passes, one or two tensors as large as x.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 1e-6; so far is the inverse of the transform from what it was given.
/// Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes or lengths do not fit together; `Limit` when one tensor exceeds a binding or the scratch budget; `Shader`,
/// `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: Makhoul, "A fast cosine transform in one and two dimensions", 1980.
pub fn dct(gpu: &Gpu, shape: &Shape, x: &Tensor<f32>, y: &mut Tensor<f32>) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, x, y)?;
    pass.submit().map(drop)
}

/// [`dct()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`dct()`].
pub fn record(pass: &mut Pass, shape: &Shape, x: &Tensor<f32>, y: &mut Tensor<f32>) -> Result<()> {
    let plan = plan(shape, pass.caps())?;
    length(OP, "x", x.len(), shape.len())?;
    length(OP, "y", y.len(), shape.len())?;
    pass.run(&plan, &[x.view()], &mut [y.view_mut()])
}

/// The transpose of [`dct()`], its inverse: y to x.
///
/// # Errors
/// As [`dct()`].
pub fn adjoint(gpu: &Gpu, shape: &Shape, y: &Tensor<f32>, x: &mut Tensor<f32>) -> Result<()> {
    dct(gpu, &shape.adjoint(), y, x)
}

/// Plans [`dct()`]. Input: x; output: y.
///
/// # Errors
/// As [`dct()`], but for those of the device.
pub fn plan(shape: &Shape, caps: &Caps) -> Result<Plan> {
    shape.check()?;
    let mut builder = Builder::default();
    let all = shape.len();
    let fast: Vec<usize> = (0..shape.modes.len())
        .filter(|at| shape.modes.get(*at).is_some_and(|mode| shape.fast(*mode)))
        .collect();
    let dense = |mode: (usize, Kind)| mode.1 != Kind::Identity && !shape.fast(mode);
    let any = shape.modes.iter().any(|mode| dense(*mode));
    let passes = usize::from(any) + fast.len();
    let scratch = (passes > 1).then(|| builder.add_scratch(4 * all as u64));
    // Every other pass writes the output, the last one does.
    let target = |pass: usize| match scratch {
        Some(scratch) if (passes - 1 - pass) % 2 == 1 => scratch,
        _ => Slot::Output(0),
    };
    let mut from = Slot::Input(0);
    let mut flops = 0.0;
    if any {
        let mut inputs = vec![from];
        let mut factors = Vec::new();
        for mode in &shape.modes {
            let (n, kind) = *mode;
            if dense(*mode) {
                // x stands to the left: the matrix is Dᵀ.
                let matrix = kind.adjoint().matrix(n);
                let matrix = matrix.iter().map(|entry| (*entry as f32).to_bits());
                inputs.push(builder.add_table(matrix.collect()));
                factors.push(Factor::dense(n, n));
            } else {
                factors.push(Factor::identity(n));
            }
        }
        let operator = Operator::new(factors);
        let rows = matmul::Shape::rows(shape.rows);
        let plan = matmul::plan(&operator, &rows, &Options::default(), caps)?;
        flops += plan.work.flops;
        builder.append(plan, &inputs, &[target(0)])?;
        from = target(0);
    }
    for (pass, at) in (usize::from(any)..).zip(&fast) {
        let sizes = |modes: &[(usize, Kind)]| modes.iter().map(|(n, _)| n).product::<usize>();
        let (before, rest) = shape.modes.split_at(*at);
        let Some(((n, kind), after)) = rest.split_first() else {
            continue;
        };
        let fast = Fast {
            outer: shape.rows * sizes(before),
            n: *n,
            inner: sizes(after),
            kind: *kind,
        };
        fast.steps(&mut builder, caps, [from, target(pass)])?;
        flops += 5.0 * all as f64 * (*n as f64).log2();
        from = target(pass);
    }
    let work = Work {
        flops,
        bytes: 8.0 * all as f64,
        ..Work::default()
    };
    let label = format!("{passes} passes, {} fast", fast.len());
    let plan = builder.plan(OP, label, work);
    plan.check(caps)?;
    Ok(plan)
}

/// One mode through a fast Fourier transform.
struct Fast {
    outer: usize,
    n: usize,
    inner: usize,
    kind: Kind,
}

impl Fast {
    fn kernel(&self, caps: &Caps) -> Arc<Kernel> {
        let lane_bits = match caps.class {
            Class::Cpu => 6,
            _ => 8,
        };
        let ends = match self.kind {
            Kind::Dct3 => part!("kronecker/dct_third.wgsl"),
            _ => part!("kronecker/dct_second.wgsl"),
        };
        Arc::new(Kernel {
            name: "kronecker/dct_fast",
            parts: vec![
                part!("kronecker/dct_fast.wgsl"),
                ends,
                part!("common/grid.wgsl"),
            ],
            spec: Spec::default()
                .with("HALF_BITS", self.n.trailing_zeros() - 1)
                .with("LINES", (2 * POINTS / self.n) as u32)
                .with("LANE_BITS", lane_bits as u32),
            needs: Needs::default(),
            params: FastParams::FIELDS,
            workgroup: [1 << lane_bits, 1, 1],
            workgroup_bytes: 8 * POINTS as u32,
        })
    }

    /// exp(-2πi t / 4n), t < 2n.
    fn roots(&self) -> Vec<u32> {
        let angle = |t: usize| -PI * t as f64 / (2 * self.n) as f64;
        let root = |t| [angle(t).cos(), angle(t).sin()].map(|x| (x as f32).to_bits());
        (0..2 * self.n).flat_map(root).collect()
    }

    /// Adds the steps, cut between outer indices where a binding does not take all, and in time.
    fn steps(&self, builder: &mut Builder, caps: &Caps, [x, y]: [Slot; 2]) -> Result<()> {
        // A multiple of 256 bytes, as n is of 64.
        let slab = (self.n * self.inner) as u64;
        let fit = caps.binding_bytes / (4 * slab);
        if fit == 0 {
            return Err(Error::Limit {
                what: "bytes in one binding, for a mode and those after it,".into(),
                needed: 4 * slab,
                available: caps.binding_bytes,
                remedy: "transform fewer numbers at a time",
            });
        }
        let roots = builder.add_table(self.roots());
        let kernel = self.kernel(caps);
        let per_group = 2 * POINTS / self.n;
        let scale = match self.kind {
            Kind::Dct3 => 1.0 / (2.0 * self.n as f64).sqrt(),
            _ => (2.0 / self.n as f64).sqrt(),
        };
        let group_ms =
            2.0 * POINTS as f64 * (8.0 * (self.n as f64).log2() + 32.0) / (caps.gflops * 1e6);
        for from in (0..self.outer as u64).step_by(fit as usize) {
            let outer = fit.min(self.outer as u64 - from);
            let bytes = 4 * slab * from..4 * slab * (from + outer);
            let lines = outer * self.inner as u64;
            let bind = vec![
                Bind {
                    slot: x,
                    bytes: bytes.clone(),
                    write: false,
                },
                Bind {
                    slot: roots,
                    bytes: 0..16 * self.n as u64,
                    write: false,
                },
                Bind {
                    slot: y,
                    bytes,
                    write: true,
                },
            ];
            let groups = lines.div_ceil(per_group as u64);
            for groups in dispatches(0..groups, group_ms, caps) {
                let params = FastParams {
                    lines: lines as u32,
                    inner: self.inner as u32,
                    first: groups.start as u32 * per_group as u32,
                    scale: scale as f32,
                };
                builder.steps.push(Step {
                    kernel: kernel.clone(),
                    bind: bind.clone(),
                    params: bytes_of(&params).to_vec(),
                    groups: groups.end - groups.start,
                    predicted_ms: group_ms * (groups.end - groups.start) as f64,
                });
            }
        }
        Ok(())
    }
}
