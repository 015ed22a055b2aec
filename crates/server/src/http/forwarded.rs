//! Whose word about a client's address is believed.
//!
//! Behind a proxy every connection comes from the proxy, and limits and blocks by address would be about it. A proxy
//! says in `X-Forwarded-For` for whom it asks; everybody else can say anything there. So the list is read from its end,
//! which the nearest proxy wrote, for as long as whoever wrote it is one of `server.trusted_proxies`.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::settings::kind::Network;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that a request comes from: the peer's, or the one that trusted proxies name. Its port is 0 where they
/// name none.
pub(super) fn client(peer: SocketAddr, headers: &HeaderMap, proxies: &[Network]) -> SocketAddr {
    let trusted = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    if !trusted(peer.ip()) {
        return peer;
    }
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    let hops = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    let mut client = peer;
    for address in hops.map_while(address) {
        client = address;
        if !trusted(address.ip()) {
            break;
        }
    }
    client
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let bare = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    text.parse().ok().or_else(|| bare().ok().map(|address| SocketAddr::new(address, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::kind::{Kind as _, Networks, Raw};

    const PEER: &str = "10.0.0.1:4000";

    #[track_caller]
    fn check(peer: &str, proxies: &str, lines: &[&str], expected: &str) {
        let proxies = Networks::read(&Raw::Text(proxies.to_owned()), None).unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let found = client(peer.parse().unwrap(), &headers, &proxies);
        assert_eq!(found, expected.parse().unwrap(), "{peer}, {proxies:?}, {lines:?}");
    }

    #[test]
    fn nobody_is_believed_who_is_no_trusted_proxy() {
        check(PEER, "", &["203.0.113.9"], PEER);
        check(PEER, "10.0.0.2", &["203.0.113.9"], PEER);
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        check(PEER, "10.0.0.0/24", &["203.0.113.9"], "203.0.113.9:0");
        check(PEER, "10.0.0.0/24", &["203.0.113.9:5123"], "203.0.113.9:5123");
        check(PEER, "10.0.0.0/24", &["[2001:db8::7]"], "[2001:db8::7]:0");
        check(PEER, "10.0.0.0/24", &["2001:db8::7"], "[2001:db8::7]:0");
        check("[::ffff:10.0.0.1]:4000", "10.0.0.0/24", &["203.0.113.9"], "203.0.113.9:0");
    }

    #[test]
    fn what_the_client_itself_says_is_not_believed() {
        check(PEER, "10.0.0.0/24", &["127.0.0.1, 203.0.113.9"], "203.0.113.9:0");
        check(PEER, "10.0.0.0/24", &["127.0.0.1", "203.0.113.9"], "203.0.113.9:0");
        check(PEER, "10.0.0.0/24", &["10.0.0.7, 203.0.113.9, 10.0.0.2"], "203.0.113.9:0");
    }

    #[test]
    fn where_the_list_ends_or_cannot_be_read_the_last_that_was_read_counts() {
        check(PEER, "10.0.0.0/24", &[], PEER);
        check(PEER, "10.0.0.0/24", &["unknown"], PEER);
        check(PEER, "10.0.0.0/24", &["203.0.113.9, , 10.0.0.2"], "10.0.0.2:0");
        check(PEER, "10.0.0.0/24", &["10.0.0.3, 10.0.0.2"], "10.0.0.3:0");
    }
}
