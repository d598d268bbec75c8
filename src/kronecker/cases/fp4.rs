//! `fp4_quantize` and `fp4_dequantize`.

use serde_json::{Value, json};

use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    kronecker::{
        cpu::fp4 as cpu,
        fp4::{self, DEQUANTIZE, Options, QUANTIZE, Rotation, Rounding, Rule, ScaleFormat, Shape},
    },
    plan::Plan,
    random::Random,
};

/// The entry of `fp4_quantize`.
pub(crate) const QUANTIZED: Op = Op {
    name: QUANTIZE,
    bind: bind_quantize,
    builtin: quantizations,
    benches: |class| benches(QUANTIZE, class),
};

/// The entry of `fp4_dequantize`.
pub(crate) const DEQUANTIZED: Op = Op {
    name: DEQUANTIZE,
    bind: bind_dequantize,
    builtin: dequantizations,
    benches: |_| Vec::new(),
};

fn options(case: &Case) -> Result<Options, Failure> {
    let stream = |name: &str| -> Result<Option<Random>, Failure> {
        Ok(case.count(name)?.map(|seed| Random::new(seed as u64)))
    };
    let rounding = match stream("seed")? {
        Some(random) => Rounding::Random(random),
        None => Rounding::Nearest,
    };
    let signs = stream("sign_seed")?;
    let rotation = case.count("rotation")?;
    Ok(Options {
        block: case.count("block")?.unwrap_or(32),
        format: case.choice(
            "format",
            &[
                ("e8m0", ScaleFormat::E8m0),
                ("e4m3", ScaleFormat::E4m3),
                ("ue5m3", ScaleFormat::Ue5m3),
            ],
        )?,
        rule: case.choice(
            "rule",
            &[
                ("up", Rule::Up),
                ("nearest", Rule::Nearest),
                ("ocp", Rule::Ocp),
            ],
        )?,
        rounding,
        rotation: rotation.map(|width| Rotation { width, signs }),
    })
}

fn output(name: &'static str, dtype: Dtype, shape: Vec<usize>, ratio: f64) -> Output {
    Output {
        name,
        dtype,
        shape,
        ratio,
        per_magnitude: 0.0,
        per_value: 0.0,
    }
}

struct Quantization {
    shape: Shape,
    options: Options,
    x: Array,
}

fn bind_quantize(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [rows, width] = case.axes("x", "[rows, width]")?;
    let (shape, options) = (Shape { rows, width }, options(case)?);
    shape.check(QUANTIZE, &options)?;
    let x = case.shaped("x", Dtype::F32, &[rows, width])?.clone();
    Ok(Box::new(Quantization { shape, options, x }))
}

impl Problem for Quantization {
    fn inputs(&self) -> Vec<&Array> {
        vec![&self.x]
    }

    /// Exact, each of them.
    fn outputs(&self) -> Vec<Output> {
        let Shape { rows, width } = self.shape;
        let blocks = width / self.options.block;
        vec![
            output("codes", Dtype::U32, vec![rows, width / 8], 0.0),
            output("scales", Dtype::U8, vec![rows, blocks], 0.0),
            output("tensor_scale", Dtype::F32, vec![1], 0.0),
        ]
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        fp4::plan_quantize(&self.shape, &self.options, caps).map(|plan| vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let x: Vec<f32> = self.x.values().into_iter().map(|x| x as f32).collect();
        let found = cpu::quantize(&self.shape, &self.options, &x)?;
        let reference = |values| Reference {
            values,
            magnitude: Vec::new(),
        };
        Ok(vec![
            reference(found.codes.into_iter().map(f64::from).collect()),
            reference(found.scales.into_iter().map(f64::from).collect()),
            reference(vec![found.tensor_scale.into()]),
        ])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("m", self.shape.rows), ("n", self.shape.width)]
    }
}

struct Dequantization {
    shape: Shape,
    options: Options,
    rotate_back: bool,
    inputs: [Array; 3],
}

fn bind_dequantize(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [rows, words] = case.axes("codes", "[rows, width / 8]")?;
    let shape = Shape {
        rows,
        width: 8 * words,
    };
    let options = options(case)?;
    shape.check(DEQUANTIZE, &options)?;
    let inputs = [
        case.shaped("codes", Dtype::U32, &[rows, words])?,
        case.shaped("tensor_scale", Dtype::F32, &[1])?,
        case.shaped("scales", Dtype::U8, &[rows, shape.width / options.block])?,
    ];
    Ok(Box::new(Dequantization {
        shape,
        options,
        rotate_back: case.flag("rotate_back", false)?,
        inputs: inputs.map(Array::clone),
    }))
}

impl Problem for Dequantization {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let Shape { rows, width } = self.shape;
        let ratio = match (self.options.rotation, self.options.format) {
            (Some(_), _) if self.rotate_back => 1e-6,
            // The product with a scale that has all its bits is rounded.
            (_, ScaleFormat::E4m3) => (-24f64).exp2(),
            _ => 0.0,
        };
        vec![output("x", Dtype::F32, vec![rows, width], ratio)]
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let plan = fp4::plan_dequantize(&self.shape, &self.options, self.rotate_back, caps)?;
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let [codes, whole, scales] = &self.inputs;
        let quantized = cpu::Quantized {
            codes: codes.values().into_iter().map(|code| code as u32).collect(),
            scales: scales.values().into_iter().map(|code| code as u8).collect(),
            tensor_scale: whole.values().first().copied().unwrap_or(1.0) as f32,
        };
        let values = cpu::dequantize(&self.shape, &self.options, self.rotate_back, &quantized)?;
        Ok(vec![Reference {
            values,
            magnitude: Vec::new(),
        }])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("m", self.shape.rows), ("n", self.shape.width)]
    }
}

