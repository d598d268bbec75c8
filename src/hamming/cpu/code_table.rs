//! References of [`code_table`](crate::hamming::code_table): pair by pair as it is defined, and by way of the table.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use rayon::prelude::*;

use crate::{
    Error, Result,
    error::length,
    hamming::code_table::{OP, Options, Shape, bit_weights},
    kronecker::{self, Factors},
};

/// What the references read, in the layouts of [`code_table::Inputs`](crate::hamming::code_table::Inputs).
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Codes of queries.
    pub q: &'a [u32],
    /// Codes of keys.
    pub k: &'a [u32],
    /// Values.
    pub v: &'a [f64],
    /// Tables to start from.
    pub initial_state: Option<&'a [f64]>,
}

/// What [`forward`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// The outputs.
    pub o: Vec<f64>,
    /// Σ_j P_ij |v_j|: what the error of `o` is measured by. What an initial state holds counts with its absolute value.
    pub magnitude: Vec<f64>,
    /// Tables after the last token where causal, else empty.
    pub final_state: Vec<f64>,
}

/// What [`backward`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients {
    /// With respect to h of the queries, `[B, H, Tq, b]`.
    pub h: Vec<f64>,
    /// With respect to g of the keys, `[B, Hkv, Tk, b]`.
    pub g: Vec<f64>,
    /// With respect to v.
    pub v: Vec<f64>,
}

/// A head of queries: its keys' list, its table, β of its bits, and the weights of differences in the low and in the high half of
/// them.
struct Head {
    list: usize,
    keys: usize,
    table: usize,
    betas: Vec<f64>,
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Head {
    /// The halves of a code, without its pad.
    fn halves(&self, code: u32) -> [usize; 2] {
        let code = code as usize;
        [
            code % self.low.len(),
            code / self.low.len() % self.high.len(),
        ]
    }

    fn weight(&self, difference: u32) -> f64 {
        let [low, high] = self.halves(difference);
        self.low[low] * self.high[high]
    }
}

/// The weights of all differences between codes of these β.
fn weights(betas: &[f64]) -> Vec<f64> {
    let of = |difference: usize| {
        let of_bit = |(bit, beta): (usize, &f64)| bit_weights(*beta)[difference >> bit & 1];
        betas.iter().enumerate().map(of_bit).product()
    };
    (0..1 << betas.len()).map(of).collect()
}

impl Inputs<'_> {
    fn check(&self, shape: &Shape, options: &Options) -> Result<Vec<Head>> {
        shape.check(options)?;
        length(OP, "q", self.q.len(), shape.query_len())?;
        length(OP, "k", self.k.len(), shape.key_len())?;
        length(OP, "v", self.v.len(), shape.value_len())?;
        if let Some(state) = self.initial_state {
            length(OP, "initial_state", state.len(), shape.state_len(options))?;
        }
        let (group, share) = (shape.group(), shape.share(options));
        let heads = (0..shape.query_lists()).map(|list| {
            let betas = options.betas(list % shape.heads);
            Head {
                list,
                keys: list / group,
                table: list / (group / share),
                low: weights(&betas[..options.bits / 2]),
                high: weights(&betas[options.bits / 2..]),
                betas,
            }
        });
        Ok(heads.collect())
    }
}

/// [`forward`](crate::hamming::code_table::forward) in f64, pair by pair.
///
/// # Errors
/// As [`Shape::check`], and `Argument` when a slice has the wrong length.
pub fn forward(shape: &Shape, options: &Options, inputs: &Inputs<'_>) -> Result<Outputs> {
    let heads = inputs.check(shape, options)?;
    let rows: Vec<(Vec<f64>, Vec<f64>)> = (0..shape.query_len())
        .into_par_iter()
        .map(|at| {
            let head = &heads[at / shape.queries];
            let Row { sums, absolute, .. } = row(shape, options, inputs, head, at);
            let z = sums[shape.value];
            let mean = |sums: &[f64]| -> Vec<f64> {
                let values = sums.iter().take(shape.value);
                values.map(|x| if z > 0.0 { x / z } else { 0.0 }).collect()
            };
            (mean(&sums), mean(&absolute))
        })
        .collect();
    let (o, magnitude): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    Ok(Outputs {
        o: o.concat(),
        magnitude: magnitude.concat(),
        final_state: if options.causal {
            state(shape, options, inputs, &heads)
        } else {
            Vec::new()
        },
    })
}

