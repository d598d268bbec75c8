// Words of codes; the last one without its pad.
@group(0) @binding(0) var<storage, read> codes: array<u32>;

fn code(head: u32, t: u32, word: u32) -> u32 {
    let x = codes[p.codes_offset + tensor_row(head, t) * p.words + word];
    return select(x, x & p.last_mask, word + 1u == p.words);
}
