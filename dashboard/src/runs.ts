import type { ChannelRow, GroupRow, Row } from './api.js';

/** Events that a run's channel keeps unless its namespace says otherwise (document 003). */
export const KEPT_DEFAULT = 1_000;

/** A run: who is connected for it, and what is said in it. */
export interface RunRow extends Row {
  readonly id: string;
  readonly connections: number;
  readonly worstScore: number | null;
  readonly queuedBytes: number | null;
  readonly subscribers: number | null;
  readonly present: number | null;
  /** Events that can be replayed. */
  readonly kept: number | null;
  /** About so many of them are critical. */
  readonly criticalShare: number | null;
  readonly publishedPerSecond: number | null;
}

const PREFIX = 'run:';

/** Runs by their connections and their channels, in the order of the first; rows of before that say the same are kept. */
export function runsOf(groups: readonly GroupRow[], channels: readonly ChannelRow[], before: ReadonlyMap<string, RunRow> = new Map()): readonly RunRow[] {
  const byRun = new Map(channels.filter(({ channel }) => channel.startsWith(PREFIX)).map((row) => [row.channel.slice(PREFIX.length), row]));
  const ids = [...new Set([...groups.map(({ id }) => String(id)), ...byRun.keys()])].filter((id) => id !== '');
  const groupOf = new Map(groups.map((group) => [String(group.id), group]));
  return ids.map((id) => {
    const row = joined(id, groupOf.get(id), byRun.get(id));
    const old = before.get(id);
    return old && JSON.stringify(old) === JSON.stringify(row) ? old : row;
  });
}

function joined(id: string, group: GroupRow | undefined, channel: ChannelRow | undefined): RunRow {
  return {
    id,
    connections: group?.connections ?? 0,
    worstScore: group?.worstScore ?? null,
    queuedBytes: group?.queuedBytes ?? null,
    subscribers: channel?.subscribers ?? null,
    present: channel?.present ?? null,
    kept: channel && channel.head !== null ? channel.head - (channel.floor ?? 0) : null,
    criticalShare: channel?.criticalShare ?? null,
    publishedPerSecond: channel?.publishedPerSecond ?? null,
  };
}
