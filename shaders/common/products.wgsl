// Products of four by four, which the tiles of products and of attention in every family are made of.

// sum + x M, M by its rows.
fn add_row(sum: vec4f, x: vec4f, row0: vec4f, row1: vec4f, row2: vec4f, row3: vec4f) -> vec4f {
    return fma(vec4f(x.x), row0, fma(vec4f(x.y), row1, fma(vec4f(x.z), row2, fma(vec4f(x.w), row3, sum))));
}

// x M, M by its columns.
fn dots(x: vec4f, column0: vec4f, column1: vec4f, column2: vec4f, column3: vec4f) -> vec4f {
    return vec4f(dot(x, column0), dot(x, column1), dot(x, column2), dot(x, column3));
}
