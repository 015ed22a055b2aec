// What the unit and the kernel's settings promise each other; systemd-analyze reads the unit itself.

import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../../..');
const unit = readFileSync(join(root, 'deploy/systemd/pulsewire.service'), 'utf8');
const sysctl = new Map(
  [...readFileSync(join(root, 'deploy/systemd/sysctl.d/90-pulsewire.conf'), 'utf8').matchAll(/^-?([a-z][\w.]+) = (.*)$/gm)].map(
    ([, key = '', value = '']) => [key, value],
  ),
);
const says = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(unit)?.[1];

test('the kernel has every setting that is set', () => {
  expect(sysctl.size).toBeGreaterThan(6);
  for (const key of sysctl.keys()) {
    // Connection tracking has its settings while it is loaded; containers see few of their host's.
    if (key.startsWith('net.netfilter.') || !existsSync('/proc/sys/net/core/somaxconn')) continue;
    expect(existsSync(`/proc/sys/${key.replaceAll('.', '/')}`), key).toBe(true);
  }
});

test('the kernel allows what the unit asks for and the server does', () => {
  expect(says('LimitNOFILE')).toBe('1048576');
  expect(Number(sysctl.get('fs.nr_open'))).toBeGreaterThanOrEqual(Number(says('LimitNOFILE')));
  const backlog = /BACKLOG: i32 = ([\d_]+);/.exec(readFileSync(join(root, 'crates/server/src/accept.rs'), 'utf8'));
  expect(Number(sysctl.get('net.core.somaxconn'))).toBeGreaterThanOrEqual(Number(backlog?.[1]?.replace('_', '')));
});

test('a stop has the time that the server takes', () => {
  const settings = readFileSync(join(root, 'docs/settings.md'), 'utf8');
  const deadline = /`server\.shutdown_deadline`[^]*?default `(\d+)s`/.exec(settings);
  expect(Number(says('TimeoutStopSec'))).toBeGreaterThanOrEqual(Number(deadline?.[1]) + 15);
  expect(says('Type')).toBe('notify');
  expect(Number(says('WatchdogSec'))).toBeGreaterThan(0);
});
