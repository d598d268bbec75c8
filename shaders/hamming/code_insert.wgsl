// Inserts the items of one chunk into the tables: table[x, y] += sum of weight(x - x_k) row_k over the items with these y, in the
// items' order. An invocation owns four x and one column; SLICES share the items, each those that share their y with the first of
// a slice's.
//
// 1 order: array<u32>, order[list*len + place], counted from the chunk      3 table: array<f32>
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read_write> table: array<f32>;

struct Sums {
    at: vec4u,
    sum: vec4f,
}

fn load(own: u32, x: vec4u, y: u32, c: u32) -> Sums {
    let last = (1u << p.x_bits) - 1u;
    let at = vec4u(half_row(own, min(x.x, last), y), half_row(own, min(x.y, last), y), half_row(own, min(x.z, last), y), half_row(own, min(x.w, last), y)) + c;
    return Sums(at, vec4f(table[at.x], table[at.y], table[at.z], table[at.w]));
}

fn store(sums: Sums, x: vec4u) {
    let live = x < vec4u(1u << p.x_bits);
    if (live.x) {
        table[sums.at.x] = sums.sum.x;
    }
    if (live.y) {
        table[sums.at.y] = sums.sum.y;
    }
    if (live.z) {
        table[sums.at.z] = sums.sum.z;
    }
    if (live.w) {
        table[sums.at.w] = sums.sum.w;
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let xs = ((1u << p.x_bits) + 3u) / 4u;
    let unit = (p.first + index) * (LANES / COLUMNS) + lane / COLUMNS;
    let slice = unit % SLICES;
    let own = unit / SLICES / xs;
    if (index < p.groups && own < p.lists * p.share) {
        let x = unit / SLICES % xs * 4u + vec4u(0u, 1u, 2u, 3u);
        let weight = weights_of(own);
        let start = own / p.share * p.len + p.begin;
        let len = p.end - p.begin;
        let part = (len + SLICES - 1u) / SLICES;
        let begin = slice * part;
        for (var c = lane % COLUMNS; c <= p.value; c += COLUMNS) {
            var open = false;
            var sums: Sums;
            var before = 0u;
            if (begin > 0u && begin < len) {
                before = y_of(items[p.items_offset + start + order[start + begin - 1u]]);
            }
            for (var at = begin; at < len; at++) {
                let item = start + order[start + at];
                let code = items[p.items_offset + item];
                let y = y_of(code);
                if (at == 0u || y != before) {
                    if (open) {
                        store(sums, x);
                    }
                    open = false;
                    if (at >= begin + part) {
                        break;
                    }
                    open = true;
                    sums = load(own, x, y, c);
                }
                before = y;
                if (open) {
                    let d = x ^ vec4u(x_of(code));
                    let last = (1u << p.x_bits) - 1u;
                    let w = vec4f(x_weight(weight, min(d.x, last)), x_weight(weight, min(d.y, last)), x_weight(weight, min(d.z, last)), x_weight(weight, min(d.w, last)));
                    sums.sum += w * row(item, c);
                }
            }
            if (open) {
                store(sums, x);
            }
        }
    }
}
