//! Databases on a device.

use super::{OP_KNN, walk};
use crate::{
    Result,
    error::length,
    gpu::{Caps, Gpu, Tensor},
    hamming::bits::{check_bits, words},
};

/// Copies the codes of a database to a device, into several tensors where they exceed its largest buffer.
///
/// # Errors
/// `Argument` when the words are no whole codes; `OutOfMemory`, `DeviceLost` from the device.
pub fn upload(gpu: &Gpu, bits: usize, codes: &[u32]) -> Result<Vec<Tensor<u32>>> {
    check_bits(OP_KNN, bits)?;
    let words = words(bits);
    length(OP_KNN, "codes", codes.len(), codes.len() / words * words)?;
    let rows = part_rows(bits, gpu.caps());
    let parts = codes.chunks(rows * words).map(|part| gpu.upload(part));
    parts.collect()
}

/// Codes that one tensor of a device holds at most.
pub fn part_rows(bits: usize, caps: &Caps) -> usize {
    let rows = caps.buffer_bytes / (4 * words(bits).max(1) as u64);
    (rows / walk::TILE * walk::TILE).clamp(1, 1 << 32) as usize
}
