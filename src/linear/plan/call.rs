//! A checked call: where its tensors are, what its walks read, and what it amounts to.

use super::{OP, States};
use crate::{
    Error, Result,
    gpu::{Caps, Dtype},
    linear::{
        Decay, FeatureMap, FeatureShape, Options, Shape,
        features::{self, steps},
        kernels::{Access, Fading},
        shape::sequences,
        walk::{Packed, Rows},
    },
    plan::{Builder, Slot, Work},
    rows,
};

/// Query heads of one state that a walk reads at once; more are spread over copies of the state.
const MOST_READERS: usize = 8;

/// Where the tensors of a call are.
pub(super) struct Slots {
    pub log_decay: Option<Slot>,
    pub beta: Option<Slot>,
    pub initial: Option<Slot>,
    pub initial_z: Option<Slot>,
    pub fm_weight: Option<Slot>,
    pub fm_bias: Option<Slot>,
    pub last: Option<Slot>,
    pub last_z: Option<Slot>,
}

impl Slots {
    /// After so many inputs and outputs.
    pub fn new(options: &Options, states: &States<'_>, [inputs, outputs]: [u16; 2]) -> Slots {
        let count = |first: u16| {
            let mut n = first;
            move |given: bool| {
                given.then(|| {
                    n += 1;
                    n - 1
                })
            }
        };
        let (mut input, mut output) = (count(inputs), count(outputs));
        Slots {
            log_decay: input(options.decay != Decay::None).map(Slot::Input),
            beta: input(options.delta).map(Slot::Input),
            initial: input(states.initial).map(Slot::Input),
            initial_z: input(states.initial_z).map(Slot::Input),
            fm_weight: input(states.fm_weight.is_some()).map(Slot::Input),
            fm_bias: input(states.fm_bias.is_some()).map(Slot::Input),
            last: output(states.last).map(Slot::Output),
            last_z: output(states.last_z).map(Slot::Output),
        }
    }
}

/// What a forward walk reads.
pub(super) struct Operands {
    pub q: Option<Rows>,
    pub k: Rows,
    pub v: Rows,
    /// Width of queries and keys after what of the feature map is not left to the walk.
    pub key: usize,
    pub map: FeatureMap,
    pub access: Access,
}

/// A checked call.
pub(super) struct Call<'a> {
    pub shape: &'a Shape,
    pub options: &'a Options,
    pub caps: &'a Caps,
    pub packed: Option<Packed>,
    pub sequences: usize,
    /// Sets of the feature map's weights.
    pub sets: usize,
    pub slots: Slots,
}

