import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { attending, metricFrame, metricSnippet, publishing, subscribing, TOKEN } from '../src/snippets.js';

const EXAMPLE = { origin: 'http://127.0.0.1:8000', token: TOKEN, channel: 'run:42', type: 'note', data: '{"text":"it\'s \\"here\\""}' };

describe('snippets', () => {
  it('publish with curl what a shell understands as the same JSON', () => {
    const text = publishing(EXAMPLE, 'curl').replace(/^curl/, 'said');
    const { stdout } = spawnSync('sh', ['-c', `TOKEN=secret; said() { for word in "$@"; do printf '%s\\n' "$word"; done; }; ${text}`], { encoding: 'utf8' });
    const words = stdout.trimEnd().split('\n');
    expect(words.slice(0, 5)).toEqual(['-H', 'Authorization: Bearer secret', '-H', 'Content-Type: application/json', '-d']);
    expect(JSON.parse(words[5] ?? '')).toEqual({ channel: 'run:42', type: 'note', data: { text: 'it\'s "here"' } });
    expect(words[6]).toBe('http://127.0.0.1:8000/api/publish');
  });

  it('say no token unless they are given one', () => {
    for (const language of ['curl', 'typescript', 'rust'] as const) {
      for (const make of [attending, subscribing]) {
        expect(make(EXAMPLE, language)).not.toContain('eyJ');
        expect(make({ ...EXAMPLE, token: 'eyJ.a.b' }, language)).toContain('eyJ.a.b');
      }
      expect(publishing({ ...EXAMPLE, token: 'eyJ.a.b' }, language)).toContain('eyJ.a.b');
    }
  });

  it('are the same publication in TypeScript', async () => {
    const lines = publishing(EXAMPLE, 'typescript').split('\n').filter((line) => !line.startsWith('import'));
    const said: unknown[] = [];
    const createClient = (options: unknown): unknown => ({ publish: (...publication: unknown[]) => (said.push(options, publication), { sequenceNumber: 1 }) });
    await new Function('createClient', 'token', 'console', `return (async () => { ${lines.join('\n')} })()`)(createClient, 'T', { log: () => undefined });
    expect(said).toEqual([{ url: 'http://127.0.0.1:8000/ws', token: 'T' }, ['run:42', 'note', { text: 'it\'s "here"' }]]);
  });

  it('quote data for Rust so that nothing in it ends the string', () => {
    expect(publishing({ ...EXAMPLE, data: '"a"#' }, 'rust')).toContain('r##""a"#"##');
    expect(publishing({ ...EXAMPLE, data: '1' }, 'rust')).toContain('r"1"');
  });

  it('narrow a view of metrics by tags and names, and by nothing that was not chosen', () => {
    const view = { channel: 'system.metrics', interval: '5s', tags: {}, names: [], history: '15m' };
    expect(JSON.parse(metricFrame(view))).toEqual({ type: 'subscribe', id: 1, channels: [{ channel: 'system.metrics', history: '15m' }], aggregation_interval: '5s' });
    const narrow = { ...view, tags: { host: 'web-1' }, names: ['cpu.percent'] };
    expect(JSON.parse(metricFrame(narrow))).toMatchObject({ tags: { host: 'web-1' }, filter: { $name: { in: ['cpu.percent'] } } });
    expect(metricSnippet(narrow, 'http://h')).toContain("getMetricService('http://h/ws/metrics', token)");
  });
});
