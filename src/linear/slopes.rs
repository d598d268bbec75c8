//! The published decay tables. They differ, so each has its name and none is a default.

use crate::{Error, Result};

fn argument(op: &'static str, heads: usize, layer: usize, layers: usize) -> Result<()> {
    let refuse = |what: &str, expected: String, got: usize| {
        Err(Error::Argument {
            op,
            what: what.into(),
            expected,
            got: got.to_string(),
        })
    };
    if heads == 0 {
        return refuse("heads", "at least 1".into(), heads);
    }
    if layer >= layers {
        return refuse(
            "layer",
            format!("below the number of layers, {layers}"),
            layer,
        );
    }
    Ok(())
}

/// The geometric table of ALiBi: 2^(-8(i+1)/heads) for a power of two; otherwise the table of the power of two below,
/// followed by every second entry of the table of twice that power.
fn alibi(heads: usize) -> Vec<f64> {
    let table = |n: usize| (0..n).map(move |i| (-8.0 * (i + 1) as f64 / n as f64).exp2());
    if heads.is_power_of_two() {
        table(heads).collect()
    } else {
        let below = heads.next_power_of_two() / 2;
        table(below)
            .chain(table(2 * below).step_by(2))
            .take(heads)
            .collect()
    }
}

/// Slopes of the Lightning Attention release: the ALiBi table times 1 - layer/(layers-1) + 1e-5; the factor is 1 for a
/// single layer. `log_decay` is minus the slope.
///
/// # Errors
/// `Argument` when there are no heads or `layer >= layers`.
///
/// Source: Qin et al., Lightning Attention-2, 2024, and its code.
pub fn slopes_opennlplab(heads: usize, layer: usize, layers: usize) -> Result<Vec<f32>> {
    argument("slopes_opennlplab", heads, layer, layers)?;
    let factor = if layers == 1 {
        1.0
    } else {
        1.0 - layer as f64 / (layers - 1) as f64 + 1e-5
    };
    Ok(alibi(heads)
        .into_iter()
        .map(|slope| (slope * factor) as f32)
        .collect())
}

/// Slopes of MiniMax's models: 2^(-8(i+1)/heads) for every number of heads, times 1 - layer/(layers-1+1e-5) + 1e-5.
///
/// # Errors
/// As [`slopes_opennlplab`].
///
/// Source: MiniMax-01, 2025, as implemented in the transformers library.
pub fn slopes_minimax(heads: usize, layer: usize, layers: usize) -> Result<Vec<f32>> {
    argument("slopes_minimax", heads, layer, layers)?;
    let factor = 1.0 - layer as f64 / ((layers - 1) as f64 + 1e-5) + 1e-5;
    Ok((0..heads)
        .map(|i| ((-8.0 * (i + 1) as f64 / heads as f64).exp2() * factor) as f32)
        .collect())
}

/// Slopes of TransNormer as flash-linear-attention builds them: (8/heads)(1 - layer/layers) i; head 0 never decays.
///
/// # Errors
/// As [`slopes_opennlplab`].
pub fn slopes_transnormer(heads: usize, layer: usize, layers: usize) -> Result<Vec<f32>> {
    argument("slopes_transnormer", heads, layer, layers)?;
    let factor = 8.0 / heads as f64 * (1.0 - layer as f64 / layers as f64);
    Ok((0..heads).map(|i| (factor * i as f64) as f32).collect())
}

/// RetNet's decay, already as `log_decay`: ln(1 - 2^(-5-h)). Computed in f64: in f32 the factor itself is 1 from h = 20 on.
///
/// Source: Sun et al., Retentive Network, 2023.
pub fn log_decay_retention(heads: usize) -> Vec<f32> {
    (0..heads)
        .map(|h| (-(-5.0 - h as f64).exp2()).ln_1p() as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_match_their_formulas_and_differ_from_each_other() {
        let (o, m, t) = (
            slopes_opennlplab(6, 1, 4).unwrap(),
            slopes_minimax(6, 1, 4).unwrap(),
            slopes_transnormer(6, 1, 4).unwrap(),
        );
        assert!(o != m && m != t && o != t);
        // Six heads: the table for four, then entries 0 and 2 of the table for eight.
        let expected = [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]
            .map(|s: f64| (s * (1.0 - 1.0 / 3.0 + 1e-5)) as f32);
        assert_eq!(o, expected);
        assert_eq!(slopes_opennlplab(8, 0, 1).unwrap()[7], 2f32.powi(-8));
        assert!((m[2] - 0.0625 * (2.0 / 3.0)).abs() < 1e-5);
        assert_eq!((t[0], t[5]), (0.0, 5.0));
        assert!((log_decay_retention(25)[24] + 2f32.powi(-29)).abs() < 1e-12);
    }

    #[test]
    fn bad_layers_are_refused() {
        for build in [slopes_opennlplab, slopes_minimax, slopes_transnormer] {
            assert!(build(0, 0, 1).is_err() && build(4, 4, 4).is_err() && build(4, 3, 4).is_ok());
        }
    }
}
