// What a token's own key and query give each other's gradients, and the flows that make the gradient of its decay. The walks
// that made dq and dk left the token itself out, so that the flows
//
//   flow_t = q_t * dq_t - k_t * dk_t        into t from earlier tokens, less what leaves t for later ones, per channel
//
// are not differences of what a token sends to itself. Then, with n = dn_t . u_t,
//
//   dq_t += scale * n * k_t        dk_t += scale * n * q_t
//
// Rows are those of the query heads; `group` of them share a key head. All f32, widths multiples of four.
//
// 0 q: array<vec4f>, q[row * key_vecs + c]                1 k: array<vec4f>, at the row of the key head
// 2 dn: array<vec4f>, dn[row * value_vecs + c]            3 u: array<vec4f>, at the row of the key head
// 4 dq: array<vec4f>, like q      5 dk: array<vec4f>, like q      6 flow: array<vec4f>, like q
struct Params {
    rows: u32,
    tokens: u32,
    head_first: u32,
    group: u32,
    key_vecs: u32,
    value_vecs: u32,
    groups: u32,
    scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> dn: array<vec4f>;
@group(0) @binding(3) var<storage, read> u: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> dq: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> flow: array<vec4f>;

@compute @workgroup_size(LANES, ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let row = index * ROWS + local.y;
        let live = row < p.rows;
        let at = min(row, p.rows - 1u);
        let key_row = select(at / p.group, at / p.tokens / p.group * p.tokens + at % p.tokens, p.head_first == 1u);
        var sum = 0.0;
        for (var c = local.x; c < p.value_vecs; c += LANES) {
            sum += dot(dn[at * p.value_vecs + c], u[key_row * p.value_vecs + c]);
        }
        let n = p.scale * row_sum(local, sum);
        if (live) {
            for (var c = local.x; c < p.key_vecs; c += LANES) {
                let i = at * p.key_vecs + c;
                let kc = k[key_row * p.key_vecs + c];
                let qc = q[i];
                let to_q = dq[i];
                let to_k = dk[i];
                flow[i] = qc * to_q - kc * to_k;
                dq[i] = fma(vec4f(n), kc, to_q);
                dk[i] = fma(vec4f(n), qc, to_k);
            }
        }
    }
}
