// The codes of four neighbouring symbols of a text of bytes, four to a word.
//
// 0 text: array<u32>, symbol i is byte i%4 of word i/4      1 codes: array<u32>, by symbol
@group(0) @binding(0) var<storage, read> text: array<u32>;
@group(0) @binding(1) var<storage, read> codes: array<u32>;

// `at` is a multiple of four. Past the end come codes of symbols that are there.
fn codes_at(at: u32) -> vec4u {
    let x = text[min(at, p.symbols - 1u) / 4u];
    return vec4u(codes[x & 255u], codes[(x >> 8u) & 255u], codes[(x >> 16u) & 255u], codes[x >> 24u]);
}
