//! How values are spread: a base-2 exponential histogram of bounded size.
//!
//! A bucket is one of 2^scale equal parts of an octave, so its values differ from its middle by at most
//! 2^(1/2^(scale+1)) − 1: 0.27 % at the finest scale. When there are more than [`BUCKETS_MAX`] buckets, each two
//! neighbours become one and the scale falls by one. A value's bucket is always found at the finest scale and
//! then shifted, so the buckets of some values are the same in whatever parts and order they were added: sketches
//! merge without loss (OpenTelemetry's exponential histogram has the same buckets).

/// The finest scale: 128 buckets an octave.
const SCALE_MAX: u8 = 7;
/// The most buckets, as OpenTelemetry has it: values over three decades keep an error of 2.2 %.
pub(crate) const BUCKETS_MAX: usize = 160;

/// How values are spread.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sketch {
    /// How often the scale has fallen.
    coarse: u8,
    zeros: u32,
    /// Buckets by their index, of values above zero.
    positive: Vec<(i32, u32)>,
    /// Of values below zero, by the index of their magnitude.
    negative: Vec<(i32, u32)>,
}

/// The bucket of a positive value at the finest scale: the one with (2^(index/128), 2^((index+1)/128)].
fn index_of(magnitude: f64) -> i32 {
    let parts = f64::from(1_u32 << SCALE_MAX);
    (magnitude.log2() * parts).ceil() as i32 - 1
}

fn add(buckets: &mut Vec<(i32, u32)>, index: i32, count: u32) {
    match buckets.binary_search_by_key(&index, |(index, _)| *index) {
        Ok(at) => buckets[at].1 = buckets[at].1.saturating_add(count),
        Err(at) => {
            if buckets.len() == buckets.capacity() {
                buckets.reserve_exact(1 + buckets.len() / 2);
            }
            buckets.insert(at, (index, count));
        }
    }
}

/// Makes buckets coarser by so many scales.
fn shift(buckets: &mut Vec<(i32, u32)>, by: u8) {
    let mut kept: usize = 0;
    for at in 0..buckets.len() {
        let (index, count) = (buckets[at].0 >> by, buckets[at].1);
        match kept.checked_sub(1).map(|last| &mut buckets[last]) {
            Some(last) if last.0 == index => last.1 = last.1.saturating_add(count),
            _ => {
                buckets[kept] = (index, count);
                kept += 1;
            }
        }
    }
    buckets.truncate(kept);
}

impl Sketch {
    /// Adds a finite value.
    pub(crate) fn add(&mut self, value: f64) {
        let magnitude = value.abs();
        if magnitude < f64::MIN_POSITIVE {
            self.zeros = self.zeros.saturating_add(1);
            return;
        }
        let buckets = if value > 0.0 { &mut self.positive } else { &mut self.negative };
        add(buckets, index_of(magnitude) >> self.coarse, 1);
        self.bound();
    }

