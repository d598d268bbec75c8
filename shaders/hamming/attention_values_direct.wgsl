// Values from where they lie, for devices where barriers are dear.
const SLAB: u32 = TILE;

fn stage(kv: u32, first: u32, end: u32, column: u32, lid: u32) {
    workgroupBarrier();
}

fn value(kv: u32, first: u32, j: u32, end: u32, column: u32, tx: u32) -> vec4f {
    return load_value(kv, first + j, end, column + 4u * tx);
}
