//! Distances by one atomic subtraction for each pair of symbols that match.

use std::sync::Arc;

use bytemuck::bytes_of;

use super::{
    Pattern,
    plan::{Planner, UNIT, distances, kernel},
    symbols::Alphabet,
};
use crate::{
    Result,
    gpu::{Spec, params, part},
    plan::{Bind, Slot},
    rows::fill,
};

params! {
    /// Parameters of `sliding_scatter`.
    ScatterParams {
        symbols: u32,
        keys: u32,
        outputs: u32,
        wild_code: u32,
        begin: u32,
        end: u32,
        first: u32,
        groups: u32,
    }
}

/// Symbols of a workgroup.
const GROUP: u64 = 256;

pub(super) fn steps(planner: &mut Planner<'_>, pattern: &Pattern) -> Result<()> {
    let m = pattern.symbols_len() as u64;
    let positions = planner.shape.outputs(pattern.symbols_len()) as u64;
    let chunks = planner.chunks(positions, m, 0, UNIT)?;
    let wild = planner.shape.wild;
    let lists = Lists::new(pattern, &planner.alphabet, wild);
    let counted = pattern.tame().count() as u32;
    let caps = planner.caps;
    fill(
        &mut planner.builder,
        caps,
        Slot::Output(0),
        0..positions,
        counted,
    );
    let own = Bind {
        bytes: 0..4 * lists.table.len() as u64,
        slot: planner.builder.add_table(lists.table),
        write: false,
    };
    let [codes, wild_part] = planner.coded_parts();
    let scatter = Arc::new(kernel(
        "hamming/sliding_scatter",
        [part!("hamming/sliding_scatter.wgsl"), codes, wild_part],
        Spec::default().with("WILD", wild),
        ScatterParams::FIELDS,
    ));
    let keys = planner.keys();
    // Entries of a list in one dispatch: a lane takes those of four symbols, after four searches.
    let most = (caps.loop_iterations / 16 * 15).saturating_sub(4 * 33) / 4;
    let most = most.max(1);
    for chunk in &chunks {
        let symbols = planner.under(chunk, m);
        for begin in (0..lists.longest).step_by(most as usize) {
            let end = lists.longest.min(begin + most);
            let mut bind = planner.coded(&symbols);
            bind.extend([own.clone(), distances(chunk)]);
            let len = symbols.end - symbols.start;
            let operations = (GROUP * (300 + 64 * (end - begin))) as f64;
            planner.step(
                &scatter,
                &bind,
                len.div_ceil(GROUP),
                operations,
                |first, groups| {
                    let params = ScatterParams {
                        symbols: len as u32,
                        keys,
                        outputs: (chunk.end - chunk.start) as u32,
                        wild_code: keys + 1,
                        begin: begin as u32,
                        end: end as u32,
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

/// Positions of the pattern by code.
struct Lists {
    /// Where the list of each rank, of other symbols and of wild ones begins, and where the last ends; then the lists.
    table: Vec<u32>,
    /// Length of the longest.
    longest: u64,
}

impl Lists {
    fn new(pattern: &Pattern, alphabet: &Alphabet, wild: bool) -> Lists {
        let ranks = alphabet.ranks();
        let mut lists = vec![Vec::new(); ranks + 2];
        for (j, symbol) in pattern.tame() {
            if let Some(list) = lists.get_mut(alphabet.code(symbol) as usize) {
                list.push(j as u32);
            }
        }
        if wild && let Some(all) = lists.last_mut() {
            all.extend(pattern.tame().map(|(j, _)| j as u32));
        }
        let longest = lists.iter().map(Vec::len).max().unwrap_or(0) as u64;
        let mut begin = lists.len() as u32 + 1;
        let mut table = vec![begin];
        for list in &lists {
            begin += list.len() as u32;
            table.push(begin);
        }
        table.extend(lists.into_iter().flatten());
        Lists { table, longest }
    }
}
