//! Who may look: the token, the headers that keep a page from doing more than it should, and where
//! the board may listen.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Cookie that carries the token once a browser has shown it.
const COOKIE: &str = "windlass_board";

/// Only this server's own files run, are shown or are asked; nothing inline, nothing framed.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                   connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
                   frame-ancestors 'none'";

/// Refuses an address that other machines can reach while neither a token nor TLS protects it.
///
/// # Errors
/// If that is so and nobody insists.
pub fn refuse_open(listen: SocketAddr, token: bool, tls: bool, forced: bool) -> anyhow::Result<()> {
    if listen.ip().is_loopback() || token || tls || forced {
        return Ok(());
    }
    anyhow::bail!(
        "expected a token or TLS, since {listen} is open to other machines: pass --token (or \
         WINDLASS_BOARD_TOKEN), or --tls-cert and --tls-key, or listen on 127.0.0.1; \
         --open-to-all does without"
    )
}

/// Lets a request pass that carries the token as bearer, cookie or, once, as `?token=`.
pub(crate) async fn authorize(
    State(token): State<Option<Arc<str>>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = token else {
        return next.run(request).await;
    };
    if carries(request.headers(), &token) {
        return next.run(request).await;
    }
    let query = request.uri().query().unwrap_or_default();
    let shown = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="));
    if shown.is_some_and(|shown| same(shown.as_bytes(), token.as_bytes())) {
        let rest: Vec<&str> = query
            .split('&')
            .filter(|pair| !pair.starts_with("token="))
            .collect();
        let path = request.uri().path();
        let place = if rest.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", rest.join("&"))
        };
        // A path of two slashes would lead to another host.
        let place = format!("/{}", place.trim_start_matches('/'));
        // Not `Strict`: a link that somebody shared is followed from another site. Nothing that can be
        // asked for here changes anything.
        let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Lax; Path=/");
        let headers = [(header::LOCATION, place), (header::SET_COOKIE, cookie)];
        return (StatusCode::SEE_OTHER, headers).into_response();
    }
    let problem = "expected the board's token: open the page once with ?token=…, or send \
                   `authorization: Bearer …`\n";
    (StatusCode::UNAUTHORIZED, problem).into_response()
}

fn carries(headers: &HeaderMap, token: &str) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let cookie = text(header::COOKIE).and_then(|value| {
        let pairs = value
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='));
        pairs
            .into_iter()
            .find(|(name, _)| *name == COOKIE)
            .map(|(_, value)| value)
    });
    let matches = |given: &str| same(given.as_bytes(), token.as_bytes());
    bearer.is_some_and(matches) || cookie.is_some_and(matches)
}

/// Compares without telling by its duration where two tokens differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

/// Adds the security headers to every answer.
pub(crate) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_needs_a_token_or_tls_unless_forced() {
        let public: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        let local: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        assert!(refuse_open(public, false, false, false).is_err());
        assert!(refuse_open(local, false, false, false).is_ok());
        assert!(refuse_open(public, true, false, false).is_ok());
        assert!(refuse_open(public, false, true, false).is_ok());
        assert!(refuse_open(public, false, false, true).is_ok());
    }
}
