// STAGES of Hadamard's matrix of ±1, 4 to 7, along an axis of 2^k: an invocation holds the 2^STAGES stored items of a column, 16 to
// 128 in registers or on its stack, and no factor is read. For adapters on which loads and barriers are dear and arithmetic is not.
//
// Column q of the array [.., 2^STAGES, stride] holds the items at (q / stride * 2^STAGES + i) * stride + q % stride.
//
// 1 y: array<Stored>, from y_offset on, which is where row 0 would be; a part says what is stored, one item or several neighbours, in
// what strides and offsets count, and how four of them are added, subtracted and scaled
struct Params {
    x_offset: u32,
    y_offset: u32,
    first_row: u32,
    first: u32,
    end: u32,
    slab: u32,
    stride: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> y: array<Stored>;

// 16 stored.
struct Four {
    a: Quad,
    b: Quad,
    c: Quad,
    d: Quad,
}

// 64 stored.
struct Sixteen {
    a: Four,
    b: Four,
    c: Four,
    d: Four,
}

fn plus(u: Four, v: Four) -> Four {
    return Four(sum(u.a, v.a), sum(u.b, v.b), sum(u.c, v.c), sum(u.d, v.d));
}

fn minus(u: Four, v: Four) -> Four {
    return Four(less(u.a, v.a), less(u.b, v.b), less(u.c, v.c), less(u.d, v.d));
}

// Two stages of four items.
fn crossed(x: vec4f) -> vec4f {
    let u = vec4f(x.x + x.y, x.x - x.y, x.z + x.w, x.z - x.w);
    return vec4f(u.x + u.z, u.y + u.w, u.x - u.z, u.y - u.w);
}

fn loaded(at: u32) -> Quad {
    return quad(source(at), source(at + p.stride), source(at + 2u * p.stride), source(at + 3u * p.stride));
}

fn kept(at: u32, x: Quad) {
    var value = x;
    if (SCALED) {
        value = scaled(x);
    }
    put(at, value);
}

// Four stages of those from the i-th on.
fn load_four(base: u32, i: u32) -> Four {
    let at = base + i * p.stride;
    let x = Four(loaded(at), loaded(at + 4u * p.stride), loaded(at + 8u * p.stride), loaded(at + 12u * p.stride));
    let u = Four(sum(x.a, x.b), less(x.a, x.b), sum(x.c, x.d), less(x.c, x.d));
    return Four(sum(u.a, u.c), sum(u.b, u.d), less(u.a, u.c), less(u.b, u.d));
}

fn keep_four(base: u32, i: u32, x: Four) {
    let at = base + i * p.stride;
    kept(at, x.a);
    kept(at + 4u * p.stride, x.b);
    kept(at + 8u * p.stride, x.c);
    kept(at + 12u * p.stride, x.d);
}

// Six stages.
fn load_sixteen(base: u32, i: u32) -> Sixteen {
    let a = load_four(base, i);
    let b = load_four(base, i + 16u);
    let c = load_four(base, i + 32u);
    let d = load_four(base, i + 48u);
    let u = Sixteen(plus(a, b), minus(a, b), plus(c, d), minus(c, d));
    return Sixteen(plus(u.a, u.c), plus(u.b, u.d), minus(u.a, u.c), minus(u.b, u.d));
}

fn keep_sixteen(base: u32, i: u32, x: Sixteen) {
    keep_four(base, i, x.a);
    keep_four(base, i + 16u, x.b);
    keep_four(base, i + 32u, x.c);
    keep_four(base, i + 48u, x.d);
}

fn column(at: u32) {
    if (STAGES == 4u) {
        keep_four(at, 0u, load_four(at, 0u));
    } else if (STAGES == 5u) {
        let u = load_four(at, 0u);
        let v = load_four(at, 16u);
        keep_four(at, 0u, plus(u, v));
        keep_four(at, 16u, minus(u, v));
    } else if (STAGES == 6u) {
        keep_sixteen(at, 0u, load_sixteen(at, 0u));
    } else {
        let u = load_sixteen(at, 0u);
        let v = load_sixteen(at, 64u);
        keep_sixteen(at, 0u, Sixteen(plus(u.a, v.a), plus(u.b, v.b), plus(u.c, v.c), plus(u.d, v.d)));
        keep_sixteen(at, 64u, Sixteen(minus(u.a, v.a), minus(u.b, v.b), minus(u.c, v.c), minus(u.d, v.d)));
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let q = p.first + group_index(group, grid) * 64u + lane;
    if (q < p.end) {
        column(p.y_offset + p.first_row * p.slab + ((q / p.stride) << STAGES) * p.stride + q % p.stride);
    }
}
