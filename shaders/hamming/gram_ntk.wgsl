// Neural tangent kernel of a two-layer ReLU network on binary inputs of s and t ones with n in common:
//   (2 n (pi - angle) + sqrt(s t - n²)) / pi,   cos(angle) = n / sqrt(s t)
//
// s t - n² is exact in integers, so that neither term cancels; the angle is ours, since acos may be off by 1e-4.
const PI: f32 = 3.14159265358979;

// arcsin of x <= 0.5: S. L. Moshier's polynomial for single precision.
fn arcsin(x: vec4f) -> vec4f {
    let z = x * x;
    var series = vec4f(4.2163199048e-2);
    series = fma(series, z, vec4f(2.4181311049e-2));
    series = fma(series, z, vec4f(4.5470025998e-2));
    series = fma(series, z, vec4f(7.4953002686e-2));
    series = fma(series, z, vec4f(1.6666752422e-1));
    return x + x * z * series;
}

fn gram(s: vec4u, t: vec4u, n: vec4u) -> vec4f {
    let both = vec4f(n);
    let sine = vec4f(s * t - n * n);
    let rho = sqrt(vec4f(max(s * t, vec4u(1u))));
    let cosine = both / rho;
    // Near 1, from 1 - cosine without cancellation.
    let near = cosine > vec4f(0.5);
    let half = 0.5 * sine / (rho * (rho + both));
    let x = arcsin(select(min(cosine, vec4f(0.5)), sqrt(min(half, vec4f(0.25))), near));
    let angle = select(0.5 * PI - x, 2.0 * x, near);
    return (2.0 * both * (PI - angle) + sqrt(sine)) / PI;
}
