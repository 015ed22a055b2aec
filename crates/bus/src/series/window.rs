//! What a series did within a span of time.

use pulsewire_protocol::{Figures, Number};

use super::sketch::{Sketch, read_number, unzigzag, write_number, zigzag};

/// The values of a span, rolled up. It holds one value at least.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Window {
    last: Number,
    last_ms: i64,
    min: f64,
    max: f64,
    sum: f64,
    count: u64,
    /// Empty while there is one value: that is all there is to know of it.
    sketch: Sketch,
}

impl Window {
    pub(crate) fn of(value: Number, at_ms: i64) -> Self {
        let number = value.as_f64();
        Self {
            last: value,
            last_ms: at_ms,
            min: number,
            max: number,
            sum: number,
            count: 1,
            sketch: Sketch::default(),
        }
    }

    pub(crate) fn add(&mut self, value: Number, at_ms: i64) {
        self.merge(&Self::of(value, at_ms));
    }

    /// Adds what another window of the same series holds.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.count == 1 {
            self.sketch.add(self.sum);
        }
        match other.count {
            1 => self.sketch.add(other.sum),
            _ => self.sketch.merge(&other.sketch),
        }
        if other.last_ms >= self.last_ms {
            (self.last, self.last_ms) = (other.last, other.last_ms);
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        // Infinite sums would not be numbers on the wire.
        self.sum = (self.sum + other.sum).clamp(f64::MIN, f64::MAX);
        self.count = self.count.saturating_add(other.count);
    }

    /// How many values it holds.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn figures(&self) -> Figures {
        let quantile = |q| match self.count {
            1 => self.sum,
            _ => self.sketch.quantile(q, self.min, self.max),
        };
        Figures {
            last: self.last,
            min: self.min,
            max: self.max,
            sum: self.sum,
            count: self.count,
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
        }
    }

    /// The bytes it takes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.sketch.heap_bytes()
    }

    /// Appends it, and when it began, to bytes that are kept.
    pub(crate) fn write(&self, start_ms: i64, out: &mut Vec<u8>) {
        write_number(out, zigzag(start_ms));
        write_number(out, zigzag(self.last_ms - start_ms));
        write_number(out, self.count);
        match self.last {
            Number::Whole(value) => {
                out.push(0);
                write_number(out, zigzag(value));
            }
            Number::Float(value) => {
                out.push(1);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        if self.count > 1 {
            for value in [self.min, self.max, self.sum] {
                out.extend_from_slice(&value.to_le_bytes());
            }
            self.sketch.write(out);
        }
    }

    /// Reads what [`Window::write`] wrote, and when it began; `None` for anything else.
    pub(crate) fn read(bytes: &mut &[u8]) -> Option<(i64, Self)> {
        let start_ms = unzigzag(read_number(bytes)?);
        let last_ms = start_ms.checked_add(unzigzag(read_number(bytes)?))?;
        let count = read_number(bytes)?;
        let (kind, rest) = bytes.split_first()?;
        *bytes = rest;
        let last = match kind {
            0 => Number::Whole(unzigzag(read_number(bytes)?)),
            1 => Number::Float(read_float(bytes)?),
            _ => return None,
        };
        let mut window = Self::of(last, last_ms);
        if count != 1 {
            (window.min, window.max, window.sum) =
                (read_float(bytes)?, read_float(bytes)?, read_float(bytes)?);
            window.count = count;
            window.sketch = Sketch::read(bytes)?;
        }
        (count > 0 && window.min <= window.max).then_some((start_ms, window))
    }
}

fn read_float(bytes: &mut &[u8]) -> Option<f64> {
    let (value, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(f64::from_le_bytes(*value)).filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(values: &[(i64, i32)]) -> Option<Window> {
        let mut values = values.iter().map(|(at_ms, value)| (*at_ms, Number::Whole(i64::from(*value))));
        let (at_ms, first) = values.next()?;
        let mut window = Window::of(first, at_ms);
        values.for_each(|(at_ms, value)| window.add(value, at_ms));
        Some(window)
    }

    proptest! {
        /// Any parts of some values give, in any order, the figures of all of them, and survive being kept.
        #[test]
        fn parts_give_the_figures_of_the_whole(
            values in prop::collection::vec(-1_000..100_000_i32, 1..300),
            cuts in prop::collection::vec(0..300_usize, 0..5),
        ) {
            let dated: Vec<(i64, i32)> =
                values.iter().enumerate().map(|(at, value)| (at as i64, *value)).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(dated.len())).collect();
            cuts.extend([0, dated.len()]);
            cuts.sort_unstable();
            let parts: Vec<Window> = cuts.windows(2).filter_map(|cut| window(&dated[cut[0]..cut[1]])).collect();
            let whole = window(&dated).unwrap().figures();
            let mut merged = parts[parts.len() - 1].clone();
            parts[..parts.len() - 1].iter().for_each(|part| merged.merge(part));
            prop_assert_eq!(merged.figures(), whole);
            let mut bytes = Vec::new();
            merged.write(-5_000, &mut bytes);
            let mut rest = &*bytes;
            prop_assert_eq!(Window::read(&mut rest), Some((-5_000, merged)));
            prop_assert!(rest.is_empty());
            // Against a plain model.
            let numbers = || values.iter().map(|value| f64::from(*value));
            prop_assert_eq!(whole.count, values.len() as u64);
            prop_assert_eq!(whole.sum, numbers().sum::<f64>());
            prop_assert_eq!(whole.min, numbers().fold(f64::MAX, f64::min));
            prop_assert_eq!(whole.max, numbers().fold(f64::MIN, f64::max));
            prop_assert_eq!(whole.last, Number::Whole(i64::from(values[values.len() - 1])));
        }

        #[test]
        fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Window::read(&mut &*bytes);
        }
    }
}
