// 6 codes: array<u32>, codes[words_offset + (head*T + t)*words + word]
@group(0) @binding(6) var<storage, read_write> codes: array<u32>;

fn put_word(at: u32, code: u32) {
    codes[p.words_offset + at] = code;
}
