//! Cases made from formulas: the built-in ones and those that `bench` times.

use std::collections::BTreeMap;

use serde_json::{Map, json};

use crate::{
    case::{Array, Bench, Case, Numbers},
    gpu::{Class, Dtype},
    linear::{
        Decay, FeatureMap, Layout, Options, Shape, log_decay_retention, plan, slopes_opennlplab,
    },
};

/// A case made from a formula: values in (-1, 1) from a linear congruential generator, keys scaled by K^(-1/2).
#[derive(Clone)]
struct Made {
    name: String,
    shape: Shape,
    options: Options,
    /// Decays of the heads, for [`Decay::Head`].
    log_decay: Vec<f32>,
    initial_state: bool,
    step: bool,
    backward: bool,
    packed: Vec<usize>,
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
            options: Options::plain(),
            log_decay: Vec::new(),
            initial_state: false,
            step: false,
            backward: false,
            packed: Vec::new(),
            mean: 0.0,
        }
    }

    fn options(mut self, options: Options) -> Made {
        self.options = options;
        self
    }

    fn head_decays(mut self, log_decay: Vec<f32>) -> Made {
        self.options.decay = Decay::Head;
        self.log_decay = log_decay;
        self
    }

    /// Decays of Lightning Attention's first layer.
    fn lightning(self) -> Made {
        let slopes = slopes_opennlplab(self.shape.heads, 0, 12).unwrap_or_default();
        self.head_decays(slopes.iter().map(|slope| -slope).collect())
    }

    fn decay(self, log_decay: f32) -> Made {
        let heads = self.shape.heads;
        self.head_decays(vec![log_decay; heads])
    }

    fn dtype(mut self, dtype: Dtype) -> Made {
        self.shape.dtype = dtype;
        self
    }

    fn head_first(mut self) -> Made {
        self.shape.layout = Layout::Bhtd;
        self
    }

    fn kv_heads(mut self, heads: usize) -> Made {
        self.shape.kv_heads = heads;
        self
    }

    fn with_state(mut self) -> Made {
        self.initial_state = true;
        self
    }

    fn step(mut self) -> Made {
        self.step = true;
        self
    }

    fn backward(mut self) -> Made {
        self.backward = true;
        self
    }

    fn packed(mut self, bounds: &[usize]) -> Made {
        self.packed = bounds.to_vec();
        self
    }

    fn case(self) -> Case {
        let Shape {
            heads,
            kv_heads,
            key,
            value,
            dtype,
            ..
        } = self.shape;
        let options = self.options;
        let features = options.feature_width(&self.shape);
        let sequences = match self.packed.len() {
            0 => self.shape.batch,
            bounds => bounds - 1,
        };
        let mut numbers = Numbers::of(&self.name);
        let mut array = |dtype: Dtype, shape: &[usize], centre: f64, factor: f64| {
            numbers.array(dtype, shape, centre, factor)
        };
        let axes = |heads: usize, more: &[usize]| super::axes_of(&self.shape, heads, more);
        let narrow = (key as f64).powf(-0.5);
        let state = [sequences, kv_heads, features, value];
        let mut inputs = BTreeMap::new();
        let mut put = |name: &str, array: Array| inputs.insert(name.to_owned(), array);
        put("q", array(dtype, &axes(heads, &[key]), self.mean, 1.0));
        put(
            "k",
            array(dtype, &axes(kv_heads, &[key]), narrow * self.mean, narrow),
        );
        put("v", array(dtype, &axes(kv_heads, &[value]), self.mean, 1.0));
        if self.initial_state || self.step {
            put("initial_state", array(Dtype::F32, &state, 0.0, 1.0));
        }
        match options.decay {
            Decay::None => {}
            Decay::Head => {
                put("log_decay", Array::f32(&[kv_heads], &self.log_decay));
            }
            Decay::Token => {
                put(
                    "log_decay",
                    array(Dtype::F32, &axes(kv_heads, &[]), -0.1, 0.1),
                );
            }
            Decay::Channel => {
                put(
                    "log_decay",
                    array(Dtype::F32, &axes(kv_heads, &[features]), -0.1, 0.1),
                );
            }
        }
        if options.delta {
            put("beta", array(Dtype::F32, &axes(kv_heads, &[]), 0.5, 0.5));
        }
        if !self.packed.is_empty() {
            let bounds = self.packed.iter().flat_map(|n| (*n as i32).to_le_bytes());
            put(
                "cu_seqlens",
                Array {
                    dtype: Dtype::I32,
                    shape: vec![self.packed.len()],
                    bytes: bounds.collect(),
                },
            );
        }
        let mut grad_outputs = BTreeMap::new();
        if self.backward {
            grad_outputs.insert("o".into(), array(dtype, &axes(heads, &[value]), 0.0, 1.0));
            grad_outputs.insert("final_state".into(), array(Dtype::F32, &state, 0.0, 1.0));
        }
        let decay = match options.decay {
            Decay::None => "none",
            Decay::Head => "head",
            Decay::Token => "token",
            Decay::Channel => "channel",
        };
        let feature_map = match options.feature_map {
            FeatureMap::Relu => "relu",
            FeatureMap::Elu1 => "elu1",
            _ => "identity",
        };
        let params = json!({
            "layout": self.shape.layout.name(), "causal": options.causal, "normalize": options.normalize.is_some(),
            "eps": options.normalize.unwrap_or(0.0), "scale": options.scale, "step": self.step, "decay": decay,
            "feature_map": feature_map,
        });
        Case {
            name: self.name,
            op: plan::OP.into(),
            params: params.as_object().cloned().unwrap_or_else(Map::new),
            source: "generated".into(),
            inputs,
            grad_outputs,
            expected: Default::default(),
            expected_grads: Default::default(),
        }
    }
}

