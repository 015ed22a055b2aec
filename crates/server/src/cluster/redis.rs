//! Redis as the broker: its pub/sub carries envelopes.
//!
//! One connection speaks and one hears, so that neither waits for the other. A single server and one behind
//! Sentinel take ordinary pub/sub; a Redis Cluster takes sharded pub/sub (Redis 7), so that a message goes to one
//! shard of Redis and not to all. RESP3, so that what is heard comes beside answers.
//!
//! Whatever part of a connection is lost, all of it is made anew: only then is it certain that everything is heard and
//! that whatever was missed is asked for. The client of a cluster would mend itself and say nothing. A shard that says
//! nothing is found by a question of this node to itself on each shard, each second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
use tokio::task::JoinSet;

use super::ears::Ears;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Topics of one command.
const TOPICS_MAX: usize = 1_000;
/// Commands that are on their way to a cluster at the same time.
const COMMANDS_MAX: usize = 64;
/// Names that are tried to find one in each shard: with a hundred shards all are found long before.
const ECHO_NAMES_MAX: usize = 10_000;

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
    ears: Arc<Ears>,
    /// A channel of this node's own in each shard.
    echoes: Arc<[String]>,
    /// Whether this user may ask which role a server has.
    asks_role: Arc<AtomicBool>,
    /// Channels that are let go: that they are is no surprise.
    leaving: Arc<AtomicU64>,
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
            let (service, query) = path.split_once('?').unwrap_or((path, ""));
            anyhow::ensure!(
                !service.is_empty(),
                "cluster.url: behind the sentinels comes the name of the service: redis+sentinel://HOST:26379/mymaster"
            );
            let redis = several(hosts, scheme)?[0].redis_settings().clone();
            // User and password are those of the server; sentinels have their own, or none.
            let who = query.split('&').find_map(|pair| pair.strip_prefix("sentinel="));
            let bare = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
            let nodes = match who {
                Some(who) => several(&format!("{who}@{bare}"), scheme)?,
                None => several(bare, scheme)?,
            };
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

    /// Connects and hears what is said to all and to this node.
    pub(super) async fn connect(&self, ears: &Arc<Ears>) -> anyhow::Result<Link> {
        let connecting = self.connecting(ears);
        tokio::time::timeout(2 * CONNECT, connecting).await.context("connecting takes too long")?
    }

    async fn connecting(&self, ears: &Arc<Ears>) -> anyhow::Result<Link> {
        let leaving = Arc::new(AtomicU64::new(0));
        let push = hearing(ears.clone(), leaving.clone(), echo_prefix(&self.prefix, &self.node));
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
        let echoes = self.echoes(&speaks).await?;
        ears.ways(echoes.len());
        let mut link = Link {
            speaks,
            hears,
            prefix: self.prefix.clone(),
            ears: ears.clone(),
            echoes: echoes.into(),
            asks_role: Arc::new(AtomicBool::new(true)),
            leaving,
        };
        link.check_role().await?;
        let own = [link.name(&Topic::All), link.name(&Topic::Node(self.node.clone()))];
        link.subscribe_names(&own).await?;
        let echoes = link.echoes.clone();
        link.subscribe_names(&echoes).await?;
        Ok(link)
    }

    /// A channel of this node's own in each shard.
    async fn echoes(&self, speaks: &Connection) -> anyhow::Result<Vec<String>> {
        let prefix = echo_prefix(&self.prefix, &self.node);
        match speaks {
            Connection::One(_) => Ok(vec![format!("{prefix}0")]),
            Connection::Cluster(connection) => {
                let mut connection = connection.clone();
                let slots: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
                Ok(names_in_each_shard(&prefix, &shards(&slots)))
            }
        }
    }
}

