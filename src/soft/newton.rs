//! Steps of the Newton-Raphson solver.

use super::{
    kernels::{self, HeadParams, MultiplyParams},
    steps::{Buffer, Planner},
    system::{INFO, System},
};
use crate::{Error, Result, plan::Slot};

/// The iterated inverse, then y = V x and two corrections by V times the residual.
pub(super) fn newton(
    planner: &mut Planner<'_>,
    system: &System,
    [right, y]: [Slot; 2],
    parts: usize,
    tolerance: f32,
    max_iterations: u32,
) -> Result<()> {
    let (m, n) = (planner.shape.landmarks, parts * planner.shape.value);
    let (p_stride, y_stride) = (planner.p_stride(), planner.y_stride(parts));
    let [mut inverse, mut next, rest] = [(); 3].map(|()| planner.head_scratch(p_stride));
    let rows = system.rows.ok_or_else(|| Error::Gpu {
        message: "Newton-Raphson was planned without row sums".into(),
    })?;
    let params = HeadParams {
        tolerance,
        ..planner.head_params(parts)
    };
    planner.over_heads(
        kernels::newton_start(),
        &[
            Buffer::read(system.matrix, p_stride),
            Buffer::read(rows, planner.r_stride()),
            Buffer::write(inverse, p_stride),
            Buffer::write(system.info, INFO),
        ],
        |heads| heads,
        2.0 * (m * m) as f64,
        params,
    )?;
    let square = |a: Slot, b: Slot, e: Slot, out: Slot| Product {
        a,
        b,
        e,
        out,
        columns: m,
        stride: p_stride,
    };
    let wide = |a: Slot, b: Slot, e: Slot, out: Slot| Product {
        columns: n,
        stride: y_stride,
        ..square(a, b, e, out)
    };
    let ridge = planner.options.ridge;
    let identity_less = MultiplyParams {
        start: IDENTITY,
        sign: -1.0,
        ridge,
        ..MultiplyParams::default()
    };
    let added = MultiplyParams {
        start: GIVEN,
        sign: 1.0,
        ..MultiplyParams::default()
    };
    let update = MultiplyParams { frozen: 1, ..added };
    for look in 0..=max_iterations {
        let last = look == max_iterations;
        let product = square(system.matrix, inverse, inverse, rest);
        multiply(planner, system, product, identity_less)?;
        planner.over_heads(
            kernels::newton_judge(),
            &[
                Buffer::read(rest, p_stride),
                Buffer::write(system.info, INFO),
            ],
            |heads| heads,
            (m * m) as f64,
            HeadParams {
                begin: u32::from(last),
                ..params
            },
        )?;
        if !last {
            multiply(
                planner,
                system,
                square(inverse, rest, inverse, next),
                update,
            )?;
            (inverse, next) = (next, inverse);
        }
    }
    let [correction, between] = [(); 2].map(|()| planner.head_scratch(y_stride));
    let plain = MultiplyParams { start: 0, ..added };
    let residual = MultiplyParams {
        start: GIVEN,
        ..identity_less
    };
    multiply(planner, system, wide(inverse, right, right, y), plain)?;
    for (from, to) in [(y, between), (between, y)] {
        multiply(
            planner,
            system,
            wide(system.matrix, from, right, correction),
            residual,
        )?;
        multiply(planner, system, wide(inverse, correction, from, to), added)?;
    }
    Ok(())
}

/// Values of `start` in `multiply`: what the product is added to.
const IDENTITY: u32 = 1;
const GIVEN: u32 = 2;

/// out = e + a b, for every head.
struct Product {
    a: Slot,
    b: Slot,
    e: Slot,
    out: Slot,
    columns: usize,
    stride: u64,
}

fn multiply(
    planner: &mut Planner<'_>,
    system: &System,
    product: Product,
    params: MultiplyParams,
) -> Result<()> {
    let m = planner.shape.landmarks;
    let p_stride = planner.p_stride();
    let Product {
        a,
        b,
        e,
        out,
        columns,
        stride,
    } = product;
    let (row_tiles, column_tiles) = (m.div_ceil(32) as u64, columns.div_ceil(32) as u64);
    let buffers = [
        Buffer::read(a, p_stride),
        Buffer::read(b, stride),
        Buffer::read(e, stride),
        Buffer::read(system.info, INFO),
        Buffer::write(out, stride),
    ];
    let groups = |heads: u64| heads * row_tiles * column_tiles;
    planner.windowed(
        kernels::multiply(),
        &buffers,
        &groups,
        2.0 * (m * m * columns) as f64,
        &|_, groups| {
            let params = MultiplyParams {
                m: m as u32,
                n: columns as u32,
                a_stride: p_stride as u32,
                b_stride: stride as u32,
                row_tiles: row_tiles as u32,
                column_tiles: column_tiles as u32,
                groups: groups as u32,
                ..params
            };
            bytemuck::bytes_of(&params).to_vec()
        },
    )
}
