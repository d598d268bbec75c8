// Every chunk before: the sums of whole runs, then those of the run's own chunks.
// 1 runs: array<vec4f>, runs[(at*runs + run)*cells + cell]
@group(0) @binding(1) var<storage, read> runs: array<vec4f>;

fn walk(at: u32, run: u32, cell: u32) {
    let count = (p.parts + p.span - 1u) / p.span;
    let cells = p.inner * p.quads;
    var sum = vec4f();
    for (var n = 0u; n < run; n++) {
        let turned = select(n, count - 1u - n, REVERSE);
        sum += runs[(at * count + turned) * cells + cell];
    }
    for (var chunk = run * p.span; chunk < min((run + 1u) * p.span, p.parts); chunk++) {
        let here = place(at, chunk, cell);
        out[here] = sum;
        sum += sums[here];
    }
}
