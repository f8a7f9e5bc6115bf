//! `/health` and `/metrics`, for loopback only (OPS-007).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::operations::Operations;

/// `/health` for both, `/health/live` and `/health/ready` for systems that ask one question at a time, `/metrics`.
pub fn router(node: Arc<dyn Operations>) -> Router {
    Router::new()
        .route("/health", get(ready))
        .route("/health/ready", get(ready))
        .route("/health/live", get(live))
        .route("/metrics", get(metrics))
        .with_state(node)
}

#[derive(Serialize)]
struct Answer {
    live: bool,
    ready: bool,
    reasons: Vec<String>,
}

type Node = State<Arc<dyn Operations>>;

async fn ready(State(node): Node) -> Response {
    let answer = answer(node.as_ref());
    (code(answer.ready), Json(answer)).into_response()
}

async fn live(State(node): Node) -> Response {
    let answer = answer(node.as_ref());
    (code(answer.live), Json(answer)).into_response()
}

fn answer(node: &dyn Operations) -> Answer {
    let health = node.health();
    let (live, ready) = (health.live(), health.ready());
    Answer { live, ready, reasons: health.broken.into_iter().chain(health.not_ready).collect() }
}

const fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn metrics(State(node): Node) -> Response {
    let text = node.observer().metrics().text(node.spool().counts().into());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}
