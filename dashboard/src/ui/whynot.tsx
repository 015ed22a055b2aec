import type { JSX } from 'preact';
import { claims } from '../session.js';

/** Why something is not offered. */
export function WhyNot({ what }: { readonly what: string }): JSX.Element {
  return <p class="quiet why-not">{what} needs the role operator; you are signed in as {claims.value?.role ?? 'nobody'}.</p>;
}
