// A factor from an eigenvalue: gain · form(a λ + shift), and exp(power λ).
fn factor(e: u32) -> f32 {
    let value = eigenvalue(e);
    let y = p.a * value + p.shift;
    var form = y;
    switch (FORM) {
        case 1u: {
            form = 1.0 / y;
        }
        case 2u: {
            // The smallest normal number: an eigenvalue of 0 has no inverse.
            form = select(0.0, 1.0 / y, abs(y) >= 1.1754943e-38);
        }
        case 3u: {
            form = sqrt(max(y, 0.0));
        }
        case 4u: {
            form = 1.0 / sqrt(y);
        }
        case 5u: {
            form = p.a * value / y;
        }
        case 6u: {
            form = sqrt(max(p.a * value * p.shift / y, 0.0));
        }
        case 7u: {
            form = exp(p.power * value);
        }
        case 8u: {
            // Of 0 only positive powers are asked for.
            form = select(0.0, pow(y, p.power), y > 0.0);
        }
        case 9u: {
            form = select(1.0, 0.0, abs(y) >= 1.1754943e-38);
        }
        default: {
        }
    }
    return p.gain * form;
}
