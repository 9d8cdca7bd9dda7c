//! A tower layer: the engine's path goes to the engine, everything else to the service behind it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body_util::Either;
use tower_layer::Layer;
use tower_service::Service;

use crate::response::Body;
use crate::{EngineService, Handler};

/// Puts an [`EngineService`] in front of another service.
#[derive(Debug)]
pub struct EngineLayer<H: Handler> {
    engine: EngineService<H>,
}

impl<H: Handler> EngineLayer<H> {
    /// A layer that serves the engine's path.
    #[must_use]
    pub fn new(engine: EngineService<H>) -> Self {
        Self { engine }
    }
}

impl<H: Handler> Clone for EngineLayer<H> {
    fn clone(&self) -> Self {
        Self {
            engine: self.engine.clone(),
        }
    }
}

impl<H: Handler, S: Clone> Clone for Layered<H, S> {
    fn clone(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<H: Handler, S> Layer<S> for EngineLayer<H> {
    type Service = Layered<H, S>;

    fn layer(&self, inner: S) -> Layered<H, S> {
        Layered {
            engine: self.engine.clone(),
            inner,
        }
    }
}

/// An engine in front of the service `S`.
#[derive(Debug)]
pub struct Layered<H: Handler, S> {
    engine: EngineService<H>,
    inner: S,
}

impl<H, S, B, R> Service<Request<B>> for Layered<H, S>
where
    H: Handler,
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Send,
    R: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Either<Body, R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.engine.matches(request.uri().path()) {
            let engine = self.engine.clone();
            Box::pin(async move { Ok(engine.handle(request).await.map(Either::Left)) })
        } else {
            let answer = self.inner.call(request);
            Box::pin(async move { Ok(answer.await?.map(Either::Right)) })
        }
    }
}
