// Weights of a tile: H = dC C / sqrt(D), dC = do Y^T + v dX^T: what reaches q and l through C.
var<private> slope: array<vec4f, A_ROWS>;

fn add_products(lid: u32) {
    for (var c = 0u; c < 4u; c++) {
        let at = ARENA_L + c * LANDMARKS + lid % AX;
        let y0 = arena[at];
        let y1 = arena[at + AX];
        let y2 = arena[at + 2u * AX];
        let y3 = arena[at + 3u * AX];
        for (var i = 0u; i < A_ROWS; i++) {
            let x = arena[c * TOKENS + (lid / AX) * A_ROWS + i];
            slope[i] += vec4f(dot(x, y0), dot(x, y1), dot(x, y2), dot(x, y3));
        }
    }
}

fn weigh(here: Place, first: u32, mark: u32, lid: u32) {
    distances(here, first, mark, lid);
    for (var i = 0u; i < A_ROWS; i++) {
        near[i] = 2.0 * p.scale * exp(-p.scale * near[i]);
        slope[i] = vec4f();
    }
    for (var side = 0u; side < 2u; side++) {
        for (var slab = 0u; slab < p.value; slab += 16u) {
            workgroupBarrier();
            for (var e = lid; e < 4u * TOKENS; e += 256u) {
                let channel = slab + 4u * (e % 4u);
                var x = vec4f();
                if (side == 0u) {
                    x = load_d(here, first + e / 4u, channel);
                } else {
                    x = load_v(here, first + e / 4u, channel);
                }
                arena[(e % 4u) * TOKENS + e / 4u] = x;
            }
            for (var e = lid; e < 4u * LANDMARKS; e += 256u) {
                arena[ARENA_L + (e % 4u) * LANDMARKS + e / 4u] = load_y(here, mark + e / 4u, side * p.value, slab + 4u * (e % 4u));
            }
            workgroupBarrier();
            add_products(lid);
        }
    }
    for (var i = 0u; i < A_ROWS; i++) {
        near[i] *= slope[i];
    }
    put_weights(here, first, mark, lid);
}
