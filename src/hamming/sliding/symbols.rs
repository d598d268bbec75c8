//! Codes of symbols: ranks among the symbols of the patterns, or sets of letters.

use super::Pattern;
use crate::gpu::Dtype;

/// Classes of symbols: to each symbol a set of up to 32 letters, as a bit mask. A symbol of the text and one of the pattern match
/// where their sets share a letter; symbols not listed have none and match nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Symbols of the text with their letters.
    pub text: Vec<(u32, u32)>,
    /// Symbols of the pattern with their letters.
    pub pattern: Vec<(u32, u32)>,
}

impl Classes {
    /// The same classes on both sides.
    pub fn same(symbols: &[(u32, u32)]) -> Classes {
        Classes {
            text: symbols.to_vec(),
            pattern: symbols.to_vec(),
        }
    }

    /// IUPAC's codes for nucleotides as bytes, in either case: letters A, C, G and T are bits 0 to 3, U is T.
    pub fn iupac() -> Classes {
        let codes = b"ACGTURYSWKMBDHVN".iter();
        let letters = [1, 2, 4, 8, 8, 5, 10, 6, 9, 12, 3, 14, 13, 11, 7, 15];
        let upper = codes
            .zip(letters)
            .map(|(code, set)| (u32::from(*code), set));
        let both: Vec<_> = upper
            .flat_map(|(code, set)| [(code, set), (code + 32, set)])
            .collect();
        Classes::same(&both)
    }

    /// The letters of a symbol of the text.
    pub fn of_text(&self, symbol: u32) -> u32 {
        letters(&self.text, symbol)
    }

    /// The letters of a symbol of the pattern.
    pub fn of_pattern(&self, symbol: u32) -> u32 {
        letters(&self.pattern, symbol)
    }
}

/// All the letters that a symbol is listed with.
fn letters(list: &[(u32, u32)], symbol: u32) -> u32 {
    let own = list.iter().filter(|(listed, _)| *listed == symbol);
    own.fold(0, |set, (_, letters)| set | letters)
}

/// Codes that the device gives the symbols of a text, and their planes.
#[derive(Clone, Debug)]
pub(super) struct Alphabet {
    /// Symbols with a code of their own, ascending.
    keys: Vec<u32>,
    /// Their codes, then that of all others.
    codes: Vec<u32>,
    /// Bits of a code that count.
    pub planes: u32,
    /// The classes, where codes are sets of letters.
    classes: Option<Classes>,
}

impl Alphabet {
    /// Ranks among the symbols that count in some patterns, or sets of letters.
    pub fn new<'a>(
        patterns: impl Iterator<Item = &'a Pattern>,
        classes: Option<&Classes>,
        others: bool,
    ) -> Alphabet {
        if let Some(classes) = classes {
            return Alphabet::of_classes(classes);
        }
        let mut keys: Vec<u32> = patterns
            .flat_map(|pattern| pattern.tame().map(|(_, symbol)| symbol))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let ranks = keys.len() as u32;
        let mut codes: Vec<u32> = (0..ranks).collect();
        codes.push(if others { ranks } else { 0 });
        let last = codes.iter().copied().max().unwrap_or(0);
        Alphabet {
            keys,
            codes,
            planes: (32 - last.leading_zeros()).max(1),
            classes: None,
        }
    }

    fn of_classes(classes: &Classes) -> Alphabet {
        let mut keys: Vec<u32> = classes.text.iter().map(|(symbol, _)| *symbol).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut codes: Vec<u32> = keys.iter().map(|key| classes.of_text(*key)).collect();
        codes.push(0);
        let sets = classes.text.iter().chain(&classes.pattern);
        let all = sets.fold(0, |all, (_, set)| all | set);
        Alphabet {
            keys,
            codes,
            planes: (32 - all.leading_zeros()).max(1),
            classes: Some(classes.clone()),
        }
    }

    /// Symbols with a code of their own.
    pub fn ranks(&self) -> usize {
        self.keys.len()
    }

    /// Whether codes are sets of letters.
    pub fn is_classes(&self) -> bool {
        self.classes.is_some()
    }

    /// The code of a symbol of the text.
    pub fn code(&self, symbol: u32) -> u32 {
        let at = self.keys.binary_search(&symbol).unwrap_or(self.keys.len());
        self.codes.get(at).copied().unwrap_or(0)
    }

    /// The code of a symbol of the pattern.
    pub fn pattern_code(&self, symbol: u32) -> u32 {
        match &self.classes {
            Some(classes) => classes.of_pattern(symbol),
            None => self.code(symbol),
        }
    }

    /// What a kernel looks codes up in.
    pub fn table(&self, dtype: Dtype) -> Vec<u32> {
        match dtype {
            Dtype::U8 => (0..256).map(|symbol| self.code(symbol)).collect(),
            _ => [self.keys.as_slice(), &self.codes].concat(),
        }
    }
}
