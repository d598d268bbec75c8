// What a chunk finds before it: the sums of the chunks before it (or after it, with REVERSE) that are wholly in its window.
//
// 0 sums: array<vec4f>, of chunks: sums[(at*chunks + chunk)*cells + cell]        2 out: array<vec4f>, likewise
// at = key_set*heads + head; cells = inner*quads. A lane owns a cell of a run of chunks. Nothing is ever subtracted.
@group(0) @binding(0) var<storage, read> sums: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let cells = p.inner * p.quads;
        let runs = (p.parts + p.span - 1u) / p.span;
        walk(p.key_set * p.heads + item / (cells * runs), item / cells % runs, item % cells);
    }
}

// Counted from the end that the walk begins at.
fn place(at: u32, chunk: u32, cell: u32) -> u32 {
    let turned = select(chunk, p.parts - 1u - chunk, REVERSE);
    return (at * p.parts + turned) * (p.inner * p.quads) + cell;
}
