//! The bundled layer: queries, keys and values of real text.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use serde_json::{Map, json};

use crate::{
    Gpu, Tensor,
    case::{Array, Case, Failure},
    gpu::Dtype,
    linear::{Layout, Shape, slopes_opennlplab},
};

const BYTES: &[u8] = include_bytes!("../../../examples/data/attention_layer.safetensors");

/// The decay table of the demonstration.
pub(super) const SLOPES: &str = "slopes_opennlplab(heads 12, layer 0 of 12)";

/// One layer's tensors.
pub(super) struct Layer {
    /// Heads.
    pub heads: usize,
    /// Tokens of the text.
    pub tokens: usize,
    /// Width of a head.
    pub width: usize,
    /// q, k and v, `[heads, tokens, width]`.
    pub qkv: [Vec<f64>; 3],
    arrays: [Array; 3],
    about: String,
}

impl Layer {
    /// Reads the bundled file.
    pub fn load() -> Result<Layer, Failure> {
        let broken = |message: String| Failure::File {
            path: "the bundled layer".into(),
            message,
        };
        let file = SafeTensors::deserialize(BYTES).map_err(|error| broken(error.to_string()))?;
        let (_, header) =
            SafeTensors::read_metadata(BYTES).map_err(|error| broken(error.to_string()))?;
        let about = |key: &str| {
            let metadata = header.metadata().as_ref();
            metadata
                .and_then(|map| map.get(key))
                .cloned()
                .unwrap_or_default()
        };
        let array = |name: &str| -> Result<Array, Failure> {
            let view = file
                .tensor(name)
                .map_err(|error| broken(error.to_string()))?;
            if view.dtype() != safetensors::Dtype::F16 {
                return Err(broken(format!("{name} is not f16")));
            }
            Ok(Array {
                dtype: Dtype::F16,
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            })
        };
        let arrays = [array("q")?, array("k")?, array("v")?];
        let [Array { shape, .. }, ..] = &arrays;
        let [heads, tokens, width] = shape[..] else {
            return Err(broken("q is not [heads, tokens, width]".into()));
        };
        Ok(Layer {
            heads,
            tokens,
            width,
            qkv: arrays.each_ref().map(Array::values),
            about: format!("{}, reading {}", about("model"), about("text")),
            arrays,
        })
    }

    /// What it is, in a line.
    pub fn describe(&self) -> String {
        format!(
            "{}: {} heads, {} tokens, width {}, f16",
            self.about, self.heads, self.tokens, self.width
        )
    }

    /// The model's factor on scores.
    pub fn scale(&self) -> f32 {
        (self.width as f32).sqrt().recip()
    }

    /// The shape with another number of tokens, in f32.
    pub fn shape(&self, tokens: usize) -> Shape {
        Shape {
            batch: 1,
            tokens,
            heads: self.heads,
            kv_heads: self.heads,
            key: self.width,
            value: self.width,
            layout: Layout::Bhtd,
            dtype: Dtype::F32,
        }
    }

    /// Lightning's decays: minus the slopes.
    pub fn log_decay(&self) -> Result<Vec<f32>, Failure> {
        let slopes = slopes_opennlplab(self.heads, 0, 12)?;
        Ok(slopes.into_iter().map(|slope| -slope).collect())
    }

    /// Tensor n with its tokens repeated until there are so many.
    pub fn repeated(&self, n: usize, tokens: usize) -> Vec<f64> {
        let values = self.qkv.get(n).map(Vec::as_slice).unwrap_or_default();
        values
            .chunks(self.tokens * self.width)
            .flat_map(|head| head.iter().cycle().take(tokens * self.width))
            .copied()
            .collect()
    }

    /// q, k and v on a device in f32, repeated to so many tokens.
    pub fn upload(&self, gpu: &Gpu, tokens: usize) -> Result<Vec<Tensor<f32>>, Failure> {
        (0..3)
            .map(|n| {
                let values: Vec<f32> = self
                    .repeated(n, tokens)
                    .into_iter()
                    .map(|x| x as f32)
                    .collect();
                Ok(gpu.upload(&values)?)
            })
            .collect()
    }

