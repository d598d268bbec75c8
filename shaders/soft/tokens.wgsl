// What the kernels over tokens share: parameters, queries and landmarks.
//
// 0 q: array<Cell>, q[q_offset + row(t) * width + d]          1 l: array<Cell>, l[l_offset + (head*landmarks + a) * width + d]
// with head counted over batch x heads and row(t) = (head / heads)*batch_stride + (head % heads)*head_stride + t*token_stride.
// Offsets wrap: they take the start of the bound range off an index counted from the start of the whole tensor. Temporaries
// are bound from the first head of the dispatch on, each head at a stride of its own.
struct Params {
    tokens: u32,
    heads: u32,
    first_head: u32,
    landmarks: u32,
    width: u32,
    value: u32,
    columns: u32,
    tiles: u32,
    slices: u32,
    segments: u32,
    first_segment: u32,
    window_segments: u32,
    segment_tokens: u32,
    groups: u32,
    batch_stride: u32,
    head_stride: u32,
    token_stride: u32,
    q_offset: u32,
    l_offset: u32,
    x_offset: u32,
    v_offset: u32,
    d_offset: u32,
    out_offset: u32,
    out_stride: u32,
    y_stride: u32,
    y_row: u32,
    y_column: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> q: array<Cell>;
@group(0) @binding(1) var<storage, read> l: array<Cell>;

// What the workgroup works on; the same for all its invocations, so that loops over it are uniform.
struct Place {
    head: u32,
    row: u32,
    marks: u32,
    mark: u32,
    column: u32,
    segment: u32,
    begin: u32,
    end: u32,
}

fn place(index: u32) -> Place {
    let segment = p.first_segment + (index / (p.slices * p.tiles)) % p.window_segments;
    let local = index / (p.slices * p.tiles * p.window_segments);
    let head = p.first_head + local;
    let begin = segment * p.segment_tokens;
    return Place(
        local,
        (head / p.heads) * p.batch_stride + (head % p.heads) * p.head_stride,
        head * p.landmarks,
        ((index / p.slices) % p.tiles) * MARKS,
        (index % p.slices) * COLUMNS,
        segment,
        begin,
        min(begin + p.segment_tokens, p.tokens),
    );
}

fn load_q(here: Place, t: u32, channel: u32) -> vec4f {
    let live = t < here.end && channel < p.width;
    let at = p.q_offset + (here.row + select(here.begin, t, live) * p.token_stride) * p.width + select(0u, channel, live);
    let left = select(1u, p.width - channel, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, q[c.x], q[c.y], q[c.z], q[c.w]), live);
}

fn load_l(here: Place, a: u32, channel: u32) -> vec4f {
    let live = a < p.landmarks && channel < p.width;
    let at = p.l_offset + (here.marks + select(0u, a, live)) * p.width + select(0u, channel, live);
    let left = select(1u, p.width - channel, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, l[c.x], l[c.y], l[c.z], l[c.w]), live);
}
