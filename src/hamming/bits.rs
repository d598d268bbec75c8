//! Codes in words: how many, which bits count, and what is a legal width.

use crate::{Error, Result};

/// The distance and the index of an item that is not there.
pub const ABSENT: u32 = u32::MAX;

/// The widest code.
pub const MAX_BITS: usize = 65_536;

/// Words of a code of so many bits.
pub const fn words(bits: usize) -> usize {
    bits.div_ceil(32)
}

/// The bits of a code's last word that count.
pub const fn last_mask(bits: usize) -> u32 {
    match bits % 32 {
        0 => u32::MAX,
        rest => (1 << rest) - 1,
    }
}

/// Whether a code may have so many bits.
pub(crate) fn check_bits(op: &'static str, bits: usize) -> Result<()> {
    if (1..=MAX_BITS).contains(&bits) {
        return Ok(());
    }
    Err(Error::Argument {
        op,
        what: "bits".into(),
        expected: format!("1 to {MAX_BITS}"),
        got: bits.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pad_is_what_the_last_word_has_beyond_the_code() {
        for bits in 1..=200 {
            let counted = 32 * (words(bits) - 1) + last_mask(bits).count_ones() as usize;
            assert_eq!(counted, bits);
        }
        assert!(check_bits("test", 0).is_err() && check_bits("test", MAX_BITS + 1).is_err());
        assert!(check_bits("test", 1).is_ok() && check_bits("test", MAX_BITS).is_ok());
    }
}
