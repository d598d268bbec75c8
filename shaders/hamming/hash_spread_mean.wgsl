// What each squared distance gets through sigma, their mean: dL/dsigma = -sum_ts pull_ts d_ts / sigma, in equal shares.
// 4 products: array<f32>, products[head] = sum_ts pull_ts d_ts
@group(0) @binding(4) var<storage, read> products: array<f32>;

fn spread_of(head: u32) -> f32 {
    let sigma = sigma_of(head);
    return select(0.0, -products[head] / sigma * p.share, sigma > SMALL);
}
