// The last window - 1 chunks before: runs have the window's length, so that what a chunk sees of the run before is one of that
// run's suffixes, and what it sees of its own a prefix.
fn walk(at: u32, run: u32, cell: u32) {
    let start = run * p.span;
    var sum = vec4f();
    for (var n = 1u; n <= p.span; n++) {
        // The chunk whose window begins at start - n + 1.
        let chunk = start + p.span - n;
        if (chunk < p.parts) {
            out[place(at, chunk, cell)] = sum;
        }
        if (n <= start) {
            sum += sums[place(at, start - n, cell)];
        }
    }
    sum = vec4f();
    for (var chunk = start; chunk < min(start + p.span, p.parts); chunk++) {
        let here = place(at, chunk, cell);
        out[here] += sum;
        sum += sums[here];
    }
}
