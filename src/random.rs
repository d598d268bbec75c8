//! Random numbers by counting: the n-th number of a seed is a function of both, the same on the host and on a device.
//!
//! [`Random`] is Threefry-2x32 with 20 rounds: additions, rotations and exclusive ors of 32-bit words, so that any element of a
//! stream is found without those before it, in any order, by any number of threads. [`fill`] puts numbers on a device, bit for bit
//! those of the host; kernels that round at random draw from the same streams.
//!
//! ```
//! use subquad::random::Random;
//!
//! let random = Random::new(7);
//! let (signs, noise) = (random.fork(0), random.fork(1));
//! assert!(signs.sign(12).abs() == 1.0 && noise.normal(12).is_finite());
//! ```
//!
//! Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011, whose known answers the tests hold.

use std::{f64::consts::TAU, sync::Arc};

use bytemuck::bytes_of;

use crate::{
    Error, Result,
    gpu::{Caps, Dtype, Elem, Gpu, Kernel, Needs, Pass, Spec, Tensor, params, part},
    plan::{ALIGN, Bind, Builder, Plan, STEP_MS, Slot, Step, Work},
};

#[cfg(feature = "cli")]
pub(crate) mod cases;

pub(crate) const OP: &str = "random";

/// The block function: Threefry-2x32 with 20 rounds.
pub fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let [k0, k1] = key;
    let k2 = 0x1bd1_1bda ^ k0 ^ k1;
    let keys = [[k1, k2], [k2, k0], [k0, k1], [k1, k2], [k2, k0]];
    let [mut x, mut y] = [counter[0].wrapping_add(k0), counter[1].wrapping_add(k1)];
    for ((n, [a, b]), rotations) in (1u32..).zip(keys).zip(ROTATIONS.iter().cycle()) {
        for by in rotations {
            x = x.wrapping_add(y);
            y = y.rotate_left(*by) ^ x;
        }
        x = x.wrapping_add(a);
        y = y.wrapping_add(b).wrapping_add(n);
    }
    [x, y]
}

/// A stream of random numbers, each found by its element: the counter of the block function, whose key is the seed.
///
/// Elements are less than 2^64 - 2^32. Every call is a pure function: two that ask for one element get one number, whatever they
/// make of it, so that unrelated uses of a seed take streams of their own ([`Random::fork`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Random {
    key: [u32; 2],
}

impl Random {
    /// The stream of a seed, whose low word is the key's first.
    pub fn new(seed: u64) -> Random {
        Random { key: halves(seed) }
    }

    /// Another stream, unrelated to this one and to those of other numbers.
    pub fn fork(&self, stream: u32) -> Random {
        Random {
            key: threefry(self.key, [stream, u32::MAX]),
        }
    }

    /// The key, as kernels take it.
    pub fn key(&self) -> [u32; 2] {
        self.key
    }

    /// Two words.
    pub fn pair(&self, element: u64) -> [u32; 2] {
        threefry(self.key, halves(element))
    }

    /// The first word of the pair.
    pub fn word(&self, element: u64) -> u32 {
        self.pair(element)[0]
    }

    /// In (0, 1): (⌊word / 2^9⌋ + 1/2) / 2^23, which an f32 holds exactly.
    pub fn uniform(&self, element: u64) -> f64 {
        uniform(self.word(element))
    }

    /// -1 or 1, by the word's highest bit.
    pub fn sign(&self, element: u64) -> f64 {
        f64::from(sign(self.word(element)))
    }

    /// A whole number less than `n`: ⌊word · n / 2^32⌋, each as likely as the others but for n / 2^32; 0 where `n` is.
    pub fn below(&self, element: u64, n: u32) -> u32 {
        ((u64::from(self.word(element)) * u64::from(n)) >> 32) as u32
    }

    /// Two independent standard normal numbers, by the method of Box and Muller in f64 from both words; at most 6.8.
    pub fn normals(&self, element: u64) -> [f64; 2] {
        let [a, b] = self.pair(element).map(open);
        let radius = (-2.0 * a.ln()).sqrt();
        let (sine, cosine) = (TAU * b).sin_cos();
        [radius * cosine, radius * sine]
    }

    /// A standard normal number: the first of [`Random::normals`].
    pub fn normal(&self, element: u64) -> f64 {
        self.normals(element)[0]
    }

    /// The length of a vector of so many standard normal numbers, at least 1 of them, for elements below 2^32: the root of twice a
    /// gamma variable, by the method of Marsaglia and Tsang.
    pub fn chi(&self, element: u32, degrees: u32) -> f64 {
        let attempt = |n: u64| (n << 32) | u64::from(element);
        if degrees < 2 {
            return self.normal(attempt(0)).abs();
        }
        let shape = f64::from(degrees) / 2.0 - 1.0 / 3.0;
        let accepted = (0..64).find_map(|n| {
            let x = self.normal(attempt(n));
            let v = (1.0 + x / (9.0 * shape).sqrt()).powi(3);
            let bound = 0.5 * x * x + shape * (1.0 - v + v.max(f64::MIN_POSITIVE).ln());
            let accepts = v > 0.0 && self.fork(0).uniform(attempt(n)).ln() < bound;
            accepts.then_some(v)
        });
        // One attempt in twenty fails at most: 64 in a row never do.
        (2.0 * shape * accepted.unwrap_or(1.0)).sqrt()
    }

