//! The listener: accepts connections and finds the route of each request.

mod accept;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus::{Encoder, Registry, TextEncoder};
use sockhop::EngineService;
use sockhop::engine::Handler;
use sockhop::engineio::CloseReason;

pub(crate) use accept::{Listener, serve};

use crate::client_files::ClientFiles;

type Answer = Response<Full<Bytes>>;
type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Something that answers the requests of a path: an Engine.IO mount.
pub(crate) trait Route: Send + Sync {
    /// Whether a request for this path is for it.
    fn matches(&self, path: &str) -> bool;
    /// Answers the request.
    fn call(&self, request: Request<Incoming>) -> AnswerFuture;
    /// Refuses new sessions and ends the open ones.
    fn close(&self);
}

impl<H: Handler> Route for EngineService<H> {
    fn matches(&self, path: &str) -> bool {
        Self::matches(self, path)
    }

    fn call(&self, request: Request<Incoming>) -> AnswerFuture {
        let service = self.clone();
        Box::pin(async move { service.handle(request).await })
    }

    fn close(&self) {
        Self::close(self, &CloseReason::ServerShutdown);
    }
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

/// All that a node answers.
pub(crate) struct Routes {
    pub(crate) mounts: Vec<Box<dyn Route>>,
    pub(crate) pages: Vec<Page>,
    pub(crate) clients: ClientFiles,
    pub(crate) registry: Registry,
}

impl Routes {
    /// Answers one request.
    pub(crate) async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Answer, Infallible> {
        let path = request.uri().path();
        if let Some(mount) = self.mounts.iter().find(|mount| mount.matches(path)) {
            return Ok(mount.call(request).await);
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
        Ok(response)
    }

    fn resource(&self, request: &Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if let Some(response) = self.clients.respond(path, request.headers()) {
            return response;
        }
        match path {
            "/healthz" => body(
                "application/json",
                Bytes::from_static(b"{\"status\":\"ok\"}"),
            ),
            "/metrics" => self.metrics(),
            _ => match self.pages.iter().find(|page| page.path == path) {
                Some(page) => body(page.content_type, page.content.clone()),
                None => status(StatusCode::NOT_FOUND),
            },
        }
    }

    fn metrics(&self) -> Answer {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => body("text/plain; version=0.0.4; charset=utf-8", text.into()),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

fn status(status: StatusCode) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn body(content_type: &'static str, content: Bytes) -> Answer {
    let mut response = Response::new(Full::new(content));
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
