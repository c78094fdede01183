//! Who may ask, and how: the method, the `Host`, the token. Pure: from the parts of a request to a verdict.
//!
//! A page on this machine can be asked by any web page that its user opens; so the `Host` must be one that is meant (a name
//! that an attacker points here is not), and what another site's page embeds is refused.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::model::{Error, Result, UI_TOKEN_VARIABLE as TOKEN_VARIABLE};

/// A shorter token could be guessed.
const TOKEN_LENGTH_MIN: usize = 16;

/// Longer addresses of requests are refused; SQL is part of some.
pub const URI_BYTES_MAX: usize = 8 << 10;

/// A secret that is compared, never shown.
#[derive(Clone)]
pub struct Token {
    hash: blake3::Hash,
    /// What a browser keeps in its place.
    cookie: String,
}

impl Token {
    /// # Errors
    /// Of kind `Usage` for one that is too short, or has characters that no header may have.
    pub fn new(secret: &str) -> Result<Token> {
        if secret.len() < TOKEN_LENGTH_MIN || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::usage(format!("{TOKEN_VARIABLE} is no token"))
                .because(format!("it must have {TOKEN_LENGTH_MIN} or more letters, digits and signs, without spaces"))
                .help("make one: `openssl rand -hex 16`"));
        }
        let cookie = blake3::derive_key("highwater page cookie", secret.as_bytes());
        Ok(Token { hash: blake3::hash(secret.as_bytes()), cookie: blake3::Hash::from(cookie).to_hex().to_string() })
    }

    /// Whether a text is the token, in a time that does not depend on how much of it is right.
    fn is(&self, text: &str) -> bool {
        // hashes of this kind are compared in constant time
        blake3::hash(text.as_bytes()) == self.hash
    }

    fn is_cookie(&self, text: &str) -> bool {
        blake3::hash(text.as_bytes()) == blake3::hash(self.cookie.as_bytes())
    }
}

/// Where the page is served, and to whom.
pub struct Guard {
    token: Option<Token>,
    /// Names that the page may be asked by, besides this machine's own and addresses; in small letters.
    hosts: Vec<String>,
    port: u16,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// The token came in the address: it becomes a cookie, and goes from the address.
    SetCookie {
        cookie: String,
        location: String,
    },
    Refused {
        status: u16,
        why: &'static str,
    },
}

/// The parts of a request that decide.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub host: Option<&'a str>,
    pub authorization: Option<&'a str>,
    pub cookies: Option<&'a str>,
    /// `Sec-Fetch-Site`, `Sec-Fetch-Mode` and `Sec-Fetch-Dest`, which browsers send.
    pub site: Option<&'a str>,
    pub mode: Option<&'a str>,
    pub dest: Option<&'a str>,
}

impl Asked<'_> {
    /// Whether nobody else's page asks: what other sites may do is to link to the page itself, and nothing that costs more.
    /// Another port of this machine is another site.
    fn is_of_this_site(&self) -> bool {
        let others = !matches!(self.site, None | Some("same-origin" | "none"));
        let opens = self.mode == Some("navigate") && self.dest == Some("document");
        let plain = |query: &str| query.is_empty() || (query.starts_with("token=") && !query.contains('&'));
        let is_plain = self.path == "/" && self.query.is_none_or(plain);
        !others || (opens && is_plain)
    }
}

impl Guard {
    pub fn new(token: Option<Token>, hosts: &[String], port: u16) -> Guard {
        Guard { token, hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(), port }
    }

    pub fn judge(&self, asked: &Asked<'_>) -> Verdict {
        let refused = |status, why| Verdict::Refused { status, why };
        if !matches!(asked.method, "GET" | "HEAD") {
            return refused(405, "only GET and HEAD: nothing can be changed here");
        }
        if asked.path.len() + asked.query.map_or(0, str::len) > URI_BYTES_MAX {
            return refused(414, "the address is longer than 8 KiB");
        }
        if !asked.host.is_some_and(|host| self.knows(host)) {
            return refused(403, "the Host is not this machine's: allow a name with --ui-host NAME");
        }
        if !asked.is_of_this_site() {
            return refused(403, "another site's page may not ask");
        }
        self.identify(asked)
    }

