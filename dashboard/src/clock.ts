import { signal } from '@preact/signals';

/** Milliseconds since 1970, told once a second while the page is looked at. */
export const now = signal(Date.now());
/** Whether the page can be seen. */
export const visible = signal(document.visibilityState !== 'hidden');
/** Whether the reader wants everything to stand still. */
export const paused = signal(false);

/** By how much the server's clock is ahead, in milliseconds: ages are of its time. */
export const skew = signal(0);

setInterval(() => {
  if (visible.value && !paused.value) now.value = Date.now();
}, 1000);

document.addEventListener('visibilitychange', () => {
  visible.value = document.visibilityState !== 'hidden';
  if (visible.value && !paused.value) now.value = Date.now();
});
