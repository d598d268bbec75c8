//! Bit planes of a text, and distances by population counts.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    Pattern,
    plan::{Planner, UNIT, distances, kernel},
    symbols::Alphabet,
};
use crate::{
    Result,
    gpu::{Part, Spec, params, part},
    plan::{Bind, Slot},
};

params! {
    /// Parameters of `planes`.
    PlanesParams {
        symbols: u32,
        keys: u32,
        stride: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `sliding`.
    SlidingParams {
        stride: u32,
        outputs: u32,
        begin: u32,
        end: u32,
        accumulate: u32,
        first: u32,
        groups: u32,
    }
}

/// Positions of a workgroup.
const GROUP: u64 = 16 * 32;

pub(super) fn steps(planner: &mut Planner<'_>, pattern: &Pattern) -> Result<()> {
    let m = pattern.symbols_len() as u64;
    let positions = planner.shape.outputs(pattern.symbols_len()) as u64;
    let chunks = planner.chunks(positions, m, planner.rows(), UNIT)?;
    let planes = u64::from(planner.alphabet.planes);
    let rows = planner.rows();
    let table = shifted(pattern, &planner.alphabet);
    let words = (m + 31).div_ceil(32);
    let row_bytes = 128 * (planes + 1);
    let table = planner.builder.add_table(table);
    let slot = planner
        .builder
        .add_scratch(scratch_bytes(planner, &chunks, m));
    // Words of the pattern in one dispatch: an even number, so that bindings are aligned.
    let turns = 1 + planes + rows;
    let most = (planner.caps.loop_iterations / 16 * 15).saturating_sub(rows + 16) / turns;
    let most = most.min(planner.caps.binding_bytes / row_bytes).max(2) / 2 * 2;
    let sliding = Arc::new(kernel(
        "hamming/sliding",
        [part!("hamming/sliding.wgsl"), differ(planner)],
        spec(planner).with("ROWS", rows as u32),
        SlidingParams::FIELDS,
    ));
    for chunk in &chunks {
        let symbols = planner.under(chunk, m);
        let (text, stride) = planes_of(planner, &symbols, slot);
        let outputs = chunk.end - chunk.start;
        for begin in (0..words).step_by(most as usize) {
            let end = words.min(begin + most);
            let own = Bind {
                slot: table,
                bytes: begin * row_bytes..end * row_bytes,
                write: false,
            };
            let operations = (64 * 8 * (end - begin) * (2 * planes + 6)) as f64;
            planner.step(
                &sliding,
                &[text.clone(), own, distances(chunk)],
                outputs.div_ceil(GROUP),
                operations,
                |first, groups| {
                    let params = SlidingParams {
                        stride: stride as u32,
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

/// Bytes of the planes of the longest of some chunks.
pub(super) fn scratch_bytes(planner: &Planner<'_>, chunks: &[Range<u64>], m: u64) -> u64 {
    let words = chunks.iter().map(|chunk| {
        let symbols = planner.under(chunk, m);
        (symbols.end - symbols.start).div_ceil(32)
    });
    4 * planner.rows() * words.max().unwrap_or(0)
}

/// Adds the steps that make the planes of some symbols; returns them and the words of a plane.
pub(super) fn planes_of(
    planner: &mut Planner<'_>,
    symbols: &Range<u64>,
    slot: Slot,
) -> (Bind, u64) {
    let len = symbols.end - symbols.start;
    let stride = len.div_ceil(32);
    let bytes = 0..4 * planner.rows() * stride;
    let [codes, wild] = planner.coded_parts();
    let planes = Arc::new(kernel(
        "hamming/planes",
        [part!("hamming/planes.wgsl"), codes, wild],
        spec(planner),
        PlanesParams::FIELDS,
    ));
    let mut bind = planner.coded(symbols);
    bind.push(Bind {
        slot,
        bytes: bytes.clone(),
        write: true,
    });
    let keys = planner.keys();
    let of_symbol = 40 + 4 * planner.alphabet.planes + 16 * (32 - keys.leading_zeros());
    let operations = f64::from(64 * 32 * of_symbol);
    planner.step(
        &planes,
        &bind,
        stride.div_ceil(64),
        operations,
        |first, groups| {
            let params = PlanesParams {
                symbols: len as u32,
                keys,
                stride: stride as u32,
                first,
                groups,
            };
            bytes_of(&params).to_vec()
        },
    );
    let read = Bind {
        slot,
        bytes,
        write: false,
    };
    (read, stride)
}

/// The constants of kernels on planes.
pub(super) fn spec(planner: &Planner<'_>) -> Spec {
    Spec::default()
        .with("PLANES", planner.alphabet.planes)
        .with("WILD", planner.shape.wild)
}

/// The part that compares planes.
pub(super) fn differ(planner: &Planner<'_>) -> Part {
    match planner.alphabet.is_classes() {
        true => part!("hamming/differ_classes.wgsl"),
        false => part!("hamming/differ_ranks.wgsl"),
    }
}

/// A pattern's planes, and its mask as the last, in words: bit j mod 32 of word j / 32 belongs to symbol j. Wild symbols have
/// zeros everywhere.
pub(super) fn words_of(pattern: &Pattern, alphabet: &Alphabet, len: usize) -> Vec<Vec<u32>> {
    let planes = alphabet.planes;
    let mut rows = vec![vec![0u32; len]; planes as usize + 1];
    for (j, symbol) in pattern.tame() {
        // One more bit, that of the mask.
        let code = u64::from(alphabet.pattern_code(symbol)) | 1 << planes;
        for (q, row) in rows.iter_mut().enumerate() {
            let bit = (code >> q & 1) as u32;
            if let Some(word) = row.get_mut(j / 32) {
                *word |= bit << (j % 32);
            }
        }
    }
    rows
}

/// The pattern shifted by 0 to 31 symbols: `[word][plane, the mask last][shift]`.
fn shifted(pattern: &Pattern, alphabet: &Alphabet) -> Vec<u32> {
    let words = (pattern.symbols_len() + 31).div_ceil(32);
    let rows = words_of(pattern, alphabet, words);
    let mut table = Vec::with_capacity(words * rows.len() * 32);
    for u in 0..words {
        for row in &rows {
            let word = |u: usize| row.get(u).copied().unwrap_or(0);
            let (here, before) = (word(u), if u > 0 { word(u - 1) } else { 0 });
            table.extend((0..32).map(|r| {
                let carried = (u64::from(before) << r >> 32) as u32;
                here << r | carried
            }));
        }
    }
    table
}
