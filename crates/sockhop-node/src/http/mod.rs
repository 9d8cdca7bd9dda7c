//! The public listener: accepts connections and finds the route of each request.

mod accept;
mod clients;
mod mounts;
mod proxy_protocol;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Empty, Full};
use hyper::body::Incoming;
use sockhop::engine::lane::{Lane, RequestHead};

pub(crate) use accept::{Listener, Serving, serve};
pub(crate) use clients::Clients;
pub use clients::{ClientsConfig, Network, NotANetwork};
pub(crate) use mounts::{MountPoint, Mounts};

use crate::client_files::ClientFiles;
use crate::control::Control;
use crate::route::{ForwardedBody, Router};

/// An answer: complete from the start, or passed on from the node that gives it.
pub(crate) type Answer = Response<Either<Full<Bytes>, ForwardedBody>>;

/// The body of a request, or nothing in its place.
pub(crate) type RequestBody = Either<Incoming, Empty<Bytes>>;

/// What a listener serves.
pub(crate) trait Site: Send + Sync + 'static {
    /// Whether [`Self::find_lane`] may find anything.
    const HAS_LANE: bool = false;

    /// Who serves a request in the lane of the engine; `None` if it is for [`Self::respond`].
    fn find_lane(&self, _head: &RequestHead<'_>) -> Option<&Lane> {
        None
    }

    /// Answers one request.
    fn respond(self: Arc<Self>, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// A page with a fixed content.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is, from the root.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// What it says.
    pub content: Bytes,
}

/// All that a node answers to clients.
pub(crate) struct PublicSite {
    pub(crate) mounts: Arc<Mounts>,
    /// None: this node knows no others.
    pub(crate) router: Option<Arc<Router>>,
    pub(crate) pages: Vec<Page>,
    pub(crate) clients: ClientFiles,
    pub(crate) control: Arc<Control>,
    /// Whether `/metrics` is here, because there is no listener of its own for it.
    pub(crate) shows_metrics: bool,
}

impl Site for PublicSite {
    const HAS_LANE: bool = true;

    fn find_lane(&self, head: &RequestHead<'_>) -> Option<&Lane> {
        let mount = self.mounts.find(head.path())?;
        let is_ours = |router: &Arc<Router>| router.is_ours(head);
        self.router
            .as_ref()
            .is_none_or(is_ours)
            .then_some(&mount.lane)
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        if let Some(mount) = self.mounts.find(request.uri().path()) {
            return match &self.router {
                Some(router) => router.respond(mount, request).await,
                None => mount.call(request.map(Either::Left)).await,
            };
        }
        let mut response = if matches!(*request.method(), Method::GET | Method::HEAD) {
            self.resource(&request)
        } else {
            status(StatusCode::METHOD_NOT_ALLOWED)
        };
        let nosniff = HeaderValue::from_static("nosniff");
        response
            .headers_mut()
            .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        response
    }
}

impl PublicSite {
    fn resource(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if let Some(response) = self.clients.respond(path, request.headers()) {
            return response.map(Either::Left);
        }
        match path {
            "/healthz" => self.control.health(),
            "/readyz" => self.control.readiness(),
            "/metrics" if self.shows_metrics => self.control.metrics(),
            _ => match self.pages.iter().find(|page| page.path == path) {
                Some(page) => body(page.content_type, page.content.clone()),
                None => status(StatusCode::NOT_FOUND),
            },
        }
    }
}

/// An answer without a body.
pub(crate) fn status(status: StatusCode) -> Answer {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

/// A successful answer.
pub(crate) fn body(content_type: &'static str, content: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(content.into())));
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
