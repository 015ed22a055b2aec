//! Redis as the broker: its pub/sub carries envelopes.
//!
//! One connection speaks and one hears, so that neither waits for the other. A single server and one behind
//! Sentinel take ordinary pub/sub; a Redis Cluster takes sharded pub/sub (Redis 7), so that a message goes to one
//! shard of Redis and not to all. RESP3, so that what is heard comes beside answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use pulsewire_bus::{Parcel, Topic};
use pulsewire_protocol::ChannelName;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo as _, ProtocolVersion, PushInfo, PushKind, TlsMode,
    Value,
};
use tokio::sync::mpsc;

use super::{Incoming, texts};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Topics of one command.
const TOPICS_MAX: usize = 1_000;

/// Which Redis, and how its channels are named.
pub(super) struct Address {
    place: Place,
    prefix: Box<str>,
    node: Box<str>,
}

enum Place {
    One(Client),
    Sentinel {
        nodes: Vec<redis::ConnectionInfo>,
        service: String,
        redis: Box<redis::RedisConnectionInfo>,
        tls: bool,
    },
    Cluster(Vec<redis::ConnectionInfo>),
}

/// A connection.
#[derive(Clone)]
pub(super) struct Link {
    speaks: Connection,
    hears: Connection,
    prefix: Box<str>,
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

fn settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(2);
    TcpSettings::default().set_keepalive(keepalive).set_nodelay(true)
}

/// One address with our ways of speaking.
fn info(url: &str) -> anyhow::Result<redis::ConnectionInfo> {
    let wrong = "cluster.url is not the address of a Redis server";
    let info = url.into_connection_info().map_err(|_| anyhow::anyhow!(wrong))?;
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(redis).set_tcp_settings(settings()))
}

impl Address {
    /// Reads an address; connects to nothing.
    pub(super) fn parse(url: &str, prefix: &str, node: &str) -> anyhow::Result<Self> {
        let form = |scheme: &str| url.strip_prefix(&format!("redis+{scheme}://")).map(|rest| (rest, "redis"));
        let secure =
            |scheme: &str| url.strip_prefix(&format!("rediss+{scheme}://")).map(|rest| (rest, "rediss"));
        let place = if let Some((rest, scheme)) = form("sentinel").or_else(|| secure("sentinel")) {
            let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
            let service = path.split('?').next().unwrap_or_default();
            anyhow::ensure!(
                !service.is_empty(),
                "cluster.url: behind the sentinels comes the name of the service: redis+sentinel://HOST:26379/mymaster"
            );
            let nodes = several(hosts, scheme)?;
            let redis = nodes[0].redis_settings().clone();
            // User and password are those of the server; sentinels are asked without.
            let nodes = nodes
                .into_iter()
                .map(|info| info.set_redis_settings(redis::RedisConnectionInfo::default()))
                .collect();
            Place::Sentinel {
                nodes,
                service: service.to_owned(),
                redis: Box::new(redis),
                tls: scheme == "rediss",
            }
        } else if let Some((rest, scheme)) = form("cluster").or_else(|| secure("cluster")) {
            Place::Cluster(several(rest.split('/').next().unwrap_or(rest), scheme)?)
        } else {
            Place::One(Client::open(info(url)?).context("cluster.url")?)
        };
        Ok(Self { place, prefix: prefix.into(), node: node.into() })
    }

    /// Connects and hears what is said to all and to this node. What comes goes to `incoming`; what finds no place
    /// there sets `lagging`.
    pub(super) async fn connect(
        &self,
        incoming: mpsc::Sender<Incoming>,
        lagging: Arc<AtomicBool>,
    ) -> anyhow::Result<Link> {
        let push = move |push: PushInfo| {
            let taken = match push.kind {
                PushKind::Message | PushKind::SMessage => match push.data.into_iter().nth(1) {
                    Some(Value::BulkString(bytes)) => incoming.try_send(Incoming::Message(bytes.into())),
                    _ => Ok(()),
                },
                PushKind::Disconnection => incoming.try_send(Incoming::Ended),
                _ => Ok(()),
            };
            if taken.is_err() {
                lagging.store(true, Ordering::Relaxed);
            }
            Ok::<_, std::convert::Infallible>(())
        };
        let connecting = async {
            let (speaks, hears) = match &self.place {
                Place::Cluster(nodes) => {
                    let builder = || {
                        ClusterClientBuilder::new(nodes.clone())
                            .use_protocol(ProtocolVersion::RESP3)
                            .connection_timeout(CONNECT)
                            .response_timeout(ANSWER)
                    };
                    let speaks = builder().build()?.get_async_connection().await?;
                    let hears = builder().push_sender(push).build()?.get_async_connection().await?;
                    (Connection::Cluster(speaks), Connection::Cluster(hears))
                }
                place => {
                    let client = match place {
                        Place::Sentinel { nodes, service, redis, tls } => {
                            sentinel(nodes, service, redis, *tls).await?
                        }
                        Place::One(client) => client.clone(),
                        Place::Cluster(_) => anyhow::bail!("a cluster is no single server"),
                    };
                    let config = || {
                        AsyncConnectionConfig::new()
                            .set_connection_timeout(Some(CONNECT))
                            .set_response_timeout(Some(ANSWER))
                    };
                    let speaks = client.get_multiplexed_async_connection_with_config(&config()).await?;
                    let hearing = config().set_push_sender(push);
                    let hears = client.get_multiplexed_async_connection_with_config(&hearing).await?;
                    (Connection::One(speaks), Connection::One(hears))
                }
            };
            let mut link = Link { speaks, hears, prefix: self.prefix.clone() };
            let own = [link.name(&Topic::All), link.name(&Topic::Node(self.node.clone()))];
            link.subscribe_names(&own).await?;
            Ok(link)
        };
        tokio::time::timeout(2 * CONNECT, connecting).await.context("connecting takes too long")?
    }
}

