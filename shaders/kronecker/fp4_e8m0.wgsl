// Scales 2^(code - 127): the least that is no less than a sixth of the peak (RULE 0), the nearest to it, ties to the even code
// (RULE 1), or 2^(floor(log2 peak) - 2) (RULE 2).
const NAN_CODE: u32 = 255u;

// A scale times `lift`, which keeps small ones among normal numbers, and the inverse of that.
struct Scale {
    value: f32,
    lift: f32,
    lower: f32,
}

fn scale_of(peak: u32) -> u32 {
    let exponent = peak >> 23u;
    let fraction = peak & 0x7fffffu;
    // peak = 1.fraction 2^(exponent - 127), of which a sixth is 1.fraction / 1.5 2^(exponent - 129).
    var below = 2u;
    if (RULE == 0u && fraction > 0x400000u) {
        below = 1u;
    }
    if (RULE == 1u && (fraction < 0x100000u || (fraction == 0x100000u && (exponent & 1u) == 1u))) {
        below = 3u;
    }
    return select(exponent - below, 0u, exponent <= below);
}

fn value_of(code: u32) -> Scale {
    let small = code < 64u;
    let exponent = code + select(0u, 64u, small);
    let value = bitcast<f32>(min(exponent, 254u) << 23u);
    if (small) {
        return Scale(value, 18446744073709551616.0, 5.421010862427522e-20);
    }
    return Scale(value, 1.0, 1.0);
}
