import type { ConnectionState, State } from './api.js';

/** What a cause is called, and what many connections with it are doing: "14 connections … ". */
export const CAUSES: Readonly<Record<string, { readonly title: string; readonly are: string }>> = {
  healthy: { title: 'healthy', are: 'are fine' },
  client_not_reading: { title: 'client is not reading', are: 'are not reading' },
  client_busy: { title: 'client is busy', are: 'read, but their programs are busy' },
  client_hidden: { title: 'page is hidden', are: 'are hidden pages' },
  network_slow: { title: 'network is slow', are: 'are on a slow network' },
  network_lossy: { title: 'network loses packets', are: 'are on a network that loses packets' },
  too_much: { title: 'more is sent than it can take', are: 'are sent more than they can take' },
  silent: { title: 'does not answer', are: 'do not answer heartbeats' },
  unstable: { title: 'reconnects again and again', are: 'reconnect again and again' },
  rate_limited: { title: 'sends too much', are: 'send more than they may' },
  detached: { title: 'away', are: 'are away and may come back' },
};

/** How bad a score is. */
export function stateOfScore(score: number | null | undefined): State {
  if (score === null || score === undefined) return 'none';
  if (score >= 90) return 'target';
  if (score >= 70) return 'ok';
  return score >= 40 ? 'warning' : 'critical';
}

/** How bad the state of a connection is. */
export function stateOfConnection(state: ConnectionState): State {
  switch (state) {
    case 'connected': return 'target';
    case 'authenticating': return 'ok';
    case 'lagging': return 'warning';
    case 'slow': return 'critical';
    default: return 'none';
  }
}
