import { STYLE } from './style.js';
import type { View } from './view.js';

/**
 * Shows what is to be seen. A bar has its button outside of its panel, and is itself to be seen only when `lost`. With `announce`
 * the first text is said to who does not see.
 */
export type Show = (view: View, variant: string | null, lost: boolean, announce: boolean) => void;

/** Names and values in the panel: a {@link View} has as many. */
const CELLS = 16;
let sheet: CSSStyleSheet | undefined;

/** Makes an element. */
function make<K extends keyof HTMLElementTagNameMap>(tag: K, part = '', ...children: Node[]): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.part = part;
  made.append(...children);
  return made;
}

/** Makes the tree, without markup and styles as text, which a strict policy of the page would refuse. */
export function paint(root: ShadowRoot, retry: () => void): Show {
  const texts = [make('b', 'label'), make('span'), make('span')];
  const pill = make('button', 'pill', make('i', 'dot'), ...texts);
  const lines = Array.from({ length: CELLS }, (_, index) => make(index % 2 ? 'dd' : 'dt'));
  const warning = make('p');
  const button = make('button', 'retry');
  const panel = make('div', 'panel', make('dl', '', ...lines), warning);
  const section = make('section', '', pill, panel);
  const region = make('span');
  texts.push(...lines, warning, button);
  pill.popoverTargetElement = panel;
  // Neither a panel nor a button that goes away takes the keyboard's place along.
  panel.onbeforetoggle = () => root.activeElement && pill.focus();
  button.onclick = retry;
  region.role = 'status';
  if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];
  root.append(section, region);
  return ([shape, said], variant, lost, announce) => {
    const bar = variant === 'bar';
    const home = bar ? section : panel;
    panel.popover = (pill.disabled = variant === 'panel') ? null : 'auto';
    if (button.parentNode !== home) home.append(button);
    texts.forEach((node, index) => {
      const text = said[index] ?? '';
      if (node.textContent !== text) node.textContent = text;
      if (!text && root.activeElement === node) pill.focus();
      node.hidden = !text;
    });
    section.className = shape;
    section.hidden = bar && !lost;
    if (announce) region.textContent = said[0] ?? '';
  };
}
