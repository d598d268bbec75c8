// Neural tangent kernel of a two-layer ReLU network on binary inputs of s and t ones with n in common:
//   (2 n (pi - angle) + sqrt(s t - n²)) / pi,   cos(angle) = n / sqrt(s t)
//
// s t - n² is exact in integers, so that neither term cancels; the angle is ours, since acos may be off by 1e-4.
const PI: f32 = 3.14159265358979;

// arcsin of x <= 0.5: S. L. Moshier's polynomial for single precision.
fn arcsin(x: f32) -> f32 {
    let z = x * x;
    let series = (((4.2163199048e-2 * z + 2.4181311049e-2) * z + 4.5470025998e-2) * z + 7.4953002686e-2) * z + 1.6666752422e-1;
    return x + x * z * series;
}

fn gram(s: u32, t: u32, n: u32) -> f32 {
    let sine = f32(s * t - n * n);
    let rho = sqrt(f32(max(s * t, 1u)));
    let cosine = f32(n) / rho;
    // 1 - cosine without cancellation.
    let half = 0.5 * sine / (rho * (rho + f32(n)));
    let angle = select(0.5 * PI - arcsin(min(cosine, 0.5)), 2.0 * arcsin(sqrt(min(half, 0.25))), cosine > 0.5);
    return (2.0 * f32(n) * (PI - angle) + sqrt(sine)) / PI;
}