    /// The numbers below `n` in random order, by the method of Fisher and Yates.
    pub fn permutation(&self, n: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).collect();
        for last in (1..n).rev() {
            let other = self.below(last.into(), last + 1);
            order.swap(last as usize, other as usize);
        }
        order
    }
}

fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// In (0, 1), by all bits of a word.
fn open(word: u32) -> f64 {
    (f64::from(word) + 0.5) / (32f64).exp2()
}

fn uniform(word: u32) -> f64 {
    (f64::from(word >> 9) + 0.5) / (23f64).exp2()
}

fn sign(word: u32) -> f32 {
    if word >> 31 == 1 { -1.0 } else { 1.0 }
}

/// What [`fill`] makes of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Draw {
    /// The word itself, u32.
    Words,
    /// [`Random::uniform`], f32.
    Uniform,
    /// [`Random::sign`], f32.
    Signs,
}

impl Draw {
    /// The type of the numbers.
    pub fn dtype(self) -> Dtype {
        match self {
            Draw::Words => Dtype::U32,
            Draw::Uniform | Draw::Signs => Dtype::F32,
        }
    }
}

params! {
    /// Parameters of `random`.
    Params {
        key_low: u32,
        key_high: u32,
        first_low: u32,
        first_high: u32,
        count: u32,
    }
}

/// Fills a tensor with the numbers of a stream from element `first` on, bit for bit those of the host.
///
/// Cost: about 100 operations on words an element. No temporaries.
///
/// # Errors
/// `Argument` when the tensor's type is not that of the draw or the elements reach beyond the stream; `Shader`, `OutOfMemory`,
/// `DeviceLost` from the device.
pub fn fill<T: Elem>(
    gpu: &Gpu,
    random: &Random,
    draw: Draw,
    first: u64,
    numbers: &mut Tensor<T>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, random, draw, first, numbers)?;
    pass.submit().map(drop)
}

/// [`fill`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`fill`].
pub fn record<T: Elem>(
    pass: &mut Pass,
    random: &Random,
    draw: Draw,
    first: u64,
    numbers: &mut Tensor<T>,
) -> Result<()> {
    if T::DTYPE != draw.dtype() {
        return Err(Error::Argument {
            op: OP,
            what: "numbers".into(),
            expected: format!("of type {} for this draw", draw.dtype().name()),
            got: T::DTYPE.name().into(),
        });
    }
    let plan = plan(random, draw, first, numbers.len(), pass.caps())?;
    pass.run(&plan, &[], &mut [numbers.view_mut()])
}

/// Plans [`fill`] for `len` numbers. Output: the numbers.
///
/// # Errors
/// As [`fill`], but for those of the device.
pub fn plan(random: &Random, draw: Draw, first: u64, len: usize, caps: &Caps) -> Result<Plan> {
    let len = len as u64;
    let end = first.checked_add(len);
    if end.is_none_or(|end| end > u64::MAX << 32) {
        return Err(Error::Argument {
            op: OP,
            what: "first".into(),
            expected: "such that no element reaches 2^64 - 2^32".into(),
            got: format!("{first} with {len} numbers"),
        });
    }
    let kernel = Arc::new(Kernel {
        name: "common/random",
        parts: vec![
            part!("common/random.wgsl"),
            part!("common/threefry.wgsl"),
            match draw {
                Draw::Words => part!("common/draw_words.wgsl"),
                Draw::Uniform => part!("common/draw_uniform.wgsl"),
                Draw::Signs => part!("common/draw_signs.wgsl"),
            },
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default(),
        needs: Needs::default(),
        params: Params::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    });
    let mut builder = Builder::default();
    let ms = 100.0 / (caps.gflops * 1e6);
    let most = (caps.binding_bytes / 4).min((STEP_MS / ms) as u64);
    let most = most.clamp(ALIGN, 1 << 30) / ALIGN * ALIGN;
    let [key_low, key_high] = random.key();
    for from in (0..len).step_by(most as usize) {
        let count = most.min(len - from);
        let [first_low, first_high] = halves(first + from);
        let params = Params {
            key_low,
            key_high,
            first_low,
            first_high,
            count: count as u32,
        };
        builder.steps.push(Step {
            kernel: kernel.clone(),
            bind: vec![Bind {
                slot: Slot::Output(0),
                bytes: 4 * from..4 * (from + count),
                write: true,
            }],
            params: bytes_of(&params).to_vec(),
            groups: count.div_ceil(64),
            predicted_ms: count as f64 * ms,
        });
    }
    let work = Work {
        bytes: 4.0 * len as f64,
        ..Work::default()
    };
    let plan = builder.plan(OP, "an invocation a number".into(), work);
    plan.check(caps)?;
    Ok(plan)
}
