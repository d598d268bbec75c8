// Distances of a pattern at every position of a text, 32 symbols a step:
//
//   D[32w + r] = sum_u popcount(mask^r[u] & differ(T[w + u], P^r[u]))
//
// where P^r is the pattern shifted by r symbols. A lane keeps r and eight neighbouring w.
//
// 0 text: array<u32>, ROWS planes of p.stride words      2 distance: array<u32>
// 1 pattern: array<u32>, word q of P^r[u] at ((u - begin)*(PLANES + 1) + q)*32 + r, its mask after the PLANES planes
struct Params {
    stride: u32,
    outputs: u32,
    begin: u32,
    end: u32,
    accumulate: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> text: array<u32>;
@group(0) @binding(1) var<storage, read> pattern: array<u32>;
@group(0) @binding(2) var<storage, read_write> distance: array<u32>;

// The row of symbols that are not wild, where there is one.
const KEPT: u32 = ROWS - 1u;

fn word(q: u32, w: u32) -> u32 {
    return text[q * p.stride + min(w, p.stride - 1u)];
}

fn words(q: u32, w: u32) -> vec4u {
    return vec4u(word(q, w), word(q, w + 1u), word(q, w + 2u), word(q, w + 3u));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let r = lane % 32u;
        let w = 8u * (2u * (p.first + index) + lane / 32u);
        var low: array<vec4u, ROWS>;
        var high: array<vec4u, ROWS>;
        for (var q = 0u; q < ROWS; q++) {
            low[q] = words(q, w + p.begin);
            high[q] = words(q, w + p.begin + 4u);
        }
        var counts: array<vec4u, 2>;
        for (var u = p.begin; u < p.end; u++) {
            let row = (u - p.begin) * (PLANES + 1u);
            let mask = pattern[(row + PLANES) * 32u + r];
            var masks_low = vec4u(mask);
            var masks_high = vec4u(mask);
            if (WILD) {
                masks_low &= low[KEPT];
                masks_high &= high[KEPT];
            }
            var seen_low = vec4u();
            var seen_high = vec4u();
            for (var q = 0u; q < PLANES; q++) {
                let s = pattern[(row + q) * 32u + r];
                seen_low = seen(seen_low, low[q], s);
                seen_high = seen(seen_high, high[q], s);
            }
            counts[0] += countOneBits(mismatches(seen_low) & masks_low);
            counts[1] += countOneBits(mismatches(seen_high) & masks_high);
            for (var q = 0u; q < ROWS; q++) {
                low[q] = vec4u(low[q].yzw, high[q].x);
                high[q] = vec4u(high[q].yzw, word(q, w + u + 8u));
            }
        }
        for (var n = 0u; n < 8u; n++) {
            let at = 32u * (w + n) + r;
            if (at < p.outputs) {
                distance[at] = select(0u, distance[at], p.accumulate != 0u) + counts[n / 4u][n % 4u];
            }
        }
    }
}
