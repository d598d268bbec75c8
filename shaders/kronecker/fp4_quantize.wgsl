// Numbers to E2M1 codes that share a scale in blocks, an invocation for eight of them, which fill a word:
//
//   code[i] = round(x[i] factor / S) in {0, 1/2, 1, 3/2, 2, 3, 4, 6} with its sign in bit 3      S = the scale of max |x factor| of the block
//
// Comparisons are between numbers that are exact, or whose rounding keeps their order: codes are the same on every device.
//
// 0 x: array<u32>, bits of x[i]      2 codes: array<u32>, code i in bits 4 (i % 8) of word i/8
// 3 scales: array<u32>, the scale's code of block b in byte b % 4 of word b/4
struct Params {
    key_low: u32,
    key_high: u32,
    element: u32,
    words: u32,
    first: u32,
    factor: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> scales: array<u32>;

// Lanes of a block.
const SPAN: u32 = BLOCK / 8u;
var<workgroup> peaks: array<u32, 64>;
var<workgroup> scale_codes: array<u32, 64>;

fn number(word: u32, i: u32) -> f32 {
    if (word < p.words) {
        return bitcast<f32>(x[word * 8u + i]) * p.factor;
    }
    return 0.0;
}

fn magnitude(x: f32) -> u32 {
    return bitcast<u32>(x) & 0x7fffffffu;
}

fn code(x: f32, scale: Scale, element: u32) -> u32 {
    let sign = (bitcast<u32>(x) >> 31u) << 3u;
    return sign | rounded(abs(x) * scale.lift, scale.value, element);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let word = p.first + group_index(group, grid) * 64u + lane;
    let x0 = number(word, 0u);
    let x1 = number(word, 1u);
    let x2 = number(word, 2u);
    let x3 = number(word, 3u);
    let x4 = number(word, 4u);
    let x5 = number(word, 5u);
    let x6 = number(word, 6u);
    let x7 = number(word, 7u);
    let low = max(max(magnitude(x0), magnitude(x1)), max(magnitude(x2), magnitude(x3)));
    let high = max(max(magnitude(x4), magnitude(x5)), max(magnitude(x6), magnitude(x7)));
    peaks[lane] = max(low, high);
    workgroupBarrier();
    let head = lane - lane % SPAN;
    var peak = peaks[head];
    for (var n = 1u; n < SPAN; n++) {
        peak = max(peak, peaks[head + n]);
    }
    // Neither NaN nor infinite.
    let finite = peak < 0x7f800000u;
    let scale_code = select(NAN_CODE, scale_of(select(0u, peak, finite)), finite);
    scale_codes[lane] = scale_code;
    let scale = value_of(scale_code);
    if (word < p.words) {
        var all = 0u;
        if (finite && peak != 0u && scale.value != 0.0) {
            let element = p.element + word * 8u;
            all = code(x0, scale, element) | (code(x1, scale, element + 1u) << 4u)
                | (code(x2, scale, element + 2u) << 8u) | (code(x3, scale, element + 3u) << 12u)
                | (code(x4, scale, element + 4u) << 16u) | (code(x5, scale, element + 5u) << 20u)
                | (code(x6, scale, element + 6u) << 24u) | (code(x7, scale, element + 7u) << 28u);
        }
        codes[word] = all;
    }
    workgroupBarrier();
    if (word < p.words && lane % (4u * SPAN) == 0u) {
        var all = 0u;
        for (var n = 0u; n < 4u; n++) {
            if (word + n * SPAN < p.words) {
                all |= scale_codes[lane + n * SPAN] << (8u * n);
            }
        }
        scales[word / (4u * SPAN)] = all;
    }
}
