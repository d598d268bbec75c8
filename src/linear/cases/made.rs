//! Cases made from formulas: the built-in ones and those that `bench` times.

use std::collections::BTreeMap;

use serde_json::{Map, json};

use crate::{
    case::{Array, Bench, Case},
    gpu::{Class, Dtype},
    linear::{Layout, Shape, log_decay_retention, plan, slopes_opennlplab},
};

/// A case made from a formula: values in (-1, 1) from a linear congruential generator, keys scaled by K^(-1/2).
#[derive(Clone)]
struct Made {
    name: String,
    shape: Shape,
    log_decay: Option<Vec<f32>>,
    scale: f32,
    initial_state: bool,
    step: bool,
    mean: f64,
}

impl Made {
    fn new(name: &str, [batch, heads, tokens, key, value]: [usize; 5]) -> Made {
        let shape = Shape {
            batch,
            tokens,
            heads,
            kv_heads: heads,
            key,
            value,
            layout: Layout::Bthd,
            dtype: Dtype::F32,
        };
        Made {
            name: name.into(),
            shape,
            log_decay: None,
            scale: 1.0,
            initial_state: false,
            step: false,
            mean: 0.0,
        }
    }

    /// Decays of Lightning Attention's first layer.
    fn lightning(mut self) -> Made {
        self.log_decay = slopes_opennlplab(self.shape.heads, 0, 12)
            .ok()
            .map(|slopes| slopes.iter().map(|slope| -slope).collect());
        self
    }

    fn decay(mut self, log_decay: f32) -> Made {
        self.log_decay = Some(vec![log_decay; self.shape.heads]);
        self
    }

    fn dtype(mut self, dtype: Dtype) -> Made {
        self.shape.dtype = dtype;
        self
    }

    fn head_first(mut self) -> Made {
        self.shape.layout = Layout::Bhtd;
        self
    }

    fn with_state(mut self) -> Made {
        self.initial_state = true;
        self
    }

