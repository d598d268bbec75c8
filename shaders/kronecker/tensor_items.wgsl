// What the kernels of linear tensor attention share: parameters, and which item is whose.
//
// Rows of temporaries are padded with zeros to a multiple of eight numbers. X are the rows whose width a kernel sums over, Y those
// whose columns it keeps; a state is S[x, y] = sum over keys j of X[j, x] Y[j, y].
struct Params {
    // The dispatch: items in all, the first group, groups.
    items: u32,
    first: u32,
    groups: u32,
    // Numbers of a row of X, and of Y.
    inner: u32,
    outer: u32,
    // Columns of a tensor's rows.
    width: u32,
    // Vectors of Y from `quad` on: a range that fits into memory.
    quad: u32,
    quads: u32,
    // Heads of keys that are worked on, and queries' heads for each.
    heads: u32,
    group: u32,
    // Rows a head: keys, queries, and how many keys there are before the first query.
    tokens: u32,
    queries: u32,
    offset: u32,
    // Parts of a head's keys and their length.
    parts: u32,
    span: u32,
    // The key set, its window in parts, and key sets in all.
    key_set: u32,
    window: u32,
    sets: u32,
    // Where rows, columns and results start, in elements or vectors of their bindings.
    x_offset: u32,
    y_offset: u32,
    out_offset: u32,
    // A range of X's columns; whether results are added to what is there.
    since: u32,
    until: u32,
    accumulate: u32,
    scale: f32,
    eps: f32,
}
var<immediate> p: Params;

// The item of a lane; none (u32 max) where there are no more.
fn item_of(index: u32, lane: u32) -> u32 {
    let item = (p.first + index) * 64u + lane;
    return select(0xffffffffu, item, index < p.groups && item < p.items);
}
