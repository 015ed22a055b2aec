//! Networks of addresses, such as those of trusted proxies.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Kind, Range, Raw, expected, lists::elements};

/// An address, or all addresses whose first bits are its.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address belongs to it. An IPv4 address that is written as an IPv6 one is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |own: u128, other: u128, width: u8| {
            let shift = u32::from(width - self.bits);
            own.checked_shr(shift) == other.checked_shr(shift)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => same(own.to_bits().into(), other.to_bits().into(), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address = address.trim().parse::<IpAddr>().ok()?.to_canonical();
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(width), |bits| bits.trim().parse().ok())?;
        (bits <= width).then_some(Self { address, bits })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, bits } = self;
        match (address, bits) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => write!(f, "{address}"),
            _ => write!(f, "{address}/{bits}"),
        }
    }
}

/// A list of networks.
pub struct Networks;

impl Kind for Networks {
    type Value = Vec<Network>;
    const NAME: &'static str = "list of addresses and networks";
    const EXAMPLE: &'static str = "[\"10.0.0.0/8\", \"::1\"]";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<Self::Value, String> {
        let networks =
            elements(raw).and_then(|texts| texts.iter().map(|text| Network::parse(text)).collect());
        networks.ok_or_else(|| expected::<Self>(raw))
    }
    fn show(value: &Self::Value) -> Value {
        json!(value.iter().map(ToString::to_string).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let network = Network::parse(network).unwrap();
        let contains = |address: &&str| network.contains(address.parse().unwrap());
        assert!(inside.iter().all(contains), "{network}");
        assert!(!outside.iter().any(contains), "{network}");
    }

    #[test]
    fn a_network_holds_the_addresses_with_its_bits() {
        check("10.1.0.0/16", &["10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3"], &["10.2.0.0", "::a01:203"]);
        check("10.1.2.3", &["10.1.2.3"], &["10.1.2.2", "10.1.2.4"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]);
        check("2001:db8::/32", &["2001:db8:ffff::1"], &["2001:db9::", "32.1.13.184"]);
        check("::/0", &["::1", "ffff::"], &["127.0.0.1"]);
        check("::1", &["::1"], &["::2"]);
    }

    #[test]
    fn what_is_no_network_is_refused_and_what_is_one_is_written_as_it_is_read() {
        for wrong in ["10.0.0.0/33", "10.0.0/8", "proxy.example", "::/129", "10.0.0.0/-1", "10.0.0.0/"] {
            let refusal = Networks::read(&Raw::Text(wrong.to_owned()), None).unwrap_err();
            assert!(refusal.contains(wrong), "{refusal}");
        }
        let read = Networks::read(&Raw::Text("10.0.0.0/8, ::1,192.0.2.7".to_owned()), None).unwrap();
        assert_eq!(Networks::show(&read), json!(["10.0.0.0/8", "::1", "192.0.2.7"]));
    }
}
