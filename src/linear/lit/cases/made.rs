//! Cases made from formulas: the built-in ones and those that `bench` times.

use serde_json::json;

use super::{CHANNELS, NAME, axes};
use crate::{
    case::{Bench, Case, Numbers},
    gpu::{Class, Dtype},
    linear::{Channels, Conv2d, Layout, conv2d},
};

/// A case made from a formula: values in (-1, 1) from a linear congruential generator, the kernels divided by their length.
#[derive(Clone, Copy)]
struct Made {
    conv: Conv2d,
    /// Width of queries and keys, of LiT.
    key: Option<usize>,
    bias: bool,
    backward: bool,
}

impl Made {
    fn new(grid: [usize; 2], heads: usize, widths: [usize; 2], kernel: usize) -> Made {
        let [key, value] = widths;
        Made {
            conv: Conv2d {
                batch: 1,
                grid,
                heads,
                value,
                layout: Layout::Bthd,
                dtype: Dtype::F32,
                kernel: [kernel; 2],
                channels: Channels::OfHead,
            },
            key: Some(key),
            bias: true,
            backward: true,
        }
    }

    /// The convolution by itself.
    fn conv(grid: [usize; 2], heads: usize, value: usize, kernel: usize) -> Made {
        Made {
            key: None,
            ..Made::new(grid, heads, [0, value], kernel)
        }
    }

    fn batch(mut self, batch: usize) -> Made {
        self.conv.batch = batch;
        self
    }

    fn dtype(mut self, dtype: Dtype) -> Made {
        self.conv.dtype = dtype;
        self
    }

    fn head_first(mut self) -> Made {
        self.conv.layout = Layout::Bhtd;
        self
    }

    fn channels(mut self, channels: Channels) -> Made {
        self.conv.channels = channels;
        self
    }

    fn without_bias(mut self) -> Made {
        self.bias = false;
        self
    }

    fn forward(mut self) -> Made {
        self.backward = false;
        self
    }

    fn case(self, name: &str) -> Case {
        let conv = &self.conv;
        let mut numbers = Numbers::of(name);
        let mut array = |dtype, shape: &[usize], factor| numbers.array(dtype, shape, 0.0, factor);
        let wide = axes(conv, conv.value);
        let kernels = [conv.kernels(), conv.kernel[0], conv.kernel[1]];
        let mut inputs = Vec::new();
        if let Some(key) = self.key {
            let axes = axes(conv, key);
            inputs.extend(["q", "k"].map(|name| (name, array(conv.dtype, &axes, 1.0))));
        }
        let values = if self.key.is_some() { "v" } else { "x" };
        inputs.push((values, array(conv.dtype, &wide, 1.0)));
        let factor = 1.0 / conv.taps() as f64;
        inputs.push(("weight", array(Dtype::F32, &kernels, factor)));
        if self.bias {
            inputs.push(("bias", array(Dtype::F32, &kernels[..1], 1.0)));
        }
        let grad = self.backward.then(|| array(conv.dtype, &wide, 1.0));
        let word = CHANNELS.iter().find(|(_, own)| *own == conv.channels);
        let params = json!({
            "lines": conv.grid[0], "columns": conv.grid[1], "layout": conv.layout.name(),
            "channels": word.map(|(word, _)| word), "eps": self.key.map(|_| 1e-6),
        });
        let op = self.key.map_or(conv2d::OP, |_| NAME);
        let case = Case::made(name, op, params, inputs);
        match grad {
            Some(grad) => case.handing("o", grad),
            None => case,
        }
    }
}

pub(super) fn builtin() -> Vec<Case> {
    vec![
        Made::new([9, 8], 3, [32, 32], 5).batch(2).case("lit"),
        Made::new([5, 4], 2, [48, 64], 3)
            .dtype(Dtype::F16)
            .head_first()
            .case("lit_f16"),
        Made::new([9, 10], 2, [32, 24], 3)
            .dtype(Dtype::Bf16)
            .channels(Channels::Heads)
            .case("lit_bf16"),
        Made::new([3, 5], 2, [30, 33], 3)
            .channels(Channels::Each)
            .without_bias()
            .case("lit_odd"),
        Made::new([3, 5], 2, [7, 9], 5)
            .dtype(Dtype::F16)
            .head_first()
            .case("lit_odd_f16"),
        Made::new([2, 3], 1, [512, 512], 3).case("lit_wide"),
        Made::new([2, 3], 2, [288, 288], 5)
            .dtype(Dtype::F16)
            .case("lit_wide_f16"),
        Made::new([0, 4], 2, [8, 8], 3).case("lit_no_tokens"),
    ]
}

pub(super) fn conv2d_builtin() -> Vec<Case> {
    vec![
        Made::conv([6, 5], 2, 24, 3)
            .batch(2)
            .channels(Channels::Each)
            .case("conv2d"),
        Made::conv([4, 9], 3, 7, 5)
            .dtype(Dtype::F16)
            .channels(Channels::Heads)
            .head_first()
            .case("conv2d_odd_f16"),
        Made::conv([3, 3], 1, 64, 9)
            .dtype(Dtype::Bf16)
            .without_bias()
            .case("conv2d_bf16"),
        Made::conv([0, 4], 2, 8, 3).case("conv2d_no_tokens"),
    ]
}

/// Names and cases, each made when it is its turn.
fn timed(made: impl IntoIterator<Item = (String, Made)>) -> Vec<Bench> {
    let bench = |(name, made): (String, Made)| Bench {
        name: name.clone(),
        make: Box::new(move || made.case(&name)),
    };
    made.into_iter().map(bench).collect()
}

pub(super) fn benches(class: Class) -> Vec<Bench> {
    let mut made = Vec::new();
    for (width, grid) in [(256, [16, 32]), (256, [32, 32]), (512, [32, 32])] {
        let size = format!("h2_d{width}_t{}", grid[0] * grid[1]);
        let both = Made::new(grid, 2, [width; 2], 5);
        made.push((format!("{NAME}/forward_{size}"), both.forward()));
        made.push((format!("{NAME}/backward_{size}"), both));
    }
    if class != Class::Cpu {
        // A batch of images in latent space, at the sizes of a large model.
        let both = Made::new([32, 32], 4, [288; 2], 5)
            .batch(16)
            .dtype(Dtype::F16);
        let size = "f16_b16_h4_d288_t1024";
        made.push((format!("{NAME}/forward_{size}"), both.forward()));
        made.push((format!("{NAME}/backward_{size}"), both));
    }
    timed(made)
}

pub(super) fn conv2d_benches(class: Class) -> Vec<Bench> {
    let name = conv2d::OP;
    let heads = if class == Class::Cpu { 2 } else { 16 };
    let both = Made::conv([32, 32], heads, 256, 5);
    timed([
        (
            format!("{name}/forward_h{heads}_d256_t1024"),
            both.forward(),
        ),
        (format!("{name}/backward_h{heads}_d256_t1024"), both),
    ])
}