    fn case(self) -> Case {
        let Shape {
            batch,
            tokens,
            heads,
            kv_heads: _,
            key,
            value,
            layout,
            dtype,
        } = self.shape;
        let mut seed = self.name.bytes().fold(1u64, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        let mut array = |dtype: Dtype, shape: &[usize], factor: f64| {
            let mut next = || {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (seed >> 40) as f64 / f64::from(1 << 23) - 1.0
            };
            let values: Vec<f64> = (0..shape.iter().product())
                .map(|_| factor * (self.mean + next()))
                .collect();
            Array::rounded(dtype, shape, &values)
        };
        let axes = |width: usize| match layout {
            Layout::Bthd => [batch, tokens, heads, width],
            Layout::Bhtd => [batch, heads, tokens, width],
        };
        let mut inputs = BTreeMap::new();
        inputs.insert("q".into(), array(dtype, &axes(key), 1.0));
        inputs.insert(
            "k".into(),
            array(dtype, &axes(key), (key as f64).powf(-0.5)),
        );
        inputs.insert("v".into(), array(dtype, &axes(value), 1.0));
        if self.initial_state || self.step {
            inputs.insert(
                "initial_state".into(),
                array(Dtype::F32, &[batch, heads, key, value], 1.0),
            );
        }
        if let Some(log_decay) = &self.log_decay {
            inputs.insert("log_decay".into(), Array::f32(&[heads], log_decay));
        }
        let params = json!({
            "layout": layout.name(), "causal": true, "normalize": false, "scale": self.scale, "step": self.step,
            "decay": if self.log_decay.is_some() { "head" } else { "none" },
        });
        Case {
            name: self.name,
            op: plan::OP.into(),
            params: params.as_object().cloned().unwrap_or_else(Map::new),
            source: "generated".into(),
            inputs,
            grad_outputs: Default::default(),
            expected: Default::default(),
            expected_grads: Default::default(),
        }
    }
}

pub(super) fn builtin() -> Vec<Case> {
    let mut retention = Made::new("retention", [1, 4, 129, 48, 64]);
    retention.log_decay = Some(log_decay_retention(4));
    retention.scale = 48f32.sqrt().recip();
    let mut steep = Made::new("steep_ragged", [1, 8, 193, 32, 32]).with_state();
    steep.log_decay = Some(vec![
        -8.0,
        -0.5,
        -50.0,
        f32::NEG_INFINITY,
        -20.0,
        -1e-6,
        0.0,
        -3.0,
    ]);
    let mut slow = Made::new("slow_decay_mean_one", [1, 1, 4096, 16, 16]).decay(-3e-6);
    slow.mean = 1.0;
    let mut step = Made::new("step_one_token", [2, 3, 1, 64, 64]).lightning();
    step.step = true;
    let mut steps = Made::new("step_five_tokens_odd", [1, 2, 5, 33, 10]).lightning();
    steps.step = true;
    let made = vec![
        Made::new("plain", [2, 3, 96, 16, 24]),
        Made::new("lightning", [2, 4, 130, 32, 32]).lightning(),
        Made::new("lightning_head_first", [1, 6, 77, 16, 40])
            .lightning()
            .head_first()
            .with_state(),
        Made::new("lightning_f16", [1, 4, 200, 64, 64])
            .lightning()
            .dtype(Dtype::F16),
        Made::new("lightning_bf16", [1, 2, 100, 64, 32])
            .lightning()
            .dtype(Dtype::Bf16)
            .with_state(),
        Made::new("odd_widths", [2, 2, 65, 33, 7])
            .lightning()
            .with_state(),
        Made::new("odd_widths_f16", [1, 3, 67, 5, 9])
            .lightning()
            .dtype(Dtype::F16),
        Made::new("odd_widths_bf16", [1, 1, 33, 7, 3])
            .lightning()
            .dtype(Dtype::Bf16),
        Made::new("width_one", [1, 1, 65, 1, 1]).lightning(),
        Made::new("one_token", [3, 2, 1, 20, 12])
            .lightning()
            .with_state(),
        Made::new("no_tokens", [1, 2, 0, 8, 8])
            .lightning()
            .with_state(),
        Made::new("no_tokens_no_state", [1, 2, 0, 8, 8]),
        Made::new("no_batch", [0, 2, 5, 8, 8]).lightning(),
        Made::new("wide_keys", [1, 1, 100, 512, 20]).lightning(),
        Made::new("wide_values", [1, 1, 100, 40, 512])
            .lightning()
            .head_first(),
        Made::new("key_256", [1, 2, 70, 256, 40]).lightning(),
        Made::new("width_100", [1, 2, 150, 100, 60]).lightning(),
        retention,
        steep,
        slow,
        step,
        steps,
    ];
    made.into_iter().map(Made::case).collect()
}

pub(super) fn benches(class: Class) -> Vec<Bench> {
    let forward = |name: &str, sizes| {
        Made::new(&format!("{}/lightning_forward_{name}", plan::OP), sizes).lightning()
    };
    let f16 = |name: &str, sizes| forward(&format!("f16_{name}"), sizes).dtype(Dtype::F16);
    let mut made = Vec::new();
    // So short that the work itself hardly disturbs the host, whose cost per call `bench` measures on it.
    made.push(forward("h2_d64_t64", [1, 2, 64, 64, 64]));
    for t in [512, 1024, 2048, 4096, 8192] {
        made.push(forward(&format!("h8_d64_t{t}"), [1, 8, t, 64, 64]));
    }
    for t in [2048, 8192] {
        made.push(f16(&format!("h8_d64_t{t}"), [1, 8, t, 64, 64]));
    }
    made.push(forward("bhtd_h8_d64_t2048", [1, 8, 2048, 64, 64]).head_first());
    made.push(forward("h1_d64_t16384", [1, 1, 16_384, 64, 64]));
    made.push(Made::new(
        "linear_attention/plain_forward_h8_d64_t2048",
        [1, 8, 2048, 64, 64],
    ));
    for heads in [8, 64, 512] {
        let name = format!("linear_attention/lightning_step_h{heads}_d64");
        let mut step = Made::new(&name, [1, heads, 1, 64, 64]).lightning();
        step.step = true;
        made.push(step);
    }
    if class != Class::Cpu {
        made.push(forward("h64_d128_t8192", [1, 64, 8192, 128, 128]));
        made.push(f16("h64_d128_t8192", [1, 64, 8192, 128, 128]));
        made.push(f16("h16_d64_t131072", [1, 16, 131_072, 64, 64]));
    }
    made.into_iter()
        .map(|made| Bench {
            name: made.name.clone(),
            make: Box::new(move || made.clone().case()),
        })
        .collect()
}
