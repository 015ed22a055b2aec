//! Pages of lists: `?offset=&limit=`, and `&sort=` where a list has an order to choose.

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pulsewire_protocol::ErrorCode;
use serde::Deserialize;
use serde_json::Value;

use crate::http::problem::Problem;

/// Items of a page when `limit` is not given.
const LIMIT_DEFAULT: usize = 100;
/// The most items of a page.
const LIMIT_MAX: usize = 1_000;

/// Which items of a list are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// Items before the page.
    pub offset: usize,
    /// Items of the page at most: 1 to 1,000; 100 if nothing was said.
    pub limit: usize,
    /// In which order the list is wanted.
    pub sort: Sort,
    /// Of which node: its id, its name or `self`; of all, if nothing was said.
    pub node: Option<String>,
    path: String,
}

/// The order of a list of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sort {
    /// Connected ones first, each group newest first.
    #[default]
    Newest,
    /// Those for which most is waiting to be sent: the slowest readers.
    QueuedBytes,
}

#[derive(Debug, Deserialize)]
struct Asked {
    offset: Option<usize>,
    limit: Option<usize>,
    #[serde(default)]
    sort: Sort,
    node: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of_uri(&parts.uri)
    }
}

impl Paging {
    fn of_uri(uri: &http::Uri) -> Result<Self, Problem> {
        let wrong = || {
            let detail = format!(
                "`offset` is a number from 0, `limit` one from 1 to {LIMIT_MAX}, `sort` is newest or queuedBytes"
            );
            Problem::new(ErrorCode::BadRequest, detail)
        };
        let Query(asked) = Query::<Asked>::try_from_uri(uri).map_err(|_| wrong())?;
        let limit = asked.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(wrong());
        }
        let path = uri.path().to_owned();
        let node = asked.node.filter(|node| !node.is_empty());
        Ok(Self { offset: asked.offset.unwrap_or(0), limit, sort: asked.sort, node, path })
    }

    /// The page of a list.
    pub(super) fn of<I: IntoIterator>(&self, items: I) -> impl Iterator<Item = I::Item> {
        items.into_iter().skip(self.offset).take(self.limit)
    }

    /// An answer with `offset`, `limit`, `total` and `hasMore` of its list.
    pub(super) fn described(&self, mut answer: Value, total: usize) -> Value {
        answer["offset"] = self.offset.into();
        answer["limit"] = self.limit.into();
        answer["total"] = total.into();
        answer["hasMore"] = (self.end() < total).into();
        answer
    }

    /// The same as headers, for an answer that is a bare array: `X-Total-Count`, and `Link` (RFC 8288) to
    /// the next and the previous page.
    pub(super) fn headers(&self, total: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("x-total-count"), HeaderValue::from(total));
        let sort = if self.sort == Sort::QueuedBytes { "&sort=queuedBytes" } else { "" };
        let node = self.node.as_deref().filter(|node| node.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let node = node.map_or_else(String::new, |node| format!("&node={node}"));
        let link = |offset: usize, relation: &str| {
            format!("<{}?offset={offset}&limit={}{sort}{node}>; rel=\"{relation}\"", self.path, self.limit)
        };
        let next = (self.end() < total).then(|| link(self.end(), "next"));
        let previous = (self.offset > 0).then(|| link(self.offset.saturating_sub(self.limit), "prev"));
        let links: Vec<String> = next.into_iter().chain(previous).collect();
        if let (false, Ok(value)) = (links.is_empty(), HeaderValue::try_from(links.join(", "))) {
            headers.insert(header::LINK, value);
        }
        headers
    }

    /// The first row behind the page.
    pub(super) fn end(&self) -> usize {
        self.offset.saturating_add(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paging(query: &str) -> Result<Paging, ErrorCode> {
        Paging::of_uri(&format!("/list{query}").parse().unwrap()).map_err(|problem| problem.code)
    }

    #[test]
    fn a_page_is_a_hundred_items_unless_asked_otherwise() {
        let page = paging("").unwrap();
        assert_eq!((page.offset, page.limit), (0, 100));
        let page = paging("?limit=1000&offset=5&token=x").unwrap();
        assert_eq!((page.offset, page.limit), (5, 1_000));
        assert_eq!(page.of(0..7).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn what_is_not_a_page_is_refused() {
        for query in [
            "?sort=size",
            "?limit=0",
            "?limit=1001",
            "?limit=ten",
            "?offset=-1",
            "?offset=",
            "?limit=1&limit=2",
        ] {
            assert_eq!(paging(query), Err(ErrorCode::BadRequest), "{query}");
        }
    }

    #[test]
    fn a_page_says_whether_there_is_more() {
        let page = paging("?offset=2&limit=2").unwrap();
        let expected = json!({ "offset": 2, "limit": 2, "total": 5, "hasMore": true });
        assert_eq!(page.described(json!({}), 5), expected);
        assert_eq!(page.described(json!({}), 4)["hasMore"], false);
        let huge = paging(&format!("?offset={}", usize::MAX)).unwrap();
        assert_eq!(huge.described(json!({}), 4)["hasMore"], false);
    }

    #[test]
    fn a_bare_array_is_described_by_headers() {
        let link = |query: &str, total| {
            let headers = paging(query).unwrap().headers(total);
            assert_eq!(headers["x-total-count"].to_str().unwrap(), total.to_string());
            headers.get(header::LINK).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(link("", 100), None);
        assert_eq!(link("?limit=2", 5).unwrap(), "</list?offset=2&limit=2>; rel=\"next\"");
        let both = "</list?offset=3&limit=2>; rel=\"next\", </list?offset=0&limit=2>; rel=\"prev\"";
        assert_eq!(link("?offset=1&limit=2", 5).unwrap(), both);
        let sorted = "</list?offset=2&limit=2&sort=queuedBytes>; rel=\"next\"";
        assert_eq!(link("?limit=2&sort=queuedBytes", 5).unwrap(), sorted);
    }
}
