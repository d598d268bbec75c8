// The gradient of beta, du . e with what the state missed of the values.
//
// 11 e: array<vec4f>, like u        12 dbeta: array<f32>, dbeta[beta_offset + row]
@group(0) @binding(11) var<storage, read> e: array<vec4f>;
@group(0) @binding(12) var<storage, read_write> dbeta: array<f32>;

fn put_beta_gradient(b: Block, lane: u32, du: ptr<function, OfTokens>) {
    for (var i = 0u; i < HELD; i++) {
        var part: array<f32, LANES>;
        for (var l = 0u; l < LANES; l++) {
            let row = token_row(b, i * LANES + l);
            part[l] = 0.0;
            for (var c = 0u; c < COLUMNS; c++) {
                let x = select(vec4f(), e[value_vector(row, lane, c)], live(lane, c));
                part[l] += dot((*du)[i][l][c], x);
            }
        }
        let sum = numbers_to_lanes(lane, part);
        let n = held_token(lane, i);
        if (n < b.count) {
            dbeta[p.beta_offset + token_row(b, n)] = sum;
        }
    }
}
