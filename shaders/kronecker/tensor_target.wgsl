// Where the sums of an owner's rows go: one invocation a chunk of STEP channels.
struct Params {
    x_len: u32,
    group: u32,
    tiles: u32,
    tile_base: u32,
    owners: u32,
    parts: u32,
    block: u32,
    base: u32,
    chunks: u32,
    step: u32,
    width: u32,
    out_offset: u32,
    lse_offset: u32,
    accumulate: u32,
    first: u32,
    end: u32,
}
var<immediate> p: Params;

struct Target {
    live: bool,
    row: u32,
    chunk: u32,
    from_row: u32,
    into: u32,
    left: u32,
}

fn target_of(at: u32) -> Target {
    let slot = at / p.chunks;
    let chunk = at % p.chunks;
    let tile = p.tile_base + slot / p.owners;
    let u = tile % p.tiles * p.owners + slot % p.owners;
    let row = tile / p.tiles * p.x_len + u % p.group * (p.x_len / p.group) + u / p.group;
    return Target(
        at < p.end && u < p.x_len,
        row,
        chunk,
        slot * p.parts * p.block + p.base,
        p.out_offset + row * p.width + p.step * chunk,
        min(p.step, p.width - p.step * chunk),
    );
}