impl<'a> Call<'a> {
    pub fn new(
        shape: &'a Shape,
        options: &'a Options,
        states: States<'a>,
        caps: &'a Caps,
    ) -> Result<Call<'a>> {
        shape.check(OP)?;
        options.check(OP)?;
        shape.fits(caps)?;
        let own = (shape.heads == shape.kv_heads).then_some(shape.heads);
        let map = options.feature_map;
        let sets = map.weight_sets(OP, shape.key, own, states.fm_weight, states.fm_bias)?;
        for (what, given) in [("initial_z", states.initial_z), ("final_z", states.last_z)] {
            if given && options.normalize.is_none() {
                return Err(Error::Argument {
                    op: OP,
                    what: what.into(),
                    expected: "absent without the normaliser".into(),
                    got: "a tensor".into(),
                });
            }
        }
        let sequences = sequences(shape, OP, states.cu_seqlens)?;
        let count = sequences.len();
        Ok(Call {
            shape,
            options,
            caps,
            packed: states.cu_seqlens.map(|_| Packed { sequences }),
            sequences: count,
            sets,
            slots: Slots::new(options, &states, [3, 1]),
        })
    }

    /// Inputs of the call: q, k, v and those that its slots name.
    pub fn inputs(&self) -> u16 {
        let slots = &self.slots;
        let given = [
            slots.log_decay,
            slots.beta,
            slots.initial,
            slots.initial_z,
            slots.fm_weight,
            slots.fm_bias,
        ];
        3 + given.iter().flatten().count() as u16
    }

    /// Copies of each state that share its query heads.
    pub fn spread(&self) -> usize {
        let group = self.shape.heads / self.shape.kv_heads.max(1);
        (1..=group.max(1))
            .find(|n| group.is_multiple_of(*n) && group / n <= MOST_READERS)
            .unwrap_or(1)
    }

    /// A tensor through the feature map, or widened by the identity, as rows `stride` elements apart.
    pub fn mapped(
        &self,
        builder: &mut Builder,
        slot: Slot,
        [heads, width]: [usize; 2],
        from: Dtype,
        map: FeatureMap,
        to: (Dtype, usize),
    ) -> Result<Rows> {
        let shape = self.feature_shape(heads, width, from);
        let (dtype, stride) = to;
        let slot_bytes = (shape.rows() * stride) as u64 * dtype.bytes();
        let y = builder.add_scratch(slot_bytes.next_multiple_of(4));
        let rows = rows::Rows {
            slot: y,
            dtype,
            stride,
        };
        steps::forward_steps(builder, &self.mapping(&shape, map), slot, rows)?;
        Ok(Rows {
            slot: y,
            heads,
            elem: dtype.bytes(),
        })
    }

    pub fn feature_shape(&self, heads: usize, key: usize, dtype: Dtype) -> FeatureShape {
        FeatureShape {
            batch: self.shape.batch,
            tokens: self.shape.tokens,
            heads,
            key,
            layout: self.shape.layout,
            dtype,
        }
    }

    pub fn mapping<'m>(&'m self, shape: &'m FeatureShape, map: FeatureMap) -> steps::Mapping<'m> {
        let weights = map == self.options.feature_map;
        steps::Mapping {
            shape,
            map,
            sets: if weights { self.sets } else { 1 },
            weight: self.slots.fm_weight.filter(|_| weights),
            bias: self.slots.fm_bias.filter(|_| weights),
            caps: self.caps,
        }
    }

    /// The tensors that a forward walk reads, its key width and how it reads them.
    pub fn operands(
        &self,
        builder: &mut Builder,
        q: Option<Slot>,
        [k, v]: [Slot; 2],
    ) -> Result<Operands> {
        let (shape, map) = (self.shape, self.options.feature_map);
        let (heads, kv_heads, key) = (shape.heads, shape.kv_heads, shape.key);
        let input = |slot: Slot, heads: usize| Rows {
            slot,
            heads,
            elem: shape.dtype.bytes(),
        };
        let fused = features::elementwise(map).is_some();
        let (width, dtype) = if fused {
            (key, shape.dtype)
        } else {
            (map.width(key), map.storage(shape.dtype))
        };
        let (q, [k, v]) = if fused {
            let q = q.map(|slot| input(slot, heads));
            (q, [input(k, kv_heads), input(v, kv_heads)])
        } else {
            let to = (dtype, width);
            let mut mapped = |slot: Slot, heads: usize| {
                self.mapped(builder, slot, [heads, key], shape.dtype, map, to)
            };
            let q = q.map(|slot| mapped(slot, heads)).transpose()?;
            let k = mapped(k, kv_heads)?;
            let v = if dtype == shape.dtype {
                input(v, kv_heads)
            } else {
                let (sizes, to) = ([kv_heads, shape.value], (dtype, shape.value));
                self.mapped(builder, v, sizes, shape.dtype, FeatureMap::Identity, to)?
            };
            (q, [k, v])
        };
        Ok(Operands {
            q,
            k,
            v,
            key: width,
            map: if fused { map } else { FeatureMap::Identity },
            access: Access::new(dtype, [width, shape.value], self.caps),
        })
    }

    /// What fades, and by which tensor; the state is transposed where the value takes the key's place.
    pub fn fading(&self, transposed: bool) -> (Fading, Option<Rows>) {
        let fading = match self.options.decay {
            Decay::None => Fading::None,
            Decay::Head => Fading::Head,
            Decay::Token => Fading::Token,
            Decay::Channel if transposed => Fading::Columns,
            Decay::Channel => Fading::Rows,
        };
        let rows = self.slots.log_decay.map(|slot| Rows {
            slot,
            heads: self.shape.kv_heads,
            elem: 4,
        });
        (fading, rows)
    }

    /// What the operator amounts to, whichever form computes it: 4KV + 64(K + V) operations a token and query head (6KV with
    /// the delta rule), every input read and every output written once.
    pub fn work(&self) -> Work {
        let (shape, options) = (self.shape, self.options);
        let products = if options.delta { 6 } else { 4 };
        let features = options.feature_width(shape);
        let per_token = products * features * shape.value + 64 * (features + shape.value);
        let state_len = self.sequences * shape.kv_heads * features * shape.value;
        let states =
            usize::from(self.slots.initial.is_some()) + usize::from(self.slots.last.is_some());
        let per_row = shape.state_rows() * shape.tokens;
        let decays = match options.decay {
            Decay::None => 0,
            Decay::Head => shape.kv_heads,
            Decay::Token => per_row,
            Decay::Channel => per_row * features,
        };
        let betas = if options.delta { per_row } else { 0 };
        let elements = shape.query_len() + shape.key_len() + shape.value_len() + shape.output_len();
        Work {
            flops: (shape.rows() * shape.tokens * per_token) as f64,
            popcounts: 0.0,
            bytes: elements as f64 * shape.dtype.bytes() as f64
                + 4.0 * (states * state_len + decays + betas) as f64,
        }
    }
}