/// What is done with what a server says without being asked.
fn hearing(
    ears: Arc<Ears>,
    leaving: Arc<AtomicU64>,
    echo_prefix: String,
) -> impl Fn(PushInfo) -> Result<(), std::convert::Infallible> + Send + Sync + 'static {
    move |push| {
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                let mut data = push.data.into_iter();
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(said))) =
                    (data.next(), data.next())
                {
                    match channel.strip_prefix(echo_prefix.as_bytes()) {
                        // The number of the question and the way; nothing else is said there.
                        Some(_) => {
                            let said = std::str::from_utf8(&said).unwrap_or_default();
                            if let Some((way, number)) = said.split_once(' ')
                                && let (Ok(way), Ok(number)) = (way.parse(), number.parse())
                            {
                                ears.echo(way, number);
                            }
                        }
                        None => ears.message(said.into()),
                    }
                }
            }
            PushKind::Disconnection => ears.ended("the connection ended"),
            // A slot went to another shard, with everything that was heard there.
            PushKind::SUnsubscribe => {
                let fewer = |left: u64| left.checked_sub(1);
                if leaving.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_err() {
                    ears.ended("a shard of Redis let go of a channel");
                }
            }
            _ => {}
        }
        Ok(())
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
                for Parcel { topic, text, .. } in parcels {
                    pipeline.cmd("PUBLISH").arg(self.name(topic)).arg(text).ignore();
                }
                pipeline.exec_async(&mut connection).await?;
                Ok(())
            }
            Connection::Cluster(connection) => {
                // Those of one topic go the same way, one behind the other.
                let mut slots: BTreeMap<u16, redis::Pipeline> = BTreeMap::new();
                for Parcel { topic, text, .. } in parcels {
                    let name = self.name(topic);
                    let pipeline = slots.entry(slot(&name)).or_default();
                    pipeline.cmd("SPUBLISH").arg(name).arg(text).ignore();
                }
                let say = |pipeline: redis::Pipeline| {
                    let mut connection = connection.clone();
                    async move { pipeline.exec_async(&mut connection).await }
                };
                together(slots.into_values().map(say)).await
            }
        }
    }

    /// Asks itself something on every way, and a single server whether it is still the primary.
    pub(super) async fn probe(&self) -> anyhow::Result<()> {
        let number = self.ears.ask();
        let asked =
            self.echoes.iter().enumerate().map(|(way, name)| (name.clone(), format!("{way} {number}")));
        match self.speaks.clone() {
            Connection::One(mut connection) => {
                for (name, text) in asked {
                    redis::cmd("PUBLISH").arg(name).arg(text).exec_async(&mut connection).await?;
                }
                self.check_role().await
            }
            Connection::Cluster(connection) => {
                let ask = |(name, text): (String, String)| {
                    let mut connection = connection.clone();
                    async move { redis::cmd("SPUBLISH").arg(name).arg(text).exec_async(&mut connection).await }
                };
                together(asked.map(ask)).await
            }
        }
    }

    /// What is said at a replica is heard only there, and nobody would notice: after a failover it is left.
    async fn check_role(&self) -> anyhow::Result<()> {
        let Connection::One(mut connection) = self.speaks.clone() else { return Ok(()) };
        if !self.asks_role.load(Ordering::Relaxed) {
            return Ok(());
        }
        match redis::cmd("ROLE").query_async::<Value>(&mut connection).await {
            Ok(Value::Array(role)) => {
                let primary = role.first() == Some(&Value::BulkString(b"master".to_vec())) || role.is_empty();
                anyhow::ensure!(
                    primary,
                    "this Redis is a replica, and what is said there is heard only there"
                );
            }
            Ok(_) => {}
            // Its user may do little: then a failover is found by what does not come back.
            Err(error) if error.code() == Some("NOPERM") => self.asks_role.store(false, Ordering::Relaxed),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Hears channels from now on.
    pub(super) async fn subscribe(&mut self, channels: &[ChannelName]) -> anyhow::Result<()> {
        let names = self.names(channels);
        self.subscribe_names(&names).await
    }

    async fn subscribe_names(&mut self, names: &[String]) -> anyhow::Result<()> {
        match &mut self.hears {
            Connection::One(connection) => {
                for names in names.chunks(TOPICS_MAX) {
                    connection.subscribe(names).await?;
                }
                Ok(())
            }
            Connection::Cluster(connection) => {
                // Each is in a slot of its own.
                let hear = |name: &String| {
                    let (mut connection, name) = (connection.clone(), name.clone());
                    async move { connection.ssubscribe(name).await }
                };
                together(names.iter().map(hear)).await
            }
        }
    }

    /// Hears channels no more.
    pub(super) async fn unsubscribe(&mut self, channels: &[ChannelName]) -> anyhow::Result<()> {
        let names = self.names(channels);
        match &mut self.hears {
            Connection::One(connection) => {
                for names in names.chunks(TOPICS_MAX) {
                    connection.unsubscribe(names).await?;
                }
                Ok(())
            }
            Connection::Cluster(connection) => {
                self.leaving.fetch_add(names.len() as u64, Ordering::Relaxed);
                let leave = |name: &String| {
                    let (mut connection, name) = (connection.clone(), name.clone());
                    async move { connection.sunsubscribe(name).await }
                };
                together(names.iter().map(leave)).await
            }
        }
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

/// What the names begin with of the channels on which a node asks itself.
fn echo_prefix(prefix: &str, node: &str) -> String {
    format!("{prefix}echo:{node}:")
}

/// Does things beside each other, so many at a time; the first error ends them all.
async fn together<F>(all: impl Iterator<Item = F>) -> anyhow::Result<()>
where
    F: Future<Output = redis::RedisResult<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for one in all {
        if running.len() >= COMMANDS_MAX
            && let Some(done) = running.join_next().await
        {
            done??;
        }
        running.spawn(one);
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

/// The slots of each shard, by its primary, as `CLUSTER SLOTS` says them.
fn shards(said: &Value) -> Vec<Vec<(u16, u16)>> {
    let Value::Array(ranges) = said else { return Vec::new() };
    let mut shards: BTreeMap<String, Vec<(u16, u16)>> = BTreeMap::new();
    for range in ranges {
        let Value::Array(range) = range else { continue };
        let [Value::Int(first), Value::Int(last), primary, ..] = range.as_slice() else { continue };
        let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(*last)) else { continue };
        shards.entry(format!("{primary:?}")).or_default().push((first, last));
    }
    shards.into_values().collect()
}

/// A name in each shard; fewer if the prefix pins all names to one slot. At least one.
fn names_in_each_shard(prefix: &str, shards: &[Vec<(u16, u16)>]) -> Vec<String> {
    let mut names: BTreeMap<usize, String> = BTreeMap::new();
    for name in (0..ECHO_NAMES_MAX).map(|n| format!("{prefix}{n}")) {
        let slot = slot(&name);
        let holds =
            |ranges: &Vec<(u16, u16)>| ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        if let Some(shard) = shards.iter().position(holds) {
            names.entry(shard).or_insert(name);
        }
        if names.len() == shards.len() {
            break;
        }
    }
    if names.is_empty() { vec![format!("{prefix}0")] } else { names.into_values().collect() }
}

/// The slot of a name: what is between the first braces of it, if there is anything, else all of it.
fn slot(name: &str) -> u16 {
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(name);
    // CRC-16/XMODEM, as the specification of Redis Cluster has it.
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_slot_that_redis_gives_it() {
        // The check value of the CRC, and slots as `CLUSTER KEYSLOT` of Redis 7 says them.
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(
            (slot("foo"), slot("bar"), slot("{foo}1"), slot("x{foo}")),
            (12_182, 5_061, 12_182, 12_182)
        );
        assert_eq!(slot("{}foo"), slot("{}foo"));
        assert_ne!(slot("{}foo"), slot("foo"), "an empty tag is none");
    }

    #[test]
    fn every_shard_has_a_channel_of_the_node_s_own() {
        let range = |first, last, port| {
            let primary = Value::Array(vec![Value::BulkString(b"127.0.0.1".to_vec()), Value::Int(port)]);
            Value::Array(vec![Value::Int(first), Value::Int(last), primary])
        };
        let said = Value::Array(vec![
            range(0, 5_000, 7_001),
            range(5_001, 10_000, 7_002),
            range(10_001, 16_000, 7_003),
            range(16_001, 16_383, 7_001),
        ]);
        let shards = shards(&said);
        assert_eq!(shards.len(), 3);
        let names = names_in_each_shard("pulsewire:echo:a1:", &shards);
        for (name, shard) in names.iter().zip(&shards) {
            assert!(shard.iter().any(|(first, last)| (*first..=*last).contains(&slot(name))), "{name}");
        }
        assert_eq!(names.len(), 3);
        assert_eq!(names_in_each_shard("{one}:", &shards).len(), 1, "all names have one slot");
        assert_eq!(names_in_each_shard("a:", &[]), ["a:0"]);
    }

    #[test]
    fn addresses_of_every_form_are_read_and_wrong_ones_are_refused_without_their_password() {
        let shown = |url: &str| match Address::parse(url, "p:", "n") {
            Err(error) => error.to_string(),
            Ok(Address { place: Place::One(client), .. }) => {
                format!("one {}", client.get_connection_info().addr())
            }
            Ok(Address { place: Place::Cluster(nodes), .. }) => {
                let nodes: Vec<String> = nodes.iter().map(|node| node.addr().to_string()).collect();
                format!("cluster {}", nodes.join(" "))
            }
            Ok(Address { place: Place::Sentinel { nodes, service, redis, tls }, .. }) => {
                let nodes: Vec<String> = nodes
                    .iter()
                    .map(|node| {
                        format!("{}@{}", node.redis_settings().password().unwrap_or("-"), node.addr())
                    })
                    .collect();
                format!("sentinel {} {service} {} {tls}", nodes.join(" "), redis.password().unwrap_or("-"))
            }
        };
        assert_eq!(shown("redis://:geheim@a:1"), "one a:1");
        assert_eq!(shown("redis+cluster://u:geheim@a:1,b:2"), "cluster a:1 b:2");
        assert_eq!(shown("redis+sentinel://:p@a:1,b:2/main"), "sentinel -@a:1 -@b:2 main p false");
        assert_eq!(shown("rediss+sentinel://a:1/main?sentinel=:q"), "sentinel q@a:1 main - true");
        for wrong in
            ["redis+sentinel://:geheim@a:1", "http://:geheim@a", "redis+cluster://:geheim@", "redis:geheim"]
        {
            let said = shown(wrong);
            assert!(said.contains("cluster.url") && !said.contains("geheim"), "{wrong}: {said}");
        }
    }
}