    fn identify(&self, asked: &Asked<'_>) -> Verdict {
        let Some(token) = &self.token else { return Verdict::Allowed };
        // whoever only asks whether the process lives has no token
        if matches!(asked.path, "/healthz" | "/readyz") {
            return Verdict::Allowed;
        }
        let name = self.cookie_name();
        // before all else, so that it does not stay in the address
        let parts: Vec<&str> = asked.query.unwrap_or_default().split('&').filter(|part| !part.is_empty()).collect();
        let given = parts.iter().find_map(|part| part.strip_prefix("token="));
        if given.is_some_and(|secret| token.is(&unescaped(secret))) {
            let rest: Vec<&str> = parts.into_iter().filter(|part| !part.starts_with("token=")).collect();
            let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
            // two slashes, of either kind, would name another server
            let location = format!("/{}{query}", asked.path.trim_start_matches(['/', '\\']));
            let cookie = format!("{name}={}; Path=/; HttpOnly; SameSite=Strict", token.cookie);
            return Verdict::SetCookie { cookie, location };
        }
        let bearer = asked.authorization.and_then(|value| value.split_once(' '));
        if bearer.is_some_and(|(kind, secret)| kind.eq_ignore_ascii_case("bearer") && token.is(secret.trim())) {
            return Verdict::Allowed;
        }
        let cookies = asked.cookies.unwrap_or_default().split(';').filter_map(|pair| pair.trim().split_once('='));
        if cookies.into_iter().any(|(key, value)| key == name && token.is_cookie(value)) {
            return Verdict::Allowed;
        }
        Verdict::Refused {
            status: 401,
            why: "show the token: `Authorization: Bearer TOKEN`, or open /?token=TOKEN once in a browser",
        }
    }

    /// Cookies know no ports: two jobs on one machine have two.
    fn cookie_name(&self) -> String {
        format!("highwater_{}", self.port)
    }

    /// Whether a `Host` is meant: this machine, an address (which nobody can point elsewhere), or a name that was allowed.
    fn knows(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
        name == "localhost" || address.parse::<IpAddr>().is_ok() || self.hosts.contains(&name)
    }
}

