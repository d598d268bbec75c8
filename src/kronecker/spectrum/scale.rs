//! Numbers of any size, and λ + σ² in units that neither overflow nor underflow.

/// m 2^e: products of thousands of factors' norms leave the range of f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    mantissa: f64,
    exponent: i64,
}

impl Scale {
    pub const ONE: Scale = Scale {
        mantissa: 1.0,
        exponent: 0,
    };

    pub fn of(x: f64) -> Scale {
        if x == 0.0 || !x.is_finite() {
            return Scale {
                mantissa: x,
                exponent: 0,
            };
        }
        let exponent = x.abs().log2().floor();
        // In two steps, because one power of two may be out of range where x is subnormal.
        let half = (exponent / 2.0).trunc();
        let mantissa = x * (-half).exp2() * (half - exponent).exp2();
        // The logarithm of a number just below a power of two may round up to that power's.
        let below = mantissa.abs() < 1.0;
        Scale {
            mantissa: if below { 2.0 * mantissa } else { mantissa },
            exponent: exponent as i64 - i64::from(below),
        }
    }

    pub fn times(self, other: Scale) -> Scale {
        let product = Scale::of(self.mantissa * other.mantissa);
        Scale {
            mantissa: product.mantissa,
            exponent: product.exponent + self.exponent + other.exponent,
        }
    }

    pub fn over(self, other: Scale) -> f64 {
        let quotient = Scale {
            mantissa: self.mantissa / other.mantissa,
            exponent: self.exponent - other.exponent,
        };
        quotient.value()
    }

    /// As f64: 0 or infinite beyond its range.
    pub fn value(self) -> f64 {
        let exponent = self.exponent.clamp(-2200, 2200) as f64;
        let half = (exponent / 2.0).trunc();
        self.mantissa * half.exp2() * (exponent - half).exp2()
    }

    /// The natural logarithm of the absolute value.
    pub fn ln(self) -> f64 {
        self.mantissa.abs().ln() + self.exponent as f64 * std::f64::consts::LN_2
    }
}

/// λ + c = unit · (a λ̂ + shift), where λ̂ are the eigenvalues over their scale, and the larger of a and |shift| is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shifted {
    pub a: f64,
    pub shift: f64,
    pub unit: Scale,
}

impl Shifted {
    pub fn new(scale: Scale, c: f64) -> Shifted {
        let own = Scale::of(c);
        if c == 0.0 || (scale.ln() >= own.ln() && scale.mantissa != 0.0) {
            return Shifted {
                a: 1.0,
                shift: if c == 0.0 { 0.0 } else { own.over(scale) },
                unit: scale,
            };
        }
        let unit = Scale::of(c.abs());
        Shifted {
            a: scale.over(unit),
            shift: c.signum(),
            unit,
        }
    }

    /// (λ + c) / unit.
    pub fn at(&self, scaled: f64) -> f64 {
        self.a * scaled + self.shift
    }
}

#[cfg(test)]
mod tests {
    use super::{Scale, Shifted};

    #[test]
    fn scales_multiply_beyond_the_range_of_f64() {
        let mut product = Scale::ONE;
        for _ in 0..70 {
            product = product.times(Scale::of(3e20));
        }
        let ln = 70.0 * 3e20f64.ln();
        assert!((product.ln() - ln).abs() < 1e-12 * ln);
        assert_eq!(product.value(), f64::INFINITY);
        for x in [
            1.0,
            -0.75,
            3.5e-310,
            5e-324,
            f64::MAX,
            f64::MIN_POSITIVE,
            0.0,
        ] {
            let scale = Scale::of(x);
            assert_eq!(scale.value(), x);
            assert!(x == 0.0 || (1.0..2.0).contains(&scale.mantissa.abs()));
            assert_eq!(scale.times(Scale::ONE), scale);
        }
        assert_eq!(product.over(product), 1.0);
    }

    #[test]
    fn shifts_are_in_the_larger_unit() {
        for (scale, c) in [
            (2.0, 1e-3),
            (1e-3, 2.0),
            (1e-3, -2.0),
            (5.0, 0.0),
            (1.0, 1.0),
        ] {
            let shifted = Shifted::new(Scale::of(scale), c);
            for x in [0.0, 0.25, 1.0] {
                let sum = shifted.unit.value() * shifted.at(x);
                assert!((sum - (scale * x + c)).abs() < 1e-15 * (scale + c.abs()));
            }
            assert_eq!(shifted.a.max(shifted.shift.abs()), 1.0);
        }
    }
}
