import { ConnectionHealthElement } from './element.js';

export { ConnectionHealthElement, type ConnectionHealthEventMap, type HealthSource } from './element.js';
export { LABELS, type Labels } from './labels.js';
export type { HealthInput } from './view.js';

declare global {
  interface HTMLElementTagNameMap {
    'connection-health': ConnectionHealthElement;
    /** Document 003's name for the same. */
    'app-connection-health': ConnectionHealthElement;
  }
}

// A second copy of this module leaves the names as they are. On a server there are none.
if (globalThis.customElements) {
  for (const name of ['connection-health', 'app-connection-health']) {
    if (!customElements.get(name)) customElements.define(name, class extends ConnectionHealthElement {});
  }
}
