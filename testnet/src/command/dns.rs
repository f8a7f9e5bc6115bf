//! `testnet dns`: the signed tree alone, to look at with `dig`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use testnet::dns::DnsServer;
use testnet::loopback::Prefix;
use testnet::topology::Plan;

use super::{Failure, topology};

/// Arguments of `testnet dns`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to listen, UDP and TCP. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5353")]
    listen: SocketAddr,
    /// The topology to publish: one of `testnet list`, or a file with one.
    #[arg(long, value_name = "FILE|NAME", default_value = "three-providers")]
    topology: String,
    /// Write the trust anchor there too: root.ds, root.key, and root.bind.conf for `delv -a`.
    #[arg(long, value_name = "DIR")]
    anchor_dir: Option<PathBuf>,
}

/// Serves until interrupted.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let topology = topology(&arguments.topology)?;
    let prefix = Prefix::pick(rand::random, &[]).map_err(Failure::tool("finding free loopback addresses"))?;
    let now = Timestamp::now();
    let plan = Plan::new(topology, &prefix, now)?;
    let tree = plan.tree()?;
    let names: Vec<_> = tree.names().collect();
    let dns = DnsServer::start(tree, now, arguments.listen).await?;
    println!("{}", dns.anchor_ds());
    println!("{}", dns.anchor().dnskey());
    if let Some(directory) = &arguments.anchor_dir {
        let files = dns.anchor().write(directory).map_err(Failure::tool("writing the trust anchor"))?;
        println!("; also in {}, {} and {}", files.ds.display(), files.dnskey.display(), files.bind.display());
    }
    for (name, types) in names {
        println!("; {name} {}", types.join(" "));
    }
    let addr = dns.addr();
    println!(
        "; try: dig @{} -p {} +dnssec {} TXT",
        addr.ip(),
        addr.port(),
        plan.topology.providers[0].domains[0]
    );
    tokio::signal::ctrl_c().await.map_err(Failure::tool("waiting for an interrupt"))?;
    Ok(ExitCode::SUCCESS)
}
