// Distances of queries to the codes of a database, eight codes at a time; those less than the query's bound, d < bounds_q, of
// allowed items go to an epilogue's `take`.
//
// 0 queries: array<Unit>, queries[query_offset + q*units + u]        1 database: array<Unit>, [database_offset + j*units + u]
// 2 bounds: array<u32>, bounds[q]; 0 means that nothing is wanted of a query
//
// A database is walked by positions, cut into segments; with tiles_apart > 1 they cover every so manieth tile of 64 items.
// ACROSS says what the lanes of a group share and what is across them: queries of one segment, items of one segment of one query,
// or segments of one query. Segment s of those bound is segment first_segment + s of a table. A lane's items ascend, and where segments or queries are across it has its segment for itself.
struct Params {
    units: u32,
    last: u32,
    query_offset: u32,
    database_offset: u32,
    queries: u32,
    first_query: u32,
    items: u32,
    first_item: u32,
    tiles_apart: u32,
    positions: u32,
    segment_len: u32,
    begin_segment: u32,
    end_segment: u32,
    first_segment: u32,
    first: u32,
    groups: u32,
    filter_offset: u32,
    filter_stride: u32,
    ranges_offset: u32,
    table_offset: u32,
    query_stride: u32,
    segment_stride: u32,
    bin_stride: u32,
    limit: u32,
    out_offset: u32,
    out_stride: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> queries: array<Unit>;
@group(0) @binding(1) var<storage, read> database: array<Unit>;
@group(0) @binding(2) var<storage, read> bounds: array<u32>;

const LANES: u32 = 64u;
const QUERIES: u32 = 0u;
const ITEMS: u32 = 1u;
const SEGMENTS: u32 = 2u;

// The item at a position.
fn item(position: u32) -> u32 {
    return (position >> 6u) * (64u * p.tiles_apart) + (position & 63u);
}

// The distances of a query's code to eight of the database.
fn distances(query: u32, i: vec4u, j: vec4u, d: ptr<function, vec4u>, e: ptr<function, vec4u>) {
    var x = vec4u();
    var y = vec4u();
    let rest = p.units - 1u;
    for (var u = 0u; u < rest; u++) {
        let a = queries[query + u];
        x += vec4u(ones(a ^ database[i.x + u]), ones(a ^ database[i.y + u]), ones(a ^ database[i.z + u]), ones(a ^ database[i.w + u]));
        y += vec4u(ones(a ^ database[j.x + u]), ones(a ^ database[j.y + u]), ones(a ^ database[j.z + u]), ones(a ^ database[j.w + u]));
    }
    let a = queries[query + rest];
    x += vec4u(ones_of_last(a ^ database[i.x + rest]), ones_of_last(a ^ database[i.y + rest]),
        ones_of_last(a ^ database[i.z + rest]), ones_of_last(a ^ database[i.w + rest]));
    y += vec4u(ones_of_last(a ^ database[j.x + rest]), ones_of_last(a ^ database[j.y + rest]),
        ones_of_last(a ^ database[j.z + rest]), ones_of_last(a ^ database[j.w + rest]));
    *d = x;
    *e = y;
}

fn walk(q: u32, segment: u32, lid: u32, bound: u32) {
    let across_items = ACROSS == ITEMS;
    let own = select(0u, lid, across_items);
    let turn = select(8u, 8u * LANES, across_items);
    let apart = select(1u, 64u * p.tiles_apart, across_items);
    let query = p.query_offset + q * p.units;
    let range = range_of(q);
    let begin = segment * p.segment_len;
    let end = min(begin + p.segment_len, p.positions);
    for (var at = begin; at < end; at += turn) {
        let first = item(at + own);
        let seen = p.first_item + first;
        if (seen < range.y && seen + 7u * apart >= range.x && (across_items || any_kept(q, seen))) {
            let i = vec4u(first) + vec4u(0u, 1u, 2u, 3u) * apart;
            let j = i + vec4u(4u * apart);
            let edge = vec4u(p.items - 1u);
            var d: vec4u;
            var e: vec4u;
            distances(query, vec4u(p.database_offset) + min(i, edge) * p.units, vec4u(p.database_offset) + min(j, edge) * p.units, &d, &e);
            if (any(d < vec4u(bound)) || any(e < vec4u(bound))) {
                for (var n = 0u; n < 8u; n++) {
                    let h = select(e[n & 3u], d[n & 3u], n < 4u);
                    let here = first + n * apart;
                    let index = p.first_item + here;
                    if (h < bound && here < p.items && index >= range.x && index < range.y && kept(q, index)
                        && !(EXCLUDE_SELF && index == p.first_query + q)) {
                        take(q, segment, index, h);
                    }
                }
            }
        }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let g = p.first + index;
    var q: u32;
    var segment: u32;
    if (ACROSS == QUERIES) {
        let tiles = (p.queries + LANES - 1u) / LANES;
        q = g % tiles * LANES + lid;
        segment = p.begin_segment + g / tiles;
    } else {
        q = g % p.queries;
        segment = p.begin_segment + g / p.queries;
        if (ACROSS == SEGMENTS) {
            segment = p.begin_segment + g / p.queries * LANES + lid;
        }
    }
    if (index < p.groups && q < p.queries && segment < p.end_segment) {
        let bound = bounds[q];
        if (bound != 0u) {
            walk(q, segment, lid, bound);
        }
    }
}
