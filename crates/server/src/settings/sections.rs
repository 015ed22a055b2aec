//! Every setting, declared: name, kind, default, range, help and the documents' variables.
//!
//! This is the list to read and to extend. The order is that of `docs/settings.md`.

use super::{
    Settings,
    access::{AlgorithmName, ApiKeys, DefaultGrants},
    kind::threshold::{self, Limits as Three},
    kind::{
        Address, Choice, Count, File, Flag, Fraction, Networks, Number, Optional, SecretText, Size, Span,
        Tags, Text, Texts, Url, words,
    },
    table::{DocumentVariable, section},
};

const fn variable(name: &'static str) -> DocumentVariable {
    DocumentVariable { name, unit: "" }
}

words! {
    /// How log lines are written.
    LogFormat "log format" {
        /// Text on a terminal, JSON otherwise.
        Auto = "auto",
        /// Lines for people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

words! {
    /// Which messages the rate of a client is about.
    RateDirection "direction" {
        /// Those it sends.
        In = "in",
        /// Those it sends, and as many that it is sent.
        Both = "both",
    }
}

words! {
    /// Limits that belong together.
    Profile "profile" {
        /// Document 001's, with connections as shares of the most there may be.
        Default = "default",
        /// Document 001's to the letter: 500 connections are a warning, 1,000 critical.
        Seed001 = "seed-001",
    }
}

section! {
    /// Where the server listens, keeps its files and how it stops.
    Settings => Server "server." |settings| settings.server;

    /// The public address and port. Reachable from elsewhere only when it is not loopback.
    listen: Address = "127.0.0.1:8000", documents(&[variable("WS_HOST"), variable("WS_PORT")]);
    /// A second address that serves metrics, health and admin; off when not set.
    internal_listen: Optional<Address> = "";
    /// The folder of the server's files. It is created when missing.
    data_dir: File = "./data";
    /// Threads for HTTP and hooks; 0 means one for each core.
    workers: Count = "0", range("0", "1024");
    /// Threads that own the sockets; 0 means one for each core.
    shards: Count = "0", range("0", "255");
    /// How long a stop may take before remaining connections are cut.
    shutdown_deadline: Span = "30s", range("0s", "1h");
    /// Host names accepted on admin and internal requests, beside loopback names and the listening addresses.
    allowed_hosts: Texts = "", reloadable();
    /// Proxies in front of the server: what they say in `X-Forwarded-For` is the client's address, for limits, blocks, logs and the admin API. Nobody else is believed. Without them a proxy's clients all have its address.
    trusted_proxies: Networks = "", reloadable();
}

section! {
    /// TLS at the public address: `https://` and `wss://` instead of `http://` and `ws://`.
    Settings => Tls "tls." |settings| settings.tls;

    /// The PEM file of the certificate, followed by its intermediates. When the files change on disk, new connections get the new certificate and those that are open stay.
    certificate_file: Optional<File> = "", reloadable();
    /// The PEM file of the certificate's private key. Both files or neither; without them the public address speaks no TLS.
    key_file: Optional<File> = "", reloadable();
}

section! {
    /// Where the events of log channels are kept.
    Settings => Store "store." |settings| settings.store;

    /// `sqlite`: a file in `server.data_dir`; `sqlite:FILE`; `postgres://USER:PASSWORD@HOST/DATABASE`, which several nodes may share (see [operate/postgres.md](operate/postgres.md)); or `memory`: gone when the server stops.
    url: Optional<SecretText> = "", documents(&[variable("DATABASE_URL")]), secret();
    /// Events that may wait to be kept; publishers beyond are answered `overloaded`.
    queue_max: Count = "16384", range("1", "1000000");
    /// How long a lock that somebody else holds on the file is waited for before publishers are answered `store_unavailable`.
    busy_timeout: Span = "5s", range("10ms", "1m");
    /// How large the SQLite file may become, and beside it that of metric history; publishers beyond are answered `store_unavailable` until something was trimmed. 0 means as large as the disk lets it.
    bytes_max: Size = "0";
    /// Threads that read history; with PostgreSQL, each has a connection.
    readers: Count = "2", range("1", "64");
    /// PostgreSQL only: a server that takes over always has everything that was acknowledged. Without it, a server that takes over gets a new epoch, and subscribers are told `reset`.
    synchronous_replication: Flag = "false";
    /// Whether `/readyz` answers 503 while the store fails, so that a load balancer sends clients elsewhere; without it 200 with the status `degraded`, because clients that only listen are served.
    required_for_ready: Flag = "false", reloadable();
}

section! {
    /// What is logged and how.
    Settings => Log "log." |settings| settings.log;

    /// `text`, `json`, or `auto`: text on a terminal, else JSON.
    format: Choice<LogFormat> = "auto";
    /// The least severe level shown, or a filter such as `info,pulsewire_edge=debug`.
    level: Text = "info", reloadable();
}

section! {
    /// Who may connect and what they may do.
    Settings => Auth "auth." |settings| settings.auth;

    /// The key that signs tokens under HS256, HS384 and HS512: at least 32 bytes.
    secret: Optional<SecretText> = "", documents(&[variable("JWT_SECRET_KEY")]), secret(), reloadable();
    /// The one algorithm of `auth.secret` or `auth.public_key_file`: HS256, HS384, HS512, RS256, ES256 or EdDSA.
    algorithm: Choice<AlgorithmName> = "HS256", documents(&[variable("JWT_ALGORITHM")]), reloadable();
    /// The PEM file of the public key that verifies tokens under RS256, ES256 and EdDSA.
    public_key_file: Optional<File> = "", reloadable();
    /// The PEM file of the private key; needed by `token create` only.
    private_key_file: Optional<File> = "", reloadable();
    /// A file with a JWK set: further keys, each with a `kid` that tokens name it by. RSA keys verify RS256, P-256 keys ES256, Ed25519 keys EdDSA; a shared secret (`oct`) needs its `alg`. With a set, a token without `kid` is verified with `auth.secret` or `auth.public_key_file`, and a `kid` that no key has is refused.
    jwks_file: Optional<File> = "", reloadable();
    /// The address of a JWK set, as identity providers publish it. Shared secrets in it are left out. Who can change the answer can sign tokens, so use https.
    jwks_url: Optional<Url> = "", reloadable();
    /// The age at which the set of `auth.jwks_url` is fetched again. A token with an unknown `kid` has it fetched sooner, at most once in 10 s; when a fetch fails the known keys stay, and the next one follows within a minute.
    jwks_refresh: Span = "10m", range("10s", "1d"), reloadable();
    /// How long a fetch may take. Only tokens whose key is not known wait for it.
    jwks_timeout: Span = "5s", range("10ms", "1m"), reloadable();
    /// The largest answer; a larger one is a failed fetch.
    jwks_bytes_max: Size = "256KiB", range("1KiB", "16MiB"), reloadable();
    /// Whether `auth.jwks_url` may stand on loopback or in a private network.
    jwks_allow_private: Flag = "true", reloadable();
    /// The `iss` that every token must carry; not checked when not set.
    issuer: Optional<Text> = "", reloadable();
    /// The `aud` that every token must name; when not set, a token with an `aud` is refused.
    audience: Optional<Text> = "", reloadable();
    /// How far the clocks of issuer and server may differ.
    leeway: Span = "5s", range("0s", "1m"), reloadable();
    /// Whether a connection needs a token. Without one, only namespaces with `anonymous = true` are open.
    required: Flag = "true", reloadable();
    /// How long a connection may stay silent before it presents its token.
    timeout: Span = "5s", range("100ms", "5m"), reloadable();
    /// Whether `?token=` in the URL is accepted. It is redacted from every log.
    token_in_query: Flag = "true", reloadable();
    /// The cookie that may carry the token; empty turns cookies off.
    cookie: Text = "", reloadable();
    /// What a token without `caps` may do. Roles publisher and admin may also publish where they may subscribe.
    default_grants: DefaultGrants = "*=subscribe|history|presence", reloadable();
    /// Keys of applications that publish: their id, the SHA-256 of the whole key and the channels they may publish to.
    api_keys: ApiKeys = "", reloadable();
    /// A file with further `[[api_keys]]` tables.
    api_keys_file: Optional<File> = "", reloadable();
    /// Failed attempts a minute that one address may make before it is answered 429; 0 means no limit.
    attempts_per_minute: Count = "60", reloadable();
}

section! {
    /// Which web pages may connect.
    Settings => Origins "origins." |settings| settings.origins;

    /// Origins accepted exactly (scheme, host and port); `*` accepts any. The server's own origin always is.
    allowed: Texts = "", reloadable();
    /// Whether a request without `Origin` is accepted, as programs send it.
    allow_missing: Flag = "true", reloadable();
}

section! {
    /// How dead connections are found.
    Settings => Heartbeat "heartbeat." |settings| settings.heartbeat;

    /// The time between pings to a connection.
    interval: Span = "30s", range("1s", "1h"), documents(&[DocumentVariable { name: "WS_HEARTBEAT_INTERVAL", unit: "s" }]), reloadable();
    /// How long the answer may take before the connection is closed with 4003.
    timeout: Span = "10s", range("100ms", "10m"), reloadable();
}

section! {
    /// What outlives a connection.
    Settings => Session "session." |settings| settings.session;

    /// How long a session waits for its client to come back. Those that wait already keep their time on a reload.
    resume_window: Span = "2m", range("0s", "1h"), reloadable();
    /// Sessions that wait at the same time; the oldest is dropped for a new one.
    detached_max: Count = "10000", reloadable();
    /// How long a client may come back with a ticket instead of its token, after it was given one in `connected`; never beyond the token's end. A ticket spares its client the way to the application for a token, and the server the check of its signature. Nodes with the same `cluster.key`, or `auth.secret`, take each other's. 0 makes none and refuses all.
    ticket_ttl: Span = "1h", range("0s", "1d"), reloadable();
    /// The longest that a client should wait between two attempts to come back, from its next connection on. Longer spreads more clients thinner after an outage.
    retry_max: Span = "10s", range("1s", "10m"), reloadable();
}

section! {
    /// What one client, one address and the whole node may use.
    Settings => Limits "limits." |settings| settings.limits;

    /// Connections at the same time; more are answered 503 with a time to retry. Lowered at the start when the limit of open files is too small for it.
    connections_max: Count = "10000", range("1", "16777216"), reloadable();
    /// Connections from which a warning is given; lowered to 80 % of `limits.connections_max` when not set.
    connections_soft: Count = "8000", range("1", "16777216"), reloadable();
    /// Connections from one address; 0 means no limit. Behind a proxy that is not among `server.trusted_proxies` all clients are one address. 0 with `--dev`.
    connections_per_address: Count = "1000", reloadable();
    /// New WebSocket connections a minute from one address (an IPv6 address counts with its /64); one more is answered 429 with a time to retry. 0 means no limit. The remedy for clients that come back too fast; behind a proxy that is not among `server.trusted_proxies` all clients are one address.
    handshakes_per_minute: Count = "0", reloadable();
    /// New WebSocket connections and event streams a second, from all addresses together, a tenth of them at once: who has its turn within a second waits for it, and everybody else is answered 503 before anything is spent on it, each with another time to retry, so that those who come back after an outage come at this pace and live traffic keeps its own. Connections of any kind are accepted at four times the pace; the kernel keeps the others meanwhile. 0 means no limit. 0 with `--dev`.
    handshakes_per_second: Count = "300", range("0", "1000000"), reloadable();
    /// Connections of one user (`sub`); 0 means no limit. 0 with `--dev`.
    connections_per_user: Count = "100", reloadable();
    /// Channels one session may be subscribed to.
    subscriptions_per_session: Count = "1000", range("1", "65535"), reloadable();
    /// The largest message from a client; a larger one closes the connection with 1009.
    message_bytes_max: Size = "64KiB", range("1KiB", "16MiB");
    /// Fragments of one message; more close the connection with 1009.
    fragments_max: Count = "1024", range("1", "65536");
    /// Pings and pongs a second from one client; more close the connection with 4005.
    control_frames_per_second: Count = "20", range("1", "10000");
    /// Messages a minute from one client; more are dropped and answered `rate_limited`.
    messages_per_minute: Count = "1000", range("1", "10000000"), documents(&[variable("RATE_LIMIT_MAX_MESSAGES_PER_MINUTE")]), reloadable();
    /// `in`: `limits.messages_per_minute` is about messages from a client. `both`: it is sent as many events and values over its WebSocket, too; beyond them `ephemeral` channels drop events and tell how many, and `metrics` ones wait for the newest values. Events of log channels are sent all the same, and use the rate up; answers and heartbeats do not count.
    rate_direction: Choice<RateDirection> = "in", reloadable();
    /// Refused messages a minute from one client; more close the connection with 4509.
    errors_per_minute: Count = "20", range("1", "100000"), reloadable();
    /// Bytes that may wait for one reader. At the limit `log` channels lag and catch up, `ephemeral` ones drop the oldest, `metrics` keep the newest; each is told and counted.
    outbox_bytes_max: Size = "64KiB", range("4KiB", "64MiB"), reloadable();
    /// All memory of one connection: the message being read or waiting for its token, and the outbox with answers. When set, the message and the outbox get a quarter each unless set themselves; when not, it is what they need.
    connection_memory: Size = "192KiB", range("16KiB", "256MiB"), reloadable();
    /// How long a reader may take nothing while bytes wait before it is closed with 4004. On a reload, new connections take a longer time over.
    slow_after: Span = "30s", range("100ms", "1h"), reloadable();
    /// A WebSocket connection that is older is closed with 1012 to come back at once and resume, so that clients move to nodes that were added; 0 lets it grow as old as it likes. Each goes at another moment of the last quarter, to within `heartbeat.interval`.
    connection_age_max: Span = "0s", range("0s", "30d"), reloadable();
    /// Unsent bytes the kernel may hold for one connection (TCP_NOTSENT_LOWAT), set when it is made.
    kernel_unsent_bytes: Size = "64KiB", range("4KiB", "16MiB"), reloadable();
    /// How long a request's head and a handshake may take.
    handshake_timeout: Span = "10s", range("100ms", "5m"), reloadable();
    /// The largest head of a request; a larger one is answered 431.
    header_bytes_max: Size = "16KiB", range("1KiB", "1MiB"), reloadable();
    /// Header lines in one request; more are answered 431.
    headers_max: Count = "64", range("8", "1000"), reloadable();
    /// The largest body of a request; a larger one is answered 413.
    http_body_bytes_max: Size = "1MiB", range("1KiB", "256MiB");
    /// Events in one publish request; more are answered `limit_exceeded`.
    publish_batch_max: Count = "500", range("1", "10000"), reloadable();
    /// Channels the node keeps; an unknown channel beyond is refused.
    channels_max: Count = "100000", range("1", "100000000");
    /// Publications and commands that may wait for one shard; publishers beyond are answered `overloaded`.
    inbox_max: Count = "65536", range("16", "16777216");
}

section! {
    /// Reading over HTTP: history, polls and event streams.
    Settings => Reading "reading." |settings| settings.reading;

    /// How long a poll may wait for something to come; a longer `wait` is shortened.
    wait_max: Span = "30s", range("0s", "10m"), reloadable();
    /// The pause between polls, and before an event stream is opened again, that clients are told. Above `limits.connections_soft` they are told five times as long.
    poll_interval: Span = "2s", range("10ms", "10m"), reloadable();
    /// The time between comments in an event stream that has nothing to say.
    heartbeat: Span = "15s", range("100ms", "10m"), reloadable();
    /// Event streams and waiting polls at the same time; more are answered `overloaded`. They count as connections, too, and leave half of the HTTP connections free.
    readers_max: Count = "4096", range("1", "8000"), reloadable();
    /// The largest page of history, in bytes of memory; a page ends behind the event that crosses it.
    page_bytes_max: Size = "1MiB", range("64KiB", "64MiB"), reloadable();
    /// Pages of history read at the same time; more wait their turn.
    reads_max: Count = "64", range("1", "10000");
    /// Bytes of the newest events of an ephemeral or metric channel that its event streams share; a reader further behind is told how much it missed.
    tail_bytes_max: Size = "256KiB", range("64KiB", "64MiB");
    /// Sessions that are remembered to have fallen back to HTTP, so that each is counted once; the oldest is forgotten.
    fallbacks_max: Count = "10000", range("1", "10000000");
}

section! {
    /// The HTTP hook that answers the events clients send.
    Settings => Hook "hook." |settings| settings.hook;

    /// Where client events are posted; without it they are published to `hook.channel`.
    url: Optional<Url> = "", reloadable();
    /// The key of the HMAC-SHA256 signature sent with every call.
    secret: Optional<SecretText> = "", secret(), reloadable();
    /// How long the hook may take before the client is answered `hook_timeout`.
    timeout: Span = "5s", range("10ms", "1m"), reloadable();
    /// The event types clients may send.
    events: Texts = "task_assign,draft_approve,draft_reject,message_send,state_sync", reloadable();
    /// The channel that takes client events when there is no hook.
    channel: Text = "workspace", reloadable();
    /// Whether the hook may stand on loopback or in a private network.
    allow_private: Flag = "true", reloadable();
    /// Calls at the same time; further events are answered `overloaded`.
    in_flight_max: Count = "64", range("1", "10000"), reloadable();
}

section! {
    /// The host's own numbers, published on `system.metrics`.
    Settings => Collector "collector." |settings| settings.collector;

    /// Whether they are collected.
    enabled: Flag = "true";
    /// The time between two collections.
    interval: Span = "1s", range("100ms", "1h");
    /// Tags on every sample.
    tags: Tags = "";
}

section! {
    /// Metric channels: their series, roll-ups and history.
    Settings => Series "series." |settings| settings.series;

    /// Series of one channel, each a name with its tags; a sample of one more is answered `limit_exceeded`.
    per_channel_max: Count = "10000", range("1", "1000000");
    /// How much later than the end of its window a sample may come and still count. A series that usually comes later is waited for longer, while it says something.
    lateness: Span = "250ms", range("0s", "30s");
    /// How far in the future a sample may be dated; others are refused.
    future_max: Span = "1m", range("0s", "1h");
    /// A series that has said nothing for so long is forgotten, but for its history.
    idle_after: Span = "1h", range("1m", "30d");
    /// How long windows of a second are kept; 0 keeps none.
    history_1s: Span = "15m", range("0s", "7d");
    /// How long windows of ten seconds are kept; 0 keeps none.
    history_10s: Span = "6h", range("0s", "90d");
    /// How long windows of a minute are kept; 0 keeps none.
    history_1m: Span = "7d", range("0s", "3650d");
    /// How long windows of an hour are kept; 0 keeps none.
    history_1h: Span = "90d", range("0s", "3650d");
    /// How often windows that have closed are written to the store. Of what has not been, a process that is killed loses so much.
    keep_interval: Span = "10s", range("1s", "10m");
    /// Memory for windows of one channel that the store does not take; the rest is given up and counted.
    waiting_bytes_max: Size = "64MiB", range("64KiB", "16GiB");
    /// Reads of history at the same time; some more wait, and what is beyond is answered `overloaded`.
    reads_max: Count = "4", range("1", "256");
    /// Points of one answer over HTTP; a longer answer is cut and says where to go on.
    points_max: Count = "10000", range("1", "1000000"), reloadable();
}

section! {
    /// Samples that come by HTTP: JSON, OTLP and Prometheus remote write (see [operate/ingest.md](operate/ingest.md)).
    Settings => Ingest "ingest." |settings| settings.ingest;

    /// Samples of one request. More in JSON are answered `limit_exceeded`; of OTLP and remote write those beyond are refused. A histogram of OTLP is up to five samples.
    batch_max: Count = "10000", range("1", "1000000"), reloadable();
    /// The largest body once it is unpacked (gzip, snappy); a larger one is answered 413. As it comes it is bound by `limits.http_body_bytes_max`. A thread of `server.workers` unpacks one at a time.
    decompressed_bytes_max: Size = "16MiB", range("64KiB", "256MiB"), reloadable();
    /// The metric channel of OTLP requests without `?channel=`.
    otlp_channel: Text = "app.metrics", reloadable();
    /// The metric channel of remote write requests without `?channel=`.
    remote_write_channel: Text = "app.metrics", reloadable();
    /// Attributes of OTLP resources that become tags of all their samples; the others are left out. At most 16.
    resource_attributes: Texts = "service.name,service.instance.id,host.name,deployment.environment,deployment.environment.name", reloadable();
}

section! {
    /// Numbers derived from the events that pass, published on `workflow.metrics`, `agent.metrics` and `distributed.metrics`.
    Settings => Derive "derive." |settings| settings.derive;

    /// Whether they are derived. Turn it off where an application publishes these numbers itself.
    enabled: Flag = "true";
    /// The time between two publications of them.
    interval: Span = "5s", range("100ms", "1h");
    /// How far back averages, percentiles and the throughput look.
    window: Span = "5m", range("10s", "1d");
    /// Tasks that are known to wait or to run; of more, those that have been silent longest are forgotten.
    tasks_max: Count = "10000", range("1", "1000000");
    /// A task that says nothing for so long is forgotten.
    task_idle_max: Span = "1d", range("1s", "30d");
    /// Event types that say that a task waits.
    pending: Texts = "task:created,task:pending,task_assign";
    /// Event types that say that a task runs.
    running: Texts = "task:started,task:progress";
    /// Event types that say that an execution of a task ended well.
    completed: Texts = "task:completed";
    /// Event types that say that it ended badly.
    failed: Texts = "task:failed";
    /// Event types that say that an agent was called, and in their payload how that ended.
    calls: Texts = "agent:call";
    /// Event types that say that a call of an agent ended well.
    calls_completed: Texts = "agent:call:completed";
    /// Event types that say that it ended badly.
    calls_failed: Texts = "agent:call:failed";
    /// Event types that say that an agent met an error.
    errors: Texts = "agent:error";
}

words! {
    /// What carries messages between nodes.
    BrokerKind "broker" {
        /// With a PostgreSQL store: Redis if it is set, else PostgreSQL's notifications. With another store nothing.
        Auto = "auto",
        /// Nothing: nodes that share a store find out by asking it.
        None = "none",
        /// Redis.
        Redis = "redis",
        /// Notifications of the PostgreSQL store.
        Postgres = "postgres",
    }
}

section! {
    /// Several nodes that share a PostgreSQL store; see [scaling](operate/scaling.md).
    Settings => Cluster "cluster." |settings| settings.cluster;

    /// What carries messages between nodes: `auto` (with a PostgreSQL store Redis if it is set, else notifications of PostgreSQL; with any other store nothing), `redis`, `postgres`, or `none` (nodes that share a store find out by asking it every two seconds; presence, ephemeral events and samples stay on their node).
    broker: Choice<BrokerKind> = "auto";
    /// The Redis that carries them: `redis://` or `rediss://` (TLS), `redis+sentinel://HOST:26379,HOST:26379/SERVICE`, `redis+cluster://HOST:6379,HOST:6379`; the last two also with `rediss+`. Not set, it is `redis.url`.
    url: Optional<SecretText> = "", secret();
    /// With what nodes seal what they say to each other, at least 32 bytes, the same on all of them. Not set, it is derived from `auth.secret`.
    key: Optional<SecretText> = "", secret();
    /// What the names of its Redis channels begin with. Clusters that share a Redis need one each.
    prefix: Text = "pulsewire:";
    /// What people call this node; not set, the name of the host.
    node_name: Text = "";
    /// Bytes that may wait for the broker. Beyond that committed events go without their content, and all else is dropped.
    queue_bytes_max: Size = "16MiB", range("64KiB", "1GiB");
    /// A node that has said nothing for so long is missing.
    silent_after: Span = "5s", range("2s", "5m");
}

section! {
    /// Samples and events that others publish in Redis (see [operate/redis.md](operate/redis.md)).
    Settings => Redis "redis." |settings| settings.redis;

    /// The Redis server: `redis://`, `rediss://` (TLS) or `unix://`, with user and password if there are any. Samples and events are read from it, and nodes that share a PostgreSQL store speak to each other through it (`cluster.broker`).
    url: Optional<SecretText> = "", documents(&[variable("REDIS_URL")]), secret();
    /// Patterns of the Redis channels that are read, as `PSUBSCRIBE` takes them. Each is read as the metric channel of the same name. A message that two patterns match comes twice.
    patterns: Texts = "*.metrics";
    /// Patterns of the Redis channels whose messages are events, such as `pulsewire:events`: what is published there is one event or an array of them, as `POST /api/publish` takes it. None are read unless it is set: whoever may publish to them may publish to every channel. Redis keeps no messages; what must not be lost goes into a stream.
    events: Texts = "";
    /// Redis streams whose entries are events, each the key of a stream, or `KEY=CHANNEL` with the channel of entries that name none. At most 16. Whoever may add entries may publish to every channel.
    streams: Texts = "";
    /// The consumer group of the streams: nodes that share a store have the same, and each entry goes to one of them. Clusters that share only Redis each have their own.
    group: Text = "pulsewire";
    /// The name of this node in the group, which no other node has: a node that comes back under its name goes on where it was. The host's name and the port if it is not set.
    consumer: Optional<Text> = "";
    /// An entry that another node has not acknowledged, nor said that it still works on it, for so long is taken over.
    claim_after: Span = "30s", range("1s", "1d");
    /// Entries of streams that are read and not acknowledged yet, at a time. They are published in one request where they can be.
    in_flight_max: Count = "256", range("1", "10000");
    /// Refused entries that are kept of each stream, in the stream `KEY:refused`; the oldest go first.
    refused_max: Count = "10000", range("1", "10000000");
}

section! {
    /// Streams that the server holds open to others, all of them together; each upstream is an `[[upstream]]` table (see below).
    Settings => UpstreamLimits "upstreams." |settings| settings.upstream_limits;

    /// Streams at the same time; one more is not opened, and its subscribers are told `refused`. Those that are open when it is lowered stay.
    streams_max: Count = "1000", range("1", "100000"), reloadable();
    /// Attempts to connect again in a second, of all streams together; more wait. First attempts do not count. 0 means no limit.
    retries_per_second: Count = "50", range("0", "100000"), reloadable();
    /// Whether every upstream may be on loopback, in a private network or link-local, also one that is declared by the admin API. Without it only those are allowed whose table says so (`allow_private`).
    allow_private: Flag = "false", reloadable();
    /// The largest `message_bytes_max` that an upstream may have.
    message_bytes_max: Size = "1MiB", range("1KiB", "64MiB"), reloadable();
}

section! {
    /// Parts of the server that can be turned on.
    Settings => Features "features." |settings| settings.features;

    /// Whether the share `canary.share` of upstream streams runs on the candidate settings: those of the `[[upstream]]` tables with `track = "canary"`. Off, every stream runs on the stable ones.
    upstream_manager: Flag = "false", documents(&[variable("USE_NEW_WS_MANAGER")]), reloadable();
}

section! {
    /// By what the candidate settings of upstreams are judged. It takes `features.upstream_manager` to have any effect.
    Settings => Canary "canary." |settings| settings.canary;

    /// The share of streams that the candidate gets, by a stable hash of their names: 0.1 is one in ten.
    share: Fraction = "0.1", range("0", "1"), reloadable();
    /// The candidate is worse when its rate of errors or retries is more than so many times the stable one.
    ratio: Number = "1.5", range("1", "100"), reloadable();
    /// How far back the rates look, and how long the candidate must be worse until it has failed.
    window: Span = "3m", range("10s", "1h"), reloadable();
    /// So many of the candidate's streams must show it: fewer say nothing of the candidate.
    streams_min: Count = "3", range("1", "100000"), reloadable();
    /// Whether the server takes a candidate that has failed back by itself. Without it, it only says so.
    rollback: Flag = "false", reloadable();
}

section! {
    /// What operators watch: the `$sys` channels (see [operate/admin-api.md](operate/admin-api.md)).
    Settings => Watch "watch." |settings| settings.watch;

    /// Different queries and taps that are answered at a time, however many listen to each; whoever asks one more is told `limit_exceeded`.
    queries_max: Count = "64", range("1", "1000"), reloadable();
    /// What happened to connections, as their timelines show it: so many entries of 32 bytes over the node, the oldest making room for new ones; 0 keeps none.
    timeline_events: Count = "65536", range("0", "16777216");
}

section! {
    /// The dashboard (see [operate/dashboard.md](operate/dashboard.md)).
    Settings => Dashboard "dashboard." |settings| settings.dashboard;

    /// Whether `/` serves the dashboard. What it shows needs a token with the role viewer, operator or admin in any case.
    enabled: Flag = "true", reloadable();
    /// A folder whose files are served instead of those in the binary, read anew for each request: to work on the dashboard.
    folder: Optional<File> = "", reloadable();
}

section! {
    /// What `/metrics` shows.
    Settings => Metrics "metrics." |settings| settings.metrics;

    /// Whether the families of the requirement documents are exported beside `pulsewire_*`.
    compat: Flag = "true";
    /// What the names of the second set of families of document 003 begin with, as in `orchestrator_websocket_connections_active`.
    alias_prefix: Text = "orchestrator_websocket";
    /// Event types with their own label value; later ones are counted as `other`.
    event_types_max: Count = "200", range("1", "10000");
    /// The bearer token scrapers must send; none is asked for when not set.
    token: Optional<SecretText> = "", secret(), reloadable();
    /// Projects with their own label value; the others are counted as `__other__`.
    projects_max: Count = "50", range("1", "1000");
}

section! {
    /// From where on the server says that something is wrong: each a text of target, warning and critical, or `off` (see [operate/thresholds.md](operate/thresholds.md)). What is not set is the profile's.
    Settings => Thresholds "thresholds." |settings| settings.thresholds;

    /// `default`: document 001's limits, with connections as shares of `limits.connections_max`. `seed-001`: document 001's to the letter, with 500 and 1,000 connections.
    profile: Choice<Profile> = "default", reloadable();
    /// How long a value must be beyond a limit before an alert fires, and within it before the alert ends. A store that fails and a shard that does not answer are told at once.
    hold: Span = "1m", range("0s", "1h"), reloadable();
    /// Live connections: numbers, or percentages of the most there may be. By default `50% 80% 95%`.
    connections: Optional<Three<threshold::NumberOrShare>> = "", reloadable();
    /// The 95th percentile of delivery latency over a minute. By default `50ms 100ms 500ms`.
    latency: Optional<Three<threshold::Latency>> = "", reloadable();
    /// The median duration of the connections that ended within 5 minutes. By default `5m 1m 30s`.
    duration: Optional<Three<threshold::Duration>> = "", reloadable();
    /// Memory attributed to a connection, on average. By default `2KB 5KB 10KB`.
    memory: Optional<Three<threshold::Memory>> = "", reloadable();
    /// Pings without an answer in time, of those sent within 5 minutes. By default `0% 1% 5%`.
    heartbeats: Optional<Three<threshold::Share>> = "", reloadable();
    /// Failed authentications, of all within 5 minutes. By default `1% 5% 10%`.
    auth: Optional<Three<threshold::Share>> = "", reloadable();
    /// Sessions that fell back to HTTP, of those that began within 5 minutes. By default `0% 1% 5%`.
    fallback: Optional<Three<threshold::Share>> = "", reloadable();
    /// Reconnections, of the connections that were opened within 5 minutes; judged only while the median connection ends within a minute. By default `10% 50% 80%`.
    reconnects: Optional<Three<threshold::Share>> = "", reloadable();
    /// Messages that did not reach a live subscriber, of all within 5 minutes. By default `0% 0.1% 1%`.
    failures: Optional<Three<threshold::Share>> = "", reloadable();
    /// Messages discarded instead of delivered or handled, of all within 5 minutes. By default `0.1% 1% 5%`.
    drops: Optional<Three<threshold::Share>> = "", reloadable();
    /// Readers closed within 5 minutes because they took nothing. By default `0 5 50`.
    slow: Optional<Three<threshold::Number>> = "", reloadable();
    /// The 95th percentile of the messages that wait in clients, as they reported within a minute. By default `10 50 200`.
    queue: Optional<Three<threshold::Number>> = "", reloadable();
    /// Open file descriptors, of those allowed. By default `60% 80% 95%`.
    files: Optional<Three<threshold::Share>> = "", reloadable();
    /// The 95th percentile of how late shards and runtime answer, over a minute. By default `20ms 100ms 500ms`.
    lag: Optional<Three<threshold::Latency>> = "", reloadable();
}