/// Numbers of many sizes, ties, zeros, blocks of zeros, and one NaN and infinity each.
fn mixed(name: &str, [rows, width]: [usize; 2], poison: bool) -> Array {
    let mut numbers = Numbers::of(name);
    let mut values: Vec<f64> = Vec::new();
    for n in 0..rows * width {
        // The size changes from block to block, from 2^-40 to 2^23.
        let size = f64::from((n / 16 * 37 % 64) as i32 - 40).exp2();
        values.push(match numbers.below(4) {
            // Eighths: among them midpoints of codes where scales are powers of two.
            0 => size * (numbers.signed() * 48.0).round() / 8.0,
            1 => size * numbers.signed() * 0.1,
            _ => size * numbers.signed(),
        });
    }
    values.iter_mut().skip(64).take(32).for_each(|x| *x = 0.0);
    if poison {
        values
            .iter_mut()
            .skip(3)
            .take(1)
            .for_each(|x| *x = f64::NAN);
        values
            .iter_mut()
            .skip(200)
            .take(1)
            .for_each(|x| *x = f64::NEG_INFINITY);
    }
    Array::rounded(Dtype::F32, &[rows, width], &values)
}

fn made(name: &str, axes: [usize; 2], params: Value) -> Case {
    let x = mixed(name, axes, !name.ends_with("rotated"));
    Case::made(name, QUANTIZE, params, [("x", x)])
}

fn quantizations() -> Vec<Case> {
    let case = |name: &str, axes, block: usize, format: &str, rule: &str, seed: Option<u64>| {
        let params = json!({ "block": block, "format": format, "rule": rule, "seed": seed });
        made(name, axes, params)
    };
    let rotated = |name: &str, axes, rotation: usize, format: &str, signs: Option<u64>| {
        let params =
            json!({ "block": 16, "format": format, "rotation": rotation, "sign_seed": signs });
        made(name, axes, params)
    };
    vec![
        case("fp4_e8m0_up", [3, 352], 32, "e8m0", "up", None),
        case("fp4_e8m0_nearest", [5, 112], 16, "e8m0", "nearest", None),
        case("fp4_e8m0_ocp", [70, 32], 32, "e8m0", "ocp", None),
        case("fp4_e8m0_ocp_random", [70, 32], 32, "e8m0", "ocp", Some(4)),
        case("fp4_e4m3_up", [3, 352], 16, "e4m3", "up", None),
        case("fp4_e4m3_nearest", [5, 1024], 16, "e4m3", "nearest", None),
        case("fp4_e4m3_random", [3, 352], 16, "e4m3", "up", Some(9)),
        case("fp4_ue5m3_up", [3, 352], 32, "ue5m3", "up", None),
        case("fp4_ue5m3_nearest", [9, 128], 16, "ue5m3", "nearest", None),
        case("fp4_ue5m3_random", [3, 352], 16, "ue5m3", "up", Some(5)),
        rotated("fp4_e8m0_16_rotated", [3, 208], 16, "e8m0", Some(2)),
        rotated("fp4_e4m3_32_rotated", [3, 96], 32, "e4m3", Some(2)),
        rotated("fp4_ue5m3_64_rotated", [3, 192], 64, "ue5m3", None),
        rotated("fp4_e8m0_128_rotated", [3, 128], 128, "e8m0", None),
        case("fp4_none", [0, 32], 32, "e4m3", "up", None),
    ]
}

/// Every code with many scales.
fn dequantization(name: &str, format: &str, block: usize, rotation: Option<usize>) -> Case {
    let (rows, width) = (3, 256);
    let mut numbers = Numbers::of(name);
    let codes = numbers.words(&[rows, width / 8]);
    let scales: Vec<f64> = (0..rows * width / block)
        .map(|_| 40.0 + numbers.below(80) as f64)
        .collect();
    let whole = if format == "e4m3" { 0.37 } else { 1.0 };
    let params = json!({
        "format": format, "block": block, "rotation": rotation, "sign_seed": 3, "rotate_back": rotation.is_some()
    });
    Case::made(
        name,
        DEQUANTIZE,
        params,
        [
            ("codes", codes),
            ("tensor_scale", Array::rounded(Dtype::F32, &[1], &[whole])),
            (
                "scales",
                Array::rounded(Dtype::U8, &[rows, width / block], &scales),
            ),
        ],
    )
}

fn dequantizations() -> Vec<Case> {
    vec![
        dequantization("fp4_decode_e8m0", "e8m0", 32, None),
        dequantization("fp4_decode_e4m3", "e4m3", 16, None),
        dequantization("fp4_decode_ue5m3", "ue5m3", 16, None),
        dequantization("fp4_decode_rotated", "ue5m3", 16, Some(64)),
    ]
}

fn benches(op: &'static str, _: Class) -> Vec<Bench> {
    ["", "_rotation32"]
        .map(|rotation| {
            let name = format!("{op}/e8m0_m256_n4096{rotation}");
            Bench {
                name: name.clone(),
                make: Box::new(move || {
                    let width = (!rotation.is_empty()).then_some(32);
                    let x = Numbers::of(&name).array(Dtype::F32, &[256, 4096], 0.0, 1.0);
                    let params = json!({ "rotation": width });
                    Case::made(&name, QUANTIZE, params, [("x", x)])
                }),
            }
        })
        .into()
}
