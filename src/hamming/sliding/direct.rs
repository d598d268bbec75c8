//! Distances by comparing symbols.

use std::sync::Arc;

use bytemuck::bytes_of;

use super::{
    Pattern,
    plan::{Planner, UNIT, distances, kernel},
};
use crate::{
    Result,
    gpu::{Dtype, Spec, params, part},
    plan::Bind,
};

params! {
    /// Parameters of `sliding_direct`.
    DirectParams {
        symbols: u32,
        outputs: u32,
        begin: u32,
        end: u32,
        accumulate: u32,
        first: u32,
        groups: u32,
    }
}

/// Positions of a workgroup.
const GROUP: u64 = 256;

pub(super) fn steps(planner: &mut Planner<'_>, pattern: &Pattern) -> Result<()> {
    let m = pattern.symbols_len() as u64;
    let positions = planner.shape.outputs(pattern.symbols_len()) as u64;
    let chunks = planner.chunks(positions, m, 0, UNIT)?;
    let bytes = planner.shape.dtype == Dtype::U8;
    let wanted = if bytes {
        in_bytes(pattern)
    } else {
        in_words(pattern)
    };
    let entries = wanted.len() as u64 / 2;
    let table = planner.builder.add_table(wanted);
    let own = match bytes {
        true => part!("hamming/sliding_direct_u8.wgsl"),
        false => part!("hamming/sliding_direct_u32.wgsl"),
    };
    let direct = Arc::new(kernel(
        "hamming/sliding_direct",
        [
            part!("hamming/sliding_direct.wgsl"),
            own,
            planner.wild_part(),
        ],
        Spec::default().with("WILD", planner.shape.wild),
        DirectParams::FIELDS,
    ));
    // Entries of the pattern in one dispatch, from an aligned one on.
    let most = (planner.caps.loop_iterations / 16 * 15).min(planner.caps.binding_bytes / 8);
    let most = most.max(32) / 32 * 32;
    for chunk in &chunks {
        let symbols = planner.under(chunk, m);
        let outputs = chunk.end - chunk.start;
        for begin in (0..entries).step_by(most as usize) {
            let end = entries.min(begin + most);
            let own = Bind {
                slot: table,
                bytes: 8 * begin..8 * end,
                write: false,
            };
            let mut bind = vec![planner.text(&symbols), own];
            bind.extend(planner.wild(&symbols));
            bind.push(distances(chunk));
            let operations = (64 * 4 * (end - begin) * 12) as f64;
            planner.step(
                &direct,
                &bind,
                outputs.div_ceil(GROUP),
                operations,
                |first, groups| {
                    let params = DirectParams {
                        symbols: (symbols.end - symbols.start) as u32,
                        outputs: outputs as u32,
                        begin: begin as u32,
                        end: end as u32,
                        accumulate: (begin > 0).into(),
                        first,
                        groups,
                    };
                    bytes_of(&params).to_vec()
                },
            );
        }
    }
    Ok(())
}

/// Four symbols a word, then the top bits of those that count.
fn in_bytes(pattern: &Pattern) -> Vec<u32> {
    let mut table = vec![0u32; 2 * pattern.symbols_len().div_ceil(4)];
    for (j, symbol) in pattern.tame() {
        if let Some([symbols, tops]) = table.get_mut(j / 4 * 2..).and_then(|t| t.first_chunk_mut())
        {
            *symbols |= symbol << (8 * (j % 4));
            *tops |= 0x80 << (8 * (j % 4));
        }
    }
    table
}

/// A symbol, then whether it counts.
fn in_words(pattern: &Pattern) -> Vec<u32> {
    let symbols = pattern.symbols.iter().enumerate();
    symbols
        .flat_map(|(j, symbol)| [*symbol, pattern.counts(j).into()])
        .collect()
}
