//! Functions of a spectrum.

use std::sync::Arc;

use super::{Grid, OP, Scale, Shifted, Spectrum};
use crate::{Error, Result};

/// The most values of a table: more would be a buffer as large as the vectors.
pub const MAX_TABLE: usize = 1 << 20;

/// f(λ) of [`spectral()`](crate::kronecker::spectral()).
#[derive(Clone, Debug, PartialEq)]
pub enum Function {
    /// λ + c: the matrix itself.
    Shifted(f64),
    /// 1 / (λ + c).
    Inverse(f64),
    /// 1 / (λ + c) where λ + c ≠ 0, else 0: the solution of least norm, without the components of the null space.
    MinimumNorm(f64),
    /// √(λ + c).
    Root(f64),
    /// 1 / √(λ + c).
    InverseRoot(f64),
    /// λ / (λ + c).
    Shrink(f64),
    /// √(λ c / (λ + c)): the deviation of what [`Function::Shrink`] estimates.
    Deviation(f64),
    /// exp(t λ).
    Exp(f64),
    /// (λ + c)^p.
    Power {
        /// c.
        shift: f64,
        /// p.
        exponent: f64,
    },
    /// f(λ) as the caller computed it from [`Spectrum::eigenvalues`], in their order; at most 2^20.
    Table(Arc<[f32]>),
}

/// What a kernel computes: gain · form(a λ̂ + shift), and for `Exp` exp(power λ̂).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Shifted = 0,
    Inverse = 1,
    MinimumNorm = 2,
    Root = 3,
    InverseRoot = 4,
    Shrink = 5,
    Deviation = 6,
    Exp = 7,
    Power = 8,
    /// 1 where a λ̂ + shift is 0, else 0.
    Null = 9,
}

/// A form's parameters as a device gets them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rounded {
    pub form: Form,
    pub a: f32,
    pub shift: f32,
    pub gain: f32,
    pub power: f32,
}

impl Function {
    /// Form, c and p; none for a table.
    fn parts(&self) -> Option<(Form, f64, f64)> {
        Some(match self {
            Function::Shifted(c) => (Form::Shifted, *c, 1.0),
            Function::Inverse(c) => (Form::Inverse, *c, -1.0),
            Function::MinimumNorm(c) => (Form::MinimumNorm, *c, -1.0),
            Function::Root(c) => (Form::Root, *c, 0.5),
            Function::InverseRoot(c) => (Form::InverseRoot, *c, -0.5),
            Function::Shrink(c) => (Form::Shrink, *c, 0.0),
            Function::Deviation(c) => (Form::Deviation, *c, 0.5),
            Function::Exp(t) => (Form::Exp, 0.0, *t),
            Function::Power { shift, exponent } => (Form::Power, *shift, *exponent),
            Function::Table(_) => return None,
        })
    }

    /// Whether the function is defined on all eigenvalues.
    ///
    /// # Errors
    /// `Argument` when a parameter is not finite or a table has another length; `Numeric` when an eigenvalue is outside of the
    /// function's domain.
    pub fn check(&self, spectrum: &Spectrum) -> Result<()> {
        let argument = |what: &str, expected: String, got: String| {
            Err(Error::Argument {
                op: OP,
                what: what.into(),
                expected,
                got,
            })
        };
        let (form, c, p) = match (self, self.parts()) {
            (Function::Table(table), _) => {
                let expected = spectrum.len();
                if table.len() != expected || expected > MAX_TABLE {
                    let most = format!("{expected} values, at most {MAX_TABLE}");
                    return argument("function", most, table.len().to_string());
                }
                return Ok(());
            }
            (_, Some(parts)) => parts,
            (_, None) => return Ok(()),
        };
        if !c.is_finite() || !p.is_finite() {
            return argument(
                "function",
                "of finite parameters".into(),
                format!("{self:?}"),
            );
        }
        let shifted = spectrum.shifted(c);
        let grid = spectrum.grid();
        let [least, _] = grid.extremes(|x| shifted.at(x));
        let lowest = self.lowest(spectrum, &shifted);
        let refuse = |what: String| Err(Error::Numeric { op: OP, what });
        match form {
            Form::Inverse | Form::InverseRoot | Form::Shrink | Form::Deviation if least == 0.0 => {
                refuse(format!(
                    "an eigenvalue plus {c:e} is 0 and has no inverse; raise the shift or take `Function::MinimumNorm`"
                ))
            }
            Form::Root | Form::InverseRoot | Form::Power if lowest < 0.0 => refuse(format!(
                "an eigenvalue plus {c:e} is negative, which has no real power; factors must be positive semidefinite"
            )),
            Form::Power if p < 0.0 && least == 0.0 => refuse(format!(
                "an eigenvalue plus {c:e} is 0 and has no negative power; raise the shift"
            )),
            Form::Deviation if lowest < 0.0 || c < 0.0 => refuse(
                "a deviation needs positive semidefinite factors and a positive shift".into(),
            ),
            _ => Ok(()),
        }
    }