pub(super) fn builtin() -> Vec<Case> {
    let steep = vec![
        -8.0,
        -0.5,
        -50.0,
        f32::NEG_INFINITY,
        -20.0,
        -1e-6,
        0.0,
        -3.0,
    ];
    let mut slow = Made::new("slow_decay_mean_one", [1, 1, 4096, 16, 16]).decay(-3e-6);
    slow.mean = 1.0;
    let with = |name: &str, sizes, options: Options| Made::new(name, sizes).options(options);
    let normalized = Options {
        normalize: Some(1e-6),
        feature_map: FeatureMap::Elu1,
        ..Options::plain()
    };
    let both_ways = Options {
        causal: false,
        feature_map: FeatureMap::Relu,
        ..normalized
    };
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
        Made::new("retention", [1, 4, 129, 48, 64])
            .options(Options::retention(48))
            .head_decays(log_decay_retention(4)),
        Made::new("steep_ragged", [1, 8, 193, 32, 32])
            .head_decays(steep)
            .with_state(),
        slow,
        Made::new("step_one_token", [2, 3, 1, 64, 64])
            .lightning()
            .step(),
        Made::new("step_five_tokens_odd", [1, 2, 5, 33, 10])
            .lightning()
            .step(),
        with("simple_gla", [2, 3, 130, 32, 24], Options::simple_gla(32)).backward(),
        with(
            "simple_gla_f16",
            [1, 2, 100, 48, 24],
            Options::simple_gla(48),
        )
        .dtype(Dtype::F16)
        .with_state()
        .backward(),
        with(
            "grouped_packed_f16",
            [1, 4, 90, 16, 40],
            Options::simple_gla(16),
        )
        .kv_heads(2)
        .dtype(Dtype::F16)
        .packed(&[0, 0, 40, 90])
        .backward(),
        with("gla", [1, 2, 100, 20, 36], Options::gla(20)).backward(),
        with("delta_rule", [1, 2, 70, 32, 32], Options::delta_rule(32)).backward(),
        with("gated_delta", [2, 4, 100, 24, 40], Options::gated_delta(24))
            .kv_heads(2)
            .with_state()
            .backward(),
        with("kda_f16", [1, 2, 90, 33, 17], Options::kda(33))
            .dtype(Dtype::F16)
            .head_first()
            .backward(),
        with(
            "gated_delta_step",
            [2, 4, 1, 64, 64],
            Options::gated_delta(64),
        )
        .kv_heads(2)
        .step(),
        with("gla_many_heads", [1, 12, 40, 16, 16], Options::gla(16))
            .kv_heads(1)
            .with_state(),
        with("normalized", [2, 4, 77, 18, 30], normalized)
            .kv_heads(2)
            .backward(),
        with("normalized_step", [1, 2, 3, 16, 16], normalized).step(),
        with("non_causal", [1, 2, 300, 32, 40], both_ways).backward(),
        with("packed", [1, 4, 200, 16, 20], Options::simple_gla(16))
            .kv_heads(2)
            .packed(&[0, 0, 1, 70, 70, 200])
            .with_state()
            .backward(),
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
        made.push(Made::new(&name, [1, heads, 1, 64, 64]).lightning().step());
    }
    let wide = [1, 8, 2048, 64, 64];
    let normalized = Options {
        normalize: Some(1e-6),
        feature_map: FeatureMap::Elu1,
        ..Options::plain()
    };
    let members = [
        ("simple_gla", Options::simple_gla(64)),
        ("gla", Options::gla(64)),
        ("delta_rule", Options::delta_rule(64)),
        ("gated_delta", Options::gated_delta(64)),
        ("kda", Options::kda(64)),
        ("normalized", normalized),
        (
            "non_causal",
            Options {
                causal: false,
                ..normalized
            },
        ),
    ];
    let member = |name: String, sizes, options| {
        Made::new(&format!("{}/{name}", plan::OP), sizes).options(options)
    };
    made.push(
        member(
            "lightning_backward_h8_d64_t2048".into(),
            wide,
            Options::plain(),
        )
        .lightning()
        .backward(),
    );
    for (name, options) in members {
        made.push(member(
            format!("{name}_forward_h8_d64_t2048"),
            wide,
            options,
        ));
        made.push(member(format!("{name}_backward_h8_d64_t2048"), wide, options).backward());
    }
    made.push(
        member(
            "gated_delta_step_h64_d64".into(),
            [1, 64, 1, 64, 64],
            Options::gated_delta(64),
        )
        .step(),
    );
    made.push(
        member(
            "gla_grouped_forward_h8_d64_t2048".into(),
            wide,
            Options::gla(64),
        )
        .kv_heads(2),
    );
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
