// Jaccard distance of sets of sizes s and t with n in common: 1 - n / (s + t - n), 0 of two empty sets.
fn gram(s: vec4u, t: vec4u, n: vec4u) -> vec4f {
    let all = s + t - n;
    return vec4f(all - n) / vec4f(max(all, vec4u(1u)));
}