/// One query against every key that it sees.
struct Row {
    /// Weights of the keys, by their place.
    weights: Vec<f64>,
    /// Weighted sums of the values, and the sum of the weights.
    sums: Vec<f64>,
    /// The same of absolute values.
    absolute: Vec<f64>,
}

fn row(shape: &Shape, options: &Options, inputs: &Inputs<'_>, head: &Head, at: usize) -> Row {
    let (i, v) = (at % shape.queries, shape.value);
    let seen = if options.causal { i + 1 } else { shape.keys };
    let first = head.keys * shape.keys;
    let mut sums = vec![0.0; v + 1];
    let mut absolute = vec![0.0; v + 1];
    let mut add = |w: f64, row: &[f64], last: f64| {
        for (c, x) in row.iter().enumerate() {
            sums[c] += w * x;
            absolute[c] += w * x.abs();
        }
        sums[v] += w * last;
    };
    if let Some(state) = inputs.initial_state {
        let [low, high] = head.halves(inputs.q[at]);
        for y in 0..head.low.len() {
            let row = (head.table * head.high.len() + high) * head.low.len() + y;
            let row = &state[row * (v + 1)..][..v + 1];
            add(head.low[y ^ low], &row[..v], row[v]);
        }
    }
    let weights: Vec<f64> = (first..first + seen)
        .map(|key| {
            let w = head.weight(inputs.q[at] ^ inputs.k[key]);
            add(w, &inputs.v[key * v..][..v], 1.0);
            w
        })
        .collect();
    Row {
        weights,
        sums,
        absolute,
    }
}

/// The half-transformed tables after all keys.
fn state(shape: &Shape, options: &Options, inputs: &Inputs<'_>, heads: &[Head]) -> Vec<f64> {
    let len = (shape.value + 1) << options.bits;
    let mut state = match inputs.initial_state {
        Some(state) => state.to_vec(),
        None => vec![0.0; shape.state_len(options)],
    };
    let readers = shape.group() / shape.share(options);
    let owners = heads.iter().step_by(readers.max(1));
    for (head, table) in owners.zip(state.chunks_exact_mut(len)) {
        for key in head.keys * shape.keys..(head.keys + 1) * shape.keys {
            insert(shape, inputs, head, key, table);
        }
    }
    state
}

/// Adds a key to the rows of its low half.
fn insert(shape: &Shape, inputs: &Inputs<'_>, head: &Head, key: usize, table: &mut [f64]) {
    let (v, width) = (shape.value, shape.value + 1);
    let [low, high] = head.halves(inputs.k[key]);
    let value = &inputs.v[key * v..][..v];
    for x in 0..head.high.len() {
        let w = head.high[x ^ high];
        let row = &mut table[(x * head.low.len() + low) * width..][..width];
        for (sum, value) in row.iter_mut().zip(value) {
            *sum += w * value;
        }
        row[v] += w;
    }
}

/// [`backward`](crate::hamming::code_table::backward) in f64, pair by pair.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    grad_o: &[f64],
) -> Result<Gradients> {
    let heads = inputs.check(shape, options)?;
    length(OP, "grad_o", grad_o.len(), shape.output_len())?;
    let (v, b) = (shape.value, options.bits);
    let group = shape.group();
    let sign = |code: u32, bit: usize| if code >> bit & 1 == 1 { 1.0 } else { -1.0 };
    let of_list = |list: usize| {
        let mut grads = Gradients {
            h: Vec::new(),
            g: vec![0.0; shape.keys * b],
            v: vec![0.0; shape.keys * v],
        };
        for head in &heads[list * group..(list + 1) * group] {
            for at in head.list * shape.queries..(head.list + 1) * shape.queries {
                let Row { weights, sums, .. } = row(shape, options, inputs, head, at);
                let grad = &grad_o[at * v..][..v];
                let dot = |x: &[f64]| grad.iter().zip(x).map(|(a, b)| a * b).sum::<f64>();
                let z = sums[v];
                let mean = dot(&sums[..v]) / z;
                let mut own = vec![0.0; b];
                for (j, w) in weights.iter().enumerate() {
                    let key = list * shape.keys + j;
                    let p = w / z;
                    let change = p * (dot(&inputs.v[key * v..][..v]) - mean);
                    for (c, x) in grad.iter().enumerate() {
                        grads.v[j * v + c] += p * x;
                    }
                    for (bit, beta) in head.betas.iter().enumerate() {
                        own[bit] += beta * change * sign(inputs.k[key], bit);
                        grads.g[j * b + bit] += beta * change * sign(inputs.q[at], bit);
                    }
                }
                grads.h.extend(own);
            }
        }
        grads
    };
    let lists: Vec<Gradients> = (0..shape.key_lists())
        .into_par_iter()
        .map(of_list)
        .collect();
    let mut all = Gradients::default();
    for grads in lists {
        all.h.extend(grads.h);
        all.g.extend(grads.g);
        all.v.extend(grads.v);
    }
    Ok(all)
}