/// A value of a query, without its `%XX` and `+`; what is no text is replaced.
pub fn unescaped(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, escaped.filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()))) {
            (b'%', Some(pair)) => {
                bytes.push(u8::from_str_radix(pair, 16).unwrap_or(b'?'));
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The address that `--ui` names.
///
/// # Errors
/// Of kind `Usage`: it is none, or others can reach it while there is no token.
pub fn address(listen: &str, token: Option<&Token>) -> Result<SocketAddr> {
    let usage = |why: String| Error::usage(format!("the page cannot be served on '{listen}'")).because(why);
    let mut found = listen
        .to_socket_addrs()
        .map_err(|cause| usage(cause.to_string()).help("write an address and a port: --ui 127.0.0.1:4040"))?;
    let address = found.next().ok_or_else(|| {
        usage("it has no address".to_owned()).help("write an address and a port: --ui 127.0.0.1:4040")
    })?;
    if token.is_none() && !address.ip().is_loopback() {
        return Err(usage("others can reach it, and there is no token".to_owned()).help(format!(
            "set one in the environment ({TOKEN_VARIABLE}=$(openssl rand -hex 16)), or listen on 127.0.0.1"
        )));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef+/";

    fn guard(token: bool) -> Guard {
        Guard::new(token.then(|| Token::new(SECRET).unwrap()), &["Page.example".to_owned()], 4040)
    }

    fn asked<'a>() -> Asked<'a> {
        Asked { method: "GET", path: "/", host: Some("127.0.0.1:4040"), ..Asked::default() }
    }

    fn status(guard: &Guard, asked: &Asked<'_>) -> u16 {
        match guard.judge(asked) {
            Verdict::Allowed => 200,
            Verdict::SetCookie { .. } => 303,
            Verdict::Refused { status, .. } => status,
        }
    }

    #[test]
    fn only_hosts_that_are_meant_are_answered() {
        let open = guard(false);
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:4040", "[::1]:4040", "[::1]", "10.0.0.7", "page.example:1"]
        {
            assert_eq!(status(&open, &Asked { host: Some(host), ..asked() }), 200, "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:4040", "localhost.evil", "", "page.example.evil", "a:b"] {
            assert_eq!(status(&open, &Asked { host: Some(host), ..asked() }), 403, "{host}");
        }
        assert_eq!(status(&open, &Asked { host: None, ..asked() }), 403);
    }

    #[test]
    fn methods_other_sites_and_long_addresses_are_refused() {
        let open = guard(false);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get"] {
            assert_eq!(status(&open, &Asked { method, ..asked() }), 405, "{method}");
        }
        assert_eq!(status(&open, &Asked { method: "HEAD", ..asked() }), 200);
        let long = "x".repeat(URI_BYTES_MAX);
        assert_eq!(status(&open, &Asked { query: Some(&long), ..asked() }), 414);
        let embedded = Asked { site: Some("cross-site"), mode: Some("no-cors"), ..asked() };
        assert_eq!(status(&open, &embedded), 403);
        let linked = Asked { mode: Some("navigate"), dest: Some("document"), ..embedded };
        assert_eq!(status(&open, &linked), 200, "a link may lead here");
        assert_eq!(status(&open, &Asked { dest: Some("iframe"), ..linked }), 403);
        assert_eq!(status(&open, &Asked { path: "/api/v1/query", query: Some("sql=SELECT 1"), ..linked }), 403);
        assert_eq!(status(&open, &Asked { query: Some("batch=3"), ..linked }), 403, "what it asks for costs something");
        assert_eq!(status(&open, &Asked { site: Some("same-site"), ..embedded }), 403, "another port is another's");
        assert_eq!(status(&open, &Asked { site: Some("same-origin"), ..embedded }), 200);
    }

    #[test]
    fn a_token_is_asked_for_and_becomes_a_cookie() {
        let closed = guard(true);
        assert_eq!(status(&closed, &asked()), 401);
        assert_eq!(status(&closed, &Asked { path: "/healthz", ..asked() }), 200);
        let right = format!("Bearer {SECRET}");
        assert_eq!(status(&closed, &Asked { authorization: Some(&right), ..asked() }), 200);
        for wrong in ["Bearer ", "Bearer 0123456789abcdef", "Basic 0123456789abcdef+/", "Bearer 0123456789abcdef+/x"] {
            assert_eq!(status(&closed, &Asked { authorization: Some(wrong), ..asked() }), 401, "{wrong}");
        }
        let query = Some("query=a&token=0123456789abcdef%2B/&batch=3");
        let Verdict::SetCookie { cookie, location } = closed.judge(&Asked { path: "//evil.example", query, ..asked() })
        else {
            panic!("the token is right")
        };
        assert_eq!(location, "/evil.example?query=a&batch=3");
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict") && !cookie.contains(SECRET), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        let cookies = format!("other=1; {pair}");
        assert_eq!(status(&closed, &Asked { cookies: Some(&cookies), ..asked() }), 200);
        assert_eq!(status(&closed, &Asked { cookies: Some("highwater_4040=x"), ..asked() }), 401);
        assert_eq!(status(&closed, &Asked { query: Some("token=x"), ..asked() }), 401);
        // it does not stay in the address where a cookie would do
        assert_eq!(status(&closed, &Asked { query, cookies: Some(&cookies), ..asked() }), 303);
    }

    #[test]
    fn who_others_can_reach_needs_a_token() {
        let token = Token::new(SECRET).unwrap();
        assert!(address("127.0.0.1:0", None).is_ok() && address("[::1]:4040", None).is_ok());
        let refused = address("0.0.0.0:4040", None).unwrap_err().to_string();
        assert!(refused.contains("there is no token") && refused.contains(TOKEN_VARIABLE), "{refused}");
        assert!(address("0.0.0.0:4040", Some(&token)).is_ok());
        assert!(address("4040", None).unwrap_err().to_string().contains("--ui 127.0.0.1:4040"));
        assert!(Token::new("short").is_err() && Token::new("with some spaces in it").is_err());
    }

    #[test]
    fn queries_are_unescaped() {
        assert_eq!(unescaped("a%20b+c%3D%zz%4"), "a b c=%zz%4");
        assert_eq!(unescaped("%ff"), "\u{fffd}");
    }
}
