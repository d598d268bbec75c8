// First stage of the transforms of indicators, one for each of p.count symbols and each of p.blocks overlapping blocks of a
// text: the 16 numbers x + t*length/16 of a block become one another's sums times powers of the root. Symbol p.kept stands for
// all that are not wild.
//
// 1 ranks: array<u32>      2 values: array<u32>, [symbols of the group, blocks, length]
struct Params {
    length: u32,
    symbols: u32,
    offset: u32,
    hop: u32,
    blocks: u32,
    first_symbol: u32,
    count: u32,
    kept: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> ranks: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<u32>;

const NONE: u32 = 0xffffffffu;

fn rank(at: u32) -> u32 {
    return select(NONE, ranks[min(at, p.symbols - 1u)], at < p.symbols);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let thread = 64u * (p.first + index) + lane;
    let stride = p.length / 16u;
    let block = thread / stride;
    let x = thread % stride;
    if (index < p.groups && block < p.blocks) {
        let at = p.offset + block * p.hop + x;
        var found: array<vec4u, 4>;
        for (var n = 0u; n < 4u; n++) {
            let i = at + 4u * n * stride;
            found[n] = vec4u(rank(i), rank(i + stride), rank(i + 2u * stride), rank(i + 3u * stride));
        }
        let twiddles = powers(x * (65536u / p.length));
        for (var a = 0u; a < p.count; a++) {
            let symbol = p.first_symbol + a;
            var ones: array<vec4u, 4>;
            for (var n = 0u; n < 4u; n++) {
                let same = select(found[n] == vec4u(symbol), found[n] != vec4u(NONE), vec4<bool>(symbol == p.kept));
                ones[n] = select(vec4u(), vec4u(1u), same);
            }
            let y = dft16(ones);
            for (var n = 0u; n < 4u; n++) {
                let z = mul(y[n], twiddles[n]);
                let to = (a * p.blocks + block) * p.length + x + 4u * n * stride;
                values[to] = z.x;
                values[to + stride] = z.y;
                values[to + 2u * stride] = z.z;
                values[to + 3u * stride] = z.w;
            }
        }
    }
}
