// 2 text_wild: array<u32>, bit i%32 of word i/32 is 1 where symbol i of the text is wild
@group(0) @binding(2) var<storage, read> text_wild: array<u32>;

// Ones at the symbols of a word that are not wild.
fn tame(word: u32) -> u32 {
    return ~text_wild[min(word, (p.symbols - 1u) / 32u)];
}
