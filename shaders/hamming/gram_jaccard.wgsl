// Jaccard distance of sets of sizes s and t with n in common: 1 - n / (s + t - n), 0 of two empty sets.
fn gram(s: u32, t: u32, n: u32) -> f32 {
    let all = s + t - n;
    return f32(all - n) / f32(max(all, 1u));
}
