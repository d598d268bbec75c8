// The codes of four neighbouring symbols of a text of words, by binary search.
//
// 0 text: array<u32>      1 codes: array<u32>, p.keys symbols, ascending, then their codes, then that of all other symbols
@group(0) @binding(0) var<storage, read> text: array<u32>;
@group(0) @binding(1) var<storage, read> codes: array<u32>;

fn code_of(symbol: u32) -> u32 {
    var low = 0u;
    var high = p.keys;
    while (low < high) {
        let middle = (low + high) / 2u;
        if (codes[middle] < symbol) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    // Where there is no such key, `low` may be that of a code.
    let found = low < p.keys && codes[low] == symbol;
    return codes[p.keys + select(p.keys, low, found)];
}

// Past the end come codes of symbols that are there.
fn codes_at(at: u32) -> vec4u {
    let last = p.symbols - 1u;
    return vec4u(
        code_of(text[min(at, last)]),
        code_of(text[min(at + 1u, last)]),
        code_of(text[min(at + 2u, last)]),
        code_of(text[min(at + 3u, last)]),
    );
}
