// Generated from crates/server/src/figures/table.rs by `cargo xtask generate`; do not edit.

/** What a figure counts in. */
export type Unit =
  | "bytes"
  | "bytes_per_second"
  | "connections"
  | "count"
  | "ms"
  | "per_second"
  | "percent"
  | "s";

/** A number that the server follows. */
export interface Figure {
  readonly id: string;
  readonly title: string;
  readonly unit: Unit;
  readonly help: string;
}

/** Every figure of `GET /api/admin/history`, in its order. */
export const FIGURES = [
  {
    id: "connections.active",
    title: "Active connections",
    unit: "connections",
    help:
      "Live client connections over every transport.",
  },
  {
    id: "connections.opened",
    title: "Connections opened",
    unit: "per_second",
    help:
      "Connections established.",
  },
  {
    id: "connections.closed",
    title: "Connections closed",
    unit: "per_second",
    help:
      "Connections that ended.",
  },
  {
    id: "connections.failed",
    title: "Connections failed",
    unit: "per_second",
    help:
      "Attempts that failed or were refused.",
  },
  {
    id: "connections.detached",
    title: "Detached sessions",
    unit: "count",
    help:
      "Sessions without a connection that may come back.",
  },
  {
    id: "sessions.fallback_share",
    title: "HTTP fallback",
    unit: "percent",
    help:
      "New sessions that fell back to HTTP, of all that began.",
  },
  {
    id: "reconnections.rate",
    title: "Reconnections",
    unit: "per_second",
    help:
      "Clients that came back to a session.",
  },
  {
    id: "subscriptions",
    title: "Subscriptions",
    unit: "count",
    help:
      "Present subscriptions.",
  },
  {
    id: "channels.count",
    title: "Channels",
    unit: "count",
    help:
      "Channels with an audience or a log.",
  },
  {
    id: "presence.members",
    title: "Presence members",
    unit: "count",
    help:
      "Users present in channels; a user in two counts twice.",
  },
  {
    id: "metrics.series",
    title: "Metric series",
    unit: "count",
    help:
      "Series of metric channels at hand.",
  },
  {
    id: "messages.in",
    title: "Messages in",
    unit: "per_second",
    help:
      "Messages received from clients.",
  },
  {
    id: "messages.out",
    title: "Messages out",
    unit: "per_second",
    help:
      "Messages handed to the kernel, once for each recipient.",
  },
  {
    id: "events.emitted",
    title: "Events emitted",
    unit: "per_second",
    help:
      "Publications accepted, once each however many receive them.",
  },
  {
    id: "events.delivered",
    title: "Events delivered",
    unit: "per_second",
    help:
      "Events handed to the kernel, once for each recipient.",
  },
  {
    id: "publish.accepted",
    title: "Publishes accepted",
    unit: "per_second",
    help:
      "Publish requests that were accepted.",
  },
  {
    id: "publish.rejected",
    title: "Publishes rejected",
    unit: "per_second",
    help:
      "Publish requests that were refused.",
  },
  {
    id: "bytes.in",
    title: "Bytes in",
    unit: "bytes_per_second",
    help:
      "Bytes read from client sockets.",
  },
  {
    id: "bytes.out",
    title: "Bytes out",
    unit: "bytes_per_second",
    help:
      "Bytes written to client sockets.",
  },
  {
    id: "latency.p50",
    title: "Delivery latency, median",
    unit: "ms",
    help:
      "From the acceptance of a publication to the kernel, for each recipient.",
  },
  {
    id: "latency.p95",
    title: "Delivery latency, 95 %",
    unit: "ms",
    help:
      "From the acceptance of a publication to the kernel, for each recipient.",
  },
  {
    id: "latency.p99",
    title: "Delivery latency, 99 %",
    unit: "ms",
    help:
      "From the acceptance of a publication to the kernel, for each recipient.",
  },
  {
    id: "receipt.p50",
    title: "Receipt latency, median",
    unit: "ms",
    help:
      "From the acceptance of a publication to its receipt by a client; sampled.",
  },
  {
    id: "receipt.p95",
    title: "Receipt latency, 95 %",
    unit: "ms",
    help:
      "From the acceptance of a publication to its receipt by a client; sampled.",
  },
  {
    id: "receipt.p99",
    title: "Receipt latency, 99 %",
    unit: "ms",
    help:
      "From the acceptance of a publication to its receipt by a client; sampled.",
  },
  {
    id: "roundtrip.p95",
    title: "Client to client, 95 %",
    unit: "ms",
    help:
      "From a client's publishing to a subscriber's receipt.",
  },
  {
    id: "stage.fanout.p95",
    title: "Until fan-out, 95 %",
    unit: "ms",
    help:
      "From the acceptance of a publication to the beginning of its fan-out.",
  },
  {
    id: "stage.queue.p95",
    title: "Until the outbox, 95 %",
    unit: "ms",
    help:
      "From the acceptance of a publication to the outboxes.",
  },
  {
    id: "stage.kernel.p95",
    title: "Until the kernel, 95 %",
    unit: "ms",
    help:
      "From the acceptance of a publication to the kernel: the same as latency.p95, as the last of the stages.",
  },
  {
    id: "heartbeat.p50",
    title: "Heartbeat round trip, median",
    unit: "ms",
    help:
      "From a ping to its pong.",
  },
  {
    id: "heartbeat.p95",
    title: "Heartbeat round trip, 95 %",
    unit: "ms",
    help:
      "From a ping to its pong.",
  },
  {
    id: "heartbeat.failures",
    title: "Heartbeat failures",
    unit: "percent",
    help:
      "Pings that were not answered in time, of those sent.",
  },
  {
    id: "auth.failures",
    title: "Failed authentications",
    unit: "percent",
    help:
      "Authentications that failed, of all.",
  },
  {
    id: "duration.p50",
    title: "Connection duration, median",
    unit: "s",
    help:
      "How long the connections that ended had lasted.",
  },
  {
    id: "duration.p95",
    title: "Connection duration, 95 %",
    unit: "s",
    help:
      "How long the connections that ended had lasted.",
  },
  {
    id: "memory.per_connection",
    title: "Memory per connection",
    unit: "bytes",
    help:
      "Memory attributed to connections, divided by them; kernel memory is not in it.",
  },
  {
    id: "memory.rss",
    title: "Resident memory",
    unit: "bytes",
    help:
      "Resident memory of the process.",
  },
  {
    id: "memory.heap",
    title: "Heap",
    unit: "bytes",
    help:
      "Bytes the allocator has given out.",
  },
  {
    id: "outbox.bytes",
    title: "Bytes in outboxes",
    unit: "bytes",
    help:
      "Bytes that wait for clients in this process.",
  },
  {
    id: "kernel.unsent",
    title: "Bytes in the kernel",
    unit: "bytes",
    help:
      "Bytes the kernel has accepted and not sent, at each connection's last sample.",
  },
  {
    id: "dropped.rate",
    title: "Messages dropped",
    unit: "per_second",
    help:
      "Messages discarded instead of delivered or handled.",
  },
  {
    id: "conflated.rate",
    title: "Messages conflated",
    unit: "per_second",
    help:
      "Messages replaced by newer ones before they were sent.",
  },
  {
    id: "gaps.rate",
    title: "Gaps told",
    unit: "per_second",
    help:
      "Times a reader was told that events are missing.",
  },
  {
    id: "slow.lag",
    title: "Readers lagging",
    unit: "per_second",
    help:
      "Times a reader fell back to reading the past, because its outbox was full.",
  },
  {
    id: "slow.close",
    title: "Slow readers closed",
    unit: "per_second",
    help:
      "Readers closed because they took nothing.",
  },
  {
    id: "failures.rate",
    title: "Message failures",
    unit: "per_second",
    help:
      "Messages that did not reach a live subscriber.",
  },
  {
    id: "rate_limited.rate",
    title: "Rate limited",
    unit: "per_second",
    help:
      "Refusals by a rate limit.",
  },
  {
    id: "errors.parse",
    title: "Parse errors",
    unit: "per_second",
    help:
      "Messages of clients that could not be read.",
  },
  {
    id: "errors.validation",
    title: "Validation errors",
    unit: "per_second",
    help:
      "Messages of clients that could be read and not used.",
  },
  {
    id: "errors.send",
    title: "Send errors",
    unit: "per_second",
    help:
      "Messages that could not be written.",
  },
  {
    id: "errors.connection",
    title: "Connection errors",
    unit: "per_second",
    help:
      "Errors of connection attempts and live connections.",
  },
  {
    id: "client.queued",
    title: "Messages queued in clients",
    unit: "count",
    help:
      "Messages that wait in live clients, as each said in its last report.",
  },
  {
    id: "cpu.process",
    title: "CPU",
    unit: "percent",
    help:
      "CPU time of the process, as a share of all cores.",
  },
  {
    id: "cpu.shards",
    title: "CPU of the shards",
    unit: "percent",
    help:
      "CPU time of the connection threads, as a share of all cores.",
  },
  {
    id: "store.queue",
    title: "Store queue",
    unit: "count",
    help:
      "Events that wait to be kept.",
  },
  {
    id: "store.commit.p95",
    title: "Store commit, 95 %",
    unit: "ms",
    help:
      "From the acceptance of a publish request to its store's answer.",
  },
  {
    id: "history.reads",
    title: "History reads",
    unit: "per_second",
    help:
      "Pages of history and parts of keyed state that were read.",
  },
  {
    id: "tokio.tasks",
    title: "Tasks",
    unit: "count",
    help:
      "Tasks alive on the runtime of HTTP and handshakes.",
  },
  {
    id: "loop.lag.p95",
    title: "Shard lag, 95 %",
    unit: "ms",
    help:
      "How long the slowest shard takes to count what it has; asked once a second.",
  },
  {
    id: "runtime.lag.p95",
    title: "Runtime lag, 95 %",
    unit: "ms",
    help:
      "How late the runtime of HTTP and handshakes wakes; measured once a second.",
  },
  {
    id: "files.open",
    title: "Open files",
    unit: "count",
    help:
      "Open file descriptors.",
  },
  {
    id: "files.share",
    title: "Open files of the limit",
    unit: "percent",
    help:
      "Open file descriptors, of those allowed.",
  },
] as const satisfies readonly Figure[];

/** The id of a figure. */
export type FigureId = (typeof FIGURES)[number]["id"];
