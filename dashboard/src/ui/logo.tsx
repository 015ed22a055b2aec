import type { JSX } from 'preact';

/** A pulse on a wire. */
export function Logo(): JSX.Element {
  return (
    <svg class="logo" viewBox="0 0 24 16" aria-hidden="true" focusable="false">
      <path d="M1 8h5l2-5 4 11 3-9 1.500 3H23" />
    </svg>
  );
}
