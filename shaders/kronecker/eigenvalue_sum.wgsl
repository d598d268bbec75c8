// The sum of the entries of three tables, one after another: λ[e] = t0[e / (n1 n2)] + t1[e / n2 mod n1] + t2[e mod n2].
@group(0) @binding(0) var<storage, read> values: array<f32>;

fn eigenvalue(e: u32) -> f32 {
    let slow = e / p.last;
    return values[p.first + p.middle + e % p.last] + (values[p.first + slow % p.middle] + values[slow / p.middle]);
}