    /// Adds what another has seen.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.coarse > self.coarse {
            self.shift_to(other.coarse);
        }
        self.zeros = self.zeros.saturating_add(other.zeros);
        let by = self.coarse - other.coarse;
        for (index, count) in &other.positive {
            add(&mut self.positive, index >> by, *count);
        }
        for (index, count) in &other.negative {
            add(&mut self.negative, index >> by, *count);
        }
        self.bound();
    }

    fn bound(&mut self) {
        while self.positive.len() + self.negative.len() > BUCKETS_MAX {
            self.shift_to(self.coarse + 1);
        }
    }

    fn shift_to(&mut self, coarse: u8) {
        let by = coarse - self.coarse;
        shift(&mut self.positive, by);
        shift(&mut self.negative, by);
        self.coarse = coarse;
    }

    /// The value of which a share `q` of all values, between 0 and 1, is not larger; by the nearest rank, within the
    /// error of the buckets and between `min` and `max`. Of nothing it is `min`.
    pub(crate) fn quantile(&self, q: f64, min: f64, max: f64) -> f64 {
        let total: u64 = self.counts().map(u64::from).sum();
        let rank = ((q * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        let scale = i32::from(SCALE_MAX) - i32::from(self.coarse);
        let middle = |index: i32| ((f64::from(index) + 0.5) * f64::powi(2.0, -scale)).exp2();
        let negative = self.negative.iter().rev().map(|(index, count)| (-middle(*index), *count));
        let positive = self.positive.iter().map(|(index, count)| (middle(*index), *count));
        for (value, count) in negative.chain([(0.0, self.zeros)]).chain(positive) {
            seen += u64::from(count);
            if seen >= rank {
                return value.clamp(min, max);
            }
        }
        min
    }

    fn counts(&self) -> impl Iterator<Item = u32> + '_ {
        let buckets = self.positive.iter().chain(&self.negative).map(|(_, count)| *count);
        buckets.chain([self.zeros])
    }

    /// The bytes it takes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        (self.positive.capacity() + self.negative.capacity()) * size_of::<(i32, u32)>()
    }

    /// Appends it to bytes that are kept.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.coarse);
        write_number(out, u64::from(self.zeros));
        for buckets in [&self.positive, &self.negative] {
            write_number(out, buckets.len() as u64);
            let mut before = 0;
            for (index, count) in buckets {
                write_number(out, zigzag(i64::from(*index) - before));
                write_number(out, u64::from(*count));
                before = i64::from(*index);
            }
        }
    }

    /// Reads what [`Sketch::write`] wrote; `None` for anything else.
    pub(crate) fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (coarse, rest) = bytes.split_first()?;
        *bytes = rest;
        let mut sketch = Self { coarse: *coarse, zeros: read_u32(bytes)?, ..Self::default() };
        // Below 24 scales fewer than the finest everything is in one bucket.
        if sketch.coarse > 24 {
            return None;
        }
        for buckets in [&mut sketch.positive, &mut sketch.negative] {
            let len = usize::try_from(read_number(bytes)?).ok().filter(|len| *len <= BUCKETS_MAX)?;
            let mut before = 0_i64;
            for _ in 0..len {
                before = before.checked_add(unzigzag(read_number(bytes)?))?;
                let index = i32::try_from(before).ok()?;
                if buckets.last().is_some_and(|(last, _)| *last >= index) {
                    return None;
                }
                buckets.push((index, read_u32(bytes)?));
            }
        }
        Some(sketch)
    }
}

pub(crate) fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn read_u32(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(read_number(bytes)?).ok()
}

pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => 0.0..100.0,
            2 => (-300.0..300.0_f64, any::<bool>()).prop_map(|(exponent, minus)| {
                exponent.exp2() * if minus { -1.0 } else { 1.0 }
            }),
            1 => Just(0.0),
            1 => prop_oneof![Just(f64::MAX), Just(f64::MIN), Just(f64::MIN_POSITIVE), Just(1.0), Just(2.0)],
        ]
    }

    proptest! {
        /// Merged parts are the sketch of the whole, whatever the parts and their order, to the last bucket.
        #[test]
        fn parts_merge_to_the_whole(parts in prop::collection::vec(prop::collection::vec(value(), 0..300), 0..6)) {
            let whole = sketch(&parts.concat());
            let mut merged = Sketch::default();
            parts.iter().rev().for_each(|part| merged.merge(&sketch(part)));
            prop_assert_eq!(&merged, &whole);
            let mut bytes = Vec::new();
            whole.write(&mut bytes);
            prop_assert_eq!(Sketch::read(&mut &*bytes), Some(whole));
        }

        /// A quantile is the value of that rank in a sorted list, but for the error of its bucket.
        #[test]
        fn quantiles_are_near_those_of_the_sorted_values(
            values in prop::collection::vec(1.0..100.0_f64, 1..500),
            q in 0.0..=1.0_f64,
        ) {
            let sketch = sketch(&values);
            let mut sorted = values;
            sorted.sort_by(f64::total_cmp);
            let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
            let (exact, last) = (sorted[rank - 1], sorted[sorted.len() - 1]);
            let found = sketch.quantile(q, sorted[0], last);
            let scale = i32::from(SCALE_MAX) - i32::from(sketch.coarse);
            let error = f64::exp2(f64::powi(2.0, -scale - 1)) - 1.0;
            prop_assert!(error < 0.023, "two decades fit at scale 4, but it is {scale}");
            prop_assert!((found - exact).abs() <= exact * error * 1.000_001, "{found} is not {exact}");
        }

        #[test]
        fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Sketch::read(&mut &*bytes);
        }
    }

    #[test]
    fn quantiles_go_from_the_negative_over_zero_to_the_positive() {
        let sketch = sketch(&[-4.0, -1.0, 0.0, 1.0, 4.0]);
        let found = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0].map(|q| sketch.quantile(q, -4.0, 4.0).round());
        assert_eq!(found, [-4.0, -4.0, -1.0, 0.0, 1.0, 4.0]);
    }
}
