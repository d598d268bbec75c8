//! Operators on binary codes, by operator.
#![cfg(feature = "cli")]

#[path = "../common/device.rs"]
#[allow(dead_code, reason = "each operator takes what it needs")]
mod device;
#[path = "../common/devices.rs"]
mod devices;
#[path = "../common/effort.rs"]
mod effort;

mod attention;
mod code_table;
mod distance;
mod ecoformer;
mod kernel_hash;
mod ksh_fit;
mod maxsim;
mod pack;
mod search;
mod sliding;

/// Words that depend on a name alone.
fn random_words(name: &str, len: usize) -> Vec<u32> {
    let mut numbers = subquad::case::Numbers::of(name);
    (0..len).map(|_| numbers.word()).collect()
}
