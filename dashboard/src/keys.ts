import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';

/** What a key does; it returns false to leave the key to the browser. */
export type Action = () => void | boolean;
/** Keys by name: one as in `KeyboardEvent.key`, or two after another, as in `g c`. */
export type Keys = Readonly<Record<string, Action>>;

/** How long the second of two keys may take, in milliseconds. */
const CHORD_MS = 1_500;

/** Which overlay is open, if any: it hears Escape first. */
export const overlay = signal<'palette' | 'help' | null>(null);

const layers: Keys[] = [];

/** Hears keys while the component is there; those that came last are asked first. */
export function useKeys(keys: Keys): void {
  useEffect(() => {
    layers.push(keys);
    return () => void layers.splice(layers.indexOf(keys), 1);
  });
}

/** Whether the key belongs to what is being written. */
function writing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(input|textarea|select)$/i.test(target.tagName));
}

/** Begins to hear keys. */
export function listenKeys(): void {
  let first = '';
  let firstAt = -Infinity;
  addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const control = event.metaKey || event.ctrlKey;
    if (event.altKey || (control && event.key !== 'k')) return;
    if (!control && event.key !== 'Escape' && writing(event.target)) return;
    const chord = performance.now() - firstAt < CHORD_MS ? `${first} ${event.key}` : '';
    const name = control ? `Control+${event.key}` : event.key;
    [first, firstAt] = [event.key, performance.now()];
    if ((chord && perform(chord)) || perform(name)) event.preventDefault();
  });
}

function perform(name: string): boolean {
  for (const keys of [...layers].reverse()) {
    const action = keys[name];
    if (action && action() !== false) return true;
  }
  return false;
}
