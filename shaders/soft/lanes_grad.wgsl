// Weights of `lanes`: H = dC C / sqrt(D), dC = do Y^T + v dX^T: what reaches q and l through C.
var<private> slope: array<vec4f, ROWS * QUADS>;

fn weigh(here: Place, row: u32, first: u32, lane: u32) {
    for (var i = 0u; i < ROWS * QUADS; i++) {
        slope[i] = vec4f();
    }
    for (var side = 0u; side < 2u; side++) {
        for (var c = 0u; c < p.value; c += 4u) {
            var own: array<vec4f, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                own[r] = row_side(here, side, row + r * LANES, c);
            }
            for (var i = 0u; i < HELD; i++) {
                let held = other_side(here, side, first + i * LANES + lane, c);
                for (var n = 0u; n < LANES / 4u; n++) {
                    let other = quad(held, n);
                    for (var r = 0u; r < ROWS; r++) {
                        let x = own[r];
                        let at = r * QUADS + i * (LANES / 4u) + n;
                        let low = fma(vec4f(x.x), other.x, fma(vec4f(x.y), other.y, slope[at]));
                        slope[at] = fma(vec4f(x.z), other.z, fma(vec4f(x.w), other.w, low));
                    }
                }
            }
        }
    }
    weigh_kernel(here, row, first, lane);
    for (var i = 0u; i < ROWS * QUADS; i++) {
        weight[i] *= 2.0 * p.scale * slope[i];
    }
}
