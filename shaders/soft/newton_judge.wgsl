// Judges R = I - P V by its largest row sum of absolute values, one workgroup a head. Phases: 0 iterating, 1 one update to
// go, 2 done. An update follows unless a head is done or this is the last look, which is when `begin` is 1.
//
// 0 rest: array<f32>, R, rest[head*p_stride + a*m + b]          1 info: array<f32>, info[head*INFO + 0 .. 4]
@group(0) @binding(0) var<storage, read> rest: array<f32>;
@group(0) @binding(1) var<storage, read_write> info: array<f32>;

var<workgroup> largest: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let head = group_index(group, grid);
    if (head < p.groups) {
        judge(head, lid);
    }
}

fn judge(head: u32, lid: u32) {
    let m = p.landmarks;
    var most = 0.0;
    for (var a = lid; a < m; a += 256u) {
        var sum = 0.0;
        for (var b = 0u; b < m; b++) {
            sum += abs(rest[head * p.p_stride + a * m + b]);
        }
        most = max(most, sum);
    }
    largest[lid] = most;
    workgroupBarrier();
    if (lid == 0u) {
        for (var i = 0u; i < min(m, 256u); i++) {
            most = max(most, largest[i]);
        }
        let at = head * INFO;
        let phase = info[at + 2u];
        let before = info[at + 3u];
        let near = most <= p.tolerance || (before < 0.5 && most > 0.5 * before);
        let looking = p.begin == 1u;
        if (phase < 2.0) {
            info[at + 1u] = most;
            info[at + 3u] = most;
        }
        if (phase == 0.0 && !looking) {
            info[at] += 1.0;
            info[at + 2u] = select(0.0, 1.0, near);
        }
        if (phase == 1.0) {
            info[at + 2u] = 2.0;
        }
    }
}
