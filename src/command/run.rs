//! `sluis run`: the node, until it is told to stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::serve::Listener;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Exit, Failure, Report, load};
use crate::admin::{LocationStatus, Operations, control, http, log};
use crate::flow::Node;
use crate::world::World;

pub(super) async fn run(path: &Path) -> Result<Report, Failure> {
    let config = load(path)?;
    log::start(config.log).map_err(|error| Failure::tool(error.to_string()))?;
    for warning in &config.warnings {
        warn!(warning, "configuration");
    }
    for key in config.weakened() {
        warn!(setting = key, "protection is weakened by a lab setting");
    }
    let location = LocationStatus::of(&config, jiff::Timestamp::now());
    info!(location = LocationStatus::describe(location.as_ref()), "where other providers' servers stand");
    // The socket first: it says whether a node with this configuration runs already.
    let socket = control::bind(&config.control).map_err(|error| {
        Failure::tool(format!("control socket {}: {error}", config.control.socket.display()))
    })?;
    let admin = match config.admin {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let (name, path) = (config.node.name.clone(), config.control.socket.clone());
    let node =
        Node::start(config, World::system()).await.map_err(|error| Failure::tool(error.to_string()))?;
    let listeners = node.listen().await.map_err(|error| Failure::tool(error.to_string()))?;
    let stop = node.stopping();
    let operations: Arc<dyn Operations> = Arc::new(node.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(socket, control::router(Arc::clone(&operations)), stop.clone()));
    if let Some(admin) = admin {
        tasks.spawn(serve(admin, http::router(Arc::clone(&operations)), stop.clone()));
    }
    tasks.spawn(signals(node.clone(), operations, stop));
    info!(node = %name, version = env!("CARGO_PKG_VERSION"), process = std::process::id(), "ready");
    notify(&[sd_notify::NotifyState::Ready]);
    node.run(listeners).await;
    notify(&[sd_notify::NotifyState::Stopping]);
    // Serving ends by itself: the token that ended the node ends it too.
    while tasks.join_next().await.is_some() {}
    let _ = std::fs::remove_file(path);
    let broken = node.health().broken;
    info!(broken = broken.len(), "stopped");
    if !broken.is_empty() {
        return Err(Failure { what: broken.join("; "), exit: Exit::Tool });
    }
    Report::new(String::new(), &json!({ "ok": true }), Exit::Pass)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::tool(format!("admin listener on {address}: {error}")))
}

async fn serve<L>(listener: L, router: Router, stop: CancellationToken)
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        error!(%error, "a listener of the operator's interfaces ended");
    }
}

/// SIGTERM and SIGINT end the node, SIGHUP reloads it.
async fn signals(node: Node, operations: Arc<dyn Operations>, stop: CancellationToken) {
    let ended = listen_for_signals(&node, operations.as_ref(), stop.cancelled()).await;
    if let Err(error) = ended {
        error!(%error, "signals cannot be received; stop and reload through the control socket");
    }
}

async fn listen_for_signals(
    node: &Node,
    operations: &dyn Operations,
    stopped: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = &mut stopped => return Ok(()),
            _ = hang_up.recv() => {
                notify(&[sd_notify::NotifyState::Reloading]);
                // Logged and counted there, whatever comes of it.
                let _ = control::reload(operations).await;
                notify(&[sd_notify::NotifyState::Ready]);
            }
        }
    }
    info!("stopping: no new sessions; what is under way is given its time");
    node.stop();
    Ok(())
}

/// Tells systemd, when it started us.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
