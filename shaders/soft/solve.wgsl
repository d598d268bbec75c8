// P y = x by P = L D L^T, one workgroup a head. Elimination takes the right sides along: at step k the rows below lose
// (a_ik / d_k) times row k, of the triangle and of y; then the rows above, from the last on, lose a_ki / d_i times row k. The
// triangle keeps L D unscaled, so that each step needs one barrier and a row is divided by its pivot at the very end.
// Steps begin .. end of the 2m run in this dispatch; the triangle lies where the part beside this has it.
//
// 0 matrix: array<f32>, P without ridge, as `gram` leaves it          1 right: array<f32>, right[head*y_stride + a*columns + c]
// 2 y: array<f32>, as right          3 info: array<f32>, info[head*INFO + 0 .. 4]
@group(0) @binding(0) var<storage, read> matrix: array<f32>;
@group(0) @binding(1) var<storage, read> right: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> info: array<f32>;

// 16 units of f32 of the diagonal: a pivot below is rounding, and P not positive definite as far as f32 can tell.
fn least_pivot() -> f32 {
    return 9.5367431640625e-7 * (1.0 + p.ridge);
}

// A pivot that is not positive drops out, with its row of y: what is left stays finite, and the residual tells.
fn over_pivot(head: u32, k: u32) -> f32 {
    let pivot = triangle_of(head, k, k);
    return select(0.0, 1.0 / max(pivot, least_pivot()), pivot > least_pivot());
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        solve(index, lid);
    }
}

fn solve(head: u32, lid: u32) {
    let m = p.landmarks;
    let n = p.columns;
    let tx = lid % 16u;
    let ty = lid / 16u;
    let rows = head * p.y_stride;
    if (p.begin == 0u) {
        for (var i = ty; i < m; i += 16u) {
            for (var j = tx; j <= i; j += 16u) {
                set_triangle(head, i, j, matrix[head * p.p_stride + i * m + j] + select(0.0, p.ridge, i == j));
            }
            for (var c = tx; c < n; c += 16u) {
                y[rows + i * n + c] = right[rows + i * n + c];
            }
        }
    }
    workgroupBarrier();
    storageBarrier();
    for (var step = p.begin; step < p.end; step++) {
        if (step < m) {
            let over = over_pivot(head, step);
            for (var i = step + 1u + ty; i < m; i += 16u) {
                let factor = -over * triangle_of(head, i, step);
                for (var j = step + 1u + tx; j <= i; j += 16u) {
                    set_triangle(head, i, j, fma(factor, triangle_of(head, j, step), triangle_of(head, i, j)));
                }
                for (var c = tx; c < n; c += 16u) {
                    y[rows + i * n + c] = fma(factor, y[rows + step * n + c], y[rows + i * n + c]);
                }
            }
        } else {
            let k = 2u * m - 1u - step;
            let over = over_pivot(head, k);
            for (var i = ty; i < k; i += 16u) {
                let factor = -over * triangle_of(head, k, i);
                for (var c = tx; c < n; c += 16u) {
                    y[rows + i * n + c] = fma(factor, y[rows + k * n + c], y[rows + i * n + c]);
                }
            }
        }
        workgroupBarrier();
        storageBarrier();
    }
    if (p.end == 2u * m) {
        for (var i = ty; i < m; i += 16u) {
            let over = over_pivot(head, i);
            for (var c = tx; c < n; c += 16u) {
                y[rows + i * n + c] *= over;
            }
        }
        if (lid == 0u) {
            var dropped = 0.0;
            for (var k = 0u; k < m; k++) {
                dropped += select(1.0, 0.0, triangle_of(head, k, k) > least_pivot());
            }
            info[head * INFO] = 0.0;
            info[head * INFO + 1u] = dropped;
        }
    }
}
