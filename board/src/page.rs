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

type Files = [(&'static str, &'static [u8])];

/// Serves a file of the page.
pub(crate) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    answer(FILES, uri.path(), &headers)
}

/// The answer out of `files`, which are in order of their names.
fn answer(files: &Files, path: &str, headers: &HeaderMap) -> Response {
    let name = match path.trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    if files.is_empty() && name == "index.html" {
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
        .then(|| file(files, &format!("{name}.gz")))
        .flatten();
    let Some(body) = zipped.or_else(|| file(files, name)) else {
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

fn file(files: &Files, name: &str) -> Option<&'static [u8]> {
    let index = files.binary_search_by(|(file, _)| (*file).cmp(name)).ok()?;
    Some(files[index].1)
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(answer: Response) -> String {
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20);
        String::from_utf8_lossy(&body.await.unwrap()).into_owned()
    }

    #[tokio::test]
    async fn a_binary_without_the_page_says_how_to_get_it() {
        let page = answer(&[], "/", &HeaderMap::new());
        assert_eq!(page.status(), StatusCode::OK);
        let page = text(page).await;
        assert!(
            page.contains("Install Node") && page.contains("cargo build"),
            "{page}"
        );
        assert_eq!(
            answer(&[], "/assets/index.js", &HeaderMap::new()).status(),
            StatusCode::NOT_FOUND
        );
    }

    #[tokio::test]
    async fn who_accepts_it_gets_the_file_compressed() {
        let files: &Files = &[
            ("assets/a.js", b"let a;"),
            ("assets/a.js.gz", b"zipped"),
            ("index.html", b"<p>"),
        ];
        let mut headers = HeaderMap::new();
        assert_eq!(
            text(answer(files, "/assets/a.js", &headers)).await,
            "let a;"
        );
        headers.insert(header::ACCEPT_ENCODING, "br, gzip".parse().unwrap());
        let zipped = answer(files, "/assets/a.js", &headers);
        assert_eq!(zipped.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(
            zipped.headers()[header::CONTENT_TYPE],
            "text/javascript; charset=utf-8"
        );
        assert_eq!(text(zipped).await, "zipped");
        assert_eq!(text(answer(files, "/", &headers)).await, "<p>");
    }
}
