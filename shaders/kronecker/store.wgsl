// A result in f32 to the 16-bit z: z = y + beta z. An invocation owns a word, and keeps what it does not fill of it.
//
// 0 y: array<f32>, item i at y_offset + i        1 z: array<u32>, rows of `width` items, z_row apart, z_rows to a batch, batches z_batch apart
struct Params {
    width: u32,
    // Words of a row.
    words: u32,
    first: u32,
    first_group: u32,
    groups: u32,
    count: u32,
    items_start: u32,
    items_end: u32,
    y_offset: u32,
    z_offset: u32,
    z_rows: u32,
    z_row: u32,
    z_batch: u32,
    beta: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> z: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let n = (p.first_group + index) * 64u + lane;
    if (index < p.groups && n < p.count) {
        let row = (p.first + n) / p.words;
        let column = 2u * ((p.first + n) % p.words);
        let item = row * p.width + column;
        let within = vec2u(column, column + 1u) < vec2u(p.width);
        let items = vec2u(item, item + 1u);
        let live = within & (items < vec2u(p.items_end)) & (items >= vec2u(p.items_start));
        let word = (p.z_offset + row / p.z_rows * p.z_batch + row % p.z_rows * p.z_row + column) / 2u;
        var old = 0u;
        if (p.beta != 0.0 || !all(live)) {
            old = z[word];
        }
        var sum = vec2f();
        for (var c = 0u; c < 2u; c++) {
            if (live[c]) {
                sum[c] = y[p.y_offset + item + c];
                if (p.beta != 0.0) {
                    sum[c] = fma(p.beta, widen_one(old, c), sum[c]);
                }
            }
        }
        let mask = select(0u, 0xffffu, live.x) | select(0u, 0xffff0000u, live.y);
        z[word] = (narrow(vec4f(sum, 0.0, 0.0)).x & mask) | (old & ~mask);
    }
}
