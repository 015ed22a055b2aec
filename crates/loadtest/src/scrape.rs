//! Reads `/metrics` of the server under load: values and quantiles of its own histograms.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use pulsewire_client::{Endpoint, http1};

use crate::swarm::Secure;

/// One reading of `/metrics`.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    samples: Vec<(String, f64)>,
    /// Bytes of the page.
    pub len_bytes: usize,
    /// From the request to the last byte.
    pub took: Duration,
}

pub(crate) fn get(
    address: SocketAddr,
    endpoint: &Endpoint,
    secure: Option<&Secure>,
    token: Option<&str>,
) -> anyhow::Result<Scrape> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut headers = vec!["Connection: close".to_owned(), "Accept: text/plain".to_owned()];
    headers.extend(token.map(|token| format!("Authorization: Bearer {token}")));
    let request = http1::write_request("GET", "/metrics", &endpoint.authority(), &headers, b"");
    let begun = Instant::now();
    let bytes = match secure {
        None => exchange(stream, &request),
        Some(secure) => exchange(rustls::StreamOwned::new(secure.begin()?, stream), &request),
    }?;
    let took = begun.elapsed();
    let head = http1::parse_head(&bytes)?.context("no answer to GET /metrics")?;
    let (body, _) = head.body(&bytes[head.len_bytes..], true)?.context("half an answer to GET /metrics")?;
    if head.status != 200 {
        bail!("GET /metrics answered {}", head.status);
    }
    let mut scrape = Scrape::parse(&String::from_utf8_lossy(&body));
    scrape.took = took;
    Ok(scrape)
}

fn exchange(mut stream: impl io::Read + io::Write, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Scrape {
    /// Reads the text format.
    pub fn parse(text: &str) -> Scrape {
        let sample = |line: &str| {
            let end = line.rfind('}').map_or_else(|| line.find(' '), |brace| Some(brace + 1))?;
            let value = line[end..].split_whitespace().next()?.parse().ok()?;
            Some((line[..end].to_owned(), value))
        };
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect();
        Scrape { samples, len_bytes: text.len(), took: Duration::ZERO }
    }

    /// How many series the page has.
    pub fn series(&self) -> usize {
        self.samples.len()
    }

    /// The sum of a family's samples whose labels contain all of `labels`, such as `stage="kernel"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let matching = self.samples.iter().filter(|(series, _)| matches(series, name, labels));
        matching.map(|(_, value)| value).sum()
    }

    /// The upper bound of the bucket that holds a quantile of what a histogram counted since `before`; `None` when it
    /// counted nothing.
    pub fn quantile(&self, before: &Scrape, name: &str, labels: &[&str], quantile: f64) -> Option<f64> {
        let name = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (series, value) in self.samples.iter().filter(|(series, _)| matches(series, &name, labels)) {
            let bound = series.split("le=\"").nth(1)?.split('"').next()?.parse().ok()?;
            let earlier =
                before.samples.iter().find(|(other, _)| other == series).map_or(0.0, |(_, value)| *value);
            match buckets.iter_mut().find(|(other, _)| *other == bound) {
                Some((_, count)) => *count += value - earlier,
                None => buckets.push((bound, value - earlier)),
            }
        }
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (_, total) = *buckets.last()?;
        (total > 0.0)
            .then(|| buckets.iter().find(|(_, count)| *count >= quantile * total).map(|(bound, _)| *bound))?
    }
}

fn matches(series: &str, name: &str, labels: &[&str]) -> bool {
    let rest = series.strip_prefix(name);
    rest.is_some_and(|rest| {
        (rest.is_empty() || rest.starts_with('{')) && labels.iter().all(|label| rest.contains(label))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_quantiles_are_read_from_the_text_format() {
        let page = |half: u32, all: u32| {
            Scrape::parse(&format!(
                "# HELP a_seconds x\nup 1\na_seconds_bucket{{s=\"k\",le=\"0.5\"}} {half}\na_seconds_bucket{{s=\"k\",le=\"1\"}} {all}\n\
                 a_seconds_bucket{{s=\"k\",le=\"+Inf\"}} {all}\na_seconds_bucket{{s=\"o\",le=\"0.5\"}} 9\nb{{x=\"a b\"}} 2 \nb{{x=\"c\"}} 3\n"
            ))
        };
        assert_eq!(page(1, 2).sum("b", &[]), 5.0);
        assert_eq!(page(1, 2).sum("b", &["x=\"c\""]), 3.0);
        assert_eq!(page(1, 2).sum("up", &[]), 1.0);
        assert_eq!(page(1, 2).sum("u", &[]), 0.0);
        let quantile = |quantile| page(60, 110).quantile(&page(10, 10), "a_seconds", &["s=\"k\""], quantile);
        assert_eq!((quantile(0.5), quantile(0.51)), (Some(0.5), Some(1.0)));
        assert_eq!(page(1, 1).quantile(&page(1, 1), "a_seconds", &["s=\"k\""], 0.5), None);
    }
}