/// The client of the server that a sentinel names.
async fn sentinel(
    nodes: &[redis::ConnectionInfo],
    service: &str,
    server: &redis::RedisConnectionInfo,
    tls: bool,
) -> anyhow::Result<Client> {
    let mut sentinel = redis::sentinel::Sentinel::build(nodes.to_vec())?;
    let node = redis::sentinel::SentinelNodeConnectionInfo::default()
        .set_redis_connection_info(server.clone())
        .set_tcp_settings(settings());
    let node = if tls { node.set_tls_mode(TlsMode::Secure) } else { node };
    sentinel.async_master_for(service, Some(&node)).await.context("no sentinel names a server")
}

fn several(hosts: &str, scheme: &str) -> anyhow::Result<Vec<redis::ConnectionInfo>> {
    // User and password stand before the first and hold for all.
    let (who, hosts) = hosts.rsplit_once('@').map_or(("", hosts), |(who, hosts)| (who, hosts));
    let who = if who.is_empty() { String::new() } else { format!("{who}@") };
    hosts.split(',').map(|host| info(&format!("{scheme}://{who}{host}"))).collect()
}

impl Link {
    fn name(&self, topic: &Topic) -> String {
        name(&self.prefix, topic)
    }

    /// Says parcels, all in one go.
    pub(super) async fn publish(&self, parcels: &[Parcel]) -> anyhow::Result<()> {
        match self.speaks.clone() {
            Connection::One(mut connection) => {
                let mut pipeline = redis::pipe();
                for (topic, text) in texts(parcels) {
                    pipeline.cmd("PUBLISH").arg(self.name(topic)).arg(text).ignore();
                }
                pipeline.exec_async(&mut connection).await?;
            }
            Connection::Cluster(connection) => {
                let all = texts(parcels).map(|(topic, text)| {
                    let mut connection = connection.clone();
                    let mut command = redis::cmd("SPUBLISH");
                    command.arg(self.name(topic)).arg(text);
                    async move { command.exec_async(&mut connection).await }
                });
                // Those of one topic go the same way, one behind the other.
                for said in all {
                    said.await?;
                }
            }
        }
        Ok(())
    }

    /// Hears channels from now on.
    pub(super) async fn subscribe(&mut self, channels: &[ChannelName]) -> anyhow::Result<()> {
        let names = self.names(channels);
        self.subscribe_names(&names).await
    }

    async fn subscribe_names(&mut self, names: &[String]) -> anyhow::Result<()> {
        for names in names.chunks(TOPICS_MAX) {
            match &mut self.hears {
                Connection::One(connection) => connection.subscribe(names).await?,
                Connection::Cluster(connection) => {
                    // Each is in a slot of its own.
                    for name in names {
                        connection.ssubscribe(name).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Hears channels no more.
    pub(super) async fn unsubscribe(&mut self, channels: &[ChannelName]) -> anyhow::Result<()> {
        for names in self.names(channels).chunks(TOPICS_MAX) {
            match &mut self.hears {
                Connection::One(connection) => connection.unsubscribe(names).await?,
                Connection::Cluster(connection) => {
                    for name in names {
                        connection.sunsubscribe(name).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn names(&self, channels: &[ChannelName]) -> Vec<String> {
        channels.iter().map(|channel| self.name(&Topic::Channel(channel.clone()))).collect()
    }
}

/// What Redis calls a topic.
fn name(prefix: &str, topic: &Topic) -> String {
    match topic {
        Topic::Channel(channel) => format!("{prefix}channel:{channel}"),
        Topic::All => format!("{prefix}all"),
        Topic::Node(node) => format!("{prefix}node:{node}"),
    }
}