    /// Lightning attention on the layer as it is stored.
    pub fn case(&self) -> Result<Case, Failure> {
        self.case_of(self.arrays.each_ref().map(Array::clone))
    }

    /// Lightning attention on the layer in f32, repeated to so many tokens.
    pub fn case_f32(&self, tokens: usize) -> Result<Case, Failure> {
        let shape = [self.heads, tokens, self.width];
        self.case_of(
            [0, 1, 2].map(|n| Array::rounded(Dtype::F32, &shape, &self.repeated(n, tokens))),
        )
    }

    fn case_of(&self, arrays: [Array; 3]) -> Result<Case, Failure> {
        let params = json!({
            "layout": "bhtd", "causal": true, "normalize": false, "scale": self.scale(), "decay": "head",
        });
        let mut inputs: BTreeMap<String, Array> = ["q", "k", "v"]
            .map(str::to_owned)
            .into_iter()
            .zip(arrays)
            .collect();
        inputs.insert(
            "log_decay".into(),
            Array::f32(&[self.heads], &self.log_decay()?),
        );
        Ok(Case {
            name: "demo".into(),
            op: crate::linear::plan::OP.into(),
            params: params.as_object().cloned().unwrap_or_else(Map::new),
            source: self.about.clone(),
            inputs,
            grad_outputs: BTreeMap::new(),
            expected: BTreeMap::new(),
            expected_grads: BTreeMap::new(),
        })
    }

    /// Row t of head h of tensor n.
    fn row(&self, n: usize, h: usize, t: usize) -> &[f64] {
        let at = (h * self.tokens + t) * self.width;
        let tensor = self.qkv.get(n).map(Vec::as_slice).unwrap_or_default();
        tensor.get(at..at + self.width).unwrap_or_default()
    }

    /// What each token of a head takes from each earlier one, averaged over squares of tokens: softmax's weights, and
    /// lightning's `exp((t - j) g) q_t·k_j`; each row over its largest absolute value.
    pub fn maps(&self, h: usize, squares: usize) -> Result<[Vec<f64>; 2], Failure> {
        let g = self.log_decay()?.get(h).copied().map_or(0.0, f64::from);
        let side = self.tokens.div_ceil(squares);
        let mut maps = [vec![0.0; squares * squares], vec![0.0; squares * squares]];
        for t in 0..self.tokens {
            let scores: Vec<f64> = (0..=t)
                .map(|j| f64::from(self.scale()) * dot(self.row(0, h, t), self.row(1, h, j)))
                .collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut add = |map: usize, j: usize, x: f64| {
                let at = (t / side) * squares + j / side;
                if let Some(cell) = maps.get_mut(map).and_then(|map| map.get_mut(at)) {
                    *cell += x;
                }
            };
            for (j, s) in scores.iter().enumerate() {
                add(0, j, (s - most).exp());
                add(1, j, (g * (t - j) as f64).exp() * s);
            }
        }
        for map in &mut maps {
            for row in map.chunks_mut(squares) {
                let most = row.iter().fold(1e-300f64, |most, x| most.max(x.abs()));
                row.iter_mut().for_each(|x| *x /= most);
            }
        }
        Ok(maps)
    }
}

/// Mean over tokens of the cosine of two outputs, for each head.
pub(super) fn cosines(layer: &Layer, a: &[f64], b: &[f64]) -> Vec<f64> {
    let head = layer.tokens * layer.width;
    a.chunks(head)
        .zip(b.chunks(head))
        .map(|(a, b)| {
            let rows = a.chunks(layer.width).zip(b.chunks(layer.width));
            let sum: f64 = rows
                .map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-300))
                .sum();
            sum / layer.tokens as f64
        })
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
