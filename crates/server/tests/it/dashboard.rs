//! The dashboard's files: served with their type, their tag and a strict policy, and in nobody's way.

use std::io::Read as _;

use pulsewire::auth::Role;
use pulsewire::http::ui::PAGES;

use crate::child::Folder;
use crate::harness::{Answer, Server, bearer};

fn is_page(answer: &Answer) -> bool {
    answer.status == 200 && answer.headers["content-type"] == "text/html; charset=utf-8"
}

#[test]
fn the_page_is_served_for_every_address_inside_it() {
    let server = Server::start("");
    let page = server.get("/");
    assert!(is_page(&page), "{page:?}");
    assert_eq!(page.body, pulsewire_ui::file("index.html").unwrap().bytes);
    for path in ["/connections", "/connections/01J?tab=timeline&range=15m", "/channels/run:42/x%20y"] {
        assert_eq!(server.get(path).body, page.body, "{path}");
    }
    for name in PAGES {
        assert!(is_page(&server.get(&format!("/{name}"))), "{name}");
    }
    let script = server.get("/app.js");
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(script.body, pulsewire_ui::file("app.js").unwrap().bytes);
    assert_eq!(server.http("POST", "/", "", "").status, 405);
    let head = server.http("HEAD", "/", "", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn the_server_knows_every_page_of_the_dashboard() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboard/src/pages.ts");
    let text = std::fs::read_to_string(source).unwrap();
    let paths = text.lines().filter_map(|line| line.trim().strip_prefix("{ path: '")?.split('\'').next());
    let pages: Vec<&str> = paths.filter(|path| !path.is_empty()).collect();
    assert_eq!(pages, PAGES, "beside the overview; `/metrics` is Prometheus's");
}

#[test]
fn the_api_keeps_its_addresses_and_its_refusals() {
    let server = Server::start("");
    for path in
        ["/api/nothing", "/api/admin/nothing", "/nothing", "/app.js.map", "/index.html", "/ws/nothing"]
    {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, &*answer.headers["content-type"]),
            (404, "application/problem+json"),
            "{path}"
        );
    }
    for path in ["/metrics", "/livez", "/health/websocket", "/api/stats", "/ws"] {
        assert!(!is_page(&server.get(path)), "{path}");
    }
}

#[test]
fn the_page_may_load_nothing_from_elsewhere_and_is_in_nobodys_frame() {
    let server = Server::start("");
    for path in ["/", "/app.js", "/connections/1"] {
        let headers = server.get(path).headers;
        let policy = &headers["content-security-policy"];
        for rule in ["default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "object-src 'none'"] {
            assert!(policy.split("; ").any(|found| found == rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
    }
}

#[test]
fn what_a_browser_has_is_not_sent_again_and_what_is_sent_is_compressed() {
    let server = Server::start("");
    let plain = server.get("/app.css");
    assert_eq!(plain.headers.get("content-encoding"), None);
    let zipped = server.http("GET", "/app.css", "Accept-Encoding: gzip, br\r\n", "");
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    let mut unzipped = Vec::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut unzipped).unwrap();
    assert_eq!(unzipped, plain.body);
    let (tag, other) = (&plain.headers["etag"], &zipped.headers["etag"]);
    assert_ne!(tag, other, "two representations, two tags");
    let again = server.http("GET", "/app.css", &format!("If-None-Match: {tag}\r\n"), "");
    assert_eq!((again.status, again.body.len(), &again.headers["etag"]), (304, 0, tag));
    let headers = format!("If-None-Match: W/{other}\r\nAccept-Encoding: gzip\r\n");
    assert_eq!(server.http("GET", "/app.css", &headers, "").status, 304);
    assert_eq!(server.http("GET", "/app.js", &format!("If-None-Match: {tag}\r\n"), "").status, 200);
    assert_eq!(plain.headers["vary"], "accept-encoding");
}

#[test]
fn the_dashboard_can_be_switched_off_and_served_from_a_folder() {
    let server = Server::start("[dashboard]\nenabled = false\n");
    for path in ["/", "/connections", "/app.js"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let token = bearer(&server.token("ops", Role::Viewer));
    assert_eq!(server.http("GET", "/api/admin/channels", &token, "").status, 200, "the API stays");

    let folder = Folder::new();
    folder.write("index.html", "<p>mine");
    let server = Server::start(&format!("[dashboard]\nfolder = {:?}\n", folder.path()));
    assert_eq!(server.get("/connections").text(), "<p>mine");
    folder.write("index.html", "<p>mended");
    assert_eq!(server.get("/connections").text(), "<p>mended", "read anew each time");
    assert_eq!(server.get("/app.js").status, 404);
}
