// Values through workgroup memory, SLAB keys at a time.
const SLAB: u32 = 16u;
var<workgroup> arena: array<vec4f, SLAB * TX>;

fn stage(kv: u32, first: u32, end: u32, column: u32, lid: u32) {
    workgroupBarrier();
    for (var e = lid; e < SLAB * TX; e += LANES) {
        arena[e] = load_value(kv, first + e / TX, end, column + 4u * (e % TX));
    }
    workgroupBarrier();
}

fn value(kv: u32, first: u32, j: u32, end: u32, column: u32, tx: u32) -> vec4f {
    return arena[j * TX + tx];
}
