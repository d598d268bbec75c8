//! Operators on binary codes, by operator.
#![cfg(feature = "cli")]

#[path = "../common/device.rs"]
mod device;
mod distance;
mod maxsim;
mod pack;

/// Words that depend on a name alone.
fn random_words(name: &str, len: usize) -> Vec<u32> {
    let mut numbers = subquad::case::Numbers::of(name);
    (0..len).map(|_| numbers.word()).collect()
}
