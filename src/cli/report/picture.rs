//! Maps as pictures inside the page: a pixel for each value.

/// A matrix drawn as a picture.
pub struct Picture {
    /// Pixels of a row.
    pub width: usize,
    /// Values row by row, the top first; what is not finite stays blank.
    pub values: Vec<f64>,
    /// The values of the first and the last colour; those beyond take the nearer one.
    pub range: [f64; 2],
    /// From dark blue over green to yellow if false; if true from blue over white to red, for values around 0.
    pub signed: bool,
}

/// Colours from the least to the most, in equal steps between.
const HEIGHTS: [[f64; 3]; 6] = [
    [42.0, 26.0, 84.0],
    [48.0, 84.0, 140.0],
    [36.0, 134.0, 142.0],
    [70.0, 182.0, 110.0],
    [170.0, 214.0, 62.0],
    [250.0, 232.0, 66.0],
];
const SIGNED: [[f64; 3]; 5] = [
    [24.0, 66.0, 158.0],
    [122.0, 168.0, 220.0],
    [246.0, 246.0, 246.0],
    [232.0, 138.0, 110.0],
    [164.0, 24.0, 42.0],
];
const BLANK: [u8; 3] = [128, 128, 128];

/// Places of the palette; the last one is for blanks.
const SHADES: usize = 255;

fn shade(stops: &[[f64; 3]], part: f64) -> [u8; 3] {
    let place = part * (stops.len() - 1) as f64;
    let at = (place as usize).min(stops.len().saturating_sub(2));
    let mut pair = stops.iter().skip(at);
    let (low, high) = (pair.next(), pair.next());
    let both = low.into_iter().flatten().zip(high.into_iter().flatten());
    let mut mixed = both.map(|(a, b)| (a + (b - a) * (place - at as f64)).round() as u8);
    [(); 3].map(|()| mixed.next().unwrap_or(0))
}

impl Picture {
    /// The picture as an element of the page.
    pub(super) fn html(&self) -> String {
        format!(
            "<img alt=\"\" style=\"width: 100%; image-rendering: pixelated\" src=\"data:image/bmp;base64,{}\">",
            base64(&self.bitmap())
        )
    }

    /// A Windows bitmap of 8 bits a pixel with a palette: header, palette, rows from the bottom, each padded to whole words.
    fn bitmap(&self) -> Vec<u8> {
        let width = self.width.max(1);
        let height = self.values.len() / width;
        let row = width.next_multiple_of(4);
        let offset = 14 + 40 + 4 * (SHADES + 1);
        let mut file = Vec::with_capacity(offset + row * height);
        let words = |file: &mut Vec<u8>, words: &[u32]| {
            file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        };
        file.extend(b"BM");
        words(
            &mut file,
            &[(offset + row * height) as u32, 0, offset as u32],
        );
        words(&mut file, &[40, width as u32, height as u32]);
        // One plane of 8 bits, not compressed.
        words(&mut file, &[1 | 8 << 16, 0, 0, 0, 0, SHADES as u32 + 1, 0]);
        let stops: &[[f64; 3]] = if self.signed { &SIGNED } else { &HEIGHTS };
        for n in 0..=SHADES {
            let [r, g, b] = if n == SHADES {
                BLANK
            } else {
                shade(stops, n as f64 / (SHADES - 1) as f64)
            };
            file.extend([b, g, r, 0]);
        }
        let [low, high] = self.range;
        let code = |value: &f64| {
            let part = ((value - low) / (high - low)).clamp(0.0, 1.0);
            if part.is_nan() {
                SHADES as u8
            } else {
                (part * (SHADES - 1) as f64).round() as u8
            }
        };
        for values in self.values.chunks_exact(width).rev() {
            file.extend(values.iter().map(code));
            file.resize(file.len() + row - width, 0);
        }
        file
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS.get((word >> (18 - 6 * n) & 63) as usize);
            let padding = n > chunk.len();
            text.push(if padding {
                '='
            } else {
                digit.map_or('=', |digit| char::from(*digit))
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn pixels_stand_where_their_values_do() {
        let picture = Picture {
            width: 3,
            values: vec![0.0, 0.5, 1.0, f64::NAN, 2.0, -1.0],
            range: [0.0, 1.0],
            signed: false,
        };
        let file = picture.bitmap();
        let offset = u32::from_le_bytes(file[10..14].try_into().unwrap()) as usize;
        // The bottom row comes first.
        assert_eq!(file[offset..], [255, 254, 0, 0, 0, 127, 254, 0]);
        assert_eq!(
            file.len(),
            u32::from_le_bytes(file[2..6].try_into().unwrap()) as usize
        );
    }
}
