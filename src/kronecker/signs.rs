//! Random signs along an axis and their transpose, as parts of a plan.

use bytemuck::bytes_of;

use crate::{
    Result,
    gpu::{Caps, Dtype, Spec, params, part},
    over::{Held, OverRows, kernel},
    plan::{Builder, Slot},
    random::Random,
    rows::Rows,
};

params! {
    /// Parameters of `signs`.
    SignsParams {
        key_low: u32,
        key_high: u32,
        x_offset: u32,
        y_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        len_in: u32,
        len_out: u32,
        period: u32,
        blocks: u32,
        inner: u32,
        scale: f32,
    }
}

params! {
    /// Parameters of `signs_sum`.
    SumParams {
        key_low: u32,
        key_high: u32,
        y_offset: u32,
        x_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        len_in: u32,
        len_out: u32,
        period: u32,
        blocks: u32,
        inner: u32,
        scale: f32,
    }
}

/// y[o, b, i, c] = s(b N + i) x[o, i, c], with `len` items along the axis of x and N, its padding, along that of y.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs {
    pub random: Random,
    pub outer: usize,
    pub blocks: usize,
    pub len: usize,
    pub padded: usize,
    pub inner: usize,
}

/// Operations of an element: mostly those of its random word.
const FLOPS: f64 = 100.0;

/// f32 rows of a slot.
pub(super) fn rows(slot: Slot, stride: usize) -> Rows {
    Rows {
        slot,
        dtype: Dtype::F32,
        stride,
    }
}

impl Signs {
    /// Adds the steps from x to y.
    pub fn spread(&self, builder: &mut Builder, caps: &Caps, [x, y]: [Slot; 2]) -> Result<()> {
        let per_row = self.blocks * self.padded * self.inner;
        let over = OverRows {
            kernel: kernel(
                "kronecker/signs",
                [part!("kronecker/signs.wgsl"), part!("common/threefry.wgsl")],
                Spec::default(),
                SignsParams::FIELDS,
            ),
            held: vec![
                Held::Rows(rows(x, self.len * self.inner)),
                Held::Written(rows(y, per_row)),
            ],
            rows: self.outer as u64,
            per_row: per_row as u64,
            row_flops: FLOPS * per_row as f64,
        };
        let [key_low, key_high] = self.random.key();
        over.steps(builder, caps, |placed| {
            let params = SignsParams {
                key_low,
                key_high,
                x_offset: placed.offset(0),
                y_offset: placed.offset(1),
                first_row: placed.first_row,
                first: placed.first,
                end: placed.end,
                len_in: self.len as u32,
                len_out: self.padded as u32,
                period: self.padded as u32,
                blocks: self.blocks as u32,
                inner: self.inner as u32,
                scale: 1.0,
            };
            bytes_of(&params).to_vec()
        })
    }

    /// Adds the steps of the transpose: x[o, i, c] = scale Σ_b s(b N + i) y[o, b, i, c].
    pub fn sum(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        scale: f64,
        [y, x]: [Slot; 2],
    ) -> Result<()> {
        let per_row = self.len * self.inner;
        let over = OverRows {
            kernel: kernel(
                "kronecker/signs_sum",
                [
                    part!("kronecker/signs_sum.wgsl"),
                    part!("common/threefry.wgsl"),
                ],
                Spec::default(),
                SumParams::FIELDS,
            ),
            held: vec![
                Held::Rows(rows(y, self.blocks * self.padded * self.inner)),
                Held::Written(rows(x, per_row)),
            ],
            rows: self.outer as u64,
            per_row: per_row as u64,
            row_flops: FLOPS * (self.blocks * per_row) as f64,
        };
        let [key_low, key_high] = self.random.key();
        over.steps(builder, caps, |placed| {
            let params = SumParams {
                key_low,
                key_high,
                y_offset: placed.offset(0),
                x_offset: placed.offset(1),
                first_row: placed.first_row,
                first: placed.first,
                end: placed.end,
                len_in: self.padded as u32,
                len_out: self.len as u32,
                period: self.padded as u32,
                blocks: self.blocks as u32,
                inner: self.inner as u32,
                scale: scale as f32,
            };
            bytes_of(&params).to_vec()
        })
    }
}
