import type { JSX } from 'preact';
import { Alert, Alerts } from './pages/alerts.js';
import { Audit } from './pages/audit.js';
import { Channel } from './pages/channel.js';
import { Channels } from './pages/channels.js';
import { Cluster } from './pages/cluster.js';
import { Connection } from './pages/connection.js';
import { Connections } from './pages/connections.js';
import { ErrorKind, Errors } from './pages/errors.js';
import { Events } from './pages/events.js';
import { Metrics } from './pages/metrics.js';
import { Overview } from './pages/overview.js';
import { Run, Runs } from './pages/runs.js';
import { TryIt } from './pages/try.js';
import { Upstream, Upstreams } from './pages/upstreams.js';
import type { IconName } from './ui/icons.js';

/** A page of the dashboard. */
export interface PageEntry {
  /** The first part of its path; empty for the overview. */
  readonly path: string;
  readonly title: string;
  readonly icon: IconName;
  /** Behind `g` it leads here. */
  readonly key: string;
  /** Which of the overview's `counts` stands beside it. */
  readonly count?: string;
  /** Which of them is a badge when it is not zero. */
  readonly badge?: string;
  readonly view: () => JSX.Element;
  /** Shown instead where the path goes on: `/connections/ID`. */
  readonly detail?: (props: { readonly id: string }) => JSX.Element;
}

/** All pages in the order of the rail. A new page is one line here, one file in `pages/`. */
export const PAGES: readonly PageEntry[] = [
  { path: '', title: 'Overview', icon: 'overview', key: 'o', badge: 'critical', view: Overview },
  { path: 'connections', title: 'Connections', icon: 'connections', key: 'c', count: 'connections', view: Connections, detail: Connection },
  { path: 'channels', title: 'Channels', icon: 'channels', key: 'h', count: 'channels', view: Channels, detail: Channel },
  { path: 'runs', title: 'Runs', icon: 'runs', key: 'r', view: Runs, detail: Run },
  { path: 'series', title: 'Metrics', icon: 'series', key: 'm', count: 'series', view: Metrics },
  { path: 'upstreams', title: 'Upstreams', icon: 'upstreams', key: 'u', count: 'upstreams', view: Upstreams, detail: Upstream },
  { path: 'alerts', title: 'Alerts', icon: 'alerts', key: 'a', count: 'alerts', badge: 'critical', view: Alerts, detail: Alert },
  { path: 'errors', title: 'Errors', icon: 'errors', key: 'e', count: 'errors', view: Errors, detail: ErrorKind },
  { path: 'cluster', title: 'Cluster', icon: 'nodes', key: 'n', view: Cluster },
  { path: 'events', title: 'Events', icon: 'events', key: 'v', view: Events },
  { path: 'audit', title: 'Audit log', icon: 'audit', key: 'd', view: Audit },
  { path: 'try', title: 'Try it', icon: 'try', key: 't', view: TryIt },
];
