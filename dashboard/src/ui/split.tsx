import type { JSX } from 'preact';
import type { ConnectionDetail } from '../api.js';
import { milliseconds } from '../format.js';

type Parts = NonNullable<ConnectionDetail['latencySplit']>;

/** Where an event waits on its way, what each is called, and what that means. */
const PARTS: readonly (readonly [keyof Parts, string, string, string])[] = [
  ['queueMs', 'queue', 'c2', 'how long the oldest byte has waited in the server'],
  ['kernelMs', 'kernel', 'c3', 'how long the kernel needs for what it holds'],
  ['networkMs', 'network', 'c1', 'the round trip of TCP'],
  ['clientMs', 'client', 'c5', 'how much later than that the client answers'],
];

/** The way of an event to this client, as one bar. */
export function Split({ split }: { readonly split: Parts }): JSX.Element {
  const sum = PARTS.reduce((total, [part]) => total + (split[part] ?? 0), 0);
  const worst = PARTS.reduce((most, part) => ((split[part[0]] ?? 0) > (split[most[0]] ?? 0) ? part : most));
  return (
    <div class="split">
      <div class="split-bar" role="img" aria-label={sum > 0 ? `Most of it in the ${worst[1]}` : 'Nothing was measured'}>
        {sum > 0 && PARTS.map(([part, name, ink]) => {
          const value = split[part] ?? 0;
          return value > 0 && <i key={part} class={`swatch-${ink}`} style={{ flexGrow: value / sum }} title={`${name} ${milliseconds(value)}`} />;
        })}
      </div>
      <dl>
        {PARTS.map(([part, name, ink, help]) => (
          <div key={part} title={help}><dt><i class={`swatch swatch-${ink}`} />{name}</dt><dd>{milliseconds(split[part])}</dd></div>
        ))}
      </dl>
    </div>
  );
}
