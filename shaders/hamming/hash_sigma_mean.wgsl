// Sigma is the mean squared distance of the sequence.
// 5 squares: array<f32>, squares[head]
@group(0) @binding(5) var<storage, read> squares: array<f32>;

fn sigma_of(head: u32) -> f32 {
    return max(SMALL, squares[head] * p.share);
}
