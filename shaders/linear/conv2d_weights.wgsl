// Gradients of the kernels and biases of `conv2d`: sums of g[line, column] x[line + i - KH/2, column + j - KW/2] and of g over a
// segment of the lines of an image. An invocation owns 4 channels of a head and the row i of their kernels.
//
// 0 x: `x_stored`, one row a token and head        1 g: array<Cell>, g[g_offset + row*V + v]
// 2 sums: array<f32>: for every head and part of it, that is batch and segment, a block of V kernels and V biases, or with
//   CHANNELS 2 a block of a kernel and a bias for each of V channels
struct Params {
    first_row: u32,
    key: u32,
    first_image: u32,
    lines: u32,
    columns: u32,
    heads: u32,
    inner_heads: u32,
    segments: u32,
    segment_lines: u32,
    parts: u32,
    units: u32,
    x_offset: u32,
    g_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> g: array<Cell>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

fn load_g(row: u32, v: u32) -> vec4f {
    let at = p.g_offset + row * p.key + v;
    let left = p.key - v;
    let c = cells(at, left);
    return gather(at, left, g[c.x], g[c.y], g[c.z], g[c.w]);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let unit = group_index(group, grid) * 64u + lid;
    if (unit < p.units) {
        let quads = (p.key + 3u) / 4u;
        let v = 4u * (unit % quads);
        let i = unit / quads % KH;
        let inner_head = unit / (quads * KH) % p.inner_heads;
        let segment = unit / (quads * KH * p.inner_heads) % p.segments;
        let index = unit / (quads * KH * p.inner_heads * p.segments);
        let image = p.first_image + index;
        let head = select(inner_head, image % p.heads, p.inner_heads == 1u);
        let begin = segment * p.segment_lines;
        let end = min(begin + p.segment_lines, p.lines);
        var kernel: array<vec4f, KW>;
        var shift = vec4f();
        for (var line = begin; line < end; line++) {
            let beside = line + i - KH / 2u;
            let row = (image * p.lines + line) * p.columns;
            let other = (image * p.lines + beside) * p.columns;
            // The columns column - KW/2 to column + KW/2 of the line beside.
            var window: array<vec4f, KW>;
            for (var j = KW / 2u; j < KW; j++) {
                let column = j - KW / 2u;
                if (beside < p.lines && column < p.columns && j + 1u < KW) {
                    window[j + 1u] = load_x((other + column) * p.inner_heads + inner_head, v, true);
                }
            }
            for (var column = 0u; column < p.columns; column++) {
                for (var j = 0u; j + 1u < KW; j++) {
                    window[j] = window[j + 1u];
                }
                window[KW - 1u] = vec4f();
                if (beside < p.lines && column + KW / 2u < p.columns) {
                    window[KW - 1u] = load_x((other + column + KW / 2u) * p.inner_heads + inner_head, v, true);
                }
                let d = load_g((row + column) * p.inner_heads + inner_head, v);
                shift += d;
                for (var j = 0u; j < KW; j++) {
                    kernel[j] = fma(d, window[j], kernel[j]);
                }
            }
        }
        // Batches are counted apart from heads where heads are images.
        let batch = select(index, index / p.heads, p.inner_heads == 1u && p.heads > 1u);
        let home = (head * p.parts + batch * p.segments + segment) * p.key * (KH * KW + 1u);
        for (var c = 0u; c < min(4u, p.key - v); c++) {
            let own = home + (v + c) * (KH * KW + select(0u, 1u, CHANNELS == 2u));
            for (var j = 0u; j < KW; j++) {
                sums[own + i * KW + j] = kernel[j][c];
            }
            if (i == 0u) {
                sums[select(home + p.key * KH * KW + v + c, own + KH * KW, CHANNELS == 2u)] = shift[c];
            }
        }
    }
}