/// The outputs by way of tables, in f64: linear in the tokens.
///
/// # Errors
/// As [`forward`]; `Argument` with an initial state.
pub fn by_table(shape: &Shape, options: &Options, inputs: &Inputs<'_>) -> Result<Vec<f64>> {
    if inputs.initial_state.is_some() {
        return Err(Error::Argument {
            op: OP,
            what: "initial_state".into(),
            expected: "none by way of the table".into(),
            got: "a state".into(),
        });
    }
    let heads = inputs.check(shape, options)?;
    let of_head = |head: &Head| {
        if options.causal {
            Ok(causal_by_table(shape, options, inputs, head))
        } else {
            full_by_table(shape, options, inputs, head)
        }
    };
    let rows: Result<Vec<Vec<f64>>> = heads.par_iter().map(of_head).collect();
    Ok(rows?.concat())
}

fn means(row: &[f64]) -> impl Iterator<Item = f64> + '_ {
    let z = row.last().copied().unwrap_or(0.0);
    let values = row.iter().take(row.len() - 1);
    values.map(move |x| if z > 0.0 { x / z } else { 0.0 })
}

fn causal_by_table(shape: &Shape, options: &Options, inputs: &Inputs<'_>, head: &Head) -> Vec<f64> {
    let width = shape.value + 1;
    let mut table = vec![0.0; width << options.bits];
    let mut o = Vec::new();
    for t in 0..shape.queries {
        insert(shape, inputs, head, head.keys * shape.keys + t, &mut table);
        let [low, high] = head.halves(inputs.q[head.list * shape.queries + t]);
        let rows = table[high * head.low.len() * width..].chunks_exact(width);
        let mut sums = vec![0.0; width];
        for (y, row) in rows.take(head.low.len()).enumerate() {
            let w = head.low[y ^ low];
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += w * x;
            }
        }
        o.extend(means(&sums));
    }
    o
}

fn full_by_table(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    head: &Head,
) -> Result<Vec<f64>> {
    let (v, width) = (shape.value, shape.value + 1);
    let mask = (1u32 << options.bits) - 1;
    let mut table = vec![0.0; width << options.bits];
    for key in head.keys * shape.keys..(head.keys + 1) * shape.keys {
        let row = &mut table[(inputs.k[key] & mask) as usize * width..][..width];
        for (x, value) in row.iter_mut().zip(&inputs.v[key * v..][..v]) {
            *x += value;
        }
        row[v] += 1.0;
    }
    let axis = kronecker::Shape {
        outer: 1,
        bits: options.bits,
        inner: width,
    };
    let factor = |beta: &f64| {
        let [equal, differing] = bit_weights(*beta);
        [equal, differing, differing, equal]
    };
    let factors: Vec<f64> = head.betas.iter().flat_map(factor).collect();
    let real = kronecker::cpu::real;
    let table = kronecker::cpu::butterfly(&axis, Factors::Shared, &factors, &table, real)?;
    let queries = head.list * shape.queries..(head.list + 1) * shape.queries;
    Ok(queries
        .flat_map(|query| means(&table[(inputs.q[query] & mask) as usize * width..][..width]))
        .collect())
}
