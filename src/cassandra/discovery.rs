//! How the session learns of the cluster: the first contact, the system tables of one healthy node, and the task
//! that reads them again for as long as the session lives.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::connection::{Connection, Connector};
use super::node::Node;
use super::pool::{Pool, parse};
use super::topology::{self, Member, Replication, Topology};
use super::values::quoted;
use super::{Error, Rows, statement};
use crate::config::{CassandraConfig, Consistency};

/// How often the system tables are read for nodes that came, left or moved.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// How long one of these reads may take.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// The cluster as one node knows it.
pub(super) struct View {
    pub cluster_name: String,
    pub members: Vec<Member>,
    /// Of the session's keyspace.
    pub replication: Replication,
    /// Of the node that was asked; another one means that tables may have changed.
    pub schema_version: Option<Uuid>,
}

/// Opens a connection to the first contact point that answers.
pub(super) async fn first_contact(
    config: &CassandraConfig,
    connector: &Connector,
) -> Result<(SocketAddr, Connection), Error> {
    let mut reasons = Vec::new();
    for contact_point in &config.contact_points {
        let name = match contact_point.contains(':') {
            true => contact_point.clone(),
            false => format!("{contact_point}:9042"),
        };
        let addresses = match timeout(config.connect_timeout, tokio::net::lookup_host(&name)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                reasons.push(format!("{name}: {error}"));
                continue;
            }
            Err(_) => {
                let waited = config.connect_timeout;
                reasons.push(format!("{name}: the name was not resolved within {waited:?}"));
                continue;
            }
        };
        for address in addresses {
            match connector.open(address).await {
                Ok(connection) => return Ok((address, connection)),
                Err(Error::Connection { message, .. }) => reasons.push(format!("{address}: {message}")),
                // A login or certificate that one node refuses, all refuse.
                Err(error) => return Err(error),
            }
        }
    }
    Err(Error::Unreachable { reasons: reasons.join("; ") })
}

/// Reads the system tables of the node at `address`, all of the same one, so that they fit each other.
pub(super) async fn read_view(
    connection: &Connection,
    address: SocketAddr,
    keyspace: &str,
) -> Result<View, Error> {
    let ask = async |cql: &str| -> Result<Rows, Error> {
        let request = statement::query(cql, Consistency::LocalOne, i32::MAX, None);
        let answer =
            timeout(READ_DEADLINE, connection.request(address, &request)).await.unwrap_or_else(|_| {
                Err(Error::Connection {
                    node: address,
                    message: format!("no answer within {READ_DEADLINE:?}"),
                })
            });
        parse(address, answer?)
    };
    let local = ask(topology::LOCAL_QUERY).await?;
    let peers = ask(topology::PEERS_QUERY).await?;
    let cql =
        format!("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = {}", quoted(keyspace));
    let replication = match ask(&cql).await?.first() {
        Some(row) => Replication::parse(row.get(0)?),
        None => Replication::Unknown,
    };
    let first = local.first();
    Ok(View {
        cluster_name: first.map(|row| row.get(6)).transpose()?.unwrap_or_default(),
        schema_version: first.map(|row| row.get::<Option<Uuid>>(7)).transpose()?.flatten(),
        members: topology::members(address, &local, &peers)?,
        replication,
    })
}

/// Keeps the topology up to date for as long as the session lives.
pub(super) async fn refresh(pool: Weak<Pool>) {
    loop {
        sleep(REFRESH_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        let node = pool.plan(None).into_iter().next();
        let Some((address, connection)) = node.and_then(|node| Some((node.info.address, node.connection()?)))
        else {
            contact_again(&pool).await;
            continue;
        };
        pool.connector.renew(address).await;
        match read_view(&connection, address, &pool.config.keyspace).await {
            Ok(view) => install(&pool, view),
            Err(error) => debug!(%error, "cannot read the topology"),
        }
    }
}

/// With no node left, resolves the contact points again: under Kubernetes and in clouds every node may come back with
/// another address, and the contact point's name is all that stays.
async fn contact_again(pool: &Pool) {
    let contacted = async {
        let (address, connection) = first_contact(&pool.config, &pool.connector).await?;
        let view = read_view(&connection, address, &pool.config.keyspace).await?;
        Ok::<_, Error>((address, connection, view))
    };
    match contacted.await {
        Err(error) => debug!(%error, "no contact point answers"),
        // Names and addresses are given to others. Readings must not go to a cluster that only happens to answer there.
        Ok((address, _, view)) if view.cluster_name != pool.cluster_name => warn!(
            %address,
            found = view.cluster_name,
            expected = pool.cluster_name,
            "the contact points lead to another cluster now (restart iotctl if that is intended)"
        ),
        Ok((address, connection, view)) => {
            install(pool, view);
            let topology = pool.topology.load();
            if let Some(node) = topology.nodes.iter().find(|node| node.info.address == address) {
                info!(node = %address, "a contact point answers again");
                node.adopt(connection);
            }
        }
    }
}

/// Replaces the topology; nodes that stay keep their connections.
fn install(pool: &Pool, view: View) {
    pool.note_schema_version(view.schema_version);
    let current = pool.topology.load_full();
    let mut nodes = Vec::with_capacity(view.members.len());
    for Member { info, tokens } in view.members {
        let node = match current.nodes.iter().find(|node| node.info == info) {
            Some(node) => node.clone(),
            None => {
                info!(node = %info.address, "a node is new");
                let node = Node::new(info, pool.config.connections_per_node);
                if current.is_local(&node) {
                    node.start_keeper(pool.connector.clone());
                }
                node
            }
        };
        nodes.push((node, tokens));
    }
    for gone in current.nodes.iter().filter(|node| !nodes.iter().any(|(other, _)| Arc::ptr_eq(other, node))) {
        match nodes.iter().find(|(node, _)| node.info.host_id == gone.info.host_id) {
            // As one does that was first reached through a forwarded port.
            Some((now, _)) => {
                info!(node = %gone.info.address, now = %now.info.address, "a node has another address");
            }
            None => warn!(node = %gone.info.address, "a node has left"),
        }
        gone.forget();
    }
    let datacenter = current.local_datacenter.clone();
    pool.topology.store(Arc::new(Topology::new(nodes, view.replication, datacenter)));
}
