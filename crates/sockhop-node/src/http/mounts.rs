//! The Engine.IO endpoints of a node, by their paths.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::Request;
use http::request::Parts;
use http_body_util::Either;
use sockhop::engine::lane::Lane;
use sockhop::engine::{Handler, OpenSessions};
use sockhop::engineio::CloseReason;
use sockhop::{Cors, EngineConfig, EngineService};

use super::{Answer, RequestBody};

type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Something that answers the requests of a path: an Engine.IO mount.
pub(crate) trait Route: Send + Sync {
    /// Whether a request for this path is for it.
    fn matches(&self, path: &str) -> bool;
    /// Answers the request.
    fn call(&self, request: Request<RequestBody>) -> AnswerFuture;
    /// The way to it without an HTTP library.
    fn lane(&self) -> Lane;
    /// Refuses new sessions and hands out the open ones.
    fn drain(&self) -> OpenSessions;
    /// Refuses new sessions and ends the open ones.
    fn close(&self);
}

impl<H: Handler> Route for EngineService<H> {
    fn matches(&self, path: &str) -> bool {
        Self::matches(self, path)
    }

    fn call(&self, request: Request<RequestBody>) -> AnswerFuture {
        let service = self.clone();
        Box::pin(async move { service.handle(request).await.map(Either::Left) })
    }

    fn lane(&self) -> Lane {
        Self::lane(self)
    }

    fn drain(&self) -> OpenSessions {
        Self::drain(self)
    }

    fn close(&self) {
        Self::close(self, &CloseReason::ServerShutdown);
    }
}

/// A mount, and what forwarding its requests takes to know.
pub(crate) struct MountPoint {
    route: Box<dyn Route>,
    pub(crate) lane: Lane,
    cors: Cors,
    /// The longest that an answer to a request may take.
    pub(crate) patience: Duration,
}

impl MountPoint {
    /// `route`, which was made from `config`.
    pub(crate) fn new(route: impl Route + 'static, config: EngineConfig) -> Self {
        let session = &config.session;
        Self {
            lane: route.lane(),
            route: Box::new(route),
            patience: session.ping_interval + session.ping_timeout,
            cors: config.cors,
        }
    }

    pub(crate) fn call(&self, request: Request<RequestBody>) -> AnswerFuture {
        self.route.call(request)
    }

    /// Lets pages of allowed origins read `answer`, as they can read the answers of the mount.
    pub(crate) fn share(&self, head: &Parts, answer: &mut Answer) {
        answer.headers_mut().extend(self.cors.headers(head));
    }
}

/// All mounts of a node.
#[derive(Default)]
pub(crate) struct Mounts(Vec<MountPoint>);

impl Mounts {
    pub(crate) fn add(&mut self, mount: MountPoint) {
        self.0.push(mount);
    }

    /// The mount of a path.
    pub(crate) fn find(&self, path: &str) -> Option<&MountPoint> {
        self.0.iter().find(|mount| mount.route.matches(path))
    }

    /// Refuses new sessions and hands out the open ones of all mounts.
    pub(crate) fn drain(&self) -> Vec<OpenSessions> {
        self.0.iter().map(|mount| mount.route.drain()).collect()
    }

    /// Refuses new sessions and ends the open ones.
    pub(crate) fn close(&self) {
        self.0.iter().for_each(|mount| mount.route.close());
    }
}
