// z = M⁻¹ r, M of blocks of two rows and two columns: z = scale ∘ r + swap ∘ (J r Jᵀ), J = [[0, -1], [1, 0]] on neighbours; rᵀ z.
// `shift` is the number of columns, `a` that of rows.
@group(0) @binding(0) var<storage, read> scale: array<f32>;
@group(0) @binding(1) var<storage, read> r: array<f32>;
@group(0) @binding(2) var<storage, read> swap: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    let columns = u32(p.shift);
    let rows = u32(p.a);
    let down = e / columns;
    let across = e % columns;
    var value = scale[e] * r[i];
    if ((down ^ 1u) < rows && (across ^ 1u) < columns) {
        let other = r[(down ^ 1u) * columns + (across ^ 1u)];
        value += swap[e] * select(-other, other, ((down ^ across) & 1u) == 0u);
    }
    z[i] = value;
    return r[i] * value;
}
