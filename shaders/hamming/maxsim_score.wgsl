// Scores of documents: score[Q, D] = sum over the tokens i of Q that count of (bits - 2 least[i, D]), -2147483648 of an empty one.
//
// 0 least: array<u32>, least[(D - first_document)*tokens + i]       1 starts: array<u32>, of queries; tokens starts[Q] .. starts[Q+1]
// 2 counted: array<u32>, a word a token, 0 where it does not count  3 bounds: array<u32>, of documents
// 4 score: array<i32>, score[Q*stride + D]
struct Params {
    tokens: u32,
    bits: u32,
    first_document: u32,
    documents: u32,
    queries: u32,
    stride: u32,
    score_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> least: array<u32>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> counted: array<u32>;
@group(0) @binding(3) var<storage, read> bounds: array<u32>;
@group(0) @binding(4) var<storage, read_write> score: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n = group_index(group, grid) * 64u + lane;
    if (n < p.queries * p.documents) {
        let query = n / p.documents;
        let here = n % p.documents;
        let document = p.first_document + here;
        var sum = 0i;
        for (var i = starts[query]; i < starts[query + 1u]; i++) {
            if (counted[i] != 0u) {
                sum += i32(p.bits) - 2i * i32(least[here * p.tokens + i]);
            }
        }
        if (bounds[document] == bounds[document + 1u]) {
            sum = -2147483647i - 1i;
        }
        score[p.score_offset + query * p.stride + document] = sum;
    }
}
