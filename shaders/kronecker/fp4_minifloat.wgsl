// Scales with three bits of significand, times that of the tensor: subnormal below code 8. The least that is no less than a sixth of
// the peak (RULE 0), or the nearest, ties to the even code (RULE 1), where the midpoint of neighbours is rounded as they are.
struct Scale {
    value: f32,
    lift: f32,
    lower: f32,
}

fn plain(code: u32) -> f32 {
    let exponent = max(code >> 3u, 1u);
    let significand = (code & 7u) + select(0u, 8u, code >= 8u);
    return f32(significand) * bitcast<f32>((exponent + 124u - BIAS) << 23u);
}

// Whether a scale is for this peak, or one above.
fn suffices(code: u32, peak: f32) -> bool {
    if (RULE == 0u) {
        let scale = plain(code) * tensor_scale();
        return peak - 4.0 * scale <= 2.0 * scale;
    }
    let middle = 0.5 * (plain(code) + plain(code + 1u)) * tensor_scale();
    let rest = peak - 4.0 * middle;
    return rest < 2.0 * middle || (rest == 2.0 * middle && (code & 1u) == 0u);
}

fn scale_of(peak: u32) -> u32 {
    var low = 0u;
    var high = NAN_CODE - 1u;
    for (var step = 0u; step < 8u; step++) {
        let middle = (low + high) / 2u;
        if (low < high) {
            if (suffices(middle, bitcast<f32>(peak))) {
                high = middle;
            } else {
                low = middle + 1u;
            }
        }
    }
    return select(low, 0u, peak == 0u);
}

fn value_of(code: u32) -> Scale {
    return Scale(plain(code) * tensor_scale(), 1.0, 1.0);
}
