// Depthwise convolution of the tokens' grid, zero outside: for every head and channel
//
//   y[line, column] = before + bias + sum_ij w[i, j] x[line + i - KH/2, column + j - KW/2]
//
// with FLIPPED the kernel turned by 180 degrees, which is the adjoint. An invocation owns 4 neighbouring columns of a line and
// 4 channels; LANES of them lie side by side in a workgroup, which keeps its channels' kernels.
//
// 0 x: `x_stored`, one row a token and head        1 y: array<Out>, y[y_offset + row*V + v]
// 2 w: array<f32>, w[channel*KH*KW + i*KW + j]
struct Params {
    first_row: u32,
    key: u32,
    first_line: u32,
    lines: u32,
    columns: u32,
    heads: u32,
    inner_heads: u32,
    line_blocks: u32,
    slices: u32,
    groups: u32,
    x_offset: u32,
    y_offset: u32,
    before_offset: u32,
    kernel_lines: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<storage, read> w: array<f32>;

var<workgroup> kernels: array<vec4f, KH * KW * LANES>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        convolve(index, lid);
    }
}

fn tap(head: u32, v: u32, t: u32) -> f32 {
    let live = v < p.key;
    let at = channel_of(head, min(v, p.key - 1u)) * KH * KW + select(t, KH * KW - 1u - t, FLIPPED);
    return select(0.0, w[at], live);
}

fn convolve(index: u32, lid: u32) {
    let slice = index % p.slices;
    let inner_head = index / p.slices % p.inner_heads;
    let block = index / p.slices / p.inner_heads;
    // Lines are counted over all images: the grids of a sequence's heads, or of each head where they lie apart.
    let line = p.first_line + block / p.line_blocks;
    let head = select(inner_head, line / p.lines % p.heads, p.inner_heads == 1u);
    for (var n = lid; n < KH * KW * LANES; n += 64u) {
        let v = 4u * (slice * LANES + n % LANES);
        let t = n / LANES;
        kernels[n] = vec4f(tap(head, v, t), tap(head, v + 1u, t), tap(head, v + 2u, t), tap(head, v + 3u, t));
    }
    workgroupBarrier();
    let lane = lid % LANES;
    let v = 4u * (slice * LANES + lane);
    let first = 4u * (block % p.line_blocks * (64u / LANES) + lid / LANES);
    if (v < p.key && first < p.columns) {
        var sums: array<vec4f, 4>;
        let shift = bias(head, v);
        for (var r = 0u; r < 4u; r++) {
            sums[r] = shift;
        }
        // A parameter, though KH is known: compilers would unroll the loop, and take seconds.
        for (var i = 0u; i < p.kernel_lines; i++) {
            // Past the first line it wraps to a large number.
            let beside = line % p.lines + i - KH / 2u;
            if (beside < p.lines) {
                let row = (line + i - KH / 2u) * p.columns;
                for (var j = 0u; j < KW + 3u; j++) {
                    let column = first + j - KW / 2u;
                    if (column < p.columns) {
                        let value = load_x((row + column) * p.inner_heads + inner_head, v, true);
                        for (var r = 0u; r < 4u; r++) {
                            if (j >= r && j - r < KW) {
                                sums[r] = fma(kernels[(i * KW + j - r) * LANES + lane], value, sums[r]);
                            }
                        }
                    }
                }
            }
        }
        for (var r = 0u; r < 4u; r++) {
            if (first + r < p.columns) {
                let at = ((line * p.columns + first + r) * p.inner_heads + inner_head) * p.key + v;
                let out = sums[r] + before(at, p.key - v);
                for (var n = 0u; n < min(PUTS, p.key - v); n++) {
                    y[(p.y_offset + at + n) >> PUT_SHIFT] = out_cell(out, n);
                }
            }
        }
    }
}
