//! What clients call themselves.

/// The client and its version that a `User-Agent` begins with, such as `pulsewire-client/0.1.0`; `None` if it is none
/// of ours: a browser, say.
#[must_use]
pub fn client_version(user_agent: &str) -> Option<&str> {
    let product = user_agent.split(' ').next()?;
    (product.starts_with("pulsewire") && product.contains('/')).then_some(product)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_clients_say_a_version() {
        assert_eq!(client_version("pulsewire-client/0.1.0"), Some("pulsewire-client/0.1.0"));
        assert_eq!(client_version("pulsewire-js/1.2 (Node 20)"), Some("pulsewire-js/1.2"));
        for other in ["", "Mozilla/5.0 pulsewire-js/1.2", "pulsewire", "curl/8.0"] {
            assert_eq!(client_version(other), None, "{other}");
        }
    }
}
