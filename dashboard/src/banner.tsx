import { useComputed } from '@preact/signals';
import type { JSX } from 'preact';
import type { Firing } from './api.js';
import { now, skew } from './clock.js';
import { duration, inUnit } from './format.js';
import { linkTo } from './router.js';
import { overview } from './store.js';
import { Icon, Shape } from './ui/icons.js';

/** What fires and is critical, for how long, and who causes it. */
export function Banner(): JSX.Element | null {
  const firing = overview.data.value?.firing.filter(({ severity }) => severity === 'critical') ?? [];
  if (firing.length === 0) return null;
  return <div class="banner" role="region" aria-label="Critical alerts">{firing.map((alert) => <Line key={alert.id} alert={alert} />)}</div>;
}

function Line({ alert }: { readonly alert: Firing }): JSX.Element {
  const { title, value, limit, unit, since, link } = alert;
  const began = Date.parse(since);
  const lasts = useComputed(() => duration(Math.floor((now.value + skew.value - began) / 1000)));
  return (
    <p>
      <span class="state is-critical"><Shape state="critical" /> Critical</span>
      <b>{title} {inUnit(value, unit)}</b>
      <span>limit {inUnit(limit, unit)} · for <span class="lasts">{lasts}</span></span>
      {link && <a href={linkTo(link)}>Show who causes it <Icon name="right" /></a>}
    </p>
  );
}
