import { effect, signal } from '@preact/signals';

/** `system` follows the system's. */
export type Theme = 'system' | 'light' | 'dark';

const KEPT = 'pulsewire.theme';
const kept = localStorage.getItem(KEPT);

export const theme = signal<Theme>(kept === 'light' || kept === 'dark' ? kept : 'system');

/** Told when colours are others than before, for what is drawn and not styled. */
export const colours = signal(0);

effect(() => {
  const { value } = theme;
  document.documentElement.dataset['theme'] = value;
  if (value === 'system') localStorage.removeItem(KEPT);
  else localStorage.setItem(KEPT, value);
  colours.value = colours.peek() + 1;
});

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => colours.value++);

/** The next of the three. */
export function turnTheme(): void {
  const order: readonly Theme[] = ['system', 'light', 'dark'];
  theme.value = order[(order.indexOf(theme.value) + 1) % order.length] ?? 'system';
}

/** A colour of the style sheet as it is now. */
export function colour(name: string): string {
  const probe = document.createElement('i');
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
