// The least distance of each query token to the tokens of each document, and optionally where it is:
//   least[i, D] = min over j in D of popcount(a_i xor b_j)
//
// 0 a: array<u32>, a[a_offset + i*words + w]         1 b: array<u32>, b[b_offset + j*words + w]
// 2 bounds: array<u32>, of documents; tokens bounds[D] .. bounds[D+1]
// 3 least: array<u32>, least[(D - first_document)*tokens + i]     4 place: array<u32>, as least (with maxsim_places)
// Tokens begin .. end of each document in this dispatch; later ones go on from what earlier ones left.
struct Params {
    a_offset: u32,
    b_offset: u32,
    words: u32,
    last: u32,
    tokens: u32,
    first_document: u32,
    documents: u32,
    begin: u32,
    end: u32,
    places_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> a: array<u32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read> bounds: array<u32>;
@group(0) @binding(3) var<storage, read_write> least: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = group_index(group, grid) * 64u + lane;
    if (n < p.tokens * p.documents) {
        let document = p.first_document + n / p.tokens;
        let first = bounds[document];
        let len = bounds[document + 1u] - first;
        let end = min(p.end, len);
        let code = p.a_offset + n % p.tokens * p.words;
        var best = 0xffffffffu;
        var where_best = 0xffffffffu;
        if (p.begin > 0u) {
            best = least[n];
            where_best = placed(n);
        }
        for (var j = p.begin; j < end; j += 4u) {
            let token = first + min(vec4u(j) + vec4u(0u, 1u, 2u, 3u), vec4u(len - 1u));
            let at = p.b_offset + token * p.words;
            var d = vec4u();
            for (var w = 0u; w < p.words; w++) {
                let mask = select(0xffffffffu, p.last, w + 1u == p.words);
                let x = vec4u(a[code + w] & mask);
                d += countOneBits(x ^ (vec4u(b[at.x + w], b[at.y + w], b[at.z + w], b[at.w + w]) & vec4u(mask)));
            }
            // In order, so that ties go to the lower token.
            for (var m = 0u; m < 4u; m++) {
                if (d[m] < best) {
                    best = d[m];
                    where_best = token[m];
                }
            }
        }
        least[n] = best;
        place(n, where_best);
    }
}
