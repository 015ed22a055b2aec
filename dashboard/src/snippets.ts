/** What stands for the token unless it was asked for. */
export const TOKEN = '$TOKEN';

export type Language = 'curl' | 'typescript' | 'rust';

/** What a snippet is about. */
export interface Example {
  /** `http(s)://host` of the server. */
  readonly origin: string;
  /** The token, or {@link TOKEN}. */
  readonly token: string;
  readonly channel: string;
}

/** An event to be published; `data` is JSON. */
export interface Publication extends Example {
  readonly type: string;
  readonly data: string;
}

/** A word of a shell, between quotes that nothing but themselves ends. */
function shell(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

const js = (text: string): string => `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;
const bearer = ({ token }: Example): string => (token === TOKEN ? '"Authorization: Bearer $TOKEN"' : shell(`Authorization: Bearer ${token}`));
const jsToken = ({ token }: Example): string => (token === TOKEN ? 'token' : js(token));
const rustToken = ({ token }: Example): string => (token === TOKEN ? 'std::env::var("TOKEN")?' : `${JSON.stringify(token)}.to_owned()`);
/** A Rust string that needs no escaping, however many `#` that takes. */
function raw(text: string): string {
  const longest = Math.max(-1, ...[...text.matchAll(/"(#*)/g)].map(([, marks]) => marks?.length ?? 0));
  const marks = '#'.repeat(longest + 1);
  return `r${marks}"${text}"${marks}`;
}

const typescriptClient = (example: Example): string => `import { createClient } from '@pulsewire/client';\n\nconst client = createClient({ url: ${js(`${example.origin}/ws`)}, token: ${jsToken(example)} });\n`;

/** A program around some lines. */
function rust(example: Example, uses: readonly string[], lines: readonly string[]): string {
  const body = [`let mut options = Options::new(Endpoint::parse(${JSON.stringify(example.origin.replace(/^http/, 'ws'))})?);`, `options.token = ${rustToken(example)}.into();`, ...lines];
  return [
    `use pulsewire_client::{${[...uses, 'Client', 'Endpoint', 'Options'].sort().join(', ')}};`,
    '',
    '#[tokio::main]',
    'async fn main() -> Result<(), Box<dyn std::error::Error>> {',
    ...body.map((line) => (line ? `    ${line}` : '')),
    '    Ok(())',
    '}',
  ].join('\n');
}

/** How an event is published. */
export function publishing(example: Publication, language: Language): string {
  const { origin, channel, type, data } = example;
  switch (language) {
    case 'curl': {
      const body = `{"channel":${JSON.stringify(channel)},"type":${JSON.stringify(type)},"data":${data.trim() || 'null'}}`;
      return `curl -H ${bearer(example)} -H 'Content-Type: application/json' \\\n  -d ${shell(body)} \\\n  ${origin}/api/publish`;
    }
    case 'typescript':
      return `${typescriptClient(example)}const ack = await client.publish(${js(channel)}, ${js(type)}, ${data.trim() || 'null'});\nconsole.log(ack.sequenceNumber);`;
    case 'rust':
      return rust(example, ['NewEvent'], [
        'let (client, _deliveries) = Client::start(options);',
        'let ack = client',
        '    .publish(NewEvent {',
        `        channel: ${JSON.stringify(channel)}.to_owned(),`,
        `        event_type: ${JSON.stringify(type)}.to_owned(),`,
        `        data: serde_json::from_str(${raw(data.trim() || 'null')})?,`,
        '        id: None,',
        '        key: None,',
        '        tags: Default::default(),',
        '        critical: None,',
        '    })',
        '    .await?;',
        'println!("{:?}", ack.sequence);',
      ]);
  }
}

/** How a channel is listened to. */
export function subscribing(example: Example, language: Language): string {
  const { origin, channel } = example;
  switch (language) {
    case 'curl':
      return `curl -N -H ${bearer(example)} \\\n  ${shell(`${origin}/api/channels/${encodeURIComponent(channel)}/sse`)}`;
    case 'typescript':
      return `${typescriptClient(example)}client.channel(${js(channel)}, { last: 10 }).subscribe((event) => console.log(event.type, event.data));`;
    case 'rust':
      return rust(example, ['Delivery', 'Start'], [
        `options.channels.push((${JSON.stringify(channel)}.to_owned(), Start::Last(10)));`,
        'let (_client, mut deliveries) = Client::start(options);',
        'while let Some(delivery) = deliveries.next().await {',
        '    if let Delivery::Event(event) = delivery {',
        '        println!("{} {}", event.event_type, event.data);',
        '    }',
        '}',
      ]);
  }
}

/** How one sees who is in a channel. */
export function attending(example: Example, language: Language): string {
  const { origin, channel } = example;
  switch (language) {
    case 'curl':
      return `curl -H ${bearer(example)} \\\n  ${shell(`${origin}/api/channels/${encodeURIComponent(channel)}/presence`)}`;
    case 'typescript':
      return `import { presence } from '@pulsewire/client/collab';\n${typescriptClient(example)}const there = presence(client, ${js(channel)});\nthere.members.subscribe((members) => console.log(members));\nthere.update({ line: 7 });`;
    case 'rust':
      return rust(example, ['Attend', 'Delivery', 'Start'], [
        `options.channels.push((${JSON.stringify(channel)}.to_owned(), Start::Live));`,
        'options.narrow.presence = Attend::Join;',
        'let (_client, mut deliveries) = Client::start(options);',
        'while let Some(delivery) = deliveries.next().await {',
        '    if let Delivery::Presence(update) = delivery {',
        '        println!("{:?} joined, {:?} left", update.joined, update.left);',
        '    }',
        '}',
      ]);
  }
}

/** A view of a metric channel. */
export interface MetricView {
  readonly channel: string;
  readonly interval: string;
  readonly tags: Readonly<Record<string, string>>;
  /** The metrics that are drawn; empty: all. */
  readonly names: readonly string[];
  /** How far back, such as `15m`. */
  readonly history: string;
}

function narrowing({ tags, names, interval }: MetricView): object {
  return {
    aggregation_interval: interval,
    ...(Object.keys(tags).length > 0 && { tags }),
    ...(names.length > 0 && { filter: { $name: { in: names } } }),
  };
}

/** The message that subscribes to the view. */
export function metricFrame(view: MetricView): string {
  return JSON.stringify({ type: 'subscribe', id: 1, channels: [{ channel: view.channel, history: view.history }], ...narrowing(view) });
}

/** The view with the SDK. */
export function metricSnippet(view: MetricView, origin: string): string {
  const subscription = JSON.stringify({ channels: [view.channel], ...narrowing(view) }, null, 2);
  return [
    "import { getMetricService } from '@pulsewire/client/metrics';",
    '',
    `const service = getMetricService(${js(`${origin}/ws/metrics`)}, token);`,
    `service.subscribe(${subscription});`,
    `service.onMetric(${js(view.channel)}, (metric) => console.log(metric.name, metric.tags, metric.value));`,
    'service.connect();',
  ].join('\n');
}

/** The same with curl: windows of the past. */
export function metricCurl(view: MetricView, origin: string): string {
  const tags = Object.entries(view.tags).map(([tag, value]) => `&tags=${encodeURIComponent(`${tag}:${value}`)}`).join('');
  return `curl -H "Authorization: Bearer $TOKEN" \\\n  ${shell(`${origin}/api/channels/${encodeURIComponent(view.channel)}/history?aggregation_interval=${view.interval}${tags}`)}`;
}
