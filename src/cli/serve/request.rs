//! What a request says, read without trust: whose site it means, and the phrase in its query.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use super::http::Refusal;

/// Longest phrase, characters; models take far fewer words.
pub(super) const PHRASE_CHARACTERS: usize = 1000;

/// Refuses a request that means another site, or comes from a page of another one: a name that was made to point here (DNS
/// rebinding) must not read reports, and no other page may use the engine.
pub(super) fn meant_for(request: &Parts, listens: IpAddr) -> Result<(), Refusal> {
    let wrong = |what: &str| Refusal::forbidden(format!("{what}; open the page by the address that g2d serve printed"));
    let host = host(&request.headers).ok_or_else(|| Refusal::bad("the request has not one header Host".into()))?;
    let elsewhere = request.uri.authority().is_some_and(|authority| authority.as_str() != host);
    if elsewhere || !names(host, listens) {
        return Err(wrong("the request is for another site"));
    }
    match request.headers.get(header::ORIGIN) {
        Some(origin) if origin.as_bytes() != format!("http://{host}").as_bytes() => {
            Err(wrong("the request comes from a page of another site"))
        }
        _ => Ok(()),
    }
}

/// The one header Host.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::HOST).iter();
    all.next().filter(|_| all.next().is_none())?.to_str().ok()
}

/// Whether a Host, with or without port, is a server that listens there. Addresses cannot be rebound; ports are not compared, so
/// that a tunnel may have another.
fn names(host: &str, listens: IpAddr) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if host.contains('@') {
        return false;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        Ok(address) => {
            listens.is_unspecified() || address == listens || (address.is_loopback() && listens.is_loopback())
        }
        Err(_) => name.eq_ignore_ascii_case("localhost") && (listens.is_loopback() || listens.is_unspecified()),
    }
}

/// The phrase of a query `text=...`; none where it is absent or blank.
pub(super) fn phrase(uri: &Uri) -> Result<Option<String>, Refusal> {
    let mut found = None;
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "text" || found.is_some() {
            return Err(Refusal::bad(
                "the query may hold `text` once and nothing else, as in ?text=pleural+effusion".into(),
            ));
        }
        found = Some(decoded(value).ok_or_else(|| {
            Refusal::bad("the phrase is not percent-encoded UTF-8; encode it, as in ?text=pleural+effusion".into())
        })?);
    }
    let found = found.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    match found.as_ref().map_or(0, |text| text.chars().count()) {
        0..=PHRASE_CHARACTERS => Ok(found),
        count => Err(Refusal::bad(format!(
            "the phrase has {count} characters, {PHRASE_CHARACTERS} are the limit; shorten it"
        ))),
    }
}

/// Percent-decoding; `None` where a percent sign is followed by no byte, or the bytes are no UTF-8.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (16 * digit()? + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn asked(query: &str) -> Result<Option<String>, u16> {
        phrase(&format!("/explain{query}").parse().unwrap()).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn phrases_are_decoded_or_refused() {
        assert_eq!(asked(""), Ok(None));
        assert_eq!(asked("?"), Ok(None));
        assert_eq!(asked("?text="), Ok(None));
        assert_eq!(asked("?text=+%20"), Ok(None));
        assert_eq!(asked("?text=left%20pleural+effusion"), Ok(Some("left pleural effusion".into())));
        assert_eq!(asked("?text=%C3%A4&"), Ok(Some("ä".into())));
        for bad in [
            "?text=%",
            "?text=%4",
            "?text=%zz",
            "?text=%+1",
            "?text=%ff",
            "?text=%C3",
            "?text=a&text=b",
            "?name=a",
            "?a",
        ] {
            assert_eq!(asked(bad), Err(400), "{bad}");
        }
        assert!(asked(&format!("?text={}", "a".repeat(PHRASE_CHARACTERS))).is_ok());
        assert_eq!(asked(&format!("?text={}", "a".repeat(PHRASE_CHARACTERS + 1))), Err(400));
    }

    #[test]
    fn hosts_are_the_address_or_localhost() {
        let [loopback, all, one] = ["127.0.0.1", "0.0.0.0", "192.0.2.7"].map(|address| address.parse().unwrap());
        for host in ["127.0.0.1", "127.0.0.1:7860", "localhost", "LOCALHOST:1", "[::1]:7860"] {
            assert!(names(host, loopback) && names(host, all) && !names(host, one), "{host}");
        }
        assert!(names("192.0.2.7:80", one) && names("192.0.2.7", all) && !names("192.0.2.7", loopback));
        for host in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "a:b:c"]
        {
            for listens in [loopback, all, one] {
                assert!(!names(host, listens), "{host}");
            }
        }
    }

    #[test]
    fn other_sites_are_refused() {
        let listens = "127.0.0.1".parse().unwrap();
        let status = |uri: &str, headers: &[(&str, &str)]| {
            let request =
                headers.iter().fold(Request::post(uri), |request, (name, value)| request.header(*name, *value));
            meant_for(&request.body(()).unwrap().into_parts().0, listens).map_err(|refusal| refusal.status.as_u16())
        };
        let host = ("host", "localhost:7860");
        assert_eq!(status("/", &[host]), Ok(()));
        assert_eq!(status("/", &[host, ("origin", "http://localhost:7860")]), Ok(()));
        assert_eq!(status("http://localhost:7860/", &[host]), Ok(()));
        assert_eq!(status("/", &[]), Err(400));
        assert_eq!(status("/", &[host, host]), Err(400));
        assert_eq!(status("/", &[("host", "evil.example")]), Err(403));
        assert_eq!(status("http://evil.example/", &[host]), Err(403));
        for origin in
            ["http://evil.example", "null", "http://localhost", "https://localhost:7860", "http://localhost:78601"]
        {
            assert_eq!(status("/", &[host, ("origin", origin)]), Err(403), "{origin}");
        }
    }
}
