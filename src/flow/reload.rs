//! New keys and configuration without dropping a session: whole, or not at all (OPS-005).

use super::node::{Live, Node};
use crate::admin::{ReloadRefusal, Reloaded, reload as judgement};
use crate::config::{self, Config};

/// Reads the configuration file again and puts it in force.
pub(super) async fn reload(node: &Node) -> Result<Reloaded, ReloadRefusal> {
    let old = node.live();
    let path = old.config.file.clone();
    let now = node.inner.world.now();
    let read = tokio::task::spawn_blocking(move || config::load(&path, now)).await;
    let new = match read {
        Ok(Ok(config)) => config,
        Ok(Err(error)) => return Err(refused(error.to_string())),
        Err(error) => return Err(refused(error.to_string())),
    };
    // A record published a minute ago must be seen.
    node.inner.discovery.forget();
    let reloaded = judgement::judge(&old.config, &new, node.inner.discovery.as_ref()).await?;
    let inner = &node.inner;
    let config = keep_fixed(&old.config, new);
    let live = Live::new(config, &inner.world, &inner.discovery, &inner.keys, &inner.breakers)
        .map_err(|error| refused(error.to_string()))?;
    node.replace(live);
    Ok(reloaded)
}

fn refused(problem: String) -> ReloadRefusal {
    ReloadRefusal { problems: vec![problem] }
}

/// What only a restart can change keeps its old value.
fn keep_fixed(old: &Config, mut new: Config) -> Config {
    new.node.name = old.node.name.clone();
    new.node.state_dir.clone_from(&old.node.state_dir);
    new.federation.listen.clone_from(&old.federation.listen);
    match (&old.submission, &mut new.submission) {
        (Some(old), Some(new)) => new.listen.clone_from(&old.listen),
        (None, new) => *new = None,
        (Some(_), None) => {}
    }
    new.spool = old.spool.clone();
    new.admin = old.admin;
    new.control = old.control.clone();
    new.log = old.log;
    new.discovery = old.discovery.clone();
    new.lab_peer_port = old.lab_peer_port;
    new
}
