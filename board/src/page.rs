//! The page's files, built into the binary; or, without them, a page that says how to get them.

use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What is served when the binary was built without the page.
const WITHOUT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>windlass</title>\
<h1>windlass</h1><p>This windlass was built without its page. Install Node 20 or newer and npm, and build \
again with <code>cargo build</code>; or run <code>npm ci &amp;&amp; npm run build</code> in \
<code>board/web</code> first. The data is here all the same: <a href=\"/api/v1/totals\">/api/v1/totals</a>, \
<a href=\"/api/v1/status\">/api/v1/status</a>, <a href=\"/openapi.json\">/openapi.json</a>.</p></html>";

/// Serves a file of the page.
pub(crate) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let name = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    if FILES.is_empty() && name == "index.html" {
        return (
            [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
            WITHOUT,
        )
            .into_response();
    }
    let accepts = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok());
    let zipped = accepts
        .is_some_and(|accepts| accepts.contains("gzip"))
        .then(|| file(&format!("{name}.gz")))
        .flatten();
    let Some(body) = zipped.or_else(|| file(name)) else {
        return (StatusCode::NOT_FOUND, "no such page\n").into_response();
    };
    // Names under assets/ carry a hash of their content.
    let cache = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(kind(name)),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static(cache),
    );
    if zipped.is_some() {
        headers.insert(
            header::CONTENT_ENCODING,
            header::HeaderValue::from_static("gzip"),
        );
    }
    headers.insert(
        header::VARY,
        header::HeaderValue::from_static("accept-encoding"),
    );
    response
}

fn file(name: &str) -> Option<&'static [u8]> {
    let index = FILES.binary_search_by(|(file, _)| (*file).cmp(name)).ok()?;
    Some(FILES[index].1)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
