//! Codes in blocks.

use super::{Options, level::BLOCK, threads};
use crate::{
    Error, Result,
    hamming::bits::{check_bits, last_mask, words},
};

const OP: &str = "relayout";

/// Bytes of codes per task of a relayout.
const TASK_BYTES: usize = 1 << 20;

/// A cache line; blocks start at one.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Codes to be searched, in blocks of 64: code 64g + l has word w at (g·W + w)·64 + l. Pads are cleared.
#[derive(Debug)]
pub struct Database {
    blocks: Vec<u32>,
    start: usize,
    count: usize,
    bits: usize,
    /// How its methods run.
    pub options: Options,
}

impl Database {
    /// Lays out codes `[M, ⌈bits/32⌉]`; what lies in their pads does not matter. Takes one pass over them.
    ///
    /// # Errors
    /// `Argument` when `bits` is no legal width, the length is no multiple of a code's words or there are more than 2³² - 2
    /// codes, `Unsupported` when the machine lacks the level.
    pub fn new(codes: &[u32], bits: usize, options: Options) -> Result<Self> {
        options.level.native(OP)?;
        check_bits(OP, bits)?;
        let count = rows(OP, "codes", codes, bits)?;
        let words = words(bits);
        let block_len = BLOCK * words;
        let len = count.div_ceil(BLOCK) * block_len;
        let mut blocks = vec![0; len + 15];
        let start = bytemuck::pod_align_to::<u32, Line>(&blocks).0.len().min(15);
        let per_task = (TASK_BYTES / (4 * block_len)).max(1);
        let aligned = blocks.get_mut(start..start + len).unwrap_or_default();
        let tasks = aligned
            .chunks_mut(per_task * block_len)
            .zip(codes.chunks(per_task * block_len));
        threads::share(options.threads, tasks, |(blocks, codes)| {
            for (block, codes) in blocks
                .chunks_exact_mut(block_len)
                .zip(codes.chunks(block_len))
            {
                lay_out(block, codes, words, last_mask(bits));
            }
        });
        Ok(Self {
            blocks,
            start,
            count,
            bits,
            options,
        })
    }

    /// The number of codes.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no code.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The width of a code.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// All blocks.
    pub(super) fn blocks(&self) -> &[u32] {
        self.blocks.get(self.start..).unwrap_or_default()
    }

    /// The number of blocks.
    pub(super) fn blocks_len(&self) -> usize {
        self.count.div_ceil(BLOCK)
    }
}

/// The codes in a slice.
pub(super) fn rows(op: &'static str, what: &str, codes: &[u32], bits: usize) -> Result<usize> {
    let words = words(bits);
    let count = codes.len() / words;
    if codes.len().is_multiple_of(words) && count < u32::MAX as usize {
        return Ok(count);
    }
    Err(Error::Argument {
        op,
        what: what.into(),
        expected: format!("codes of {words} words each, at most {}", u32::MAX - 1),
        got: format!("{} words", codes.len()),
    })
}

/// Codes `[≤ 64, W]` to one block `[W, 64]`.
fn lay_out(block: &mut [u32], codes: &[u32], words: usize, last_mask: u32) {
    for (lane, code) in codes.chunks_exact(words).enumerate() {
        for (to, word) in block.iter_mut().skip(lane).step_by(BLOCK).zip(code) {
            *to = *word;
        }
    }
    for to in block.iter_mut().rev().take(BLOCK) {
        *to &= last_mask;
    }
}