    /// The least a λ̂ + shift, and for deviations of λ itself.
    fn lowest(&self, spectrum: &Spectrum, shifted: &Shifted) -> f64 {
        let lowest = spectrum.lowest();
        match self {
            Function::Deviation(_) => lowest,
            _ => shifted.at(lowest),
        }
    }

    /// f of every eigenvalue, in f64.
    pub(crate) fn values(&self, spectrum: &Spectrum) -> Vec<f64> {
        match (self, self.parts()) {
            (Function::Table(table), _) => table.iter().map(|x| f64::from(*x)).collect(),
            (_, Some((form, c, p))) => {
                let shifted = spectrum.shifted(c);
                let unit = spectrum.scale();
                let each = spectrum.grid().values();
                each.map(|x| exact(form, &shifted, unit, p, x)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// For a device; a table has no form.
    ///
    /// # Errors
    /// `Numeric` when values leave the range of f32.
    pub(crate) fn rounded(&self, spectrum: &Spectrum) -> Result<Rounded> {
        let Some((form, c, p)) = self.parts() else {
            return Ok(Rounded::default());
        };
        let shifted = spectrum.shifted(c);
        let unit = shifted.unit;
        let gain = match form {
            Form::Shifted => unit.value(),
            Form::Inverse | Form::MinimumNorm => Scale::ONE.over(unit),
            Form::Root | Form::Deviation => (0.5 * unit.ln()).exp(),
            Form::InverseRoot => (-0.5 * unit.ln()).exp(),
            Form::Shrink | Form::Exp | Form::Null => 1.0,
            Form::Power => (p * unit.ln()).exp(),
        };
        let gain = match form {
            // Square roots are exact to rounding where the unit is in range.
            Form::Root | Form::Deviation if unit.value().is_normal() => unit.value().sqrt(),
            Form::InverseRoot if unit.value().is_normal() => 1.0 / unit.value().sqrt(),
            _ => gain,
        };
        let power = match form {
            Form::Exp => p * spectrum.scale().value(),
            _ => p,
        };
        let rounded = Rounded {
            form,
            a: shifted.a as f32,
            shift: shifted.shift as f32,
            gain: gain as f32,
            power: power as f32,
        };
        let inverse = matches!(
            form,
            Form::Inverse | Form::InverseRoot | Form::Shrink | Form::Deviation
        ) || (form == Form::Power && p < 0.0);
        let least = match inverse {
            true => spectrum.grid().extremes(|x| shifted.at(x))[0],
            false => 1.0,
        };
        let tiny = f64::from(f32::MIN_POSITIVE);
        if least < tiny || !rounded.gain.is_normal() || !rounded.power.is_finite() {
            return Err(Error::Numeric {
                op: OP,
                what: format!(
                    "{self:?} of this spectrum leaves the range of f32; scale the factors, raise the shift or compute on the host with `Spectrum::apply`"
                ),
            });
        }
        Ok(rounded)
    }
}

/// The function in f64, at a scaled eigenvalue.
fn exact(form: Form, shifted: &Shifted, scale: Scale, p: f64, x: f64) -> f64 {
    let y = Scale::of(shifted.at(x)).times(shifted.unit);
    let a = shifted.a * x;
    match form {
        Form::Shifted => y.value(),
        Form::Inverse => Scale::ONE.over(y),
        Form::MinimumNorm if y.value() == 0.0 => 0.0,
        Form::MinimumNorm => Scale::ONE.over(y),
        Form::Root => y.value().sqrt(),
        Form::InverseRoot => 1.0 / y.value().sqrt(),
        Form::Shrink => a / shifted.at(x),
        Form::Deviation => {
            let shrunk = a * shifted.shift / shifted.at(x);
            Scale::of(shrunk).times(shifted.unit).value().sqrt()
        }
        Form::Exp => (p * Scale::of(x).times(scale).value()).exp(),
        Form::Power => y.value().powf(p),
        Form::Null => f64::from(u8::from(y.value() == 0.0)),
    }
}

/// The eigenvalues as a device gets them: three tables, one after another.
pub(crate) fn tables(grid: &Grid) -> Vec<f32> {
    grid.tables.iter().flatten().map(|x| *x as f32).collect()
}
