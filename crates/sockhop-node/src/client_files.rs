//! The official browser client, served from a directory or from its usual CDN.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

/// The bundles that socket.io publishes, and their source maps.
const NAMES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];

/// Where browsers find the client when this node was not given it.
const CDN: &str = "https://cdn.socket.io/4.8.1/";

/// Client bundles, read once.
#[derive(Debug)]
pub(crate) struct ClientFiles {
    /// Path in front of the names, with its slash.
    prefix: String,
    /// None: send browsers to the CDN.
    files: Option<Vec<File>>,
}

#[derive(Debug)]
struct File {
    name: &'static str,
    content: Bytes,
    etag: HeaderValue,
}

impl ClientFiles {
    /// Reads the bundles in `dir`; missing ones are answered 404.
    ///
    /// # Errors
    /// When the directory or a file in it cannot be read.
    pub(crate) fn load(prefix: &str, dir: Option<&Path>) -> io::Result<Self> {
        let files = match dir {
            None => None,
            Some(dir) => {
                std::fs::read_dir(dir)?;
                let mut files = Vec::new();
                for name in NAMES {
                    match std::fs::read(dir.join(name)) {
                        Ok(content) => files.push(File::new(name, content)),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
                Some(files)
            }
        };
        Ok(Self {
            prefix: prefix.to_owned(),
            files,
        })
    }

    /// The answer to a GET of `path`, if it names a bundle.
    pub(crate) fn respond(&self, path: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let name = path.strip_prefix(&self.prefix)?;
        let name = NAMES.into_iter().find(|known| *known == name)?;
        let mut response = Response::new(Full::default());
        let Some(files) = &self.files else {
            *response.status_mut() = StatusCode::FOUND;
            if let Ok(location) = HeaderValue::from_str(&format!("{CDN}{name}")) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            return Some(response);
        };
        let file = files.iter().find(|file| file.name == name)?;
        let out = response.headers_mut();
        out.insert(header::ETAG, file.etag.clone());
        out.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=0"),
        );
        let known = headers
            .get(header::IF_NONE_MATCH)
            .and_then(|value| value.to_str().ok());
        let matches = |tag: &str| tag.trim().trim_start_matches("W/") == file.etag;
        if known.is_some_and(|tags| tags.split(',').any(matches)) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Some(response);
        }
        let content_type = if name.ends_with(".map") {
            "application/json; charset=utf-8"
        } else {
            "application/javascript; charset=utf-8"
        };
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        *response.body_mut() = Full::new(file.content.clone());
        Some(response)
    }
}

impl File {
    fn new(name: &'static str, content: Vec<u8>) -> Self {
        let version = version(&content).map_or_else(|| content.len().to_string(), str::to_owned);
        let etag = HeaderValue::from_str(&format!("\"{version}\""))
            .unwrap_or_else(|_| HeaderValue::from_static("\"0\""));
        Self {
            name,
            content: content.into(),
            etag,
        }
    }
}

/// The version in the comment that a bundle begins with: `Socket.IO v4.8.1`.
fn version(content: &[u8]) -> Option<&str> {
    let head = content.get(..200).unwrap_or(content);
    let text = std::str::from_utf8(head).ok()?;
    let (_, rest) = text.split_once("Socket.IO v")?;
    rest.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> ClientFiles {
        let content = b"/*!\n * Socket.IO v4.8.1\n * (c) ...\n */\ncode".to_vec();
        ClientFiles {
            prefix: "/socket.io/".to_owned(),
            files: Some(vec![File::new("socket.io.js", content)]),
        }
    }

    #[test]
    fn the_version_is_the_tag_and_spares_a_second_download() {
        let first = files()
            .respond("/socket.io/socket.io.js", &HeaderMap::new())
            .unwrap();
        assert_eq!(
            (first.status(), &first.headers()["etag"]),
            (StatusCode::OK, &"\"4.8.1\"".parse::<HeaderValue>().unwrap())
        );
        let mut headers = HeaderMap::new();
        headers.insert(
            header::IF_NONE_MATCH,
            HeaderValue::from_static("W/\"4.8.1\""),
        );
        let second = files()
            .respond("/socket.io/socket.io.js", &headers)
            .unwrap();
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn nothing_but_the_known_names_is_served() {
        for path in [
            "/socket.io/",
            "/socket.io/../secret",
            "/socket.io/x.js",
            "/socket.io.js",
        ] {
            assert!(files().respond(path, &HeaderMap::new()).is_none(), "{path}");
        }
    }

    #[test]
    fn without_a_directory_the_cdn_has_the_client() {
        let files = ClientFiles {
            prefix: "/socket.io/".to_owned(),
            files: None,
        };
        let response = files
            .respond("/socket.io/socket.io.js", &HeaderMap::new())
            .unwrap();
        assert_eq!(response.status(), StatusCode::FOUND);
    }
}
